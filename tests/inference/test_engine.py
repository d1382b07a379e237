"""The engine on tiny models: what it says is what LocalModel says, whoever shares the batch."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import FAMILIES

from tunesmith.errors import ModelError
from tunesmith.inference.adapters import Mixture
from tunesmith.inference.engine import Engine
from tunesmith.inference.grammar import GrammarError, Grammars
from tunesmith.inference.packed import PackedLinear, pack, works
from tunesmith.inference.requests import ContextOverflow, EngineBusy, Request
from tunesmith.inference.slots import Slots, fits
from tunesmith.models.base import Sampling
from tunesmith.models.local import LocalModel, around_words, load_model, load_tokenizer, prompt_ids
from tunesmith.records import Message

WORDS = ("node", "edge", "tree", "cycle", "flow", "graph", "path", "soup")
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "kind": {"enum": ["a", "b"]},
        "n": {"type": "integer"},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}


def questions(count: int, seed: int = 0) -> list[str]:
    """Return questions of differing lengths."""
    rng = random.Random(seed)
    return [f"find the {' and the '.join(rng.choices(WORDS, k=rng.randint(1, 12)))}" for _ in range(count)]


class Bench:
    """A tiny model in an engine, and as LocalModel has it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.local = LocalModel(load_model(folder, dtype=torch.float32), self.tokenizer, name="tiny")
        self.engine = Engine(load_model(folder, dtype=torch.float32), self.tokenizer, name="tiny", **settings)

    def prompt(self, question: str) -> tuple[int, ...]:
        """Return a question's prompt."""
        return prompt_ids(self.tokenizer, (Message("user", question),))

    def expected(self, question: str, tokens: int, stop: tuple[str, ...] = ()) -> str:
        """Return what LocalModel says."""
        [answer] = self.local.reply([(Message("user", question),)], Sampling(max_tokens=tokens, stop=stop))
        return answer.text

    def whole(self, result: Any) -> str:
        """Return an answer's tokens as text, read at once: in streams of odd bytes a piece may read otherwise."""
        before, after = around_words(self.tokenizer)
        text = str(self.tokenizer.decode(result.tokens, skip_special_tokens=True))
        text = "" if before.startswith(text) else text.removeprefix(before)
        return text.removesuffix(after) if result.finish == "stop" else text

    def ask(self, question: str, **more: Any) -> Any:
        """Submit a question, greedily unless told otherwise."""
        return self.engine.submit(
            Request(self.prompt(question), **{"temperature": 0.0, "max_tokens": 12} | more)
        )


def write_adapter(base: Path, out: Path, rank: int = 2) -> None:
    """Write a random adapter for a model."""
    from tunesmith.training.settings import TrainSettings
    from tunesmith.training.tuning import AdapterTuning

    tuning = AdapterTuning(
        load_model(base, dtype=torch.float32), TrainSettings(rank=rank, base=f"path:{base}")
    )
    generator = torch.Generator().manual_seed(rank)
    for parameter in tuning.parameters.values():
        parameter.data.normal_(std=0.3, generator=generator)
    tuning.save(out, tuning.state(), load_tokenizer(base))


@pytest.fixture(scope="module")
def bench(family_folder: Callable[[str], Path]) -> Iterator[Bench]:
    """The tiny model with SmolLM2's shape."""
    bench = Bench(family_folder("smollm2"), most_rows=4)
    yield bench
    bench.engine.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_join_and_leave_say_what_they_would_alone(
    family: str, family_folder: Callable[[str], Path]
) -> None:
    bench = Bench(family_folder(family), most_rows=3)
    try:
        asked = [(question, 3 + number) for number, question in enumerate(questions(7))]
        going = [bench.ask(question, max_tokens=tokens) for question, tokens in asked]
        for (question, tokens), generation in zip(asked, going, strict=True):
            assert bench.whole(generation.result()) == bench.expected(question, tokens), question
    finally:
        bench.engine.close()


