"""Names of contenders and the models they mean."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import finished, workshops
from tunesmith.catalogue import judge
from tunesmith.contenders import Workshop
from tunesmith.errors import AddressError, ConfigError, UsageError
from tunesmith.evaluating.names import PARTS, RETRIEVERS, USUAL, check_name
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.fake import FakeModel
from tunesmith.models.local import LocalModel
from tunesmith.models.tools import ToolSettings
from tunesmith.project import Project
from tunesmith.records import Answer, Conversation, Message


class Toolbox(Protocol):
    """What the fixture `toolbox` gives."""

    project: Project

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project in a new folder."""
        ...


@dataclass(frozen=True)
class Built:
    """What a name was put together from: the order in which parts were first needed, and the model's name."""

    loaded: tuple[str, ...]
    name: str


QUESTION = (Message("system", "You help."), Message("user", "keep a number within bounds"))


def reply(project: Project, name: str) -> Answer:
    """Let a contender answer."""
    [answer] = project.contender(name).reply([QUESTION], Sampling(max_tokens=8))
    return answer


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("base", "path:models/chat"),
        ("few_shot", "path:models/chat+few_shot"),
        ("retrieval", "path:models/chat+retrieval"),
        ("tuned", "path:models/chat tuned"),
        ("tuned+tuned_retrieval", "path:models/chat tuned+retrieval"),
        ("few_shot+tuned+tuned_retrieval", "path:models/chat tuned+retrieval+few_shot"),
        ("tuned+constrained", "tuned+constrained"),
        ("nearest_shots+bm25", "path:models/chat+retrieval+nearest_shots"),
        ("tuned+faiss+reranked", "path:models/chat tuned+retrieval"),
        ("retrieval+citations", "path:models/chat+retrieval+citations"),
        ("classifier", "classifier"),
        ("tools+tuned", "path:models/chat tuned+tools"),
    ],
)
def test_a_name_says_what_is_put_around_which_model(toolbox: Toolbox, name: str, named: str) -> None:
    """The weights are inside, then retrieval, then the example turns."""
    assert toolbox.project.contender(name).name == named


def test_the_order_of_parts_does_not_matter(toolbox: Toolbox) -> None:
    """However the parts stand, the answer is the same."""
    names = ["+".join(parts) for parts in permutations(("tuned", "retrieval", "few_shot"))]
    answers = {reply(toolbox.project, name).text for name in names}
    assert len(answers) == 1


def test_each_part_changes_what_is_read(toolbox: Toolbox) -> None:
    """Retrieval names its passages, few shots make the prompt longer, other weights say something else."""
    plain, shots, found, tuned = (
        reply(toolbox.project, name) for name in ("base", "few_shot", "retrieval", "tuned")
    )
    assert plain.prompt_tokens == tuned.prompt_tokens < min(shots.prompt_tokens, found.prompt_tokens)
    assert plain.retrieved == shots.retrieved == tuned.retrieved == ()
    assert len(found.retrieved) == 3
    assert plain.text != tuned.text


def test_retrievers_rank_by_their_own_encoder(toolbox: Toolbox) -> None:
    """`retrieval` and `tuned_retrieval` are two retrievers."""
    questions = [
        (Message("user", text),) for text in ("next in the circle", "how far?", "no doubles", "smooth it")
    ]
    plain, tuned = (
        [
            answer.retrieved
            for answer in toolbox.project.contender(name).reply(questions, Sampling(max_tokens=1))
        ]
        for name in ("retrieval", "tuned_retrieval")
    )
    assert plain != tuned


class Loads:
    """Counts how often each part of a workshop is loaded; the parts are the project's own."""

    def __init__(self, project: Project) -> None:
        self.loaded: list[str] = []
        self.project = project

    def part(self, name: str) -> Any:
        """Return a function that notes the load and returns a contender's model."""

        def load() -> Any:
            self.loaded.append(name)
            return self.project.contender(name)

        return load


def test_parts_are_loaded_when_first_needed_and_once(toolbox: Toolbox) -> None:
    """Building the base model's contenders loads no adapter and no retriever; building again loads nothing."""
    loads = Loads(toolbox.project)

    def retriever() -> Any:
        loads.loaded.append("retriever")
        return None

    shop = Workshop(
        load_base=loads.part("base"),
        load_tuned=loads.part("tuned"),
        load_retriever=retriever,
        load_tuned_retriever=retriever,
        load_constraint=lambda model: lambda conversation: None,  # type: ignore[arg-type, return-value]
        shots=(),
        passages=3,
    )
    shop.build("base")
    shop.build("few_shot")
    assert loads.loaded == ["base"]
    shop.build("retrieval")
    shop.build("tuned+retrieval")
    shop.build("tuned+retrieval+constrained")
    assert loads.loaded == ["base", "retriever", "tuned"]


