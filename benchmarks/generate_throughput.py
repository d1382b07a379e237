"""Evaluating, which is mostly generating: the demo's questions by our engine and by transformers' generate.

    python benchmarks/generate_throughput.py [--quick] [--json]

The first questions of examples/networkx-assistant, asked of the embedded model as the demo asks its contenders: with
the demo's system prompt alone (base), with three retrieved entries (retrieval), and with these and answers that are
held to the catalogue (constrained); up to 80 new tokens, greedily, an answer ends after its code block.

- ratio_vs_generate: seconds of transformers' generate for all three over ours, medians of repeats in turns. generate
  runs at its best batch size: the one of several with which the whole takes it least, and the run in which it was
  chosen is its first, to its advantage. It gets the rendered prompts sorted by length, padded on the left, a stop
  string, and for the constrained ones a logits processor with the same constraints.
- ratio_processor: the same in seconds of the processor, which other work on the machine changes little.
- ratio.CONTENDER: ratio_vs_generate for each alone; processor.CONTENDER: ratio_processor.
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

from tunesmith.models.address import locate
from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.local import LocalModel, load_model, load_tokenizer, prompt_ids
from tunesmith.models.wrappers import with_passages
from tunesmith.records import Conversation, Message

HERE = Path(__file__).resolve().parent
QUESTIONS = HERE.parent / "examples" / "networkx-assistant" / "questions" / "asked.jsonl"
MODEL = "smollm2"
SAMPLING = Sampling(max_tokens=80, stop=("```\n\n",))
OURS = 64  # the demo's batch size
CONTENDERS = ("base", "retrieval", "constrained")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    questions: int
    repeats: int
    batches: tuple[int, ...]
    exact: int  # questions that are asked in float32


FULL, QUICK = Plan(96, 3, (8, 16, 32, 64), 12), Plan(8, 1, (4, 8), 2)


@dataclass(frozen=True, slots=True)
class Work:
    """The conversations of each contender, and what makes the constraints of the constrained one."""

    conversations: dict[str, list[Conversation]]
    constraint: Callable[[Conversation], Any]


def prepare(plan: Plan, tokenizer: Any) -> Work:
    """Read networkx, index it, and render each contender's conversations as the evaluate stage does."""
    from tunesmith.collecting.python_package import read_package
    from tunesmith.generating.derive import derive_answers
    from tunesmith.generating.prompts import system_prompt
    from tunesmith.models.address import load_encoder
    from tunesmith.models.constrained import CatalogueGrammar
    from tunesmith.retrieving.index import build_index

    read = read_package("networkx")
    calls = {one.entry: one.call for one in derive_answers(read.documents, read.catalogue).answers}
    index = build_index(read.catalogue.entries, load_encoder("minilm"), calls=calls)
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[: plan.questions]
    questions = [json.loads(line)["question"] for line in lines]
    system = Message("system", system_prompt(read.catalogue))
    plain: list[Conversation] = [(system, Message("user", question)) for question in questions]
    shown = [with_passages(one, found) for one, found in zip(plain, index.search(questions, 3), strict=True)]
    grammar = CatalogueGrammar(read.catalogue, tokenizer)
    return Work({"base": plain, "retrieval": shown, "constrained": shown}, grammar.constraint)


# --- ours


def ours(model: LocalModel, work: Work) -> dict[str, ChatModel]:
    """Return each contender's model."""
    held = model.constrained(work.constraint, "constrained")
    return {"base": model, "retrieval": model, "constrained": held}


def ask_ours(model: ChatModel, conversations: Sequence[Conversation]) -> list[str]:
    """Ask in batches of the demo's size."""
    answers: list[str] = []
    for first in range(0, len(conversations), OURS):
        answers += [one.text for one in model.reply(conversations[first : first + OURS], SAMPLING)]
    return answers


# --- transformers' generate


