"""Connections that send their headers slowly, or are too many, are closed; uvicorn's own waits without end.

What is read at once is so little that it takes the event loop about ``PATIENCE`` seconds to take it apart: a body in
chunks of a byte each costs much more than its size.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

LEAST, MOST = 2**9, 2**18  # bytes read at once
PATIENCE = 0.002  # seconds


def patient(seconds: float, most: int) -> type[H11Protocol]:
    """A protocol that gives each request's headers so many seconds to come, and has at most so many connections."""

    class Patient(H11Protocol):
        """uvicorn's, with an end to its patience."""

        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._read_at_once(4 * LEAST)
            if len(self.connections) > most:
                transport.close()
            else:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            start = time.thread_time()
            super().data_received(data)
            if time.thread_time() - start > PATIENCE:
                self._read_at_once(len(data) // 4)
            elif not self._between:
                self._read_at_once(2 * len(data))
            if self._between:
                self._wait()  # the beginning of a next request
            else:
                self._stop()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._stop()  # idle connections are uvicorn's to close

        def _read_at_once(self, most: int) -> None:
            if hasattr(self.transport, "max_size"):  # asyncio's own
                self.transport.max_size = min(max(most, LEAST), MOST)

        @property
        def _between(self) -> bool:
            """Whether no request is known yet, or the last one is answered."""
            cycle: Any = self.cycle
            return cycle is None or cycle.response_complete

        def _wait(self) -> None:
            if self._waiting is None:
                self._waiting = self.loop.call_later(seconds, self._leave)

        def _stop(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _leave(self) -> None:
            self._waiting = None
            if self._between and not self.transport.is_closing():
                self.transport.close()

    return Patient