def test_every_usual_contender_is_a_chat_model(toolbox: Toolbox) -> None:
    """Each usual name can be built; all obey the protocol, the plain ones are local models."""
    models = {name: toolbox.project.contender(name) for name in USUAL}
    assert all(isinstance(model, ChatModel) for model in models.values())
    assert [name for name, model in models.items() if isinstance(model, LocalModel)] == ["base", "tuned"]


def test_retrievers_rank_in_their_own_ways(toolbox: Toolbox) -> None:
    """By words, by vectors, by both: three orders; reranked, the first five of them are put into another."""
    questions = [
        (Message("user", text),) for text in ("join the lists", "limit a number", "smooth it", "turn a title")
    ]
    found = {
        name: [
            answer.retrieved
            for answer in toolbox.project.contender(name).reply(questions, Sampling(max_tokens=1))
        ]
        for name in ("bm25", "faiss", "retrieval", "retrieval+reranked")
    }
    assert len({str(each) for each in found.values()}) == 4
    assert all(1 <= len(ids) <= 3 for ids in found["bm25"])


def test_near_examples_are_training_examples(toolbox: Toolbox) -> None:
    """What stands before the question was asked in training: nothing of a test set is shown."""
    project = toolbox.project
    inputs = project._finished("evaluate", "")
    train = {one.question for one in finished.examples_of(inputs, "train")}
    tests = [one for name in finished.SETS for one in finished.examples_of(inputs, name)]
    shop = workshops.workshop(inputs, project.config, lambda text: None)
    shown: list[str] = []

    def listen(conversation: Conversation) -> str:
        shown.extend(message.content for message in conversation[:-1] if message.role == "user")
        return "heard"

    shop.load_base = lambda: FakeModel(listen)
    shop.build("nearest_shots").reply([(Message("user", one.question),) for one in tests], Sampling())
    assert len(shown) == 3 * len(tests)
    assert set(shown) <= train


def test_a_classifier_gives_training_answers(toolbox: Toolbox) -> None:
    """Its answers are calls that were learned, with how sure it is, and no language model is loaded."""
    project = toolbox.project
    train = finished.examples_of(project._finished("evaluate", ""), "train")
    answer = reply(project, "classifier")
    assert answer.text in {one.answer for one in train}
    assert answer.confidence is not None
    assert 0 < answer.confidence <= 1
    asked = project.ask(train[0].question, "classifier")
    assert asked.judgement is not None
    assert asked.judgement.verdict == "valid"


def test_tools_held_to_their_schemas_call_what_there_is(toolbox: Toolbox) -> None:
    """Of random weights too every answer is a call of one of the functions that were found, in the form of answers."""
    project = toolbox.project
    questions = ["keep a number within bounds", "join the lists", "how far is it?", "say it in hours"]
    model = project.contender("tools+constrained")
    sampling = Sampling(max_tokens=400)
    found = model.reply([(Message("user", text),) for text in questions], sampling)
    catalogue = finished.catalogue_of(project._finished("evaluate", ""))
    for answer in found:
        judgement = judge(answer.text, answer.retrieved, catalogue)
        assert judgement.verdict in ("exact", "wrong_arguments"), answer
        assert judgement.called in answer.retrieved
        assert len(answer.retrieved) == 5


def test_tools_may_run_what_the_project_says(toolbox: Toolbox, toolbox_site: Path) -> None:
    """A function in [tools] run is run, its result goes back, and the answer is the model's words and the call."""
    project = Project(replace(toolbox.project.config, tools=ToolSettings(run=("toolbox.clamp",))))
    inputs = toolbox.project._finished("evaluate", "")
    shop = workshops.workshop(inputs, project.config, lambda text: None)
    said = {
        "Result of toolbox_clamp: 10": "It is limited to 10.",
        QUESTION[-1].content: '{"name": "toolbox_clamp", "arguments": {"value": 12, "low": 0, "high": 10}}',
    }
    shop.load_base = lambda: FakeModel(lambda conversation: said[conversation[-1].content])
    [answer] = shop.build("tools").reply([QUESTION], Sampling())
    assert answer.text == (
        "It is limited to 10.\n\n```python\nimport toolbox\n\ntoolbox.clamp(12, 0, 10)\n```"
    )
    assert answer.notes == ("ran: toolbox.clamp gave 10",)