class Generate:
    """transformers' generate on a model of its own, in batches of one size."""

    def __init__(self, tokenizer: Any, dtype: Any) -> None:
        from transformers import AutoModelForCausalLM

        self.tokenizer = tokenizer
        # Not by our loader: nothing of ours is in this model.
        self.model: Any = AutoModelForCausalLM.from_pretrained(locate(MODEL).folder, dtype=dtype).eval()
        self.ends = sorted(LocalModel(self.model, tokenizer, name=MODEL)._ends)
        self.model.set_attn_implementation("sdpa")

    def ask(
        self,
        conversations: Sequence[Conversation],
        size: int,
        constraint: Callable[[Conversation], Any] | None,
    ) -> list[str]:
        """Answer all, those of like length together."""
        prompts = [prompt_ids(self.tokenizer, one) for one in conversations]
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        answers = [""] * len(prompts)
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            held = None if constraint is None else [constraint(conversations[number]) for number in batch]
            for number, text in zip(batch, self._batch([prompts[i] for i in batch], held), strict=True):
                answers[number] = text
        return answers

    def _batch(self, prompts: Sequence[tuple[int, ...]], held: list[Any] | None) -> list[str]:
        import torch
        from transformers import LogitsProcessorList

        width = max(map(len, prompts))
        pad = int(self.tokenizer.pad_token_id)
        tokens_B_T = torch.tensor([[pad] * (width - len(one)) + list(one) for one in prompts])
        mask_B_T = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
        processors = LogitsProcessorList([] if held is None else [Held(held, width)])
        with torch.inference_mode():
            made = self.model.generate(
                input_ids=tokens_B_T,
                attention_mask=mask_B_T,
                max_new_tokens=SAMPLING.max_tokens,
                do_sample=False,
                eos_token_id=self.ends,
                pad_token_id=pad,
                stop_strings=list(SAMPLING.stop),
                tokenizer=self.tokenizer,
                logits_processor=processors,
            )
        texts = self.tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
        return [_until_stop(text) for text in texts]


