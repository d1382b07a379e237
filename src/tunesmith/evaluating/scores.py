"""From answers to figures: calls judged against the catalogue, words against an answer; each contender summed up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.catalogue import Catalogue, judge
from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import Estimate, Metric, mean_estimate, wilson
from tunesmith.evaluating.texts import FOUND, FURTHER, MEASURES, citations, measure
from tunesmith.models.base import Encoder
from tunesmith.records import Answer, Example, Score


@dataclass(frozen=True, slots=True)
class Summary:
    """One contender on one set.

    Shares lie between 0 and 1, seconds are for one answer, tokens are means for one answer. `cut_off` is the
    share of answers that reached the token limit before they ended.
    """

    contender: str
    set: str
    exact: Estimate
    valid: Estimate
    hallucinated: Estimate
    wrong_arguments: float
    no_call: float
    cut_off: float
    seconds_p50: float
    seconds_p95: float
    prompt_tokens: float
    completion_tokens: float

    @property
    def n(self) -> int:
        """How many questions were asked."""
        return self.exact.n

    @property
    def metric(self) -> Metric:
        """What a verdict rests on."""
        return "exact"

    @property
    def main(self) -> Estimate:
        """The share by which contenders are held against each other."""
        return self.exact


@dataclass(frozen=True, slots=True)
class WordsSummary:
    """One contender's answers in words on one set.

    `measures` are means from 0 to 1, by name; those of some questions only have a smaller `n` (texts.FURTHER). The rest
    is as in Summary.
    """

    contender: str
    set: str
    metric: Metric
    measures: Mapping[str, Estimate]
    cut_off: float
    seconds_p50: float
    seconds_p95: float
    prompt_tokens: float
    completion_tokens: float

    @property
    def n(self) -> int:
        """How many questions were asked."""
        return self.main.n

    @property
    def main(self) -> Estimate:
        """The measure by which contenders are held against each other."""
        return self.measures[self.metric]


Summarised = Summary | WordsSummary


def acceptable(example: Example) -> tuple[str, ...]:
    """Return the catalogue ids that answer an example rightly; raises DatasetError where it names none."""
    ids = example.acceptable or ((example.entry,) if example.entry else ())
    if not ids:
        raise DatasetError(
            f"example {example.id} names no catalogue entry, so no call can be right: {example.question!r}",
            hint="Give it an `entry` or a list of `acceptable` ids.",
        )
    return ids


def score(contender: str, set_name: str, example: Example, answer: Answer, catalogue: Catalogue) -> Score:
    """Judge one answer against the catalogue and the example's acceptable calls."""
    judgement = judge(answer.text, acceptable(example), catalogue)
    return Score(
        contender=contender,
        set=set_name,
        example=example.id,
        group=example.group,
        verdict=judgement.verdict,
        called=judgement.called,
        answer=answer,
        reason=judgement.reason,
    )


def score_words(
    contender: str,
    set_name: str,
    answered: Sequence[tuple[Example, Answer]],
    encoder: Encoder | None = None,
    right_of: Callable[[Example], Sequence[str]] = lambda example: (),
) -> list[Score]:
    """Measure answers in words against the examples' own; `right_of` gives the ids of the passages that hold them.

    Where those are known, citations are measured too, of contenders that are asked for some.
    """
    cites = "citations" in contender.split("+")
    measured = measure(
        [answer.text for _, answer in answered], [example.answer for example, _ in answered], encoder
    )
    return [
        Score(
            contender=contender,
            set=set_name,
            example=example.id,
            group=example.group,
            verdict=None,
            called=None,
            answer=answer,
            measures=values | (citations(answer.text, answer.retrieved, right_of(example)) if cites else {}),
        )
        for (example, answer), values in zip(answered, measured, strict=True)
    ]


def in_words(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Return the scores of answers in words."""
    return tuple(one for one in scores if one.verdict is None)


def of_calls(scores: Iterable[Score]) -> tuple[Score, ...]:
    """Return the scores of calls."""
    return tuple(one for one in scores if one.verdict is not None)


def columns(scores: Sequence[Score]) -> dict[tuple[str, str], tuple[Score, ...]]:
    """Return the scores by (contender, set), in the order in which these first appear."""
    found: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        found.setdefault((one.contender, one.set), []).append(one)
    return {key: tuple(group) for key, group in found.items()}


def summarise(scores: Sequence[Score]) -> tuple[Summary, ...]:
    """Sum up each contender's calls on each set, in the order in which they first appear."""
    return tuple(_summary(column) for column in columns(scores).values())


def summarise_words(scores: Sequence[Score], metric: Metric) -> tuple[WordsSummary, ...]:
    """Sum up each contender's answers in words on each set, in the order in which they first appear."""
    return tuple(_words_summary(column, metric) for column in columns(scores).values())


def _words_summary(scores: tuple[Score, ...], metric: Metric) -> WordsSummary:
    known = (*MEASURES, *FURTHER, FOUND)
    names = [name for name in known if any(name in one.measures for one in scores)]
    asked = _asked(scores)
    return WordsSummary(
        contender=scores[0].contender,
        set=scores[0].set,
        metric=FOUND if FOUND in names else metric,
        measures={name: mean_estimate(scores, name) for name in names},
        **asked,
    )


def _summary(scores: tuple[Score, ...]) -> Summary:
    return Summary(
        contender=scores[0].contender,
        set=scores[0].set,
        exact=_estimate(scores, "exact"),
        valid=_estimate(scores, "valid"),
        hallucinated=_estimate(scores, "hallucinated"),
        wrong_arguments=_mean([one.verdict == "wrong_arguments" for one in scores]),
        no_call=_mean([one.verdict == "no_call" for one in scores]),
        **_asked(scores),
    )


def _asked(scores: Sequence[Score]) -> dict[str, float]:
    """Return what asking came to, for one answer."""
    import numpy as np

    answers = [one.answer for one in scores]
    p50, p95 = np.quantile([answer.seconds for answer in answers], [0.5, 0.95])
    return {
        "cut_off": _mean([answer.finish == "length" for answer in answers]),
        "seconds_p50": float(p50),
        "seconds_p95": float(p95),
        "prompt_tokens": _mean([answer.prompt_tokens for answer in answers]),
        "completion_tokens": _mean([answer.completion_tokens for answer in answers]),
    }


def _estimate(scores: Sequence[Score], metric: Metric) -> Estimate:
    return wilson(sum(getattr(one, metric) for one in scores), len(scores))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