def test_json_holds_answers_to_a_schema(toolbox: Toolbox, tmp_path: Path) -> None:
    """The file that [evaluate] names is read; an answer of random weights is JSON of it, and the model is told."""
    project = toolbox.copy(tmp_path / "copy")
    schema = {
        "type": "object",
        "properties": {"topic": {"enum": ["text", "numbers"]}, "sure": {"type": "boolean"}},
        "required": ["topic", "sure"],
        "additionalProperties": False,
    }
    (project.path / "answer.json").write_text(json.dumps(schema), encoding="utf-8")
    project = Project(replace(project.config, json_schema="answer.json"))
    [answer] = project.contender("base+json").reply([QUESTION], Sampling(max_tokens=200))
    plain = reply(project, "base")

    assert json.loads(answer.text).keys() == {"topic", "sure"}
    assert answer.prompt_tokens > plain.prompt_tokens
    # Test questions were asked without it: evaluating hangs on the file.
    ids = {one.stage: one.id for one in project.status()}
    (project.path / "answer.json").write_text(json.dumps(schema | {"title": "T"}), encoding="utf-8")
    changed = {one.stage: one.id for one in project.status()}
    assert {stage for stage in ids if ids[stage] != changed[stage]} == {"evaluate", "risks", "report"}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, UsageError, "none is named"),
        ("{", ConfigError, "is no JSON schema"),
        ('{"type": "thing"}', ConfigError, "is no JSON schema"),
    ],
)
def test_a_schema_that_is_none_is_refused(
    toolbox: Toolbox, tmp_path: Path, text: str | None, error: type[Exception], message: str
) -> None:
    """No file, no JSON, no schema."""
    project = toolbox.copy(tmp_path / "copy")
    if text is not None:
        (project.path / "answer.json").write_text(text, encoding="utf-8")
        project = Project(replace(project.config, json_schema="answer.json"))
    with pytest.raises(error, match=message):
        project.contender("json")


def test_what_a_workshop_was_not_given_is_told() -> None:
    """A part that nothing makes is refused in words, not with an attribute that is missing."""

    def load() -> Any:
        return FakeModel({})

    shop = Workshop(load, load, load, load, lambda model: load(), shots=(), passages=1)
    for name in ("nearest_shots", "classifier", "json", "retrieval+reranked", "tools"):
        with pytest.raises(AddressError, match="needs a part that nothing here makes"):
            shop.build(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("base+tuend", "'base+tuend' names no contender: 'tuend' is not understood there"),
        ("base+base", "'base+base' names no contender: 'base' is not understood there"),
        ("base+tuned", "'base+tuned' asks for base and tuned at once"),
        (
            "retrieval+tuned_retrieval",
            "'retrieval+tuned_retrieval' asks for retrieval and tuned_retrieval at once",
        ),
        ("bm25+faiss", "'bm25+faiss' asks for bm25 and faiss at once"),
        ("base+reranked", "'base+reranked' has reranked and nothing that searches"),
        ("tuned+citations", "'tuned+citations' has citations and nothing that searches"),
        (
            "retrieval+tools+citations",
            "'retrieval+tools+citations' has tools beside citations: a tool's call has no words that could cite a "
            "passage",
        ),
        (
            "tuned+classifier",
            "'tuned+classifier' puts something around classifier, which asks no language model",
        ),
    ],
)
def test_a_name_that_means_nothing_is_refused(toolbox: Toolbox, name: str, message: str) -> None:
    """Unknown, doubled and contradicting parts are named."""
    with pytest.raises(AddressError) as caught:
        toolbox.project.contender(name)
    assert caught.value.message == message


def test_an_adapter_from_elsewhere_is_a_kind_of_weights(toolbox: Toolbox) -> None:
    """The train stage's own adapter, registered under a name, answers as `tuned` does, and goes with other parts."""
    inputs = toolbox.project.store.list()
    [trained] = [one for one in inputs if one.stage == "train"]
    config = replace(toolbox.project.config, adapters={"mine": f"path:{trained.file('adapter')}"})
    project = Project(config)

    assert reply(project, "mine").text == reply(project, "tuned").text != reply(project, "base").text
    found = reply(project, "mine+tuned_retrieval")
    assert found.text == reply(project, "tuned+tuned_retrieval").text
    assert len(found.retrieved) == 3


def _agree(parts: set[str]) -> bool:
    choices = (
        {"base", "tuned"},
        set(RETRIEVERS),
        {"few_shot", "nearest_shots"},
        {"constrained", "json"},
        {"tools", "citations"},
        {"tools", "json"},
        {"tools", "few_shot"},
        {"tools", "nearest_shots"},
    )
    searches = bool(parts & set(RETRIEVERS))
    return (
        all(len(parts & choice) < 2 for choice in choices)
        and ("reranked" not in parts or searches or "tools" in parts)
        and ("citations" not in parts or searches)
        and ("classifier" not in parts or parts == {"classifier"})
    )


@given(st.lists(st.sampled_from(PARTS), min_size=1))
def test_a_name_is_taken_if_its_parts_are_known_differ_and_agree(parts: list[str]) -> None:
    """Of the known parts any set goes that has one of each kind, and with each part what it needs."""
    fine = len(set(parts)) == len(parts) and _agree(set(parts))
    try:
        assert check_name("+".join(parts)) == set(parts)
        assert fine
    except AddressError:
        assert not fine
