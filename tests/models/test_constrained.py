"""The grammar of calls: it lets every derived answer pass, and nothing that does not exist or bind."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from tunesmith.catalogue import Call, Catalogue, Entry, Parameter, ParameterKind, bind, judge
from tunesmith.collecting.python_package import read_package
from tunesmith.errors import ModelError
from tunesmith.generating.derive import Derived, derive_answers
from tunesmith.models.base import Sampling
from tunesmith.models.constrained import CatalogueGrammar, answer_grammar, one_of, shown_entries
from tunesmith.models.local import LocalModel
from tunesmith.models.wrappers import with_passages
from tunesmith.operations import Operation, ToolSchema
from tunesmith.records import Conversation, Document, Message, Passage

SHAPES = Catalogue(
    "shapes",
    "1.2",
    (
        Entry("shapes.area", "function", (Parameter("shape"), Parameter("unit", default="'m'"))),
        Entry("shapes.net.unfold", "function", (Parameter("solid"), Parameter("overlap", "keyword_only"))),
        Entry("shapes.PlaneGraph", "class"),
        Entry("shapes.PlaneGraph.add", "method", (Parameter("parts", "var_positional"),)),
        Entry("shapes.List.push", "method", (Parameter("x"),)),
    ),
    conventional_alias="sh",
)
TEXTS = (
    "`shapes.area` returns the area of a shape.\n\n```python\nimport shapes as sh\n\nsh.area(shape)\n```",
    "import networkx as nx\n\nnx.shortest_path(G, source=0, target='b', weight=None, data=[(1, {3: True})])",
)


def _answer(entry: str, call: str, said: str = "does it.", imports: str = "import shapes as sh") -> str:
    return f"`{entry}` {said}\n\n```python\n{imports}\n\n{call}\n```"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """Return a byte-level BPE tokenizer of 400 tokens, with a chat template."""
    core = Tokenizer(BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=1,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>")
    made.chat_template = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"
    return made


@pytest.fixture(scope="module")
def shapes(tokenizer: PreTrainedTokenizerBase) -> CatalogueGrammar:
    """Return the grammar of the package shapes."""
    return CatalogueGrammar(SHAPES, tokenizer)


@pytest.fixture(scope="module")
def networkx() -> tuple[Catalogue, Derived]:
    """Return the catalogue of networkx and its derived answers."""
    read = read_package("networkx")
    return read.catalogue, derive_answers(read.documents, read.catalogue)


def _walk(
    grammar: CatalogueGrammar,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    conversation: Conversation = (),
) -> str:
    """Return what is spoken by picking at random among the allowed tokens, to the end."""
    generator = random.Random(seed)
    constraint = grammar.constraint(conversation)
    tokens: list[int] = []
    while not constraint.finished():
        logits_V = torch.zeros(len(tokenizer))
        constraint.allow(logits_V)
        tokens.append(generator.choice(torch.nonzero(logits_V == 0).flatten().tolist()))
        constraint.advance(tokens[-1])
    return str(tokenizer.decode(tokens))


def _spoken(answer: str) -> str:
    """Return the entry that the answer's sentence names."""
    return answer.split("`")[1]


# --- a whole package


def test_every_derived_answer_of_networkx_may_be_spoken(
    tokenizer: PreTrainedTokenizerBase, networkx: tuple[Catalogue, Derived]
) -> None:
    """What models are trained to say is what the grammar lets pass, without an exception."""
    catalogue, derived = networkx
    grammar = CatalogueGrammar(catalogue, tokenizer)

    refused = [answer.text for answer in derived.answers if not grammar.accepts(answer.text)]

    assert len(derived.answers) == len(catalogue) > 1000
    assert refused == []


def test_every_random_answer_of_networkx_is_exact(
    tokenizer: PreTrainedTokenizerBase, networkx: tuple[Catalogue, Derived]
) -> None:
    """Whatever allowed tokens are picked, the answer calls the entry that it names, and binds."""
    catalogue, _ = networkx
    grammar = CatalogueGrammar(catalogue, tokenizer)

    for seed in range(30):
        answer = _walk(grammar, tokenizer, seed)
        judgement = judge(answer, (_spoken(answer),), catalogue)
        assert (judgement.verdict, answer) == ("exact", answer), judgement.reason


# --- any signature

KINDS: Sequence[ParameterKind] = (
    "positional_only",
    "positional_or_keyword",
    "var_positional",
    "keyword_only",
    "var_keyword",
)


