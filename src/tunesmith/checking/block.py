"""One stretch of a file, looked at by one process: each row as training reads it, and by every rule."""

from __future__ import annotations

import os
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunesmith.checking.against import read_benchmark
from tunesmith.checking.parsing import plain_turns, words_of
from tunesmith.curating.across import Rows
from tunesmith.curating.benchmarks import Benchmark
from tunesmith.curating.privacy import PrivacySettings
from tunesmith.curating.rules import Finding, Words, findings, private_data
from tunesmith.models.counting import TokenCounter, counter_of
from tunesmith.records import Role
from tunesmith.training.example_files import Fault, read_line
from tunesmith.training.inspect import Looking, Tally, Texts
from tunesmith.training.quick import Counted, Shape, shape_of
from tunesmith.training.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
    """What is looked at, as whose rows, for which private data (None: for none), against which benchmarks."""

    path: Path
    base: Path
    settings: TrainSettings
    privacy: PrivacySettings | None = None
    against: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A finding and the line of its row."""

    line: int
    finding: Finding


@dataclass
class Aside:
    """Rows that a tokenizer must look at: line, first and last byte; and the tokens counted, 0 where they were not."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    labelled: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self.lines)

    def put(self, line: int, start: int, end: int, counted: Counted | None = None) -> None:
        """Set a row aside."""
        self.lines.append(line)
        self.starts.append(start)
        self.ends.append(end)
        self.tokens.append(0 if counted is None else counted.tokens)
        self.labelled.append(0 if counted is None else counted.labelled)

    def join(self, other: Aside) -> None:
        """Add the rows of later lines."""
        for mine, theirs in zip(self._arrays(), other._arrays(), strict=True):
            mine.extend(theirs)

    def some(self, size: int) -> Iterator[Aside]:
        """Yield the rows in portions of about so many bytes."""
        part, held = Aside(), 0
        for line, start, end, tokens, labelled in zip(*self._arrays(), strict=True):
            part.put(line, start, end, Counted(tokens, labelled))
            held += end - start
            if held >= size:
                yield part
                part, held = Aside(), 0
        if len(part):
            yield part

    def _arrays(self) -> tuple[array[int], ...]:
        return self.lines, self.starts, self.ends, self.tokens, self.labelled


@dataclass
class Seen:
    """What was seen of a block, or of all blocks before."""

    tally: Tally
    findings: list[Found] = field(default_factory=list)
    by_rule: Counter[str] = field(default_factory=Counter)
    rows: Rows = field(default_factory=Rows)
    turns: array[int] = field(default_factory=lambda: array("H"))
    aside: Aside = field(default_factory=Aside)

    def join(self, other: Seen) -> None:
        """Add what was seen of later lines."""
        self.tally.join(other.tally)
        # The first by line, whichever block was ready first.
        self.findings = sorted([*self.findings, *other.findings], key=lambda found: found.line)[
            :MOST_FINDINGS
        ]
        self.by_rule.update(other.by_rule)
        self.rows.join(other.rows)
        self.turns.extend(other.turns)
        self.aside.join(other.aside)

    def note(self, line: int, finding: Finding) -> None:
        """Take a finding."""
        self.by_rule[finding.rule] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Found(line, finding))


def judge(
    number: int,
    conversations: Sequence[tuple[tuple[Words, ...], Any]],
    seen: Seen,
    privacy: PrivacySettings | None,
    benchmarks: Sequence[Benchmark] = (),
) -> None:
    """Look at a row by every rule about words, and keep what is needed to compare it with others."""
    said: set[Finding] = set()
    for turns, schemas in conversations:
        seen.turns.append(min(len(turns), 2**16 - 1))
        private = () if privacy is None else private_data(turns, privacy)
        for finding in chain(findings(turns, schemas), private):
            # Both answers of a pair have the same question.
            if finding not in said:
                said.add(finding)
                seen.note(number, finding)
    for benchmark in benchmarks:
        hit = benchmark.first_hit("\n".join(turn.text for turns, _ in conversations for turn in turns))
        if hit is not None:
            found = f"row {hit.row:,} of {hit.benchmark} stands in it: {hit.shared!r}"
            seen.note(number, Finding("leak", None, found, "Take one of the two out.", "wrong"))
    if conversations:
        seen.rows.add(number, tuple(turn for turns, _ in conversations for turn in turns))


def lines_of(path: Path, block: Block) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, the first byte's place and the bytes of each line of a block that holds something."""
    with path.open("rb") as file:
        file.seek(block.start)
        data = file.read(block.end - block.start)
    number, start = block.line, 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        line = data[start:end]
        if block.start + start == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, block.start + start, line
        number, start = number + 1, end


@dataclass(frozen=True, slots=True)
class _Counting:
    shape: Shape
    count: Callable[[Sequence[str]], Counted]


