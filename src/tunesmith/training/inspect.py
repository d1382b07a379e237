"""Look at a file of examples as training would: every fault by its line, tokens, lengths, and what a row teaches."""

from __future__ import annotations

import heapq
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from tunesmith.errors import ModelError, RowError, UsageError
from tunesmith.models.local import end_of_turn_ids
from tunesmith.progress import Progress, silent
from tunesmith.records import Conversation
from tunesmith.training.example_files import Fault, Line, count_lines, read
from tunesmith.training.preflight import RowChecks
from tunesmith.training.render import Pair, Rendered
from tunesmith.training.rows import rendered
from tunesmith.training.settings import Objective, TooLong, TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LONGEST: Final = 5
# Longer than any row, and still a number that a slice takes: what is too long is told, not cut.
_ENDLESS: Final = 2**40


@dataclass(frozen=True, slots=True)
class LongRow:
    """A row's line and its tokens."""

    line: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Spread:
    """How numbers are spread: the half, and 95 of 100, are at most this; `bins` are (at most, how many), in order."""

    median: int
    p95: int
    largest: int
    bins: tuple[tuple[int, int], ...]


def spread_of(numbers: Sequence[int]) -> Spread | None:
    """Return how numbers are spread, the bins doubling their width; None of none."""
    if not len(numbers):
        return None
    found = np.asarray(numbers, dtype=np.int64)
    largest = int(found.max())
    edges = [2**power for power in range(max(0, (largest - 1).bit_length()) + 1)]
    counts, _ = np.histogram(found, bins=[0, *(edge + 1 for edge in edges)])
    median, p95 = (int(np.quantile(found, share, method="higher")) for share in (0.5, 0.95))
    bins = [(edge, int(count)) for edge, count in zip(edges, counts, strict=True)]
    while len(bins) > 1 and not bins[0][1]:
        bins.pop(0)
    return Spread(median, p95, largest, tuple(bins))


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file holds and what is wrong with it.

    `tokens` and `labelled` count the rows that could be rendered, both answers of a pair; `longest` come first, and
    `over` rows are longer than `max_length`. `faulty` lines have faults: `faults` are the first of them, `by_rule`
    counts all. `lengths` says how the rows' tokens are spread.
    """

    path: Path
    objective: Objective
    max_length: int
    rows: int
    tokens: int
    labelled: int
    longest: tuple[LongRow, ...]
    over: int
    faulty: int
    faults: tuple[Fault, ...]
    by_rule: Mapping[str, int] = field(default_factory=dict)
    lengths: Spread | None = None

    @property
    def ready(self) -> bool:
        """Whether there are rows, and none is faulty."""
        return self.rows > 0 and not self.faults


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a row: only read, learned, or the learned end of turn; `cut` if it stands past max_length."""

    text: str
    kind: Literal["read", "learned", "end"]
    special: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """What a row teaches; `title` tells the texts of one line apart, `padding` fills it up among those beside it."""

    line: int
    title: str
    tokens: int
    learned: int
    spans: tuple[Span, ...]
    padding: int
    pad: str


def inspect(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
    *,
    on_progress: Progress = silent,
) -> Inspection:
    """Render each row of a file as training would and return all that is wrong with them; nothing is trained.

    Raises UsageError if there is no such file.
    """
    looking, tally = Looking(tokenizer, settings), Tally(settings.max_length, settings.too_long)
    total = count_lines(path)
    for line in read(path, settings.objective):
        found = line if isinstance(line, Fault) else looking.at(line)
        tally.add(found)
        on_progress(found.line, total)
    return tally.told(path, settings)


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts that a line is trained on, not yet cut."""

    line: int
    rows: tuple[Rendered, ...]

    @property
    def longest(self) -> int:
        """The tokens of the longest of them."""
        return max(len(row.ids) for row in self.rows)


class Looking:
    """Renders line after line, with the checks of training."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: TrainSettings) -> None:
        self.tokenizer = tokenizer
        # Raw text is cut anyway; of all else the whole length is wanted.
        whole = {} if settings.objective == "text" else {"max_length": _ENDLESS}
        self.settings = settings.model_copy(update=whole)
        self._checks = RowChecks(tokenizer, "training")
        self._seen = 0

    def at(self, line: Line) -> Texts | Fault:
        """Return what a line is trained on, or why it is not."""
        self._seen += 1
        try:
            rows, _ = rendered(self.tokenizer, [line.example], self.settings, check=self._check)
        except (RowError, ModelError) as error:
            rule = error.rule if isinstance(error, RowError) else "template"
            return Fault(line.number, rule, _EXAMPLE.sub("", error.message), error.hint)
        if not rows:
            return Fault(line.number, "answer", "nothing to learn: no token follows another", "Take it out.")
        texts = [text for row in rows for text in _texts_of(row)]
        return Texts(line.number, tuple(texts))

    def _check(self, number: int, prompt: Conversation, words: tuple[str, ...], row: Rendered) -> None:
        # Counted over the whole file: only the first are rendered once more as serving would, here as in training.
        self._checks(self._seen, prompt, words, row)