@st.composite
def signatures(draw: st.DrawFn) -> tuple[Parameter, ...]:
    """Draw a valid signature of up to six parameters, some of whose names begin like others."""
    names = iter(draw(st.permutations(["a", "ab", "abc", "b", "weight", "w", "None_"])))
    made: list[Parameter] = []
    for kind in KINDS[:2]:
        made += [Parameter(next(names), kind) for _ in range(draw(st.integers(0, 2)))]
    optional = draw(st.integers(0, len(made)))
    made = [
        Parameter(one.name, one.kind, "1" if at >= len(made) - optional else None)
        for at, one in enumerate(made)
    ]
    if draw(st.booleans()):
        made.append(Parameter("args", "var_positional"))
    for default in draw(st.lists(st.sampled_from([None, "1"]), max_size=2)):
        made.append(Parameter(next(names), "keyword_only", default))
    if draw(st.booleans()):
        made.append(Parameter("kwargs", "var_keyword"))
    return tuple(made)


def _of(parameters: Sequence[Parameter]) -> Catalogue:
    return Catalogue("p", "1", (Entry("p.f", "function", tuple(parameters)),))


@settings(max_examples=30)
@given(signatures(), st.integers())
def test_what_is_spoken_binds(
    tokenizer: PreTrainedTokenizerBase, parameters: tuple[Parameter, ...], seed: int
) -> None:
    """For any signature, a random answer is exact."""
    catalogue = _of(parameters)
    answer = _walk(CatalogueGrammar(catalogue, tokenizer), tokenizer, seed)

    assert (judge(answer, ("p.f",), catalogue).verdict, answer) == ("exact", answer)


@settings(max_examples=100)
@given(signatures(), st.integers(0, 6), st.data())
def test_a_call_may_be_spoken_exactly_if_it_binds(
    tokenizer: PreTrainedTokenizerBase,
    parameters: tuple[Parameter, ...],
    positional: int,
    data: st.DataObject,
) -> None:
    """For any signature, a call with keywords in the signature's order passes if and only if it binds."""
    catalogue = _of(parameters)
    named = [one.name for one in parameters if not one.kind.startswith("var_")]
    if not any(one.kind == "var_keyword" for one in parameters):
        named.append("zzz")
    keywords = [name for name in named if data.draw(st.booleans())]
    stars = positional - sum(one.kind.startswith("positional") for one in parameters)
    call = Call("p.f", ("x",) * positional, tuple((name, "1") for name in keywords))
    # A positional-only name given as keyword goes to **kwargs, of which the grammar speaks none.
    swallowed = any(one.kind == "positional_only" and one.name in keywords for one in parameters)
    binds = bind(catalogue.entries[0], call) is None and not swallowed and stars <= 4
    text = ", ".join((*call.positional, *(f"{name}={value}" for name, value in call.keywords)))

    accepted = CatalogueGrammar(catalogue, tokenizer).accepts(
        _answer("p.f", f"p.f({text})", imports="import p")
    )

    assert accepted == binds


# --- what may be said


@pytest.mark.parametrize(
    ("entry", "call", "passes"),
    [
        ("shapes.area", "sh.area(shape)", True),
        ("shapes.area", "sh.area(my.shape, unit='cm')", True),
        ("shapes.area", "sh.area([(1, -2.5), {'a': (3,)}], None)", True),
        ("shapes.area", "sh.area(unit='cm')", False),
        ("shapes.area", "sh.area(shape, size=3)", False),
        ("shapes.area", "sh.area(sh.volume(shape))", False),
        ("shapes.area", "sh.area(lambda)", False),
        ("shapes.area", "sh.area(a.if)", False),
        ("shapes.area", "sh.area(007)", False),
        ("shapes.area", "sh.area('```')", False),
        ("shapes.area", "sh.area([[[[1]]]])", False),
        ("shapes.area", "sh.volume(shape)", False),
        ("shapes.area", "sh.PlaneGraph()", False),
        ("shapes.volume", "sh.volume(shape)", False),
        ("shapes.net.unfold", "sh.net.unfold(solid, overlap=0.1)", True),
        ("shapes.net.unfold", "sh.net.unfold(solid, 0.1)", False),
        ("shapes.PlaneGraph.add", "G.add(1, 2, 3)", True),
        ("shapes.PlaneGraph.add", "plane_graph.add()", True),
        ("shapes.PlaneGraph.add", "sh.add()", False),
        ("shapes.List.push", "my_list.push(1)", True),
        ("shapes.List.push", "G.push(1)", False),
        ("shapes.List.push", "list.push(1)", False),
    ],
)
def test_calls(shapes: CatalogueGrammar, entry: str, call: str, passes: bool) -> None:
    """The entry that the sentence names is called, as users write it, with values that hold no call."""
    assert shapes.accepts(_answer(entry, call)) == passes


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("returns the area, in m², of shape 3.", True),
        ("returns `k` areas `A_n(x_1, ..., x_k)` of shapes.", True),
        ("returns the area", False),
        ("is like `sh.volume(shape)`.", False),
        ("begins a fence ``` here.", False),
        ("goes on\nover lines.", False),
        ("talks " * 50 + "on.", False),
    ],
)
def test_sentences(shapes: CatalogueGrammar, said: str, passes: bool) -> None:
    """A sentence is one line of bounded length that ends with a stop and names no other call as code."""
    assert shapes.accepts(_answer("shapes.area", "sh.area(shape)", said)) == passes