class Reader:
    """Looks at rows without a tokenizer: those of known shapes are counted, others set aside.

    transformers alone needs 400 MB in every process, for it loads torch.
    """

    def __init__(self, order: Order, shapes: Mapping[tuple[Role, ...], Shape]) -> None:
        self.order = order
        self.counter = counter_of(order.base / "tokenizer.json") if shapes else None
        self._shapes = {
            roles: _Counting(shape, shape.counting(self.counter))
            for roles, shape in shapes.items()
            if self.counter is not None
        }
        # A settings' attribute takes longer to read than a row's roles.
        self._cuts, self._most = order.settings.too_long == "cut", order.settings.max_length
        self._counted = 0
        self._benchmarks = [read_benchmark(path) for path in order.against]

    def look(self, block: Block) -> Seen:
        """Return what is in a block."""
        settings = self.order.settings
        seen = Seen(Tally(settings.max_length, settings.too_long))
        for number, start, line in lines_of(self.order.path, block):
            row = _parsed(line)
            plain = plain_turns(row) if self._shapes else None
            found = None if plain is None else self._count(*plain)
            if plain is not None and found is not None:
                self._counted += 1
                if self._counted % _COMPARED_EVERY == 0:
                    seen.aside.put(number, start, start + len(line), found)
                else:
                    seen.tally.count(number, found.tokens, found.labelled, found.tokens)
                judge(number, [(tuple(map(Words, *plain)), {})], seen, self.order.privacy, self._benchmarks)
                continue
            for each in read_line(number, line, settings.objective):
                if isinstance(each, Fault):
                    seen.tally.add(each)
                else:
                    seen.aside.put(number, start, start + len(line))
            judge(number, words_of(row), seen, self.order.privacy, self._benchmarks)
        return seen

    def _count(self, roles: tuple[Role, ...], texts: list[str]) -> Counted | None:
        known = self._shapes.get(roles)
        if known is None or self.counter is None or not known.shape.fits(texts, self.counter):
            return None
        found = known.count(texts)
        return None if self._cuts and found.tokens > self._most else found


class Looker:
    """Looks at rows with a tokenizer; what it learns of the template is kept from block to block.

    Rows of a shape are counted without rendering them, unless `counting` is off. `distrusted` tells that one which was
    rendered as well came out otherwise after others had been counted: they are then to be looked at without counting.
    """

    def __init__(self, order: Order, *, counting: bool = True) -> None:
        from tunesmith.models.local import load_tokenizer

        self.order = order
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(order.base)
        self.counter: TokenCounter | None = None
        self.distrusted = False
        if counting and order.settings.objective == "answers":
            self.counter = counter_of(order.base / "tokenizer.json")
        self._looking = Looking(self.tokenizer, order.settings)
        self._shapes: dict[tuple[Role, ...], _Counting | None] = {}
        self._compared: Counter[tuple[Role, ...]] = Counter()
        self._benchmarks = [read_benchmark(path) for path in order.against]
        self._cuts, self._most = order.settings.too_long == "cut", order.settings.max_length

    def look(self, block: Block) -> Seen:
        """Return what is in a block."""
        settings = self.order.settings
        seen = Seen(Tally(settings.max_length, settings.too_long))
        for number, _, line in lines_of(self.order.path, block):
            row = _parsed(line)
            plain = plain_turns(row) if self.counter is not None else None
            if plain is not None and self._count(number, line, *plain, seen.tally):
                judge(number, [(tuple(map(Words, *plain)), {})], seen, self.order.privacy, self._benchmarks)
            else:
                self._render(number, line, seen.tally)
                judge(number, words_of(row), seen, self.order.privacy, self._benchmarks)
        return seen

    def shapes(self, block: Block) -> dict[tuple[Role, ...], Shape]:
        """Return the shapes of a block's rows by which rows can be counted; each was held against rendering."""
        self.look(block)
        return {roles: known.shape for roles, known in self._shapes.items() if known is not None}

    def settle(self, aside: Aside) -> tuple[Tally, bool]:
        """Return what of rows set aside is training's, and whether what was counted of them can be trusted."""
        settings = self.order.settings
        tally = Tally(settings.max_length, settings.too_long)
        with self.order.path.open("rb") as file:
            for number, start, end, tokens, labelled in zip(*aside._arrays(), strict=True):
                file.seek(start)
                line = file.read(end - start)
                plain = plain_turns(_parsed(line)) if self.counter is not None and not tokens else None
                if plain is not None and self._count(number, line, *plain, tally):
                    continue
                rendered = self._rendered(number, line)
                if tokens and _sizes(rendered) != Counted(tokens, labelled):
                    self.distrusted = True
                for found in rendered:
                    tally.add(found)
        return tally, not self.distrusted

    def _count(
        self, number: int, line: bytes, roles: tuple[Role, ...], texts: list[str], tally: Tally
    ) -> bool:
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
                self.distrusted = self.distrusted or self._compared[roles] > 1
                return False
        tally.count(number, found.tokens, found.labelled, found.tokens)
        return True

    def _rendered(self, number: int, line: bytes) -> list[Texts | Fault]:
        return [
            found if isinstance(found, Fault) else self._looking.at(found)
            for found in read_line(number, line, self.order.settings.objective)
        ]

    def _render(self, number: int, line: bytes, tally: Tally) -> None:
        for found in self._rendered(number, line):
            tally.add(found)


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


# --- in a process of its own: it is made ready once, and then looks at one block after the other

_reader: Reader | None = None
_looker: Looker | None = None


def begin_reading(order: Order, shapes: Mapping[tuple[Role, ...], Shape]) -> None:
    """Make this process ready to read."""
    global _reader  # noqa: PLW0603 - a pool hands its workers nothing else to keep
    _reader = Reader(order, shapes)


def begin_looking(order: Order, counting: bool = True) -> None:
    """Make this process ready to look with a tokenizer, and with nothing but that."""
    global _looker  # noqa: PLW0603 - a pool hands its workers nothing else to keep
    # transformers loads torch wherever it finds it: 300 MB and two seconds, for models that are not needed here.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"  # it says that torch is missing
    _looker = Looker(order, counting=counting)


def read_block(block: Block) -> Seen:
    """Read a block in a process that is ready to."""
    assert _reader is not None
    return _reader.look(block)


def shapes_in(block: Block) -> dict[tuple[Role, ...], Shape]:
    """Return the shapes of a block's rows, in a process that is ready to look."""
    assert _looker is not None
    return _looker.shapes(block)


def settle(aside: Aside) -> tuple[Tally, bool]:
    """Look at rows that were set aside, in a process that is ready to."""
    assert _looker is not None
    return _looker.settle(aside)
