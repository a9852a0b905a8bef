"""What every route is given: the settings, the model, the metrics; and how a route waits for the model.

Nothing here knows a protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from rebus.errors import RebusError
from rebus.serve.errors import ApiError, BusyError, NotReadyError, of_rebus
from rebus.serve.loading import Served
from rebus.serve.metrics import Metrics
from rebus.serve.settings import Limits, ServeSettings
from rebus.serve.turns import Portions, Turns
from rebus.serve.writer import Order, Stream, StreamingWriter

T = TypeVar("T")
log = logging.getLogger("rebus.serve")
NOTED = 4000  # characters of a request in the log
_IMAGE = re.compile(r"(?<=;base64,)[A-Za-z0-9+/=]{40,}")


class GoneError(ApiError):
    """The client left before its answer was ready; nobody reads this."""

    def __init__(self) -> None:
        super().__init__(499, "the client left", "client_gone")


class Door(Protocol):
    """Where browsers give the key once and are known by a cookie afterwards. The guard asks it; it stands behind."""

    def answers(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Whether the door itself answers a request: it is a key that is given, or a browser that has none."""

    def knows(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Whether a request comes from a browser that has signed in, and goes where the cookie is good for."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""


class Context:
    """One server's.

    Args:
        settings: its settings.
        served: its model; None: none.
        metrics: where everything is counted.
    """

    def __init__(self, settings: ServeSettings, served: Served | None, metrics: Metrics) -> None:
        self.settings, self.served, self.metrics = settings, served, metrics
        self.connections: Callable[[], int] = lambda: 0  # how many are open; whoever runs the server says
        self.door: Door | None = None  # where browsers sign in; None: nowhere
        self._waiting = 0
        self.readers = Turns(1, "rebus-reader")  # of long bodies, and of answers

    @property
    def limits(self) -> Limits:
        """The settings' limits."""
        return self.settings.limits

    def model(self, name: str | None = None) -> Served:
        """The model, when it can be asked.

        Args:
            name: what the client calls it; None: it does not say. It is compared, and nothing else is done with it.

        Raises:
            NotReadyError: it is loading, or the server stops. ApiError: there is none of that name.
        """
        if self.served is None:
            raise NotReadyError("none")
        if self.served.state == "draining":
            raise NotReadyError("draining")
        _ = self.served.predictor
        if name is not None and name != self.served.name:
            raise ApiError(
                404, f"there is no such model here; there is '{self.served.name}'", "model_not_found", "model"
            )
        return self.served

    def writing(self, name: str) -> tuple[Served, StreamingWriter]:
        """The model and its writing. Raises as ``model``, and ApiError where it writes nothing."""
        served = self.model(name)
        if served.writer is None:
            message = f"the model writes no text; it has the tasks {', '.join(served.predictor.tasks)}: use /v1/predict"
            raise ApiError(400, message, "no_text", "model")
        return served, served.writer

    def begin(self, writer: StreamingWriter, order: Order) -> Stream:
        """Hand an order to the engine. Raises ApiError where it is refused."""
        try:
            return writer.begin(order)
        except RebusError as error:
            raise of_rebus(error) from error

    async def at_desk(self, work: Portions[T], request: Request, user: str | None = None) -> T:
        """Let the model's own thread do something, portion by portion, each user in turn.

        Raises:
            BusyError: too many wait for it. GoneError: the client left. ApiError: the request is wrong.
        """
        if self._waiting >= self.limits.queue:
            raise BusyError()
        self._waiting += 1
        try:
            return await self.in_turn(self._there.desk, work, request, user)
        finally:
            self._waiting -= 1

    async def by_aide(self, work: Portions[T], request: Request, user: str | None = None) -> T:
        """Let a helper's thread do something short, such as cutting text into tokens. Raises as ``in_turn``."""
        return await self.in_turn(self._there.aides, work, request, user)

    @property
    def _there(self) -> Served:
        """The model of a request that was taken already, even if the server is stopping meanwhile."""
        if self.served is None:
            raise NotReadyError("none")
        return self.served

    async def in_turn(self, turns: Turns, work: Portions[T], request: Request, user: str | None = None) -> T:
        """What a job gives; no portion of it is begun once the client has left.

        Raises:
            GoneError: the client left. ApiError: the request is wrong, or the server stops.
        """
        try:
            return await unless_gone(request, asyncio.wrap_future(turns.begin(work, user_of(request, user))))
        except RebusError as error:
            raise of_rebus(error) from error
        except asyncio.CancelledError:
            if turns.closed:
                raise NotReadyError("draining") from None
            raise

    def note(self, route: str, body: BaseModel) -> None:
        """Write what was asked into the log, where that is wanted; images by their length."""
        if self.settings.log_prompts:
            text = _IMAGE.sub(lambda match: f"({len(match[0])} characters)", body.model_dump_json(exclude_none=True))
            log.info("%s asked: %s", route, text[:NOTED])

    @property
    def waiting(self) -> int:
        """Requests that wait for the model's own thread, or are there."""
        return self._waiting


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What ``work`` gives; it is cancelled when the client leaves. Raises GoneError then."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneError
        return task.result()
    finally:
        for waiter in (task, gone):
            waiter.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await gone


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def user_of(request: Request, named: str | None) -> str:
    """Whose turn a request takes: the name that it gives, and where it came from. Neither is kept as it is."""
    client = request.client.host if request.client else ""
    key = request.headers.get("authorization", "")
    return hashlib.blake2b(f"{client}\n{key}\n{named or ''}".encode("utf-8", "replace"), digest_size=8).hexdigest()