def _until_stop(text: str) -> str:
    ends = [found + len(stop) for stop in SAMPLING.stop if (found := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


class Held:
    """A logits processor that holds each row to its constraint; a complete row may only end."""

    def __init__(self, constraints: list[Any], width: int) -> None:
        self.constraints, self.width = constraints, width

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Take note of the token that each row said, and forbid what may not come next."""
        scores = scores.clone()
        for row, constraint in enumerate(self.constraints):
            if input_ids.shape[1] > self.width and not constraint.finished():
                constraint.advance(int(input_ids[row, -1]))
            if constraint.finished():
                scores[row] = float("-inf")
                scores[row, 2] = 0.0
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


def run_round(ask: Callable[[str], Callable[[], list[str]]]) -> Round:
    """Ask every contender once."""
    made = Round({}, {}, {})
    for name in CONTENDERS:
        clock, processor = time.perf_counter(), time.process_time()
        made.answers[name] = ask(name)()
        made.seconds[name] = time.perf_counter() - clock
        made.processor[name] = time.process_time() - processor
        say(f"  {name}: {made.seconds[name]:.1f} s, {made.processor[name]:.1f} of the processor")
    return made


def same(one: Round, other: Round) -> float:
    """Return the share of answers that are the same."""
    pairs = [
        a == b for name in CONTENDERS for a, b in zip(one.answers[name], other.answers[name], strict=True)
    ]
    return sum(pairs) / len(pairs)


def measure(plan: Plan) -> dict[str, float]:
    """Run it all; returns the figures."""
    from tunesmith.inference.packed import pack
    from tunesmith.models.keeping import keeping
    from tunesmith.models.local import fast_dtype

    tokenizer = load_tokenizer(locate(MODEL).folder)
    work = prepare(plan, tokenizer)
    weights = load_model(locate(MODEL).folder)
    pack(weights)  # as the evaluate stage does
    model = LocalModel(weights, tokenizer, name=MODEL, batch_size=OURS)
    generate = Generate(tokenizer, fast_dtype())
    models = ours(model, work)

    def by_ours(name: str) -> Callable[[], list[str]]:
        return lambda: ask_ours(models[name], work.conversations[name])

    def by_generate(size: int) -> Callable[[str], Callable[[], list[str]]]:
        return lambda name: (
            lambda: generate.ask(
                work.conversations[name], size, work.constraint if name == "constrained" else None
            )
        )

    # The parser learns about the tokens while it is used: neither side pays for that alone.
    ask_ours(models["constrained"], work.conversations["constrained"][:2])
    tried: dict[int, Round] = {}
    for size in plan.batches:
        say(f"generate in batches of {size}")
        tried[size] = run_round(by_generate(size))
    best, second, *_ = sorted(tried, key=lambda size: sum(tried[size].processor.values()))
    mine: list[Round] = []
    theirs = [tried[best]]
    for repeat in range(plan.repeats):
        for into, ask in [(mine, by_ours), (theirs, by_generate(best))][:: 1 if repeat % 2 == 0 else -1]:
            if len(into) <= repeat:
                say(f"{repeat + 1}/{plan.repeats}: {'ours' if into is mine else 'generate'}")
                into.append(run_round(ask))
    with tempfile.TemporaryDirectory() as place:
        kept = {name: keeping(one, Path(place), identity=name) for name, one in models.items()}

        def by_kept(name: str) -> Callable[[], list[str]]:
            return lambda: ask_ours(kept[name], work.conversations[name])

        again = [run_round(by_kept) for _ in range(2)][1] if plan is FULL else None
    figures = dict(_figures(mine, theirs, best))
    figures["same_in_float32"] = same_in_float32(plan, work, tokenizer)
    figures["same_between_batches"] = same(tried[best], tried[second])
    return figures | ({} if again is None else {"kept_seconds": again.whole})


def same_in_float32(plan: Plan, work: Work, tokenizer: Any) -> float:
    """Return the share of answers to the first questions that are the same in float32."""
    import torch

    model = LocalModel(load_model(locate(MODEL).folder, dtype=torch.float32), tokenizer, name=MODEL)
    models, generate = ours(model, work), Generate(tokenizer, torch.float32)
    first = {name: found[: plan.exact] for name, found in work.conversations.items()}
    say(f"in float32, {plan.exact} questions each")
    mine = run_round(lambda name: lambda: ask_ours(models[name], first[name]))
    theirs = run_round(
        lambda name: (
            lambda: generate.ask(first[name], plan.exact, work.constraint if name == "constrained" else None)
        )
    )
    return same(mine, theirs)


def _figures(mine: Sequence[Round], theirs: Sequence[Round], best: int) -> Iterator[tuple[str, float]]:
    pairs = list(zip(mine, theirs, strict=True))
    ratios = [b.whole / a.whole for a, b in pairs]
    yield "ratio_vs_generate", statistics.median(ratios)
    yield "ratio_spread", (max(ratios) - min(ratios)) / statistics.median(ratios)
    yield (
        "ratio_processor",
        statistics.median(sum(b.processor.values()) / sum(a.processor.values()) for a, b in pairs),
    )
    for name in CONTENDERS:
        yield f"ratio.{name}", statistics.median(b.seconds[name] / a.seconds[name] for a, b in pairs)
        yield f"processor.{name}", statistics.median(b.processor[name] / a.processor[name] for a, b in pairs)
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
    parser.add_argument("--quick", action="store_true", help="less of everything: to see that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    figures = measure(QUICK if arguments.quick else FULL)
    if arguments.json:
        print(
            json.dumps(
                as_json("generate_throughput", figures, versions=versions_of(("torch", "transformers")))
            )
        )
        return
    for key, value in figures.items():
        print(f"{key:36} {value:12.4g}")


if __name__ == "__main__":
    main()
