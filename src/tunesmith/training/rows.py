"""Examples as token ids, on disk rather than in memory: a million of them need little more room than a thousand."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tunesmith.errors import RowError, TrainingError
from tunesmith.models.local import end_of_turn_ids
from tunesmith.records import Conversation, Preference
from tunesmith.training.render import Pair, Rendered, render, render_text
from tunesmith.training.settings import TooLong, TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunesmith.training.loop import Lengths
    from tunesmith.training.objectives import Objective

Teaching = Conversation | Preference | str
# Called with an example's number, from 1, its prompt, the assistant's words to be learned, and its row, not yet cut.
Check = Callable[[int, Conversation, tuple[str, ...], Rendered], None]


class RowStore(Sequence[Rendered]):
    """Rows in the files of a folder; in memory stands only where each begins (8 bytes a row).

    What is read is read anew each time and not mapped: pages of a mapped file count as the process's memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._ids, self._mask = folder, folder / "ids.bin", folder / "mask.bin"
        self._starts = np.fromfile(folder / "starts.bin", np.int64)

    @classmethod
    def write(cls, folder: Path, rows: Iterable[Rendered]) -> RowStore:
        """Write rows one after another and return them."""
        folder.mkdir(parents=True, exist_ok=True)
        starts = array("q", [0])
        with (folder / "ids.bin").open("wb") as ids, (folder / "mask.bin").open("wb") as mask:
            for row in rows:
                ids.write(np.asarray(row.ids, np.uint32).tobytes())
                mask.write(np.asarray(row.mask, np.bool_).tobytes())
                starts.append(starts[-1] + len(row.ids))
        (folder / "starts.bin").write_bytes(memoryview(starts))
        return cls(folder)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __reduce__(self) -> tuple[type[RowStore], tuple[Path]]:
        """Let another process of the run open the same files."""
        return RowStore, (self.folder,)

    @overload
    def __getitem__(self, index: int) -> Rendered: ...
    @overload
    def __getitem__(self, index: slice) -> list[Rendered]: ...
    def __getitem__(self, index: int | slice) -> Rendered | list[Rendered]:
        """Return a row, or several, read from disk."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start, end = map(int, self._starts[index % len(self) :][:2])
        ids = np.fromfile(self._ids, np.uint32, end - start, offset=4 * start)
        mask = np.fromfile(self._mask, np.bool_, end - start, offset=start)
        if len(ids) != end - start or len(mask) != end - start:
            raise TrainingError(
                f"the rows in {self.folder} are not as they were written",
                hint="Another process writes there: give each run a folder of its own.",
            )
        return Rendered(tuple(ids.tolist()), tuple(mask.tolist()))

    @property
    def lengths(self) -> Lengths:
        """The tokens of each row, without reading the rows."""
        return np.diff(self._starts)

    def digest(self) -> str:
        """Return a SHA-256 over all rows, in hex."""
        found = hashlib.sha256(self._starts.data)
        for path in (self._ids, self._mask):
            with path.open("rb") as file:
                while piece := file.read(2**16):
                    found.update(piece)
        return found.hexdigest()


def lengths_of(rows: Sequence[Any], objective: Objective[Any]) -> Lengths:
    """Return how many tokens each row has, over all its texts."""
    if isinstance(rows, RowStore):
        return rows.lengths
    return [sum(len(text.ids) for text in objective.texts(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Length:
    """How many examples there were, how many are longer than allowed, and the longest's tokens."""

    examples: int
    cut: int
    dropped: int
    longest: int


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Teaching],
    settings: TrainSettings,
    *,
    check: Check | None = None,
    store: Path | None = None,
) -> tuple[Sequence[Rendered] | Sequence[Pair], Length]:
    """Return the rows of examples in order (in `store` on disk, if given; pairs stay in memory), and what was too long.

    Raises TrainingError for examples of another kind than the objective's, and for those that are too long or teach
    nothing once cut, with their numbers.
    """
    fitting = _Fitting(settings.max_length, settings.too_long)
    if settings.objective == "preferences":
        pairs = tuple(_pairs(tokenizer, examples, fitting, check))
        return pairs, fitting.told()
    rows = _rows(tokenizer, examples, fitting, check, settings)
    kept = RowStore.write(store, rows) if store else tuple(rows)
    return kept, fitting.told()


