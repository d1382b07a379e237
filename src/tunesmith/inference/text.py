"""An answer's tokens as text, piece by piece: whole characters, and nothing that a stop string may take back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Speech:
    """The text of one answer.

    `around` is what the template writes between prompt and words, and between words and the end of turn: a model learns
    it with the words, and it is no part of what is said. A stop string is not part of it either, nor is what follows.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, around: tuple[str, str], stop: Sequence[str]
    ) -> None:
        self._tokenizer = tokenizer
        self._before, self._after = around
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._start = self._read = 0
        self._raw = ""
        self._begun = False
        self.text = ""
        self._given = 0
        self.stopped = False

    def hear(self, token: int) -> None:
        """Take the next token."""
        self._tokens.append(token)
        before = self._decode(self._tokens[self._start : self._read])
        whole = self._decode(self._tokens[self._start :])
        # A character whose bytes have not all come ends the text as a replacement mark.
        if len(whole) > len(before) and not whole.endswith("�"):
            self._add(whole[len(before) :])
            self._start, self._read = self._read, len(self._tokens)

    def end(self, *, ended: bool) -> None:
        """Take note that no token follows; `ended` if the model has ended its turn."""
        rest = self._decode(self._tokens[self._start :])
        before = self._decode(self._tokens[self._start : self._read])
        if len(rest) > len(before):
            self._add(rest[len(before) :])
        if not self._begun and self._raw and not self._before.startswith(self._raw):
            self._begin()
        if ended and not self.stopped:
            self.text = self.text.removesuffix(self._after) if self._after else self.text

    def ready(self, *, final: bool = False) -> str:
        """Return the text that has become certain since the last call; at the end, all that is left."""
        sure = len(self.text) if final or self.stopped else len(self.text) - self._held()
        piece = self.text[self._given : max(sure, self._given)]
        self._given += len(piece)
        return piece

    def _add(self, text: str) -> None:
        if self.stopped:
            return
        self._raw += text
        if not self._begun:
            if self._before and self._before.startswith(self._raw) and self._raw != self._before:
                return
            self._begin()
        else:
            self.text += text
        self._look_for_stop(len(text))

    def _begin(self) -> None:
        self._begun = True
        self.text = self._raw.removeprefix(self._before)

    def _look_for_stop(self, new: int) -> None:
        longest = max(map(len, self._stop), default=0)
        start = max(0, len(self.text) - new - longest)
        found = [place for stop in self._stop if (place := self.text.find(stop, start)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def _held(self) -> int:
        """Return how many characters at the end may yet turn out not to be said."""
        waits = (*self._stop, self._after) if self._after else self._stop
        most = max(map(len, waits), default=0)
        for length in range(min(most, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(each.startswith(tail) for each in waits):
                return length
        return 0

    def _decode(self, tokens: Sequence[int]) -> str:
        # A NUL can be said, and neither be sent back to be read nor kept in a database.
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True)).replace("\0", "\ufffd")
