"""TorchHub's part of APIBench: every contender with the embedded models, every metric, every floor, two splits.

    python benchmarks/apibench.py [--json] [--quick] [--data FOLDER] [--work FOLDER] [--split row|call|both]

The data is no part of this repository: torchhub_api.jsonl and torchhub_train.json of ShishirPatil/gorilla (Apache-2.0).
Two splits: by row, as published, where each call that is asked for stands in training too; and by call, where none
does. For each split the encoder is tuned on the training questions, and the language model on the answers to them,
partly with retrieved entries in the prompt; then all contenders answer the same held-out questions, greedily.

Keys are CONTENDER.METRIC, floor.NAME.METRIC and ceiling.NAME.METRIC; those of the split by call begin with `by_call.`.
Metrics are shares of the questions: exact (repository and model are the row's), acceptable (of the same functionality,
as the dataset names it), valid (exists in the catalogue, arguments bind), hallucinated (calls torch.hub.load for
something that does not exist), published (Gorilla's own metric) and published_hallucinated (the same).
CONTENDER.ahead_of_nearest is how far its exact calls are ahead of those of the nearest training question's answer,
on the same questions, also for the other floors; `.low` and `.high` are its interval.

--work keeps what is done, so that a run that was killed goes on; --quick takes few rows, to see that all of it works.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hardware import as_json, versions_of
from torchhub import SYSTEM, TORCH, Hub, hear, judged, read_examples, read_hub

from tunesmith.contenders import Workshop
from tunesmith.curating.split import SplitSettings, split
from tunesmith.evaluating import floors
from tunesmith.evaluating.evaluate import EvaluateSettings, evaluate
from tunesmith.evaluating.gorilla import Known, judge_call, known_calls
from tunesmith.evaluating.scores import columns
from tunesmith.evaluating.statistics import paired_difference, wilson
from tunesmith.models.address import Place, load_encoder, model_folder
from tunesmith.models.base import ChatModel
from tunesmith.models.constrained import one_of
from tunesmith.models.local import LocalModel, load_model, load_tokenizer
from tunesmith.models.said import Said
from tunesmith.records import Conversation, Example, Message, Score, write_jsonl
from tunesmith.retrieving.index import Index, build_index
from tunesmith.retrieving.oracle import OracleRetriever
from tunesmith.steps import arithmetic
from tunesmith.training.encoder import EncoderSettings, Entries, Pair, tune_encoder
from tunesmith.training.mix import conversations, ranks_of
from tunesmith.training.settings import TrainSettings
from tunesmith.training.train import train

DATA: Final = Path("../shared/data/apibench-torchhub")
CONTENDERS: Final = (
    "tuned",
    "tuned+tuned_retrieval",
    "tuned+tuned_retrieval+constrained",
    "tuned+constrained",
    "tuned+retrieval",
    "base",
    "tuned_retrieval",
    "retrieval",
    "few_shot",
)
ORACLE: Final = "tuned+tuned_retrieval+constrained"  # who is asked again, with the right entry shown first
OPENING: Final = r"[^`\x00-\x1f\x7f]{1,100}:"  # the model's own words, before the block with the call
CHOICES: Final = ("ceiling.hit_in_3", "ceiling.tuned_hit_in_3")
METRICS: Final = ("exact", "acceptable", "valid", "hallucinated", "published", "published_hallucinated")
PASSAGES: Final = 3
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it is done, and how the two models are trained."""

    held_out: int  # rows of the split by row that training does not see
    asked: Mapping[str, int]  # how many questions, by split
    valid: int
    rows: int | None  # to train on; None: all
    bare: int  # how often training shows each question alone
    shown: int  # and how often with retrieved entries, each time with other ones in other places
    encoder: EncoderSettings
    train: TrainSettings
    evaluate: EvaluateSettings

    @classmethod
    def full(cls, model: str, encoder: str) -> Plan:
        """Return the plan of a run whose figures count."""
        return cls(
            held_out=186,  # as many as the published test set has
            asked={"row": 186, "call": 144},
            valid=24,
            rows=None,
            bare=6,
            shown=2,
            encoder=EncoderSettings(base=encoder, epochs=6, learning_rate=4e-4, top_layers=4),
            train=TrainSettings(
                base=model,
                batch_size=8,
                top_layers=15,
                doubt=0.5,
                passages=PASSAGES,
                evaluate_every=50,
                seed=SEED,
            ),
            evaluate=EvaluateSettings(max_tokens=112, batch_size=62, stop=("```\n\n",)),
        )

    @classmethod
    def quick(cls, model: str, encoder: str) -> Plan:
        """Return the plan of a run that only shows that everything works."""
        full = cls.full(model, encoder)
        return replace(
            full,
            held_out=8,
            asked={"row": 8, "call": 8},
            valid=4,
            rows=24,
            bare=1,
            shown=1,
            encoder=EncoderSettings(base=encoder, epochs=1, batch_size=8),
            train=TrainSettings(base=model, batch_size=8, passages=PASSAGES, doubt=0.5, seed=SEED),
            evaluate=EvaluateSettings(max_tokens=320, batch_size=8, stop=("```\n\n",)),
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """One split of the rows."""

    name: str
    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    test: tuple[Example, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, ask, judge and print."""
    given = _arguments(arguments)
    if not (given.data / "torchhub_api.jsonl").is_file():
        raise SystemExit(
            f"{given.data} does not hold APIBench's torchhub_api.jsonl: name its folder with --data"
        )
    hub = read_hub(given.data)
    examples = read_examples(given.data, hub)
    known = known_calls((one.published, one.domain) for one in hub.listed)
    plan = (Plan.quick if given.quick else Plan.full)(given.model, given.encoder)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        for name in ("row", "call") if given.split == "both" else (given.split,):
            started = time.perf_counter()
            parts = by_row(examples, plan) if name == "row" else by_call(examples, plan)
            parts = replace(parts, train=parts.train[: plan.rows])
            _say(
                f"by {name}: {len(parts.train)} to train on, {len(parts.valid)} to validate, {len(parts.test)} asked"
            )
            scores = _Split(parts, hub, plan, work / f"by_{name}", given.contenders).scores()
            found = figures_of(scores, parts.test, hub, known)
            figures |= {("by_call." if name == "call" else "") + key: value for key, value in found.items()}
            _say(f"by {name}: {time.perf_counter() - started:.0f} s")
            print(table(scores, parts.test, hub, known), file=sys.stderr)
    if given.json:
        versions = versions_of(["tunesmith", "torch", "transformers", "llguidance"])
        print(json.dumps(as_json("apibench", figures, versions=versions)))
    else:
        for key, value in figures.items():
            print(f"{key:<60}{value:.4f}")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="few rows, few steps: the figures mean nothing")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="the folder with APIBench's two TorchHub files"
    )
    parser.add_argument(
        "--work", type=Path, help="a folder that keeps what is done; left as it is afterwards"
    )
    parser.add_argument("--split", choices=("row", "call", "both"), default="both")
    parser.add_argument(
        "--contenders",
        nargs="+",
        choices=CONTENDERS,
        default=CONTENDERS,
        help="ask only these",
        metavar="NAME",
    )
    parser.add_argument("--model", default="smollm2", help="the address of the language model")
    parser.add_argument("--encoder", default="minilm", help="the address of the encoder")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- the two splits


def by_row(examples: Sequence[Example], plan: Plan) -> Parts:
    """Return the rows split by chance: calls that are asked for stand in training too, as in the published split."""
    order = sorted(examples, key=lambda one: hashlib.sha256(f"{SEED}:{one.id}".encode()).digest())
    valid_from, train_from = plan.held_out, plan.held_out + plan.valid
    return Parts(
        "row",
        train=tuple(order[train_from:]),
        valid=tuple(order[valid_from:train_from]),
        test=tuple(order[: plan.asked["row"]]),
    )


def by_call(examples: Sequence[Example], plan: Plan) -> Parts:
    """Return the rows split by call, as Tunesmith splits: training never names the fifth of the calls that is asked."""
    settings = SplitSettings(
        unseen_share=0.2, unseen_questions=plan.asked["call"], seen_questions=0, seed=SEED
    )
    found = split(examples, settings)
    return Parts("call", found.train, found.valid[: plan.valid], found.unseen)


# --- one split, from its rows to its scores


@dataclass
class _Split:
    """The work on one split; its folder keeps checkpoints and answers, and whatever is there is not done again."""

    parts: Parts
    hub: Hub
    plan: Plan
    work: Path
    contenders: Sequence[str]

    def scores(self) -> tuple[Score, ...]:
        """Return every contender's, floor's and ceiling's scores, the latter two under their kind's name."""
        self.work.mkdir(parents=True, exist_ok=True)
        plain, tuned = self._indexes()
        found = [*self._floors(plain, tuned), *self._ceilings(plain, tuned)]
        shop = self._workshop(plain, tuned, self._adapter(tuned))
        for name in self.contenders:
            answered = self._asked(name, shop.build(name))
            found += answered
            if name == ORACLE:
                found += self._oracle(plain, tuned, shop, answered)
        scores = self._judged(found)
        write_jsonl(self.work / "scores.jsonl", scores)
        return scores

    def _judged(self, scores: Sequence[Score]) -> tuple[Score, ...]:
        by_id = {example.id: example for example in self.parts.test}
        return tuple(
            one if one.contender in CHOICES else judged(one, by_id[one.example], self.hub) for one in scores
        )

    @property
    def _calls(self) -> dict[str, str]:
        return {one.id: one.call for one in self.hub.listed}

    def _indexes(self) -> tuple[Index, Index]:
        """Return the index of the encoder as it was found, joined with BM25, and that of the tuned one."""
        import torch

        entries = [one.entry for one in self.hub.listed]
        plain = build_index(entries, load_encoder(self.plan.encoder.base), calls=self._calls)
        model = load_encoder(self.plan.encoder.base)
        pairs, valid = (
            [Pair(one.question, str(one.entry)) for one in rows]
            for rows in (self.parts.train, self.parts.valid)
        )
        # An entry that no question names would be a wrong answer in every step and a right one in none (docs/log.md).
        named = {pair.entry for pair in pairs}
        rows = [row for row, entry in enumerate(plain.ids) if entry in named]
        known = Entries(
            {plain.ids[row]: place for place, row in enumerate(rows)},
            torch.from_numpy(plain.vectors_E_D[rows]),
        )
        run = tune_encoder(
            model,
            pairs,
            known,
            [pair for pair in valid if pair.entry in named],
            self.plan.encoder,
            work=self.work / "encoder",
            dtype=arithmetic(self.work),
            on_progress=_told,
        )
        _say(f"encoder: {run.seconds:.0f} s, " + ", ".join(f"{one.loss:.2f}" for one in run.epochs[1:]))
        # Without the known questions as further keys, which would hide the entries that have none (docs/log.md).
        tuned = build_index(entries, model, lexical=False, keys_E_D=plain.vectors_E_D, calls=self._calls)
        return plain, tuned

    def _adapter(self, index: Index) -> Path:
        """Tune the language model; return the folder of what it learned."""
        out, settings = self.work / "adapter", self.plan.train
        if not (out / "adapter_config.json").is_file():
            folder = model_folder(settings.base)
            run = train(
                load_model(folder, dtype=arithmetic(self.work)),
                load_tokenizer(folder),
                self._lessons(index),
                None,
                settings,
                out=out,
                work=self.work / "train",
                on_progress=_told,
            )
            _say(f"language model: {run.tokens} tokens, {run.seconds:.0f} s, {len(run.steps)} steps")
        return out

    def _lessons(self, index: Index) -> list[Conversation]:
        """Return each example as often as planned alone, and with retrieved entries.

        Nothing is validated: which of many equal models a row happens to name is what the validation loss is made of,
        and it rises long before the last call that does not exist is gone.
        """
        ranks = ranks_of(self.parts.valid, index, PASSAGES)
        shares = [0.0] * self.plan.bare + [1.0] * self.plan.shown
        rows = [
            row
            for number, share in enumerate(shares)
            for row in conversations(
                self.parts.train,
                index,
                index.passage,
                ranks,
                system=SYSTEM,
                settings=self.plan.train.model_copy(update={"retrieved_share": share, "seed": SEED + number}),
            )
        ]
        random.Random(SEED).shuffle(rows)
        return rows

    def _workshop(self, plain: Index, tuned: Index, adapter: Path) -> Workshop:
        base, dtype = self.plan.train.base, arithmetic(self.work)

        def load(place: Place, name: str) -> ChatModel:
            return LocalModel(
                load_model(place.folder, dtype=dtype, adapter=place.adapter),
                load_tokenizer(place.folder, adapter=place.adapter),
                name=name,
                batch_size=self.plan.evaluate.batch_size,
                said=Said(),
            )

        blocks = [one.answer.removeprefix(f"{one.what}:") for one in self.hub.listed]
        shown = sorted(self.parts.train, key=lambda one: one.id)[:3]
        return Workshop(
            load_base=lambda: load(Place(model_folder(base)), base),
            load_tuned=lambda: load(Place(model_folder(base), adapter), f"{base} tuned"),
            load_retriever=lambda: plain,
            load_tuned_retriever=lambda: tuned,
            load_constraint=lambda model: one_of(blocks, model.tokenizer, opening=OPENING),
            shots=tuple((Message("user", one.question), Message("assistant", one.answer)) for one in shown),
            passages=PASSAGES,
        )

    def _asked(self, name: str, model: ChatModel, rows: Sequence[Example] | None = None) -> tuple[Score, ...]:
        asked = self.parts.test if rows is None else rows
        scores = evaluate(
            {name: model},
            {self.parts.name: asked},
            TORCH,
            system=SYSTEM,
            settings=self.plan.evaluate,
            journal=self.work / f"answers-{name}.jsonl",
            on_progress=_told,
        )
        _say(
            f"{name}: {sum(judged(one, row, self.hub).exact for one, row in zip(scores, asked, strict=True))} exact"
        )
        return scores

    def _floors(self, plain: Index, tuned: Index) -> list[Score]:
        sets = {self.parts.name: self.parts.test}
        answers = {one.id: one.answer for one in self.hub.listed}
        found = [
            *floors.constant(self._for_most(), sets, TORCH),
            *floors.majority(self.parts.train, sets, TORCH),
            *floors.nearest(self.parts.train, sets, TORCH),
            *floors.nearest_embedded(self.parts.train, sets, TORCH, load_encoder(self.plan.encoder.base)),
        ]
        for name, index in (("first_hit", plain), ("tuned_first_hit", tuned)):
            found += floors.first_hit(name, answers, self._hits(index), sets, TORCH)
        return [replace(one, contender=f"floor.{one.contender}") for one in found]

    def _for_most(self) -> list[Example]:
        """Return the training rows with all calls of the same domain for acceptable: the constant goes for that."""
        domains = {one.id: one.domain for one in self.hub.listed}
        return [
            replace(row, acceptable=tuple(one for one in domains if domains[one] == domains[str(row.entry)]))
            for row in sorted(self.parts.train, key=lambda row: row.entry != "resnet18")
        ]

    def _ceilings(self, plain: Index, tuned: Index) -> Iterator[Score]:
        """Yield what a perfect chooser among the hits would score."""
        sets = {self.parts.name: self.parts.test}
        for name, index in zip(CHOICES, (plain, tuned), strict=True):
            yield from floors.hit_in(name, self._hits(index), PASSAGES, sets)

    def _oracle(
        self, plain: Index, tuned: Index, shop: Workshop, answered: Sequence[Score]
    ) -> Iterator[Score]:
        """Yield the scores with the right entry shown first; where it was anyway, the answer stands."""
        right = {one.question: [plain.passage(str(one.entry))] for one in self.parts.test}
        given = {one.example: one for one in answered}
        led = [one for one in self.parts.test if given[one.id].answer.retrieved[0] == one.entry]
        model = shop.build(ORACLE, OracleRetriever(tuned, right))
        asked = self._asked("oracle", model, [one for one in self.parts.test if one not in led])
        for score in (*(given[one.id] for one in led), *asked):
            yield replace(score, contender="ceiling.oracle")

    def _hits(self, index: Index) -> dict[str, tuple[str, ...]]:
        found = index.search([one.question for one in self.parts.test], PASSAGES)
        return {
            one.id: tuple(hit.id for hit in hits) for one, hits in zip(self.parts.test, found, strict=True)
        }


def _told(done: int, total: int, note: str = "") -> None:
    if done == total or done % 20 == 0:
        _say(f"  {done} of {total} {note}")


# --- from scores to figures


def figures_of(
    scores: Sequence[Score], test: Sequence[Example], hub: Hub, known: Sequence[Known]
) -> dict[str, float]:
    """Return the shares, and how far each contender is ahead of the nearest question's answer."""
    figures: dict[str, float] = {}
    found = {name: rows for (name, _), rows in columns(scores).items()}
    for name, rows in found.items():
        for metric, marks in marks_of(rows, test, hub, known).items():
            figures[f"{name}.{metric}"] = sum(marks) / len(marks)
        if name != "floor.nearest" and not name.startswith("ceiling"):
            ahead = paired_difference(rows, found["floor.nearest"], "exact")
            figures |= {
                f"{name}.ahead_of_nearest": ahead.difference,
                f"{name}.ahead_of_nearest.low": ahead.low,
                f"{name}.ahead_of_nearest.high": ahead.high,
            }
    return figures


def marks_of(
    scores: Sequence[Score], test: Sequence[Example], hub: Hub, known: Sequence[Known]
) -> dict[str, list[bool]]:
    """Return by metric for which questions it holds; what a ceiling would choose has no words and no published mark."""
    entry_of = {example.id: str(example.entry) for example in test}
    marks: dict[str, list[bool]] = {
        "exact": [one.exact for one in scores],
        "acceptable": [one.called in hub.alike(entry_of[one.example]) for one in scores],
        "valid": [one.valid for one in scores],
        "hallucinated": [one.hallucinated for one in scores],
    }
    if scores[0].contender in CHOICES:
        return marks
    calls = [hear(one.answer.text, hub).call for one in scores]
    verdicts = [
        "wrong" if call is None else judge_call(call, hub.by_id[entry_of[one.example]].domain, known)
        for call, one in zip(calls, scores, strict=True)
    ]
    return marks | {
        "published": [one == "correct" for one in verdicts],
        "published_hallucinated": [one == "hallucinated" for one in verdicts],
    }


def table(scores: Sequence[Score], test: Sequence[Example], hub: Hub, known: Sequence[Known]) -> str:
    """Return the figures in percent as a table of Markdown, exact and published calls with Wilson's interval."""
    lines = [f"| | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 1) + "|"]
    for (name, _), rows in columns(scores).items():
        marks: Mapping[str, Any] = marks_of(rows, test, hub, known)
        cells = [_cell(metric, marks[metric]) if metric in marks else "" for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(metric: str, marks: Sequence[bool]) -> str:
    found = wilson(sum(marks), len(marks))
    value = f"{100 * found.value:.1f}"
    return (
        f"{value} ({100 * found.low:.1f} to {100 * found.high:.1f})"
        if metric in ("exact", "published")
        else value
    )


if __name__ == "__main__":
    main()