_EXAMPLE: Final = re.compile(r"^(?:training )?example \d+ ")


def _texts_of(row: Rendered | Pair) -> tuple[Rendered, ...]:
    return (row.chosen, row.rejected) if isinstance(row, Pair) else (row,)


#: So many faults are kept with their words; all are counted.
MOST_FAULTS: Final = 2_000


@dataclass
class Tally:
    """What was seen so far."""

    max_length: int
    too_long: TooLong
    rows: int = 0
    tokens: int = 0
    labelled: int = 0
    over: int = 0
    faulty: int = 0
    longest: list[tuple[int, int]] = field(default_factory=list)
    lengths: array[int] = field(default_factory=lambda: array("I"))
    faults: list[Fault] = field(default_factory=list)
    by_rule: Counter[str] = field(default_factory=Counter)
    last_faulty: int = 0

    def add(self, found: Texts | Fault) -> None:
        """Count a row, or remember a fault."""
        if isinstance(found, Fault):
            # A line with several faults comes several times, one after the other.
            self.rows += self.last_faulty != found.line
            self._blame(found)
            return
        labelled = sum(row.labelled for row in found.rows)
        self.count(found.line, sum(len(row.ids) for row in found.rows), labelled, found.longest)
        if found.longest > self.max_length and self.too_long == "cut":
            self._judge_cut(found)

    def count(self, line: int, tokens: int, labelled: int, longest: int) -> None:
        """Count a row of which only the tokens are known, those of its longest text too."""
        self.rows += 1
        self.tokens += tokens
        self.labelled += labelled
        self.over += longest > self.max_length
        self.lengths.append(longest)
        if len(self.longest) < _LONGEST or (longest, -line) > self.longest[0]:
            heapq.heappush(self.longest, (longest, -line))
            if len(self.longest) > _LONGEST:
                heapq.heappop(self.longest)
        if longest > self.max_length and self.too_long == "refuse":
            told = f"{longest:,} tokens, and max_length is {self.max_length:,}"
            way = f"Train with max_length = {longest} (more memory), or with too_long = cut or drop."
            self._blame(Fault(line, "length", told, way))

    def join(self, other: Tally) -> None:
        """Add what was seen of later lines."""
        self.rows += other.rows
        self.tokens += other.tokens
        self.labelled += other.labelled
        self.over += other.over
        self.faulty += other.faulty
        self.longest = heapq.nlargest(_LONGEST, [*self.longest, *other.longest])
        heapq.heapify(self.longest)
        self.lengths.extend(other.lengths)
        # The first by line, whoever saw them and whichever was ready first.
        self.faults = sorted([*self.faults, *other.faults], key=lambda fault: fault.line)[:MOST_FAULTS]
        self.by_rule.update(other.by_rule)

    def _blame(self, fault: Fault) -> None:
        self.faulty += self.last_faulty != fault.line
        self.last_faulty = fault.line
        self.by_rule[fault.rule] += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)

    def _judge_cut(self, found: Texts) -> None:
        if not all(_cut(row, self.max_length).labelled for row in found.rows):
            told = f"nothing to learn is left once it is cut at {self.max_length:,} tokens"
            way = f"Train with max_length = {found.longest} (more memory), or with too_long = drop."
            self._blame(Fault(found.line, "length", told, way))

    def told(self, path: Path, settings: TrainSettings) -> Inspection:
        """Return the whole."""
        return Inspection(
            path=path,
            objective=settings.objective,
            max_length=self.max_length,
            rows=self.rows,
            tokens=self.tokens,
            labelled=self.labelled,
            longest=tuple(LongRow(-line, tokens) for tokens, line in sorted(self.longest, reverse=True)),
            over=self.over,
            faulty=self.faulty,
            faults=tuple(self.faults),
            by_rule=dict(self.by_rule),
            lengths=spread_of(self.lengths),
        )


