"""One stretch of a file, looked at by one process: each row as training reads it, and by every rule."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.checking.parsing import plain_turns, words_of
from tunesmith.curating.across import Rows
from tunesmith.curating.rules import Finding, Words, findings
from tunesmith.records import Role
from tunesmith.training.example_files import Fault, read_line
from tunesmith.training.inspect import Looking, Tally, Texts
from tunesmith.training.quick import Counted, Shape, shape_of
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.models.counting import TokenCounter

#: So many findings are kept with their words; all are counted.
MOST_FINDINGS: Final = 2_000
# Rows of a shape that are rendered as well as counted: the first ones, and each so-manieth after them.
_FIRST_COMPARED, _COMPARED_EVERY = 8, 500


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a file in bytes, whole lines, and the number of its first line."""

    start: int
    end: int
    line: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is looked at, and as whose rows."""

    path: Path
    base: Path
    settings: TrainSettings


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and the line of its row."""

    line: int
    finding: Finding


@dataclass
class Seen:
    """What was seen of a block, or of all blocks before."""

    tally: Tally
    findings: list[Found] = field(default_factory=list)
    by_rule: Counter[str] = field(default_factory=Counter)
    rows: Rows = field(default_factory=Rows)
    turns: array[int] = field(default_factory=lambda: array("H"))

    def join(self, other: Seen) -> None:
        """Add what was seen of later lines."""
        self.tally.join(other.tally)
        self.findings += other.findings[: MOST_FINDINGS - len(self.findings)]
        self.by_rule.update(other.by_rule)
        self.rows.join(other.rows)
        self.turns.extend(other.turns)

    def note(self, line: int, finding: Finding) -> None:
        """Take a finding."""
        self.by_rule[finding.rule] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Found(line, finding))


@dataclass(frozen=True, slots=True)
class _Counting:
    shape: Shape
    count: Callable[[Sequence[str]], Counted]


class Looker:
    """Looks at blocks of one file; what it learns of the template is kept from block to block."""

    def __init__(self, order: Order) -> None:
        from tunesmith.models.counting import counter_of
        from tunesmith.models.local import load_tokenizer

        self.order = order
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(order.base)
        self.counter: TokenCounter | None = None
        if order.settings.objective == "answers":
            self.counter = counter_of(order.base / "tokenizer.json")
        self._looking = Looking(self.tokenizer, order.settings)
        self._shapes: dict[tuple[Role, ...], _Counting | None] = {}
        self._compared: Counter[tuple[Role, ...]] = Counter()
        # A settings' attribute takes longer to read than a row's roles.
        self._cuts = order.settings.too_long == "cut"
        self._most = order.settings.max_length

    def look(self, block: Block) -> Seen:
        """Return what is in a block."""
        settings = self.order.settings
        seen = Seen(Tally(settings.max_length, settings.too_long))
        for number, line in self._lines(block):
            if line.strip():
                self._look_at(number, line, seen)
        return seen

    def _lines(self, block: Block) -> Iterator[tuple[int, bytes]]:
        with self.order.path.open("rb") as file:
            file.seek(block.start)
            data = file.read(block.end - block.start)
        if block.start == 0:
            data = data.removeprefix(b"\xef\xbb\xbf")
        number, start = block.line, 0
        while start < len(data):
            end = data.find(b"\n", start) + 1 or len(data)
            yield number, data[start:end]
            number, start = number + 1, end

    def _look_at(self, number: int, line: bytes, seen: Seen) -> None:
        row = _parsed(line)
        plain = plain_turns(row) if self.counter is not None else None
        if plain is not None and self._count(number, line, *plain, seen):
            turns = tuple(map(Words, *plain))
            self._judge(number, [(turns, {})], seen)
            return
        self._render(number, line, seen)
        self._judge(number, words_of(row), seen)

    def _count(self, number: int, line: bytes, roles: tuple[Role, ...], texts: list[str], seen: Seen) -> bool:
        """Count a row without rendering it, and tell whether that could be done."""
        assert self.counter is not None
        if roles not in self._shapes:
            shape = shape_of(self.tokenizer, roles)
            counting = None if shape is None else _Counting(shape, shape.counting(self.counter))
            self._shapes[roles] = counting
        known = self._shapes[roles]
        if known is None or not known.shape.fits(texts, self.counter):
            return False
        found = known.count(texts)
        if self._cuts and found.tokens > self._most:
            return False
        self._compared[roles] += 1
        if self._compared[roles] <= _FIRST_COMPARED or self._compared[roles] % _COMPARED_EVERY == 0:
            rendered = self._rendered(number, line)
            if _sizes(rendered) != found:
                # The template does something with these words that its shape does not show.
                self._shapes[roles] = None
                return False
        seen.tally.count(number, found.tokens, found.labelled, found.tokens)
        return True

    def _rendered(self, number: int, line: bytes) -> list[Texts | Fault]:
        return [
            found if isinstance(found, Fault) else self._looking.at(found)
            for found in read_line(number, line, self.order.settings.objective)
        ]

    def _render(self, number: int, line: bytes, seen: Seen) -> None:
        for found in self._rendered(number, line):
            seen.tally.add(found)

    def _judge(self, number: int, conversations: Sequence[tuple[tuple[Words, ...], Any]], seen: Seen) -> None:
        said: set[Finding] = set()
        for turns, schemas in conversations:
            seen.turns.append(min(len(turns), 2**16 - 1))
            for finding in findings(turns, schemas):
                # Both answers of a pair have the same question.
                if finding not in said:
                    said.add(finding)
                    seen.note(number, finding)
        if conversations:
            seen.rows.add(number, tuple(turn for turns, _ in conversations for turn in turns))


def _parsed(line: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _sizes(found: Sequence[Texts | Fault]) -> Counted | None:
    if len(found) != 1 or isinstance(found[0], Fault):
        return None
    [row] = found[0].rows
    return Counted(len(row.ids), row.labelled)


# --- in a process of its own

_looker: Looker | None = None


def begin(order: Order) -> None:
    """Make this process ready to look at blocks."""
    global _looker  # noqa: PLW0603 - a process has one, and a pool hands its workers nothing else to keep
    _looker = Looker(order)


def look(block: Block) -> Seen:
    """Look at a block in a process that was made ready."""
    assert _looker is not None
    return _looker.look(block)
