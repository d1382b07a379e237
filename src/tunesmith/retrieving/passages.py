"""What of documents is retrieved: passages short enough to embed and to show, and which of them hold an answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.records import Chunk, Evidence, Example


@dataclass(frozen=True, slots=True)
class Places:
    """Where an example's answer stands: its catalogue entries, else the passages that hold its evidence."""

    passages: Sequence[Chunk]
    _by_document: Mapping[str, list[Chunk]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, list[Chunk]] = defaultdict(list)
        for passage in self.passages:
            found[passage.document].append(passage)
        object.__setattr__(self, "_by_document", dict(found))

    def right(self, example: Example) -> tuple[str, ...]:
        """Return the ids of what answers an example, the best first; none where that is not known."""
        if example.entry is not None:
            return tuple(dict.fromkeys((example.entry, *example.acceptable)))
        ids = (passage.id for piece in example.evidence for passage in self._holding(piece))
        return tuple(dict.fromkeys(ids))

    def _holding(self, evidence: Evidence) -> list[Chunk]:
        """Return the passages that hold the most of a quote, or a third of it."""
        shared = {
            passage.id: min(passage.end, evidence.end) - max(passage.start, evidence.start)
            for passage in self._by_document.get(evidence.document, ())
        }
        most = max(shared.values(), default=0)
        enough = min(most, (evidence.end - evidence.start) / 3)
        holding = [
            passage
            for passage in self._by_document.get(evidence.document, ())
            if shared[passage.id] >= enough and shared[passage.id] > 0
        ]
        return sorted(holding, key=lambda passage: -shared[passage.id])


def shown_text(passage: Chunk) -> str:
    """Return a passage as prompts show it: the title of its document, then its text."""
    text = passage.text.strip()
    return (
        f"{passage.title}: {text}"
        if passage.title and not text.lstrip("# ").startswith(passage.title)
        else text
    )
