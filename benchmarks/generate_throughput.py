"""Evaluating, which is mostly generating: the demo's contenders by our engine and by transformers' generate.

    python benchmarks/generate_throughput.py [--project FOLDER] [--quick] [--json]

The first of the questions that people asked, put to every contender of a project whose stages are done up to `train`
(default: examples/networkx-assistant, which `make demo` runs), with the prompts, the length and the stop strings of its
evaluate stage, greedily. Retrieval is done before the clock runs.

- ratio_vs_generate: seconds of transformers' generate for all contenders over ours, medians of repeats in turns.
  generate runs at its best batch size: the one of several with which the whole takes it least, and the run in which it
  was chosen is its first, to its advantage. It gets the rendered prompts sorted by length, padded on the left, the stop
  strings, and for constrained contenders a logits processor with the same constraints. Weights are loaded and adapters
  merged by our loader for both; generate's are neither laid out by us nor attended to by our attention.
- ratio_processor: the same in seconds of the processor, which other work on the machine changes little.
- ratio.CONTENDER: ratio_vs_generate for each alone; processor.CONTENDER: ratio_processor. Ours says to a prompt what
  the same weights have said to it before, as far as a constraint allows: ratio_without_constrained leaves out the
  contenders that gain most by that.
- ratio_spread: the largest ratio of a repeat less the smallest, as a share of the median.
- same_in_float32: the share of answers to the first questions that are the same in both, byte for byte, in float32.
- same_answers: the same in the arithmetic that is timed. In bfloat16, sums in another order round to another token
  where two are nearly as likely, and the rest of the answer is another: same_between_batches is the share for generate
  alone, at its best batch size and at its second best.
- kept_seconds: what asking all of it again takes with answers kept on disk (models/keeping.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware import as_json, versions_of

from tunesmith import finished
from tunesmith.models.address import Place
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer, prompt_ids
from tunesmith.models.said import Said
from tunesmith.project import Project
from tunesmith.records import Answer, Conversation, Message

DEMO = Path(__file__).resolve().parent.parent / "examples" / "networkx-assistant"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    questions: int
    repeats: int
    batches: tuple[int, ...]
    exact: int  # questions that are asked in float32


FULL, QUICK = Plan(96, 3, (64, 96), 12), Plan(8, 1, (4, 8), 2)


@dataclass(frozen=True, slots=True)
class Put:
    """What a contender's weights are asked: `place` says which they are, `constraint` what holds their answers."""

    place: Place
    conversations: list[Conversation]
    constraint: Callable[[Conversation], Any] | None


@dataclass(frozen=True, slots=True)
class Work:
    """What every contender is asked, how, and so many questions at a time by us."""

    puts: dict[str, Put]
    sampling: Sampling
    batch: int
    dtype: Any


def prepare(plan: Plan, folder: Path) -> Work:
    """Return what the evaluate stage would put to the weights of each contender."""
    project = Project.open(folder)
    inputs = project._finished("train", "tunesmith run train")
    shop, told = project.workshop("tuned+tuned_retrieval"), project.config.evaluate
    lines = (folder / "questions" / "asked.jsonl").read_text(encoding="utf-8").splitlines()[: plan.questions]
    system = Message("system", project.system)
    asked: list[Conversation] = [(system, Message("user", json.loads(line)["question"])) for line in lines]
    base = Place(finished.base_of(project.config, say))
    puts = {}
    for name in project.config.contenders:
        model, conversations = _inside(shop.build(name), asked)
        tuned = model.model is not shop.base.model
        place = finished.tuned_place(inputs, project.config, say) if tuned else base
        puts[name] = Put(place, conversations, model._constraints)
    sampling = Sampling(max_tokens=told.max_tokens, stop=told.stop)
    return Work(puts, sampling, told.batch_size, shop.base.model.dtype)