def _rows(
    tokenizer: PreTrainedTokenizerBase,
    examples: Iterable[Teaching],
    fitting: _Fitting,
    check: Check | None,
    settings: TrainSettings,
) -> Iterator[Rendered]:
    ends = end_of_turn_ids(tokenizer)
    for number, example in enumerate(examples, 1):
        if settings.objective == "text":
            if not isinstance(example, str):
                raise _other_kind(number, "a text", example)
            yield from render_text(tokenizer, example, settings.max_length)
            continue
        if not isinstance(example, tuple):
            raise _other_kind(number, "a conversation", example)
        row = render(tokenizer, example, ends=ends)
        if check is not None:
            learned = [i for i, turn in enumerate(example) if turn.role == "assistant" and turn.weight]
            check(
                number,
                example[: learned[-1]] if learned else (),
                tuple(example[i].content for i in learned),
                row,
            )
        yield from fitting.fit(number, row)


def _pairs(
    tokenizer: PreTrainedTokenizerBase, examples: Iterable[Teaching], fitting: _Fitting, check: Check | None
) -> Iterator[Pair]:
    ends = end_of_turn_ids(tokenizer)
    for number, example in enumerate(examples, 1):
        if not isinstance(example, Preference):
            raise _other_kind(number, "a preference", example)
        texts = []
        for answer in (example.chosen, example.rejected):
            # Only the last answer is preferred: what was said before belongs to the prompt.
            row = _last_turn_only(render(tokenizer, (*example.prompt, answer), ends=ends))
            if check is not None:
                check(number, example.prompt, (answer.content,), row)
            texts.append(row)
        if texts[0].ids == texts[1].ids:
            raise RowError(
                f"example {number} prefers an answer to itself",
                rule="pair",
                hint="The two answers must differ.",
            )
        fits = [list(fitting.fit(number, text)) for text in texts]
        if all(fits):
            yield Pair(fits[0][0], fits[1][0])


def _last_turn_only(row: Rendered) -> Rendered:
    begin = len(row.mask)
    while begin and row.mask[begin - 1]:
        begin -= 1
    return Rendered(row.ids, tuple(position >= begin for position in range(len(row.mask))))


def _other_kind(number: int, wanted: str, found: object) -> TrainingError:
    return TrainingError(
        f"example {number} is a {type(found).__name__}, where {wanted} is needed",
        hint="Set objective in [train] to what the examples are: answers, text or preferences.",
    )


class _Fitting:
    """Cuts or drops what is too long, or refuses it once all has been seen; counts either."""

    def __init__(self, most: int, policy: TooLong) -> None:
        self.most, self.policy = most, policy
        self.longest = 0
        # The last example of each fate and how many there are: a pair has two texts, and is one example.
        self._last: dict[str, int] = {}
        self._counts = Counter[str]()
        self.refused: list[int] = []

    def _count(self, fate: str, number: int) -> None:
        if self._last.get(fate) != number:
            self._last[fate] = number
            self._counts[fate] += 1

    def fit(self, number: int, row: Rendered) -> Iterator[Rendered]:
        """Yield the row as it is trained on, or nothing."""
        self._count("seen", number)
        self.longest = max(self.longest, len(row.ids))
        if len(row.ids) <= self.most:
            yield row
        elif self.policy == "drop":
            self._count("dropped", number)
        elif self.policy == "refuse":
            if self.refused[-1:] != [number]:
                self.refused.append(number)
        else:
            short = Rendered(row.ids[: self.most], row.mask[: self.most])
            if not short.labelled:
                raise RowError(
                    f"example {number} has no labelled token left once it is cut at {self.most} tokens: "
                    "nothing would be learned from it",
                    rule="length",
                    hint='Raise max_length in [train], or set too_long = "drop".',
                )
            self._count("cut", number)
            yield short

    def told(self) -> Length:
        """Return what was seen; raises TrainingError if something was refused."""
        if self.refused:
            some = ", ".join(map(str, self.refused[:5])) + (" ..." if len(self.refused) > 5 else "")
            raise RowError(
                f"{len(self.refused)} of {self._counts['seen']} examples are longer than {self.most} tokens "
                f"(the longest {self.longest}): {some}",
                rule="length",
                hint=f"Set max_length = {self.longest} in [train] (more memory), or too_long to cut or drop them.",
            )
        counts = self._counts
        return Length(counts["seen"], counts["cut"], counts["dropped"], self.longest)