def test_nothing_follows_the_closing_fence(
    shapes: CatalogueGrammar, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The constraint is finished with the last token of the answer, not before, and forbids any other."""
    ids = tokenizer(_answer("shapes.area", "sh.area(shape)"), add_special_tokens=False)["input_ids"]
    constraint = shapes.constraint(())
    finished = []
    for token in ids:
        logits_V = torch.zeros(len(tokenizer) + 7, dtype=torch.bfloat16)
        constraint.allow(logits_V)
        assert logits_V[token] == 0
        # The model's output is wider than the vocabulary: what has no text is never allowed.
        assert torch.isneginf(logits_V[len(tokenizer) :]).all()
        constraint.advance(token)
        finished.append(constraint.finished())

    assert finished == [False] * (len(ids) - 1) + [True]
    other = shapes.constraint(())
    with pytest.raises(ModelError, match="the grammar of calls cannot go on"):
        other.advance(ids[-1])


# --- restrictions


def test_a_restriction_leaves_only_its_entries(tokenizer: PreTrainedTokenizerBase) -> None:
    """Restricted to the entries shown, answers call one of them; where none is shown, any entry."""
    grammar = CatalogueGrammar(SHAPES, tokenizer, restrict_to=shown_entries(SHAPES))
    passages = [
        Passage("shapes.net.unfold", "shapes.net.unfold(solid, *, overlap): Unfold.", 1.0),
        Passage("shapes.List.push", "shapes.List.push(x)", 0.5),
        Passage("other.thing", "other.thing(x)", 0.2),
    ]
    asked = (Message("user", "how?"),)
    shown = with_passages(asked, passages)

    assert shown_entries(SHAPES)(shown) == ("shapes.net.unfold", "shapes.List.push")
    answers = [_walk(grammar, tokenizer, seed, shown) for seed in range(10)]
    assert {_spoken(answer) for answer in answers} == {"shapes.net.unfold", "shapes.List.push"}
    assert {judge(one, (_spoken(one),), SHAPES).verdict for one in answers} == {"exact"}
    assert {_spoken(_walk(grammar, tokenizer, seed, asked)) for seed in range(40)} == set(SHAPES.by_id)


def test_a_restriction_to_an_unknown_entry_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    """A passage of another version's catalogue is named, not left out without a word."""
    grammar = CatalogueGrammar(SHAPES, tokenizer, restrict_to=lambda _: ["shapes.volume"])

    with pytest.raises(ModelError, match=r"restricted to 'shapes\.volume'"):
        grammar.constraint(())


def test_like_signatures_share_their_rules() -> None:
    """The grammar grows with the signatures that differ, not with the entries."""
    parameters = (Parameter("G", annotation="Graph"), Parameter("weight", default="None"))
    one = Entry("p.a", "function", parameters, summary="Do a.")
    other = Entry("p.b", "function", (parameters[0], Parameter("weight", default="1", description="Much.")))

    alone, both = (
        answer_grammar(Catalogue("p", "1", entries), entries).splitlines()
        for entries in ((one,), (one, other))
    )

    assert [line for line in alone if line.startswith("a")] == [line for line in both if line.startswith("a")]
    assert len(both) == len(alone) + 1


# --- a model


def test_a_model_that_knows_nothing_speaks_valid_calls(
    shapes: CatalogueGrammar, tokenizer: PreTrainedTokenizerBase
) -> None:
    """A model of random weights, constrained, answers with calls that exist and bind, in a batch."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        eos_token_id=0,
        bos_token_id=0,
        pad_token_id=0,
    )
    model = LocalModel(LlamaForCausalLM(config).eval(), tokenizer, name="noise")
    asked = [(Message("user", f"question {number}"),) for number in range(3)]

    constrained = model.constrained(shapes.constraint, "noise+constrained")
    answers = constrained.reply(asked, Sampling(max_tokens=900, temperature=1.0, seed=1))

    assert {answer.finish for answer in answers} == {"stop"}
    assert {judge(one.text, (_spoken(one.text),), SHAPES).verdict for one in answers} == {"exact"}


def test_a_tokenizer_that_cannot_be_read_is_refused() -> None:
    """A tokenizer without a fast form is an error that says so."""
    with pytest.raises(ModelError, match="cannot be constrained with the tokenizer"):
        CatalogueGrammar(SHAPES, object())


TOOLS = Catalogue(
    "box",
    "1",
    (
        Entry(
            "box.search",
            "tool",
            summary="Search the box.",
            document="d",
            operation=ToolSchema(
                "box",
                "search-all",
                '{"type": "object", "required": ["query"], "additionalProperties": false, "properties": {"query": '
                '{"type": "string", "maxLength": 20}, "sort": {"$ref": "#/$defs/Sort"}}, '
                '"$defs": {"Sort": {"enum": ["name", "age"]}}}',
            ),
        ),
    ),
)


def test_calls_of_tools_follow_their_schemas(tokenizer: PreTrainedTokenizerBase) -> None:
    """The derived answer passes; another tool, another argument or none where one is required do not."""
    grammar = CatalogueGrammar(TOOLS, tokenizer)
    [derived] = derive_answers([Document("d", "mcp:box", "t", "Search the box.", "api")], TOOLS).answers
    assert grammar.accepts(derived.text)
    assert grammar.accepts(derived.text.replace('"query"}', '"query", "sort": "age"}'))
    for old, new in (
        ("search-all", "search"),
        ('"query": "query"', ""),
        ('"query"}', '"query", "sort": "size"}'),
    ):
        assert old in derived.text
        assert not grammar.accepts(derived.text.replace(old, new))


def test_requests_of_apis_cannot_be_constrained(tokenizer: PreTrainedTokenizerBase) -> None:
    """A catalogue of an HTTP API is refused, with the way out."""
    catalogue = Catalogue(
        "pets", "1", (Entry("pets.list", "operation", operation=Operation("Pets", "get", "/pets")),)
    )
    with pytest.raises(ModelError, match="cannot be constrained to requests of an HTTP API") as caught:
        CatalogueGrammar(catalogue, tokenizer).constraint(())
    assert "[evaluate] contenders" in str(caught.value)


# --- one of some answers


def test_a_model_can_be_kept_to_one_of_some_answers(tokenizer: PreTrainedTokenizerBase) -> None:
    """Whatever the logits say, only the answers' own tokens may come, and each answer can be spoken to its end."""
    answers = ("a list", "a list of 'nx' graphs", 'say "b"\n')
    constraint_of = one_of(answers, tokenizer)
    for answer in answers:
        constraint = constraint_of((Message("user", "?"),))
        for token in tokenizer.encode(answer, add_special_tokens=False):
            logits_V = torch.zeros(len(tokenizer))
            constraint.allow(logits_V)
            assert logits_V[token] == 0
            said = [tokenizer.decode([one]) for one in torch.nonzero(logits_V == 0)[:, 0].tolist()]
            assert 0 < len(said) < 20
            constraint.advance(token)
    constraint = constraint_of((Message("user", "?"),))
    with pytest.raises(ModelError, match="cannot go on"):
        constraint.advance(tokenizer.encode("x", add_special_tokens=False)[0])


def test_a_model_may_say_something_of_its_own_before(tokenizer: PreTrainedTokenizerBase) -> None:
    """After an opening in its own words, only an answer may come, and then the end."""
    constraint = one_of(("\nnx.a()", "\nnx.b()"), tokenizer, opening="[a-z ]{1,20}:")((Message("user", "?"),))
    for token in tokenizer.encode("for graphs:\nnx.b()", add_special_tokens=False):
        logits_V = torch.zeros(len(tokenizer))
        constraint.allow(logits_V)
        assert logits_V[token] == 0
        constraint.advance(token)
    assert constraint.finished()


def test_a_model_cannot_be_kept_to_one_of_no_answers(tokenizer: PreTrainedTokenizerBase) -> None:
    """An empty list would leave nothing to say."""
    with pytest.raises(ModelError, match="one of no answers"):
        one_of((), tokenizer)
