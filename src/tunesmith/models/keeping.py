"""Answers kept on disk by what was asked of whom: the same question of the same model is not answered twice."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.models.base import ChatModel, Sampling
from tunesmith.models.said import repeats
from tunesmith.records import Answer, Conversation, fingerprint


def keeping(model: ChatModel, folder: Path, *, identity: str) -> ChatModel:
    """Return the model that answers from what is kept in a folder, and keeps what it has to be asked.

    `identity` must be another wherever the model would say something else: it stands for its weights, adapter,
    arithmetic, template and constraint. Only greedy answers are kept, since only they are the same each time. An answer
    is kept with the seconds that it took when it was given, so that latencies stay those of the model.
    """
    return _Keeping(model, folder / f"{fingerprint(identity)}.jsonl", identity)


class _Keeping:
    """A ChatModel that looks into its file first."""

    def __init__(self, model: ChatModel, path: Path, identity: str) -> None:
        self._model, self._path, self._identity = model, path, identity
        self._lock = threading.Lock()
        self._known: dict[str, Answer] | None = None

    @property
    def name(self) -> str:
        """The model's name: what is kept is its own."""
        return self._model.name

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Answer]:
        """Return one answer for each conversation, in order; those that are not kept are asked in one batch.

        The same conversation twice in a batch is asked once.
        """
        if not repeats(sampling):
            return self._model.reply(conversations, sampling)
        with self._lock:
            known = self._read()
            keys = [self._key(one, sampling) for one in conversations]
            missing = {key: one for key, one in zip(keys, conversations, strict=True) if key not in known}
            if missing:
                answers = self._model.reply(list(missing.values()), sampling)
                fresh = dict(zip(missing, answers, strict=True))
                self._append(fresh)
                known.update(fresh)
            return [known[key] for key in keys]

    def stream(self, conversation: Conversation, sampling: Sampling) -> Iterator[str]:
        """Yield the model's answer as it comes; nothing is looked up or kept."""
        yield from self._model.stream(conversation, sampling)

    def _key(self, conversation: Conversation, sampling: Sampling) -> str:
        # The seed picks nothing where the likeliest token is taken.
        how = [sampling.max_tokens, sampling.stop, sampling.schema]
        turns = [[message.role, message.content] for message in conversation]
        return fingerprint(self._identity, turns, how)

    def _read(self) -> dict[str, Answer]:
        if self._known is None:
            text = self._path.read_text(encoding="utf-8", errors="replace") if self._path.is_file() else ""
            # What a kill cut off is the last line at most, which is then asked for again.
            rows = (_row(line) for line in text.split("\n"))
            self._known = {row[0]: _answer(row[1]) for row in rows if row is not None}
        return self._known

    def _append(self, fresh: dict[str, Answer]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = (
            json.dumps([key, asdict(answer)], ensure_ascii=False) + "\n" for key, answer in fresh.items()
        )
        with self._path.open("a", encoding="utf-8") as file:
            # A line that a kill cut off must not swallow the next one.
            file.write("\n" + "".join(lines))
            file.flush()
            os.fsync(file.fileno())


def _row(line: str) -> tuple[str, dict[str, Any]] | None:
    try:
        key, answer = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (key, answer) if isinstance(answer, dict) and answer.keys() == _FIELDS else None


_FIELDS = frozenset(Answer.__dataclass_fields__)


def _answer(row: dict[str, Any]) -> Answer:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    return Answer(**fields)