def test_prompts_that_are_read_in_slices_leave_as_they_end(
    family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of those that are read ends its prompt first, so that the others move forward in their block."""
    monkeypatch.setattr("tunesmith.inference.engine._SLICE", 8)
    bench = Bench(family_folder("smollm2"), most_rows=4)
    try:
        asked = [f"find {' and '.join(WORDS[:count])}" for count in (1, 5, 3, 8, 2, 7)]
        going = [bench.ask(question, max_tokens=6) for question in asked]
        for question, generation in zip(asked, going, strict=True):
            assert bench.whole(generation.result()) == bench.expected(question, 6), question
    finally:
        bench.engine.close()


def test_most_families_share_a_batch(family_folder: Callable[[str], Path]) -> None:
    alone = {
        family for family in FAMILIES if not fits(load_model(family_folder(family), dtype=torch.float32))
    }
    # Windows, ALiBi, and GPT-J, whose attention knows no such mask.
    assert alone == {"falcon-rw", "mpt", "mistral", "gemma-2", "gemma-3", "gpt-j", "phi-3", "starcoder2"}


def test_pieces_joined_are_the_answer(bench: Bench) -> None:
    generation = bench.ask("find the node", max_tokens=20)
    assert "".join(piece.text for piece in generation) == generation.result().text != ""


def test_a_beginning_that_was_read_before_is_not_read_again(bench: Bench) -> None:
    question = "find " + " and ".join(WORDS)
    first = bench.ask(question).result()
    again, longer = bench.ask(question).result(), bench.ask(question + " or not").result()
    assert again.text == first.text == bench.expected(question, 12)
    assert again.cached_tokens == again.prompt_tokens - 1
    assert 16 <= longer.cached_tokens < longer.prompt_tokens
    assert longer.text == bench.expected(question + " or not", 12)


def test_prompts_that_come_together_read_what_they_share_once(family_folder: Callable[[str], Path]) -> None:
    bench = Bench(family_folder("smollm2"))
    try:
        beginning = "the soup of each " + " and the ".join(WORDS * 5)
        asked = [f"{beginning} {word}" for word in WORDS]
        cached = [generation.result().cached_tokens for generation in [bench.ask(each) for each in asked]]
        assert sum(count > 64 for count in cached) >= len(WORDS) - 2
        assert bench.ask(asked[3]).result().text == bench.expected(asked[3], 12)
    finally:
        bench.engine.close()


def test_a_stop_string_ends_the_answer_and_is_not_in_it(bench: Bench) -> None:
    whole = bench.expected("find the tree", 30)
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    generation = bench.ask("find the tree", max_tokens=30, stop=(middle,))
    said = "".join(piece.text for piece in generation)
    result = generation.result()
    assert said == result.text == whole[: whole.index(middle)]
    assert result.finish == "stop"


def test_a_seed_draws_the_same_whoever_shares_the_batch(bench: Bench) -> None:
    def draw(seed: int | None) -> Any:
        return bench.ask("find the flow", temperature=1.0, top_p=0.9, seed=seed, max_tokens=16)

    alone = draw(5).result().tokens
    others = [bench.ask(question, max_tokens=9) for question in questions(3)]
    assert draw(5).result().tokens == alone
    assert len({draw(seed).result().tokens for seed in range(6)}) > 1
    for other in others:
        other.result()


def test_the_smallest_temperature_and_share_leave_the_likeliest(bench: Bench) -> None:
    likeliest = bench.ask("find the flow", max_tokens=8, temperature=0.0).result().tokens
    for setting in ({"temperature": 1.0, "top_p": 0.0}, {"temperature": 1e-300}, {"temperature": 1e-4}):
        assert bench.ask("find the flow", max_tokens=8, **setting).result().tokens == likeliest


def test_logprobs_are_those_of_the_model(bench: Bench) -> None:
    result = bench.ask("find the edge", logprobs=3, prompt_logprobs=True, max_tokens=4).result()
    prompt = bench.prompt("find the edge")
    ids = torch.tensor([[*prompt, *result.tokens]])
    with torch.no_grad():
        expected = torch.log_softmax(bench.local.model(ids).logits[0].float(), -1)
    for number, told in enumerate(result.logprobs):
        place = expected[len(prompt) + number - 1]
        assert told.token == result.tokens[number] == told.top[0][0]
        assert told.logprob == pytest.approx(float(place[told.token]), abs=1e-3)
        assert len(told.top) == 3
    assert [each.token for each in result.prompt_logprobs] == list(prompt[1:])
    assert result.prompt_logprobs[0].logprob == pytest.approx(float(expected[0, prompt[1]]), abs=1e-3)


def test_bias_and_penalties_change_what_is_said(bench: Bench) -> None:
    first = bench.ask("find the path").result().tokens[0]
    biased = bench.ask("find the path", logit_bias={first: -100.0}).result()
    assert biased.tokens[0] != first
    forced = bench.ask("find the path", logit_bias={7: 100.0}, max_tokens=5).result()
    assert forced.tokens == (7,) * 5
    varied = bench.ask(
        "find the path", logit_bias={7: 100.0, 8: 100.0}, frequency_penalty=2.0, max_tokens=40
    ).result()
    assert set(varied.tokens) == {7, 8}


def test_a_cancelled_answer_gives_its_place_up(bench: Bench) -> None:
    going = [bench.ask(question, max_tokens=100, logit_bias=_never_ends(bench)) for question in questions(6)]
    next(iter(going[0]))
    for generation in going:
        generation.cancel()
    assert {generation.result().finish for generation in going} == {"cancelled"}
    assert bench.ask("find the node").result().text == bench.expected("find the node", 12)


def _never_ends(bench: Bench) -> dict[int, float]:
    return dict.fromkeys(bench.engine.ends, -100.0)


def test_what_is_too_long_is_refused_with_its_numbers(bench: Bench) -> None:
    limit = bench.engine.context
    assert limit is not None
    with pytest.raises(ContextOverflow) as caught:
        bench.engine.submit(Request((1,) * 10, max_tokens=limit))
    assert (caught.value.limit, caught.value.prompt, caught.value.wanted) == (limit, 10, limit)
    with pytest.raises(ModelError, match="empty prompt"):
        bench.engine.submit(Request(()))


def test_too_many_that_wait_are_refused(family_folder: Callable[[str], Path]) -> None:
    bench = Bench(family_folder("smollm2"), most_rows=1, most_waiting=2)
    try:
        going = []
        with pytest.raises(EngineBusy, match="requests wait for tiny already"):
            for _ in range(20):
                going.append(bench.ask("find the node", max_tokens=200, logit_bias=_never_ends(bench)))
        for generation in going:
            generation.cancel()
    finally:
        bench.engine.close()


def test_an_answer_keeps_to_its_schema(bench: Bench) -> None:
    import jsonschema

    grammars = Grammars(bench.tokenizer)
    plain = [bench.ask(question) for question in questions(2)]
    held = [
        bench.ask(question, grammar=grammars.of_schema(SCHEMA), max_tokens=80, temperature=1.0, seed=seed)
        for seed, question in enumerate(questions(4, seed=1))
    ]
    for generation in held:
        result = generation.result()
        assert result.finish == "stop"
        jsonschema.validate(json.loads(result.text), SCHEMA)
    for generation, question in zip(plain, questions(2), strict=True):
        assert generation.result().text == bench.expected(question, 12)


def test_a_schema_that_cannot_be_held_is_refused(bench: Bench) -> None:
    with pytest.raises(GrammarError, match="cannot be held"):
        Grammars(bench.tokenizer).of_schema({"type": "object", "minProperties": "many"})


def test_an_error_in_a_step_reaches_who_waits_and_the_engine_goes_on(bench: Bench) -> None:
    class Broken:
        """A grammar that fails."""

        def allow(self, logits_V: torch.Tensor) -> None:
            raise ValueError("broken")

        def advance(self, token: int) -> None: ...

        def forced(self) -> list[int]:
            return []

        def finished(self) -> bool:
            return False

    with pytest.raises(ModelError, match="broken"):
        bench.ask("find the node", grammar=Broken()).result()
    assert bench.ask("find the node").result().text == bench.expected("find the node", 12)


def test_adapters_share_a_base_and_a_batch(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = family_folder("smollm2")
    merged = {}
    for name, rank in (("one", 2), ("two", 5)):
        write_adapter(folder, tmp_path / name, rank)
        merged[name] = LocalModel(
            load_model(folder, dtype=torch.float32, adapter=tmp_path / name),
            load_tokenizer(folder),
            name=name,
        )
    bench = Bench(folder)
    try:
        for name in merged:
            bench.engine.add_adapter(name, tmp_path / name, folder)
        going = [
            (question, adapter, bench.ask(question, adapter=adapter))
            for question in questions(3)
            for adapter in (None, "one", "two")
        ]
        said = set()
        for question, adapter, generation in going:
            model = bench.local if adapter is None else merged[adapter]
            [expected] = model.reply([(Message("user", question),)], Sampling(max_tokens=12))
            assert generation.result().text == expected.text
            said.add((question, expected.text))
        assert len(said) > 3
        bench.engine.remove_adapter("one")
        with pytest.raises(ModelError, match="has no adapter 'one'"):
            bench.ask("find the node", adapter="one")
    finally:
        bench.engine.close()


# --- weights laid out for products, in bf16


needs_bf16 = pytest.mark.skipif(not works(), reason="this processor has no bf16 that oneDNN uses")


@needs_bf16
@pytest.mark.parametrize("shape", [(1, 64), (2, 3, 64), (40, 64)])
def test_a_packed_layer_computes_what_the_plain_one_does(shape: tuple[int, ...]) -> None:
    plain = torch.nn.Linear(64, 48, dtype=torch.bfloat16)
    x = torch.randn(*shape, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(plain)(x), plain(x), rtol=1e-2, atol=1e-2)
    with pytest.raises(RuntimeError, match="meta"):
        PackedLinear(plain).weight.sum().item()


@needs_bf16
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_the_same_when_packed(
    family: str, family_folder: Callable[[str], Path]
) -> None:
    plain, packed = (load_model(family_folder(family), dtype=torch.bfloat16) for _ in range(2))
    # Falcon and GPT-2 have layers of their own kind, all but the last.
    assert pack(packed) >= 1
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    with torch.inference_mode():
        torch.testing.assert_close(
            packed(input_ids=ids).logits, plain(input_ids=ids).logits, rtol=2e-2, atol=2e-2
        )


@needs_bf16
def test_a_packed_model_says_the_same_with_and_without_adapters(
    family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = family_folder("qwen2")
    write_adapter(folder, tmp_path / "one")
    plain, packed = (load_model(folder, dtype=torch.bfloat16) for _ in range(2))
    assert fits(packed)
    assert pack(packed) > 14
    mixtures = [Mixture(model) for model in (plain, packed)]
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6]])
    for rows in ([None, None], ["one", None], ["one", "one"]):
        found = []
        for model, mixture in zip((plain, packed), mixtures, strict=True):
            if "one" not in mixture.names:
                mixture.add("one", tmp_path / "one", folder)
            mixture.use(rows)
            with torch.inference_mode():
                found.append(model(input_ids=ids).logits.float())
        torch.testing.assert_close(found[0], found[1], rtol=2e-2, atol=2e-2)


def test_what_a_row_left_behind_is_not_heard_by_the_next(family_folder: Callable[[str], Path]) -> None:
    """Not even where it was no number: masked, it would be nothing times NaN."""
    model = load_model(family_folder("smollm2"), dtype=torch.float32)
    slots = Slots(model, 2)
    slots.read([[5, 6, 7], [8, 9]])
    with torch.inference_mode():
        for layer in slots._cache.layers:
            layer._key_block[1] = layer._value_block[1] = torch.nan
    slots.leave([0])
    other = Slots(model, 1)
    other.read([[8, 9]])
    slots.take(other, [0])
    alone = Slots(model, 1)
    alone.read([[8, 9]])
    torch.testing.assert_close(slots.read([[3], [4]])[1], alone.read([[4]])[0])
