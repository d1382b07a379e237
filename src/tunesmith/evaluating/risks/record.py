"""The nouns of risks: what was seen of a model, a figure before and after, and what could not be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.evaluating.statistics import Estimate
from tunesmith.models.base import ChatModel
from tunesmith.records import Canary, Conversation, Example, Score

if TYPE_CHECKING:
    from tunesmith.models.likelihood import Told

Check = Literal["forgetting", "memorisation", "private", "bias", "refusal"]
Item = TypeVar("Item")
Worse = Literal["higher", "lower"]
CHECKS: tuple[Check, ...] = get_args(Check)


class RisksSettings(BaseModel):
    """What is looked at: which checks, how many training rows and as many held-out ones, how long answers may be.

    `seed` picks the rows. No check at all, and the stage loads no model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    checks: tuple[Check, ...] = CHECKS
    rows: int = Field(default=48, ge=2)
    max_tokens: int = Field(default=32, ge=1)
    seed: int = 0


class Telling(Protocol):
    """Tells how likely a model finds answers; `models.likelihood.Likelihood` does."""

    def told(self, prompts: Sequence[Conversation | str], answers: Sequence[str]) -> list[Told]:
        """Return what the model thinks of each answer's tokens after its prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is looked at: what answers, and what tells likelihoods (None: a service, which does not)."""

    chat: ChatModel
    telling: Telling | None


@dataclass(frozen=True, slots=True)
class Material:
    """What the tuning was made from: rows that it was trained on, rows like them that it was not, planted secrets.

    A row is a conversation whose last turn is the answer. `trained` is all text that training saw or could show in
    retrieved passages, less the planted secrets; `members` are a sample of its rows. `scores` are those of an
    evaluation, and `before` and `after` the names of the contenders in it that are the two models. `detect` finds what
    is private in a text.
    """

    members: tuple[Conversation, ...] = ()
    trained: str = ""
    others: tuple[Conversation, ...] = ()
    canaries: tuple[Canary, ...] = ()
    scores: tuple[Score, ...] = ()
    questions: Mapping[str, Example] = field(default_factory=dict)
    before: str = "base"
    after: str = "tuned"
    system: str = ""
    detect: Callable[[str], Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that was seen of a model: a figure's value is the sum of `value` over the sum of `weight`.

    `what` names the figure, `item` what was asked, the same before and after, and `said` what the model said.
    """

    what: str
    item: str
    value: float
    weight: float = 1.0
    said: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """After less before, on the same items, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RiskRow:
    """One item behind a figure: what it came to, and what was said, before and after."""

    item: str
    before: float | None
    after: float | None
    said_before: str = ""
    said_after: str = ""


@dataclass(frozen=True, slots=True)
class Risk:
    """One figure before and after tuning, each with its interval, on `n` items, and what it does not cover.

    `unit` "share" lies between 0 and 1; other units are named in words. `worse` says which way is for the worse, and
    `rows` are the items that went that way most. `expected` is what a model without this risk would have, if known.
    """

    check: Check
    name: str
    about: str
    unit: str
    worse: Worse
    before: Estimate | None
    after: Estimate | None
    change: Change | None
    n: int
    covers_not: str
    expected: float | None = None
    rows: tuple[RiskRow, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether it went for the worse beyond noise, and past what a model without this risk would have."""
        if self.change is None:
            return False
        went = self.change.low > 0 if self.worse == "higher" else self.change.high < 0
        return went and self._past_expected

    @property
    def _past_expected(self) -> bool:
        if self.expected is None or self.after is None:
            return True
        beyond = self.after.value - self.expected
        return beyond > 0 if self.worse == "higher" else beyond < 0


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A check, or a part of one, that was asked for and could not be made, and why."""

    check: Check
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Risks:
    """All that was found: figures, what could not be measured, and the names of the two models."""

    before: str
    after: str
    risks: tuple[Risk, ...]
    unmeasured: tuple[Unmeasured, ...] = ()
    notes: tuple[str, ...] = ()


@cache
def bundled(name: str) -> tuple[dict[str, Any], ...]:
    """Return the rows of a set that was written for this project and is shipped with it."""
    import json

    return tuple(json.loads(line) for line in _text(name).splitlines())


def prose() -> tuple[str, ...]:
    """Return the paragraphs of the general prose that was written for this project: about 3,000 words."""
    return tuple(part.strip() for part in _text("prose.txt").split("\n\n") if part.strip())


@cache
def _text(name: str) -> str:
    place = resources.files("tunesmith.evaluating.risks").joinpath("data").joinpath(name)
    return place.read_text(encoding="utf-8")


def of(seen: Sequence[Seen], what: str) -> Iterator[Seen]:
    """Yield what was seen for one figure."""
    return (one for one in seen if one.what == what)


def in_groups(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield items in groups of a size."""
    return (items[start : start + size] for start in range(0, len(items), size))
