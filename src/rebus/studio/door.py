"""The Studio's door where the server asks for a key: a browser shows it once, in a form, and keeps a cookie.

The server's own guard stands behind it and lets nobody pass whom this door has not brought the key for.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from rebus.studio.panel import esc
from rebus.studio.words import say

PATH = "/studio"
COOKIE = "rebus_studio"
_SLOW = 0.5  # seconds after a wrong key
_MOST = 4096  # bytes of the form


class Door:
    """ASGI middleware around the whole application.

    Args:
        app: what is behind it.
        key: the server's.
        lang: of the form.
    """

    def __init__(self, app: ASGIApp, key: str, lang: str = "en") -> None:
        self.app, self.key, self.lang = app, key, lang
        self._cookie = secrets.token_urlsafe(32)  # anew with every server: old cookies open nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: to the form, through with the key, or as it is."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path + "/").startswith(PATH + "/"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if path == f"{PATH}/sign-in" and scope["method"] == "POST" and _same_origin(headers):
            await self._sign_in(await _read(receive), send)
        elif self._known(headers):
            kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"authorization"]
            bearer = (b"authorization", b"Bearer " + self.key.encode("latin-1"))
            await self.app({**scope, "headers": [*kept, bearer]}, receive, send)
        elif "authorization" in headers or "text/html" not in headers.get("accept", ""):
            await self.app(scope, receive, send)
        else:
            await _page(send, 401, _form(self.lang))

    def _known(self, headers: dict[str, str]) -> bool:
        try:
            shown = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return shown is not None and hmac.compare_digest(_digest(shown.value), _digest(self._cookie))

    async def _sign_in(self, body: bytes, send: Send) -> None:
        given = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
        if not hmac.compare_digest(_digest(given), _digest(self.key)):
            await asyncio.sleep(_SLOW)
            await _page(send, 401, _form(self.lang, wrong=True))
            return
        cookie = f"{COOKIE}={self._cookie}; Path={PATH}; HttpOnly; SameSite=Strict"
        await _page(send, 303, "", [(b"location", f"{PATH}/".encode()), (b"set-cookie", cookie.encode())])


def _same_origin(headers: dict[str, str]) -> bool:
    origin = headers.get("origin")
    return origin is None or origin.split("://", 1)[-1].lower() == headers.get("host", "").lower()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


async def _read(receive: Receive) -> bytes:
    found = bytearray()
    while len(found) <= _MOST:
        message = await receive()
        found += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            break
    return bytes(found[:_MOST])


async def _page(send: Send, status: int, text: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = text.encode("utf-8")
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
        (b"x-content-type-options", b"nosniff"),
        *(more or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _form(lang: str, *, wrong: bool = False) -> str:
    told = f'<p role="alert" style="color:#a93434">{esc(say(lang, "door.wrong"))}</p>' if wrong else ""
    return (
        f'<!doctype html><html lang="{"zh-CN" if lang == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(say(lang, 'title'))}</title></head>"
        '<body style="font-family:system-ui,sans-serif;max-width:22rem;margin:12vh auto;padding:0 1rem">'
        f'<h1 style="font-size:1.4rem">{esc(say(lang, "title"))}</h1>{told}<form method="post" action="{PATH}/sign-in">'
        f'<label for="key">{esc(say(lang, "door.key"))}</label>'
        '<input id="key" name="key" type="password" required autofocus autocomplete="current-password" '
        'style="display:block;width:100%;box-sizing:border-box;padding:.6rem;margin:.4rem 0 1rem;font:inherit">'
        '<button style="padding:.6rem 1.2rem;font:inherit">'
        f"{esc(say(lang, 'door.enter'))}</button></form></body></html>"
    )
