"""Two costs: making a contender and asking it; and after how many questions the dearer one to make has paid back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.evaluating.names import adapter_of, is_tuned
from tunesmith.records import Score

Unit = Literal["USD", "s"]
#: What a verdict about answers in words can rest on.
Measure = Literal["f1", "exact_match", "rouge_l", "chrf", "similarity", "accuracy", "judged"]


class ReportSettings(BaseModel):
    """What the verdict about answers in words rests on (None: accuracy for labels, else f1), and what things cost.

    `usd_per_hour` is the price of the machine that trains and answers, `usd_per_million` a service's for tokens read
    and written, where the base is one's. Without them costs are seconds of this machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Measure | None = None
    usd_per_hour: float | None = Field(default=None, gt=0)
    usd_per_million: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What making the parts took: seconds here, US dollars at a service; None: not known."""

    encoder_seconds: float
    model_seconds: float | None
    model_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What a contender costs: once to make, and for a thousand answers; in US dollars, or seconds of this machine.

    `making` is None where it is not known in that unit: a service's training without its price or without those of its
    tokens, an encoder tuned on a machine without a price, an adapter that was trained elsewhere.
    """

    contender: str
    making: float | None
    per_thousand: float
    unit: Unit


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many questions `contender`, dearer to make than `against`, is the cheaper one; None: never."""

    contender: str
    against: str
    questions: float | None


def bills(
    columns: Mapping[str, Sequence[Score]], made: Made, settings: ReportSettings, *, remote: bool
) -> tuple[Bill, ...]:
    """Return each contender's bill, from its answers on one set and from what making it took.

    An answer costs its share of its batch's time on this machine, or at a service its tokens where their price is
    known. What is not counted: the retriever's memory, a machine that waits, and the making of the dataset, which all
    contenders share.
    """
    return tuple(_bill(name, scores, made, settings, remote) for name, scores in columns.items())


def _bill(name: str, scores: Sequence[Score], made: Made, settings: ReportSettings, remote: bool) -> Bill:
    answers = [score.answer for score in scores]
    seconds = sum(answer.seconds for answer in answers) / len(answers)
    rate = None if settings.usd_per_hour is None else settings.usd_per_hour / 3600
    if remote and settings.usd_per_million is not None:
        read, written = settings.usd_per_million
        tokens = sum(read * answer.prompt_tokens + written * answer.completion_tokens for answer in answers)
        making = _making(name, _priced(made.encoder_seconds, rate), made.model_usd)
        return Bill(name, making, 1000 * tokens / len(answers) / 1e6, "USD")
    if rate is not None and not remote:
        making = _making(name, _priced(made.encoder_seconds, rate), _priced(made.model_seconds, rate))
        return Bill(name, making, 1000 * seconds * rate, "USD")
    return Bill(name, _making(name, made.encoder_seconds, made.model_seconds), 1000 * seconds, "s")


def _making(name: str, encoder: float | None, model: float | None) -> float | None:
    """Return what the parts of a contender cost that were trained here, None where one of them is not known."""
    needed = [encoder] if "tuned_retrieval" in name.split("+") else []
    if is_tuned(name):
        needed.append(model if adapter_of(name) is None else None)
    known = [one for one in needed if one is not None]
    return sum(known) if len(known) == len(needed) else None


def _priced(seconds: float | None, rate: float | None) -> float | None:
    if seconds == 0:
        return 0.0
    return None if seconds is None or rate is None else seconds * rate


def break_even(of: str, all_bills: Sequence[Bill]) -> tuple[BreakEven, ...]:
    """Return when a contender has paid back against each one that is known to be cheaper to make."""
    mine = next(bill for bill in all_bills if bill.contender == of)
    if mine.making is None:
        return ()
    return tuple(
        BreakEven(of, other.contender, _questions(mine.making - other.making, mine, other))
        for other in all_bills
        if other.making is not None and other.making < mine.making
    )


def _questions(dearer_by: float, one: Bill, other: Bill) -> float | None:
    saved = (other.per_thousand - one.per_thousand) / 1000
    return dearer_by / saved if saved > 0 else None
