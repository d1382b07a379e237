"""From answers to figures: each answer judged against the catalogue, each contender summed up per set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.catalogue import Catalogue, judge
from tunesmith.errors import DatasetError
from tunesmith.evaluating.statistics import Estimate, Metric, wilson
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


def acceptable(example: Example) -> tuple[str, ...]:
    """Return the catalogue ids that answer an example rightly; raises DatasetError where it names none."""
    ids = example.acceptable or ((example.entry,) if example.entry else ())
    if not ids:
        raise DatasetError(
            f"example {example.id} names no catalogue entry, so no call can be right: {example.question!r}",
            hint="Give it an `entry` or a list of `acceptable` ids.",
        )
    return ids


def group(example: Example) -> str:
    """Return what an example is clustered by: its entry, or itself if it has none."""
    return example.entry or example.id


def score(contender: str, set_name: str, example: Example, answer: Answer, catalogue: Catalogue) -> Score:
    """Judge one answer against the catalogue and the example's acceptable calls."""
    judgement = judge(answer.text, acceptable(example), catalogue)
    return Score(
        contender=contender,
        set=set_name,
        example=example.id,
        group=group(example),
        verdict=judgement.verdict,
        called=judgement.called,
        answer=answer,
        reason=judgement.reason,
    )


def columns(scores: Sequence[Score]) -> dict[tuple[str, str], tuple[Score, ...]]:
    """Return the scores by (contender, set), in the order in which these first appear."""
    found: dict[tuple[str, str], list[Score]] = {}
    for one in scores:
        found.setdefault((one.contender, one.set), []).append(one)
    return {key: tuple(group) for key, group in found.items()}


def summarise(scores: Sequence[Score]) -> tuple[Summary, ...]:
    """Sum up each contender on each set, in the order in which they first appear."""
    return tuple(_summary(column) for column in columns(scores).values())


def _summary(scores: tuple[Score, ...]) -> Summary:
    import numpy as np

    answers = [one.answer for one in scores]
    p50, p95 = np.quantile([answer.seconds for answer in answers], [0.5, 0.95])
    return Summary(
        contender=scores[0].contender,
        set=scores[0].set,
        exact=_estimate(scores, "exact"),
        valid=_estimate(scores, "valid"),
        hallucinated=_estimate(scores, "hallucinated"),
        wrong_arguments=_mean([one.verdict == "wrong_arguments" for one in scores]),
        no_call=_mean([one.verdict == "no_call" for one in scores]),
        cut_off=_mean([answer.finish == "length" for answer in answers]),
        seconds_p50=float(p50),
        seconds_p95=float(p95),
        prompt_tokens=_mean([answer.prompt_tokens for answer in answers]),
        completion_tokens=_mean([answer.completion_tokens for answer in answers]),
    )


def _estimate(scores: Sequence[Score], metric: Metric) -> Estimate:
    return wilson(sum(getattr(one, metric) for one in scores), len(scores))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
