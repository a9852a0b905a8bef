"""The Studio's door where the server asks for a key: a browser shows it once, in a form, and keeps a cookie.

The server's own guard stands before it, as before every route: what is refused there costs nothing here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from rebus.studio.panel import label

PATH = "/studio"
SIGN_IN = f"{PATH}/sign-in"
COOKIE = "rebus_studio"
_SLOW = 0.5  # seconds after a wrong key
_MOST = 4096  # bytes of the form
_PATIENCE = 5.0  # seconds for the form to come
_AT_ONCE = 16  # forms that are read, or wrong keys that wait, at once; past it the oldest is refused


class Door:
    """What answers browsers that have no key, behind the server's guard, which has looked at host, origin and headers.

    Whoever knows the key sends its form in one piece and is answered at once, whatever the number of slow or wrong
    forms: those past ``_AT_ONCE`` push out the oldest of them, never the newest.

    Args:
        key: the server's.
        lang: of the form.
    """

    def __init__(self, key: str, lang: str = "en") -> None:
        self.key, self.lang = key, lang
        self._cookie = secrets.token_urlsafe(32)  # anew with every server: old cookies open nothing
        self._waiting: OrderedDict[object, asyncio.Timeout] = OrderedDict()

    def answers(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Whether a request is a form with a key, or a browser's that has not signed in yet."""
        if not _within(scope):
            return False
        if scope["path"] == SIGN_IN and scope["method"] == "POST":
            return True
        html = "text/html" in headers.get("accept", "")
        return html and "authorization" not in headers and not self.knows(scope, headers)

    def knows(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Whether a request for the pages comes from a browser that has signed in."""
        try:
            shown = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return _within(scope) and shown is not None and hmac.compare_digest(_digest(shown.value), _digest(self._cookie))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The form, or the answer to it."""
        if scope["path"] != SIGN_IN or scope["method"] != "POST":
            await _page(send, 401, _form(self.lang))
            return
        mine = object()
        try:
            async with asyncio.timeout(_PATIENCE) as patience:
                self._waiting[mine] = patience
                if len(self._waiting) > _AT_ONCE:
                    self._waiting.popitem(last=False)[1].reschedule(0)
                given = parse_qs((await _read(receive)).decode("utf-8", "replace")).get("key", [""])[0].strip()
                right = hmac.compare_digest(_digest(given), _digest(self.key))
                if not right:
                    await asyncio.sleep(_SLOW)
        except TimeoutError:
            await _page(send, 408, _form(self.lang))
            return
        finally:
            self._waiting.pop(mine, None)
        if not right:
            await _page(send, 401, _form(self.lang, wrong=True))
            return
        cookie = f"{COOKIE}={self._cookie}; Path={PATH}; HttpOnly; SameSite=Strict"
        await _page(send, 303, "", [(b"location", f"{PATH}/".encode()), (b"set-cookie", cookie.encode())])


def _within(scope: Scope) -> bool:
    return str(scope["path"] + "/").startswith(PATH + "/")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


async def _read(receive: Receive) -> bytes:
    result = bytearray()
    while len(result) <= _MOST:
        message = await receive()
        result += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            break
    return bytes(result[:_MOST])


async def _page(send: Send, status: int, text: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = text.encode("utf-8")
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
        (b"connection", b"close"),  # who has no key keeps no connection
        *(more or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _form(lang: str, *, wrong: bool = False) -> str:
    message = f'<p role="alert" style="color:#a93434">{label("door.wrong", lang)}</p>' if wrong else ""
    return (
        f'<!doctype html><html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{label('studio.title', lang)}</title></head>"
        '<body style="font-family:system-ui,sans-serif;max-width:22rem;margin:12vh auto;padding:0 1rem">'
        f'<h1 style="font-size:1.4rem">{label("studio.title", lang)}</h1>{message}'
        f'<form method="post" action="{SIGN_IN}">'
        f'<label for="key">{label("door.key", lang)}</label>'
        '<input id="key" name="key" type="password" required autofocus autocomplete="current-password" '
        'style="display:block;width:100%;box-sizing:border-box;padding:.6rem;margin:.4rem 0 1rem;font:inherit">'
        '<button style="padding:.6rem 1.2rem;font:inherit">'
        f"{label('door.enter', lang)}</button></form></body></html>"
    )
