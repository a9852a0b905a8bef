"""Where what a browser sends is checked before Gradio sees it: which routes there are, and which files may be named.

A browser is known by a cookie. A file that an event names must be one that this browser uploaded, or that the Studio
wrote for it, by the very path that it was told then; every other path, address, link or spelling is refused, in
whatever component, field or depth it stands. Gradio has checks of its own; nothing here relies on them.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rebus.errors import StudioError
from rebus.serve.guard import replay
from rebus.studio.auth import PATH

COOKIE = "rebus_browser"
_BROWSERS, _FILES = 4096, 1024  # known at once, and files of each; past them the oldest are forgotten
_EVENT = 2**20  # bytes of an event
_API = "/gradio_api/"
# What pages ask for. Whatever else Gradio has, or will have, does not exist here.
_READ = frozenset(
    {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"}
    | {_API + name for name in ("info", "queue/data", "startup-events", "upload_progress", "theme.css", "app_id")}
)
_READ_BELOW = ("/assets/", "/static/", "/svelte/", f"{_API}heartbeat/")
_FILE = f"{_API}file="
_UPLOAD = f"{_API}upload"
_EVENTS = frozenset({f"{_API}queue/join", f"{_API}run/predict", f"{_API}cancel", f"{_API}reset"})
_QUERY = frozenset({"session_hash", "upload_id"})  # a query may name stored states as well
_MANIFEST = b'<link rel="manifest" href="/manifest.json" />'
_FILE_KEYS = frozenset({"path", "url", "orig_name", "is_stream", "is_file", "mime_type"})


class RefusedError(Exception):
    """A request may not pass.

    Args:
        status: of the answer.
        told: what is wrong, which does not repeat what was sent.
    """

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


class Uploads:
    """Files in the upload folder by the browser that they belong to.

    Args:
        folder: of all of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._of: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, browser: str, path: str) -> None:
        """A file was written for a browser."""
        with self._lock:
            files = self._of.setdefault(browser, OrderedDict())
            self._of.move_to_end(browser)
            files[path] = None
            files.move_to_end(path)
            while len(files) > _FILES:
                files.popitem(last=False)
            while len(self._of) > _BROWSERS:
                self._of.popitem(last=False)

    def holds(self, browser: str, path: str) -> bool:
        """Whether a path is, letter for letter, one that this browser was told, and still a plain file of ours."""
        with self._lock:
            known = path in self._of.get(browser, ())
        return known and self.contains(path)

    def contains(self, path: str) -> bool:
        """Whether a path is a plain file in the upload folder, not reached through a link."""
        if "\0" in path or not os.path.isabs(path):
            return False
        try:
            plain = stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return False
        real = os.path.realpath(path)
        return plain and real == path and self.folder in Path(real).parents

    def file(self, sent: Any) -> Path:
        """An uploaded file, as its path or as Gradio writes it, where a page is about to open it.

        Raises:
            StudioError: it is none.
        """
        path = str(sent.get("path") if isinstance(sent, dict) else sent)
        if not self.contains(path):
            raise StudioError.of("problem.not_dropped")
        return Path(path)

    def write(self, browser: str, name: str, content: bytes) -> Path:
        """A file of the Studio's own in the upload folder, for a browser, so that its events may name it."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True, mode=0o700)
        target = folder / name
        target.write_bytes(content)
        self.add(browser, str(target))
        return target


class Border:
    """ASGI middleware around Gradio's own application.

    Args:
        app: Gradio's.
        uploads: whose files are whose.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        path, method = str(scope["path"]).removeprefix(PATH) or "/", scope["method"]
        scope = {**scope, "query_string": _kept_query(scope["query_string"])}
        browser, answer = browser_of(scope), send
        if browser is None:
            browser = secrets.token_urlsafe(24)
            answer = _with_cookie(send, browser)
        try:
            if method in ("GET", "HEAD"):
                self._may_read(path, browser)
            elif method != "POST" or (path not in _EVENTS and path != _UPLOAD):
                raise RefusedError(404 if method == "POST" else 405, "there is no such route")
            elif path == _UPLOAD:
                await self._upload(browser, scope, receive, answer)
                return
            else:
                receive = replay(self._event(browser, await _body(receive)), receive)
                scope = _without_length(scope)
        except RefusedError as error:
            await _refuse(answer, error)
            return
        await self.app(scope, receive, _without_manifest(answer) if path == "/" else answer)

    def _may_read(self, path: str, browser: str) -> None:
        if path.startswith(_FILE):
            if not self.uploads.holds(browser, path.removeprefix(_FILE)):
                raise RefusedError(403, "this file was not uploaded from this browser")
            return
        known = path in _READ or path.startswith(_READ_BELOW)
        if not known or any(part in path for part in ("..", "\\", "\0", "//")):
            raise RefusedError(404, "there is no such route")

    def _event(self, browser: str, body: bytes) -> bytes:
        """An event with each file it names in its plainest form. Raises RefusedError."""
        try:
            event = json.loads(body)
            return json.dumps(self._checked(browser, event)).encode()
        except (ValueError, RecursionError):
            raise RefusedError(400, "an event is JSON") from None

    def _checked(self, browser: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._checked(browser, item) for item in value]
        if not isinstance(value, dict):
            return value
        if not _FILE_KEYS & {str(key).strip().lower() for key in value} and "meta" not in value:
            return {key: self._checked(browser, item) for key, item in value.items()}
        path = value.get("path")
        if not isinstance(path, str) or not self.uploads.holds(browser, path):
            raise RefusedError(403, "an event named a file that was not uploaded from this browser")
        return {"path": path, "orig_name": os.path.basename(path), "meta": {"_type": "gradio.FileData"}}

    async def _upload(self, browser: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Let Gradio store files, and note whose they are."""
        status, sentence = 0, bytearray()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sentence.extend(message.get("body", b""))
                if status == 200 and not message.get("more_body", False):
                    for path in _strings(bytes(sentence)):
                        if self.uploads.contains(path):
                            self.uploads.add(browser, path)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except (TypeError, ValueError) as error:  # a form whose files have no names
            if status:
                raise
            await _refuse(send, RefusedError(400, f"an upload is files with names ({type(error).__name__})"))


def browser_of(scope: Scope) -> str | None:
    """Who asks, by the cookie; None: a browser that has none yet."""
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            try:
                result = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if result is not None and 16 <= len(result.value) <= 64:
                return result.value
    return None


def _kept_query(query: bytes) -> bytes:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return urlencode([(name, value) for name, value in pairs if name in _QUERY]).encode("latin-1")


def _strings(body: bytes) -> Sequence[str]:
    try:
        result = json.loads(body)
    except ValueError:
        return []
    return [item for item in result if isinstance(item, str)] if isinstance(result, list) else []


async def _body(receive: Receive) -> bytes:
    result = bytearray()
    while True:
        message = await receive()
        result += message.get("body", b"")
        if len(result) > _EVENT:
            raise RefusedError(413, "an event is too large")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(result)


def _without_length(scope: Scope) -> Scope:
    kept = [
        (name, value) for name, value in scope["headers"] if name.lower() not in (b"content-length", b"content-type")
    ]
    return {**scope, "headers": [*kept, (b"content-type", b"application/json")]}


def _with_cookie(send: Send, browser: str) -> Send:
    cookie = f"{COOKIE}={browser}; Path={PATH}; HttpOnly; SameSite=Strict".encode()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie)]}
        await send(message)

    return sent


def _without_manifest(send: Send) -> Send:
    """Gradio's page names /manifest.json of the server's root, which is not the Studio's and is not there."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": message.get("body", b"").replace(_MANIFEST, b" " * len(_MANIFEST))}
        await send(message)

    return sent


async def _refuse(send: Send, error: RefusedError) -> None:
    body = json.dumps({"detail": str(error)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
