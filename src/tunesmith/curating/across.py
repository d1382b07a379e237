"""What is wrong between rows: the same one twice, the same question with other answers, nearly the same system prompt.

Of a row only hashes are kept, 24 bytes, so that a million rows need no memory to speak of.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from tunesmith.curating.rules import Words

if TYPE_CHECKING:
    from numpy import int64, uint64
    from numpy.typing import NDArray

_MOST_PROMPTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Repeat:
    """A line that repeats another one, whole or in what it asks."""

    line: int
    first: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A system prompt that differs from a more frequent one in spaces, capitals or marks alone; from which line on."""

    line: int
    rows: int
    text: str
    usual: str


@dataclass(frozen=True, slots=True)
class Between:
    """What was found between rows, in the order of the lines."""

    duplicates: tuple[Repeat, ...]
    inconsistent: tuple[Repeat, ...]
    variants: tuple[Variant, ...]


@dataclass
class Rows:
    """Takes row after row, or those of another process, and then tells what there is between them."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    asked: array[int] = field(default_factory=lambda: array("Q"))
    answered: array[int] = field(default_factory=lambda: array("Q"))
    prompts: Counter[str] = field(default_factory=Counter)
    first_line: dict[str, int] = field(default_factory=dict)

    def add(self, line: int, turns: Sequence[Words]) -> None:
        """Take a row that begins at a line."""
        if turns and turns[-1].role == "assistant":
            before, last = turns[:-1], turns[-1]
        else:
            before, last = turns, Words("", "")
        self.lines.append(line)
        # Questions are the same however they are spelled; what a system says, and answers, must be so to the letter.
        self.asked.append(_hash("\x1e".join(_spelled(turn.text) for turn in before)))
        self.answered.append(
            _hash("\x1e".join((*(turn.text for turn in before), last.text, repr(last.calls))))
        )
        if turns and turns[0].role == "system":
            self._take_prompt(turns[0].text, line, 1)

    def join(self, other: Rows) -> None:
        """Take the rows of another process."""
        self.lines.extend(other.lines)
        self.asked.extend(other.asked)
        self.answered.extend(other.answered)
        for text, count in other.prompts.items():
            self._take_prompt(text, other.first_line[text], count)

    def told(self) -> Between:
        """Return what there is between the rows."""
        import numpy as np

        lines = np.asarray(self.lines, dtype=np.int64)
        whole = _repeats(lines, np.asarray(self.answered, dtype=np.uint64))
        duplicates = {repeat.line for repeat in whole}
        again = _repeats(lines, np.asarray(self.asked, dtype=np.uint64))
        return Between(
            tuple(whole),
            tuple(repeat for repeat in again if repeat.line not in duplicates),
            tuple(self._variants()),
        )

    def _take_prompt(self, text: str, line: int, count: int) -> None:
        # Where each row has one of its own, nothing can be said of variants.
        if text in self.prompts or len(self.prompts) < _MOST_PROMPTS:
            self.prompts[text] += count
            self.first_line[text] = min(line, self.first_line.get(text, line))

    def _variants(self) -> list[Variant]:
        by_form: dict[str, list[str]] = {}
        for text in self.prompts:
            by_form.setdefault(_folded(text), []).append(text)
        found = []
        for texts in by_form.values():
            usual, *others = sorted(texts, key=lambda text: (-self.prompts[text], self.first_line[text]))
            found += [Variant(self.first_line[text], self.prompts[text], text, usual) for text in others]
        return sorted(found, key=lambda variant: variant.line)


def _repeats(lines: NDArray[int64], hashes: NDArray[uint64]) -> list[Repeat]:
    """Return each line whose hash an earlier line has, with the first that has it."""
    import numpy as np

    if not len(lines):
        return []
    order = np.lexsort((lines, hashes))
    hashes, lines = hashes[order], lines[order]
    new = np.concatenate(([True], hashes[1:] != hashes[:-1]))
    first = lines[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    return sorted(
        (Repeat(int(line), int(other)) for line, other in zip(lines[~new], first[~new], strict=True)),
        key=lambda repeat: repeat.line,
    )


def _spelled(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".?! ")


_MARKS = re.compile(r"[^\w]+")


def _folded(text: str) -> str:
    return _MARKS.sub(" ", text.lower()).strip()


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
