"""HTTP/1.1 as uvicorn speaks it, for clients that may be slow on purpose."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds in which a connection must have sent the head of a request.
HEAD_SECONDS = 20.0


class DeadlineProtocol(H11Protocol):
    """Closes connections whose next request's head does not come in time: each would hold a place forever."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a head do not lengthen the time that there is for it."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._unwatch()
        elif self._waiting is None and (self.cycle is None or self.cycle.response_complete):
            self._watch()

    def _watch(self) -> None:
        self._waiting = self.loop.call_later(HEAD_SECONDS, self._close)

    def _unwatch(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _close(self) -> None:
        self._waiting = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()