def _inside(model: ChatModel, asked: list[Conversation]) -> tuple[LocalModel, list[Conversation]]:
    """Return the model inside a contender's wrappers, and what they ask it."""
    noted: list[tuple[LocalModel, list[Conversation]]] = []
    reply = LocalModel.reply

    def note(self: LocalModel, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        noted.append((self, list(conversations)))
        return [Answer("", 0, 0, 0.0) for _ in conversations]

    LocalModel.reply = note
    try:
        model.reply(asked, Sampling())
    finally:
        LocalModel.reply = reply
    [found] = noted
    return found


# --- ours


class Ours:
    """Our engine: each place's weights once, laid out as the evaluate stage does."""

    def __init__(self, work: Work, dtype: Any, *, packed: bool) -> None:
        from tunesmith.inference.packed import pack

        self.work = work
        self.loaded = {}
        for place in {put.place for put in work.puts.values()}:
            weights = load_model(place.folder, dtype=dtype, adapter=place.adapter)
            if packed:
                pack(weights)
            self.loaded[place] = weights, load_tokenizer(place.folder, adapter=place.adapter)

    def models(self) -> dict[str, ChatModel]:
        """Return each contender's model; none remembers anything yet."""
        plain = {
            place: LocalModel(weights, tokenizer, name="ours", batch_size=self.work.batch, said=Said())
            for place, (weights, tokenizer) in self.loaded.items()
        }
        puts = self.work.puts.items()
        return {
            name: plain[put.place]
            if put.constraint is None
            else plain[put.place].constrained(put.constraint, name)
            for name, put in puts
        }

    def ask(self, model: ChatModel, conversations: Sequence[Conversation]) -> list[str]:
        """Ask in batches of the project's size."""
        size, answers = self.work.batch, []
        for first in range(0, len(conversations), size):
            answers += [
                one.text for one in model.reply(conversations[first : first + size], self.work.sampling)
            ]
        return answers


# --- transformers' generate


class Generate:
    """transformers' generate on weights of its own, in batches of one size."""

    def __init__(self, work: Work, dtype: Any) -> None:
        self.sampling = work.sampling
        self.loaded = {}
        for place in {put.place for put in work.puts.values()}:
            weights: Any = load_model(place.folder, dtype=dtype, adapter=place.adapter)
            tokenizer = load_tokenizer(place.folder, adapter=place.adapter)
            ends = sorted(LocalModel(weights, tokenizer, name="theirs")._ends)
            weights.set_attn_implementation("sdpa")  # not ours, which LocalModel has set
            self.loaded[place] = weights, tokenizer, ends

    def ask(self, put: Put, size: int) -> list[str]:
        """Answer all, those of like length together."""
        prompts = [prompt_ids(self.loaded[put.place][1], one) for one in put.conversations]
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        answers = [""] * len(prompts)
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            held = None
            if put.constraint is not None:
                held = [put.constraint(put.conversations[number]) for number in batch]
            for number, text in zip(
                batch, self._batch(put.place, [prompts[i] for i in batch], held), strict=True
            ):
                answers[number] = text
        return answers

    def _batch(self, place: Place, prompts: Sequence[tuple[int, ...]], held: list[Any] | None) -> list[str]:
        import torch
        from transformers import LogitsProcessorList

        weights, tokenizer, ends = self.loaded[place]
        width = max(map(len, prompts))
        pad = int(tokenizer.pad_token_id)
        tokens_B_T = torch.tensor([[pad] * (width - len(one)) + list(one) for one in prompts])
        mask_B_T = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        processors = LogitsProcessorList([] if held is None else [Held(held, width, ends[0])])
        with torch.inference_mode():
            made = weights.generate(
                input_ids=tokens_B_T,
                attention_mask=mask_B_T,
                max_new_tokens=self.sampling.max_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=pad,
                stop_strings=list(self.sampling.stop) or None,
                tokenizer=tokenizer,
                logits_processor=processors,
            )
        texts = tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
        return [self._until_stop(text) for text in texts]

    def _until_stop(self, text: str) -> str:
        ends = [found + len(stop) for stop in self.sampling.stop if (found := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else text


class Held:
    """A logits processor that holds each row to its constraint; a complete row may only end."""

    def __init__(self, constraints: list[Any], width: int, end: int) -> None:
        self.constraints, self.width, self.end = constraints, width, end

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Take note of the token that each row said, and forbid what may not come next."""
        scores = scores.clone()
        for row, constraint in enumerate(self.constraints):
            if input_ids.shape[1] > self.width and not constraint.finished():
                constraint.advance(int(input_ids[row, -1]))
            if constraint.finished():
                scores[row] = float("-inf")
                scores[row, self.end] = 0.0
            else:
                constraint.allow(scores[row])
        return scores


# --- both


@dataclass(slots=True)
class Round:
    """Seconds by the clock and of the processor, and answers, of each contender, of one side in one repeat."""

    seconds: dict[str, float]
    processor: dict[str, float]
    answers: dict[str, list[str]]

    @property
    def whole(self) -> float:
        """The seconds of all contenders."""
        return sum(self.seconds.values())


def run_round(ask: dict[str, Callable[[], list[str]]]) -> Round:
    """Ask every contender once."""
    made = Round({}, {}, {})
    for name, answers in ask.items():
        clock, processor = time.perf_counter(), time.process_time()
        made.answers[name] = answers()
        made.seconds[name] = time.perf_counter() - clock
        made.processor[name] = time.process_time() - processor
        say(f"  {name}: {made.seconds[name]:.1f} s, {made.processor[name]:.1f} of the processor")
    return made


def same(one: Round, other: Round) -> float:
    """Return the share of answers that are the same."""
    pairs = [
        a == b for name in one.answers for a, b in zip(one.answers[name], other.answers[name], strict=True)
    ]
    return sum(pairs) / len(pairs)


def measure(plan: Plan, folder: Path) -> dict[str, float]:
    """Run it all; returns the figures."""
    from tunesmith.models.keeping import keeping

    work = prepare(plan, folder)
    engine, generate = Ours(work, work.dtype, packed=True), Generate(work, work.dtype)

    def by_ours() -> Round:
        models = engine.models()
        return run_round(
            {
                name: lambda name=name: engine.ask(models[name], work.puts[name].conversations)  # type: ignore[misc]
                for name in work.puts
            }
        )

    def by_generate(size: int) -> Round:
        return run_round(
            {name: lambda put=put: generate.ask(put, size) for name, put in work.puts.items()}  # type: ignore[misc]
        )

    # The parser learns about the tokens while it is used: neither side pays for that alone.
    warm = engine.models()
    for name, put in work.puts.items():
        if put.constraint is not None:
            engine.ask(warm[name], put.conversations[:2])
    tried: dict[int, Round] = {}
    for size in plan.batches:
        say(f"generate in batches of {size}")
        tried[size] = by_generate(size)
    best, second, *_ = sorted(tried, key=lambda size: tried[size].whole)
    mine: list[Round] = []
    theirs = [tried[best]]
    for repeat in range(plan.repeats):
        for into in [mine, theirs][:: 1 if repeat % 2 == 0 else -1]:
            if len(into) <= repeat:
                say(f"{repeat + 1}/{plan.repeats}: {'ours' if into is mine else 'generate'}")
                into.append(by_ours() if into is mine else by_generate(best))
    figures = dict(
        _figures(mine, theirs, best, [name for name, put in work.puts.items() if put.constraint is None])
    )
    figures["same_in_float32"] = same_in_float32(plan, work)
    figures["same_between_batches"] = same(tried[best], tried[second])
    if plan is FULL:
        with tempfile.TemporaryDirectory() as place:
            kept = {name: keeping(one, Path(place), identity=name) for name, one in engine.models().items()}
            asked = {
                name: lambda name=name: engine.ask(kept[name], work.puts[name].conversations)  # type: ignore[misc]
                for name in work.puts
            }
            figures["kept_seconds"] = [run_round(asked) for _ in range(2)][1].whole
    return figures


def same_in_float32(plan: Plan, work: Work) -> float:
    """Return the share of answers to the first questions that are the same in float32."""
    import torch

    first = {
        name: Put(put.place, put.conversations[: plan.exact], put.constraint)
        for name, put in work.puts.items()
    }
    engine, generate = Ours(work, torch.float32, packed=False), Generate(work, torch.float32)
    models = engine.models()
    say(f"in float32, {plan.exact} questions each")
    mine = run_round(
        {name: lambda name=name: engine.ask(models[name], first[name].conversations) for name in first}  # type: ignore[misc]
    )
    theirs = run_round(
        {name: lambda put=put: generate.ask(put, plan.exact) for name, put in first.items()}  # type: ignore[misc]
    )
    return same(mine, theirs)


def _figures(
    mine: Sequence[Round], theirs: Sequence[Round], best: int, free: Sequence[str]
) -> Iterator[tuple[str, float]]:
    pairs = list(zip(mine, theirs, strict=True))
    ratios = [b.whole / a.whole for a, b in pairs]
    yield "ratio_vs_generate", statistics.median(ratios)
    yield "ratio_spread", (max(ratios) - min(ratios)) / statistics.median(ratios)
    yield (
        "ratio_processor",
        statistics.median(sum(b.processor.values()) / sum(a.processor.values()) for a, b in pairs),
    )
    yield (
        "ratio_without_constrained",
        statistics.median(
            sum(b.seconds[name] for name in free) / sum(a.seconds[name] for name in free) for a, b in pairs
        ),
    )
    for name in mine[0].seconds:
        yield f"ratio.{name}", statistics.median(b.seconds[name] / a.seconds[name] for a, b in pairs)
        yield f"processor.{name}", statistics.median(b.processor[name] / a.processor[name] for a, b in pairs)
        yield f"ours_seconds.{name}", statistics.median(a.seconds[name] for a, _ in pairs)
    yield "ours_seconds", statistics.median(one.whole for one in mine)
    yield "generate_seconds", statistics.median(one.whole for one in theirs)
    yield "generate_batch", best
    yield "same_answers", same(mine[0], theirs[0])


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path, default=DEMO, help="a project that has been trained")
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL, arguments.project)
    if arguments.json:
        print(
            json.dumps(
                as_json("generate_throughput", figures, versions=versions_of(("torch", "transformers")))
            )
        )
        return
    for key, value in figures.items():
        print(f"{key:44} {value:12.4g}")


if __name__ == "__main__":
    main()
