"""A file's rows, one after the other, listened to for how they speak of groups of people."""

from __future__ import annotations

from pathlib import Path

from tunesmith.checking.parsing import words_of
from tunesmith.curating.bias import Bias, Listening


def listen(path: Path) -> Bias:
    """Return how the rows of a file speak of groups; what is asked last counts as the question."""
    import orjson

    listening = Listening()
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                row = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
            except orjson.JSONDecodeError:
                continue  # told as a fault
            for turns, _ in words_of(row):
                if turns:
                    asked = next((turn.text for turn in reversed(turns[:-1]) if turn.role == "user"), "")
                    listening.add(number, asked, turns[-1].text)
    return listening.told()