def _cut(row: Rendered, most: int) -> Rendered:
    return Rendered(row.ids[:most], row.mask[:most])


def masks(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainSettings,
    *,
    count: int = 1,
    line: int | None = None,
) -> tuple[Mask, ...]:
    """Return what the first `count` rows without fault teach, or the row that begins at a line.

    Raises UsageError for a line where no row begins, and RowError for one whose row cannot be trained on.
    """
    shown = list(islice(_wanted(path, Looking(tokenizer, settings), line), count if line is None else 1))
    if line is not None and not shown:
        raise UsageError(f"No example begins at line {line} of {path}.", hint="Name another line.")
    if not shown:
        return ()
    from tunesmith.training.loop import WIDTHS, collate

    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    cut = [_cut(row, settings.max_length) for texts in shown for row in texts.rows]
    real_B_T = collate(cut, int(pad), multiple=WIDTHS).real_B_T
    paddings = iter((real_B_T.shape[1] - real_B_T.sum(1)).tolist())
    return tuple(
        Mask(
            line=texts.line,
            title=title,
            tokens=len(row.ids),
            learned=_cut(row, settings.max_length).labelled,
            spans=tuple(_spans(tokenizer, row, settings.max_length)),
            padding=next(paddings),
            pad=str(tokenizer.decode([int(pad)])),
        )
        for texts in shown
        for title, row in zip(_titles(texts, settings.objective), texts.rows, strict=True)
    )


def _wanted(path: Path, looking: Looking, line: int | None) -> Iterator[Texts]:
    for each in read(path, looking.settings.objective):
        number = each.line if isinstance(each, Fault) else each.number
        if line is not None and number != line:
            continue
        found = each if isinstance(each, Fault) else looking.at(each)
        if isinstance(found, Texts):
            yield found
        elif line is not None:
            raise RowError(f"{path}, {found}", rule=found.rule, hint=found.way_out)


def _titles(texts: Texts, objective: Objective) -> Sequence[str]:
    if objective == "preferences":
        return "preferred", "not preferred"
    several = len(texts.rows) > 1
    return [f"piece {number}" if several else "" for number in range(1, len(texts.rows) + 1)]


def _spans(tokenizer: PreTrainedTokenizerBase, row: Rendered, most: int) -> Iterator[Span]:
    """Yield a row as stretches of tokens that are treated alike."""
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    ends = end_of_turn_ids(tokenizer)

    def treated(place: int) -> tuple[Literal["read", "learned", "end"], bool, bool]:
        token = row.ids[place]
        # The first token of a text is never predicted, and past max_length nothing is.
        learned = row.mask[place] and 0 < place < most
        kind: Literal["read", "learned", "end"] = (
            "read" if not learned else "end" if token in ends else "learned"
        )
        return kind, token in special, place >= most

    for (kind, is_special, cut), places in groupby(range(len(row.ids)), key=treated):
        start, *rest = places
        yield Span(_text(tokenizer, row.ids, start, start + 1 + len(rest)), kind, is_special, cut)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], start: int, end: int) -> str:
    # Decoded with what stands before, for some tokenizers drop the space that a text begins with.
    before, whole = (str(tokenizer.decode(ids[:stop])) for stop in (start, end))
    return whole.removeprefix(before) if whole.startswith(before) else str(tokenizer.decode(ids[start:end]))
