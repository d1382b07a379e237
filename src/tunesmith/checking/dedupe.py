"""Write a file's rows without those that repeat others: to the letter, in nearly all words, or in meaning."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, overload

from tunesmith.checking.parsing import words_of
from tunesmith.curating.near import LEAST, Pair, near_duplicates, pairs_from, same_texts
from tunesmith.curating.similarity import fold
from tunesmith.errors import UsageError
from tunesmith.models.base import Encoder
from tunesmith.progress import Progress, silent

if TYPE_CHECKING:
    from numpy import uint32
    from numpy.typing import NDArray

Likeness = Literal["same", "near", "meaning"]
Minima = Callable[["FileTexts", Progress], "NDArray[uint32]"]


@dataclass(frozen=True, slots=True)
class Repeated:
    """A row that repeats an earlier one, by their lines: how, and how like they are."""

    line: int
    earlier: int
    likeness: Likeness
    similarity: float


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What became of a file: its rows, those kept, and the file of pairs, one a line with both rows' words."""

    out: Path
    pairs: Path
    rows: int
    kept: int
    same: int
    near: int
    meaning: int


class FileTexts(Sequence[str]):
    """The words of a file's rows, read when they are asked for; in memory stands only where each row begins.

    Rows without words that are known as such (no chats, pairs or texts) have their bytes as words.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts, self.lines = array("Q"), array("Q")
        try:
            with path.open("rb") as file:
                place = 0
                for number, line in enumerate(file, 1):
                    if line.strip():
                        self.starts.append(place)
                        self.lines.append(number)
                    place += len(line)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.", hint="Give JSON lines.") from error
        self.starts.append(place)
        self._file = os.open(path, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Return the words of a row, or of several."""
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        return _words(self.row(number))

    def row(self, number: int) -> bytes:
        """Return the bytes of a row, its line end included."""
        start, stop = self.starts[number], self.starts[number + 1]
        return os.pread(self._file, stop - start, start).split(b"\n", 1)[0] + b"\n"


def words_between(path: Path, start: int, stop: int) -> list[str]:
    """Return the words of the rows between two places of a file, as FileTexts gives them."""
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(stop - start)
    return [_words(line) for line in data.split(b"\n") if line.strip()]


def dedupe(
    path: Path,
    out: Path,
    *,
    near: float | None = 0.9,
    meaning: float | None = None,
    encoder: Callable[[], Encoder] | None = None,
    minima: Minima | None = None,
    on_progress: Progress = silent,
) -> Deduplicated:
    """Write the rows that repeat no earlier one to a new file, and every pair to OUT.pairs.jsonl.

    Rows are compared by all that is said in them, folded: case, spaces and marks do not count. `near` is a Jaccard
    similarity of words (None: not looked for), `meaning` a cosine of embeddings. `minima` gives all rows' MinHash from
    elsewhere, shape (rows, MINIMA) (None: made here). Raises UsageError for a file that
    cannot be read, an `out` that is there and a `near` under 0.8, where MinHash would miss too many.
    """
    listing = out.with_name(f"{out.name}.pairs.jsonl")
    for file in (out, listing):
        if file.exists():
            raise UsageError(f"{file} is there already.", hint="Name another file with --out.")
    if near is not None and not LEAST <= near <= 1:
        raise UsageError(
            f"near is {near}: from {LEAST} to 1 is possible.", hint="Rows that share less differ."
        )
    with FileTexts(path) as texts:
        found = _found(texts, near, meaning, encoder, minima=minima, on_progress=on_progress)
        _write(texts, found, out, listing)
        counts = {kind: sum(each.likeness == kind for each in found.values()) for kind in _KINDS}
    return Deduplicated(
        out, listing, len(texts), len(texts) - len(found), counts["same"], counts["near"], counts["meaning"]
    )


_KINDS: tuple[Likeness, ...] = ("same", "near", "meaning")


class _Some(Sequence[str]):
    """Some of many texts."""

    def __init__(self, texts: Sequence[str], numbers: Sequence[int]) -> None:
        self._texts, self.numbers = texts, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self._texts[each] for each in self.numbers[number]]
        return self._texts[self.numbers[number]]


def _found(
    texts: FileTexts,
    near: float | None,
    meaning: float | None,
    encoder: Callable[[], Encoder] | None,
    *,
    minima: Minima | None,
    on_progress: Progress,
) -> dict[int, Repeated]:
    found: dict[int, Repeated] = {}

    def take(likeness: Likeness, pairs: Sequence[Pair], numbers: Sequence[int]) -> None:
        for pair in pairs:
            number, earlier = numbers[pair.text], numbers[pair.earlier]
            found[number] = Repeated(
                texts.lines[number], texts.lines[earlier], likeness, round(pair.similarity, 4)
            )

    take("same", same_texts(texts, fold), range(len(texts)))
    if near is not None:
        left = _Some(texts, _open(len(texts), found))
        if minima is None:
            pairs = near_duplicates(left, near, on_progress=on_progress)
        else:
            pairs = pairs_from(minima(texts, on_progress)[left.numbers], left, near)
        take("near", pairs, left.numbers)
    if meaning is not None and encoder is not None:
        left = _Some(texts, _open(len(texts), found))
        from tunesmith.curating.semantic import semantic_duplicates

        take("meaning", semantic_duplicates(left, encoder(), meaning, on_progress=on_progress), left.numbers)
    return found


def _open(count: int, found: dict[int, Repeated]) -> Sequence[int]:
    return array("Q", (number for number in range(count) if number not in found))


def _write(texts: FileTexts, found: dict[int, Repeated], out: Path, listing: Path) -> None:
    number_of = {texts.lines[number]: number for number in range(len(texts))} if found else {}
    part, part_listing = (file.with_name(f"{file.name}.part") for file in (out, listing))
    try:
        with part.open("wb") as rows, part_listing.open("w", encoding="utf-8") as pairs:
            for number in range(len(texts)):
                if number not in found:
                    rows.write(texts.row(number))
                    continue
                each = found[number]
                told = {
                    "line": each.line,
                    "earlier": each.earlier,
                    "likeness": each.likeness,
                    "similarity": each.similarity,
                    "words": texts[number],
                    "earlier_words": texts[number_of[each.earlier]],
                }
                pairs.write(json.dumps(told, ensure_ascii=False) + "\n")
        part_listing.rename(listing)
        part.rename(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
        part_listing.unlink(missing_ok=True)


def _words(line: bytes) -> str:
    import orjson

    try:
        row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return line.decode(errors="replace").strip()
    conversations = words_of(row)
    if not conversations:
        return line.decode(errors="replace").strip()
    return "\n".join(
        part
        for turns, _ in conversations
        for turn in turns
        for part in (turn.text, *map(str, turn.calls))
        if part
    )
