"""What stands before every route: who may ask, how much, how long; and what is counted and logged of each request.

It is plain ASGI, so that it holds for whatever is mounted on the application too. A request that it refuses has cost
nothing but its own bytes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import re
import time
import traceback
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rebus.serve.bodies import CONTENT, Content
from rebus.serve.context import Context, GoneError
from rebus.serve.errors import ApiError, NotReadyError, late
from rebus.serve.settings import is_loopback

log = logging.getLogger("rebus.serve")
OPEN = "/health"  # the one path that needs no key
PAGES = "/studio"  # where browsers may show the key as a password
GRACE = 5.0  # seconds that a route gets to tell a timeout by itself
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?", re.IGNORECASE)
TEXT_ROUTES = ("/v1/completions",)  # whose bodies hold no images


class Guard:
    """Refuses what may not pass.

    Args:
        app: what is guarded.
        context: the server's.
    """

    def __init__(self, app: ASGIApp, context: Context) -> None:
        self.app, self.context = app, context
        settings = context.settings
        self._key = None if settings.api_key is None else _digest(settings.api_key.encode())
        self._answering = 0
        self._body_bytes = 0  # bytes of bodies that are being received or answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection's request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # web sockets: nothing here speaks over them
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, start = _Answer(send), time.perf_counter()
        metrics, counted = self.context.metrics, scope["path"].startswith("/v1/")
        metrics.answering.inc()
        self._answering += counted
        body = Content()
        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            if self.context.connections() > self.context.limits.connections:
                raise ApiError(503, "the server is busy: too many connections", "too_many_connections", retry=1)
            self._may(scope, headers)
            door = self.context.door
            if door is not None and door.answers(scope, headers):
                await door(scope, receive, answer.send)
                return
            self._knows(scope, headers)
            if counted and self._answering > self.context.limits.requests:
                raise ApiError(503, "the server is busy: too many requests at once", "too_many_requests", retry=1)
            await self._receive(body, scope, headers, receive)
            start = time.perf_counter()
            if counted:
                async with asyncio.timeout(self.context.limits.seconds + GRACE):
                    scope[CONTENT] = body
                    await self.app(scope, replay(b"", receive), answer.send)
            else:
                await self.app(scope, replay(bytes(body.take()), receive), answer.send)
        except GoneError:
            answer.status = 499
        except ApiError as error:
            await answer.refuse(error)
        except TimeoutError:
            await answer.refuse(late())
        except Exception as error:
            log.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            await answer.refuse(ApiError(500, "something went wrong on the server", "internal_error"))
        finally:
            self._answering -= counted
            self._body_bytes -= body.size
            metrics.answering.dec()
            self._count(scope, answer.status, time.perf_counter() - start)

    def _may(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raises ApiError where a request comes from somewhere, or to somewhere, that it may not."""
        length = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        length += sum(len(name) + len(value) for name, value in scope["headers"])
        if length > self.context.limits.header_kb * 1024:
            raise ApiError(431, f"headers have at most {self.context.limits.header_kb} KiB", "headers_too_large")
        host = headers.get("host", "")
        if self._key is None and not self._known_host(host):
            message = "requests must come to this machine's own name (localhost) or to one given by --allow-host"
            raise ApiError(403, message, "host_not_allowed")
        origin = headers.get("origin")
        if origin is not None and not self._known_origin(origin, host):
            raise ApiError(403, "web pages of other origins may not use this server", "origin_not_allowed")

    def _knows(self, scope: Scope, headers: dict[str, str]) -> None:
        """Raises ApiError where a request needs the key and does not show it, or the server stops."""
        door = self.context.door
        signed_in = door is not None and door.knows(scope, headers)
        if self._key is not None and scope["path"] != OPEN and not signed_in and not self._shows_key(scope, headers):
            log.info("%s %s: no valid key", scope["method"], _route(scope))
            raise ApiError(401, "give the server's key: Authorization: Bearer KEY", "invalid_api_key")
        served = self.context.served
        if served is not None and served.state == "draining" and scope["path"] not in (OPEN, "/metrics"):
            raise NotReadyError("draining")

    def _known_host(self, host: str) -> bool:
        name = host_name(host)
        return name is not None and (is_loopback(name) or name in self.context.settings.hosts)

    def _known_origin(self, origin: str, host: str) -> bool:
        allowed = self.context.settings.cors
        return origin in allowed or "*" in allowed or origin.split("://", 1)[-1].lower() == host.lower()

    def _shows_key(self, scope: Scope, headers: dict[str, str]) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and (scope["path"] + "/").startswith(PAGES + "/"):
            try:
                key = base64.b64decode(key, validate=True).decode("utf-8").partition(":")[2]
            except (ValueError, binascii.Error):
                key = ""
        elif scheme.lower() != "bearer":
            key = ""
        return hmac.compare_digest(_digest(key.strip().encode("utf-8", "replace")), self._key or b"")

    async def _receive(self, body: Content, scope: Scope, headers: dict[str, str], receive: Receive) -> None:
        """Put all of the body into ``body``, in time. Raises ApiError where it is too long, too slow or no JSON."""
        limits = self.context.limits
        most = int((limits.text_mb if scope["path"] in TEXT_ROUTES else limits.body_mb) * 2**20)
        declared = headers.get("content-length", "0")
        if headers.get("content-encoding", "identity") != "identity":
            raise ApiError(415, "bodies may not be compressed", "unsupported_encoding")
        if not declared.isdigit() or len(declared) > 15 or int(declared) > most:
            raise _too_long(most)
        if scope["path"].startswith("/v1/") and scope["method"] == "POST":
            kind = headers.get("content-type", "").split(";")[0].strip().lower()
            if kind != "application/json":
                raise ApiError(415, "send the body as application/json", "unsupported_media_type")
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise GoneError
                    piece = message.get("body", b"")
                    body.add(piece)
                    self._body_bytes += len(piece)
                    if body.size > most:
                        raise _too_long(most)
                    if self._body_bytes > limits.bodies_mb * 2**20:
                        declared = "the server is busy: the requests in progress hold too many bytes"
                        raise ApiError(503, declared, "too_many_requests", retry=1)
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            declared = f"the body did not come within {limits.body_seconds:g} seconds"
            raise ApiError(408, declared, "slow_client") from None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route, metrics = _route(scope), self.context.metrics
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        if route != OPEN and not route.startswith(PAGES):
            log.info("%s %s %s %.3f s", scope["method"], route, status, seconds)


