"""Search at Pinecone: an index's vectors are kept by the service, once per content, and questions are compared there.

What is not covered: making the index at Pinecone (its dimension is the encoder's, its metric `dotproduct` or `cosine`),
and taking old contents out of it: each has a namespace of its own, which Pinecone's console or SDK deletes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from tunesmith.errors import MissingExtra, ModelError, UsageError
from tunesmith.models.base import Encoder
from tunesmith.records import Passage, fingerprint

if TYPE_CHECKING:
    from tunesmith.retrieving.index import Index

KEY: Final = "PINECONE_API_KEY"
_BATCH: Final = 100  # vectors in a request; the service takes 2 MB
_SECONDS_APART: Final = 0.5
_LONGEST_WAIT: Final = 60.0


class PineconeRetriever:
    """A Retriever over the entries of an index whose vectors are kept by Pinecone.

    `index` is Pinecone's name of its index, or `host` its address, which saves looking it up. Vectors go to the
    namespace NAMESPACE-DIGEST, of the digest of the passages and vectors: what is there already is not sent again. The
    key is read from PINECONE_API_KEY. `wait` is called with seconds while the service counts what it was sent, up to a
    minute.

    Raises MissingExtra without the SDK, UsageError without a key or an index, and ModelError with the service's words.
    """

    def __init__(
        self,
        entries: Index,
        encoder: Encoder,
        *,
        index: str | None,
        host: str | None = None,
        namespace: str = "tunesmith",
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._entries = entries
        self._encoder = encoder
        self._named = index
        self._host = host
        self._wait = wait
        self.namespace = f"{namespace}-{_digest(entries)}"

    def search(self, questions: Sequence[str], count: int) -> list[tuple[Passage, ...]]:
        """Return for each question its `count` nearest passages (all there are, if fewer), nearest first."""
        if not questions:
            return []
        index = self._filled
        top = min(count, len(self._entries))
        with self._errors_named():
            return [
                self._passages(index.query(vector=vector_D.tolist(), top_k=top, namespace=self.namespace))
                for vector_D in self._encoder.embed(questions)
            ]

    def _passages(self, found: Any) -> tuple[Passage, ...]:
        # Only ids and scores come from the service: texts stay here.
        ids = self._entries.ids
        return tuple(
            replace(self._entries.passage(ids[int(match.id)]), score=float(match.score))
            for match in found.matches
        )

    @cached_property
    def _filled(self) -> Any:
        """The SDK's index, once all vectors are there."""
        index = self._opened()
        with self._errors_named():
            if self._counted(index) < len(self._entries):
                for batch in _batches(self._vectors(), _BATCH):
                    index.upsert(vectors=batch, namespace=self.namespace)
                self._settle(index)
        return index

    def _vectors(self) -> Iterator[tuple[str, list[float]]]:
        # Rows, not names: Pinecone takes ASCII of up to 512 characters as an id.
        for row, vector_D in enumerate(self._entries.vectors_E_D):
            yield str(row), vector_D.tolist()

    def _settle(self, index: Any) -> None:
        """Wait until the service has counted what it was sent: until then a search may not find it."""
        waited = 0.0
        while (counted := self._counted(index)) < len(self._entries):
            if waited >= _LONGEST_WAIT:
                raise ModelError(
                    f"Pinecone has counted {counted} of {len(self._entries)} vectors in {self.namespace} "
                    f"after {_LONGEST_WAIT:.0f} seconds",
                    hint="Ask again later: what is there already is not sent again.",
                )
            self._wait(_SECONDS_APART)
            waited += _SECONDS_APART

    def _counted(self, index: Any) -> int:
        namespaces = index.describe_index_stats().namespaces
        return int(namespaces[self.namespace].vector_count) if self.namespace in namespaces else 0

    def _opened(self) -> Any:
        pinecone = _sdk()
        if not os.environ.get(KEY):
            raise UsageError(
                f"Pinecone wants a key, and {KEY} is not set.", hint=f"export {KEY}=... (app.pinecone.io)"
            )
        if not (self._named or self._host):
            raise UsageError(
                "pinecone is a contender's part, and no index is named.",
                hint="Name it in tunesmith.toml: [retrieve] pinecone_index, or pinecone_host.",
            )
        with self._errors_named():
            client = pinecone.Pinecone()
            return client.Index(host=self._host) if self._host else client.Index(name=self._named)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        from pinecone.errors import PineconeError

        try:
            yield
        except PineconeError as error:
            raise ModelError(
                f"Pinecone's index {self._named or self._host} did not do it: {error}",
                hint=f"Check {KEY}, and that the index is there, of dimension "
                f"{self._entries.vectors_E_D.shape[1]} and metric dotproduct or cosine.",
            ) from error


def _sdk() -> Any:
    try:
        import pinecone
    except ImportError as error:
        raise MissingExtra("pinecone", "pinecone", "Searching at Pinecone") from error
    return pinecone


def _digest(entries: Index) -> str:
    """Return what tells one content from another: ids, texts and vectors."""
    passages = [(name, entries.passage(name).text) for name in entries.ids]
    return fingerprint(passages, hashlib.sha256(entries.vectors_E_D.tobytes()).hexdigest())


def _batches(
    vectors: Iterator[tuple[str, list[float]]], size: int
) -> Iterator[list[tuple[str, list[float]]]]:
    while batch := list(islice(vectors, size)):
        yield batch
