"""The stage `curve`: the language model trained anew on parts of the examples and with other seeds, and measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from tunesmith import cache_keys, finished, steps, workshops
from tunesmith.artifacts import Artifact
from tunesmith.config import Config
from tunesmith.errors import UsageError
from tunesmith.records import Score, read_jsonl, write_jsonl
from tunesmith.steps import Work

if TYPE_CHECKING:
    from tunesmith.evaluating.curve import Curve
    from tunesmith.evaluating.statistics import Metric

TRAININGS: Final = "trainings.json"


@dataclass(frozen=True, slots=True)
class Training:
    """One training beside the project's own: on how many examples, which share of all that is, and with which seed."""

    examples: int
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.examples}-{self.seed}"


def settings(config: Config) -> dict[str, Any]:
    """Return what the learning curve is told: nothing more where none is wanted, so that nothing else moves it."""
    wanted = bool(config.curve.fractions or config.curve.seeds)
    return {"curve": config.curve.model_dump()} | (cache_keys.evaluate_settings(config) if wanted else {})


def outside(config: Config) -> tuple[str, ...]:
    """Return the digests of what the contender hangs on outside, where a curve is wanted."""
    wanted = bool(config.curve.fractions or config.curve.seeds)
    return cache_keys.contender_digests(config) if wanted else cache_keys.base_digest(config)


def curve(work: Work) -> dict[str, int]:
    """Train on parts of the examples and with other seeds, and ask the contender the main set's questions."""
    config = work.config
    trainings = _trainings(work.inputs, config)
    contender = _contender(config, work.inputs) if trainings else ""
    for number, training in enumerate(trainings, 1):
        work.say(
            f"training {number} of {len(trainings)}: {training.examples:,} examples, seed {training.seed}"
        )
        write_jsonl(work.draft / f"{training.name}.jsonl", _measured(work, training, contender))
    made = [
        {"examples": one.examples, "fraction": one.fraction, "seed": one.seed, "file": f"{one.name}.jsonl"}
        for one in trainings
    ]
    noted = {"contender": contender, "trainings": made}
    work.draft.joinpath(TRAININGS).write_text(json.dumps(noted, indent=1), encoding="utf-8")
    return {"trainings": len(trainings)}


def _trainings(inputs: Mapping[str, Artifact], config: Config) -> tuple[Training, ...]:
    from tunesmith.models.address import is_remote

    told = config.curve
    if (told.fractions or told.seeds) and is_remote(config.train.base):
        raise UsageError(
            f"[curve] trains anew, and {config.train.base} is tuned by a service, which takes money for each time",
            hint="Leave fractions and seeds out of [curve], or train a model that is here.",
        )
    there = len(finished.examples_of(inputs, "train"))
    whole = there if config.train.examples is None else min(there, config.train.examples)
    first = config.train.seed
    # Two shares of few examples may come to as many.
    parts = {count: share for share in told.fractions if (count := max(1, round(share * whole))) < whole}
    seeds = (Training(whole, 1.0, seed) for seed in told.seeds if seed != first)
    return (*(Training(count, share, first) for count, share in parts.items()), *seeds)


def _contender(config: Config, inputs: Mapping[str, Artifact]) -> str:
    """Return the last contender with the tuned language model that can be asked for the main kind of answers."""
    calls = finished.test_sets(inputs, finished.about_calls)
    names = (finished.contenders_in_calls if calls else finished.contenders_in_words)(inputs, config)
    name = next((one for one in reversed(names) if "tuned" in one.split("+")), None)
    if name is None:
        raise UsageError(
            "[curve] trains the language model anew, and no contender has it",
            hint="Name one with `tuned` in [evaluate] contenders.",
        )
    return name


def _measured(work: Work, training: Training, contender: str) -> tuple[Score, ...]:
    """Return the scores of the contender whose model is trained so, on the main set."""
    told = {"examples": training.examples, "seed": training.seed}
    config = replace(work.config, train=work.config.train.model_copy(update=told))
    folder = work.scratch / training.name
    folder.mkdir(exist_ok=True)
    inside = replace(work, config=config, draft=folder)
    adapter = folder / "adapter"
    if not folder.joinpath("run.json").is_file():
        # In the arithmetic of the project's own training, or the two could not be compared.
        shutil.copyfile(work.inputs["train"].file(finished.ARITHMETIC), folder / finished.ARITHMETIC)
        steps.train_here(inside, finished.conversations_of(work.inputs, config))
    shop = workshops.workshop(work.inputs, config, work.say, adapter)
    calls = finished.test_sets(work.inputs, finished.about_calls)
    ask = _ask_calls if calls else _ask_words
    sets = calls or finished.test_sets(work.inputs, finished.about_texts)
    main = finished.main_set(sets)
    return ask(inside, shop, contender, {main: sets[main]})


def _ask_calls(work: Work, shop: Any, contender: str, sets: finished.Sets) -> tuple[Score, ...]:
    from tunesmith.evaluating.evaluate import evaluate

    catalogue = finished.catalogue_of(work.inputs)
    return evaluate(
        {contender: shop.build(contender)},
        sets,
        catalogue,
        system=finished.system_of(catalogue),
        settings=work.config.evaluate,
        journal=work.draft / "answers.jsonl",
        on_progress=work.progress,
    )


def _ask_words(work: Work, shop: Any, contender: str, sets: finished.Sets) -> tuple[Score, ...]:
    from tunesmith.evaluating.evaluate import evaluate_words

    shop = workshops.in_words_workshop(shop, work.inputs, work.config)
    asked = evaluate_words(
        {contender: shop.build(contender)},
        sets,
        system=cache_keys.in_words_of(work.config),
        settings=work.config.evaluate,
        encoder=finished.encoder_of(work.config, work.say),
        right_of=finished.places_of(work.inputs).right,
        journal=work.draft / "answers.jsonl",
        on_progress=work.progress,
    )
    return tuple(steps.further_measures(work, asked, "answers"))


def curve_of(
    inputs: Mapping[str, Artifact], config: Config, scores: Sequence[Score], metric: Metric
) -> Curve | None:
    """Return the learning curve with the project's own training as its whole; None where none was wanted."""
    from tunesmith.evaluating.curve import Curve, Point, by_size
    from tunesmith.evaluating.statistics import mean_estimate, paired_difference

    made = inputs["curve"]
    noted = json.loads(made.file(TRAININGS).read_text(encoding="utf-8"))
    if not noted["trainings"]:
        return None
    main = finished.main_set({one.set for one in scores})
    own = [one for one in scores if (one.contender, one.set) == (noted["contender"], main)]
    there = len(finished.examples_of(inputs, "train"))
    whole = there if config.train.examples is None else min(there, config.train.examples)
    points = [Point(whole, 1.0, config.train.seed, mean_estimate(own, metric), None)]
    for one in noted["trainings"]:
        column = list(read_jsonl(Score, made.file(one["file"])))
        gain = paired_difference(own, column, metric)
        estimate = mean_estimate(column, metric)
        points.append(Point(one["examples"], one["fraction"], one["seed"], estimate, gain))
    return Curve(noted["contender"], main, metric, by_size(points))