class _Answer:
    """What is sent: its status, and whether it began."""

    def __init__(self, send: Send) -> None:
        self._send, self.status, self.begun = send, 0, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            message.setdefault("headers", []).append((b"x-content-type-options", b"nosniff"))
        await self._send(message)

    async def refuse(self, error: ApiError) -> None:
        """Tell an error, where the answer has not begun."""
        if self.begun:
            return
        headers = {"content-type": "application/json", "connection": "close", **error.headers}
        if error.status in (400, 404):
            del headers["connection"]
        body = error.encoded()
        sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        sent.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": error.status, "headers": sent})
        await self.send({"type": "http.response.body", "body": body})


def replay(body: bytes, receive: Receive) -> Receive:
    """The messages of a request whose body has been read already."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _route(scope: Scope) -> str:
    """The route as the application names it: what clients make up does not become a label."""
    route: Any = scope.get("route")
    path_of = getattr(route, "path", None)
    if path_of:
        return str(path_of)
    path = scope["path"]
    return PAGES if (path + "/").startswith(PAGES + "/") else path if path == OPEN else "other"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def host_name(host: str) -> str | None:
    """The name or address in a Host header, in small letters; None: it is no such header."""
    if host.count(":") > 1 and not host.startswith("["):  # an IPv6 address without brackets, which has no port
        host = f"[{host}]"
    match = _HOST.fullmatch(host)
    return None if match is None else (match["v6"] or match["name"]).lower()


def _too_long(most: int) -> ApiError:
    return ApiError(413, f"a body here has at most {most / 2**20:g} MiB", "body_too_large")
