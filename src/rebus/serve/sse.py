"""Server-sent events, as OpenAI's protocol streams them: ``data: {...}`` each, at the end ``data: [DONE]``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from rebus.serve.errors import ApiError

END = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n\n"


class Events(StreamingResponse):
    """A stream of events that is closed however it ends, even where the client left before it began.

    An error on the way is an event too, since the status is sent already.

    Args:
        chunks: what each event holds.
        close: called once nobody reads on.
    """

    def __init__(self, chunks: AsyncIterator[Any], close: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_events(chunks), media_type="text/event-stream", headers=headers)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


async def _events(chunks: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(chunks) as each:  # type: ignore[type-var]
            async for chunk in each:
                yield event(chunk)
    except ApiError as error:
        yield event(error.body())
        return
    except Exception:
        yield event(ApiError(500, "something went wrong on the server", "internal_error").body())
        raise
    yield END
