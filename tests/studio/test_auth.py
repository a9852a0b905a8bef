"""Who gets in, and what may be reached: the key, other hosts, other files, too large files. No browser needed."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import pytest

from rebus.serve.settings import Limits
from tiny_studio import Running, run_studio

KEY = "a-key-that-is-long"


def asked(
    address: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request as it stands: nothing is made tidy on the way."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


@pytest.fixture(scope="module")
def locked(place: Path) -> Iterator[Running]:
    yield from run_studio(None, place, api_key=KEY)


@pytest.fixture(scope="module")
def open_studio(place: Path) -> Iterator[Running]:
    yield from run_studio(None, place)


def routes(app: object) -> list[str]:
    """Paths of all of Gradio's own routes, gaps filled."""
    mounted = next(route for route in app.routes if getattr(route, "path", "") == "/studio")  # type: ignore[attr-defined]
    found = list(mounted.app.app.routes)
    paths = {getattr(route, "path", "") or "/" for route in found}
    for inner in (getattr(route, "original_router", None) for route in found):  # those that Gradio includes
        paths |= {"/gradio_api" + one.path.removeprefix("/gradio_api") for one in getattr(inner, "routes", [])}
    return sorted({"/studio" + re.sub(r"\{[^}]*\}", "x", path) for path in paths})


def test_without_the_key_no_route_answers(locked: Running) -> None:
    paths = routes(locked.app)
    assert len(paths) > 30
    assert any("upload" in path for path in paths)
    for path in paths:
        for method in ("GET", "POST"):
            status, _, body = asked(locked.address, path, method, b"" if method == "POST" else None)
            assert status == 401, (path, status, body[:200])


def test_a_browser_is_asked_for_the_key_and_then_let_in(locked: Running) -> None:
    status, headers, form = asked(locked.address, "/studio/", Accept="text/html")
    assert status == 401
    assert b'type="password"' in form
    assert "default-src 'none'" in headers["content-security-policy"]
    assert KEY.encode() not in form
    wrong = asked(locked.address, "/studio/sign-in", "POST", b"key=wrong", Accept="text/html")
    assert wrong[0] == 401
    assert "set-cookie" not in wrong[1]
    status, headers, _ = asked(locked.address, "/studio/sign-in", "POST", f"key={quote(KEY)}".encode())
    assert (status, headers["location"]) == (303, "/studio/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "SameSite=Strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    assert KEY not in cookie
    assert asked(locked.address, "/studio/config", Cookie=cookie)[0] == 200
    assert asked(locked.address, "/studio/config", Cookie=cookie + "x")[0] == 401
    assert asked(locked.address, "/studio/config", Authorization=f"Bearer {KEY}")[0] == 200
    assert asked(locked.address, "/v1/models", Cookie=cookie)[0] == 401  # the cookie opens the pages alone
    assert asked(locked.address, "/health")[0] != 401


def test_another_site_cannot_sign_in_or_use_the_cookie(locked: Running) -> None:
    form = f"key={quote(KEY)}".encode()
    answer = asked(locked.address, "/studio/sign-in", "POST", form, Origin="http://evil.example")
    assert answer[0] in (401, 403)
    assert "set-cookie" not in answer[1]


def test_other_hosts_and_origins_are_refused_without_a_key(open_studio: Running) -> None:
    assert asked(open_studio.address, "/studio/config")[0] == 200
    assert asked(open_studio.address, "/studio/config", Host="evil.example")[0] == 403  # DNS rebinding
    assert asked(open_studio.address, "/studio/config", Origin="http://evil.example")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "{place}/squares/table.jsonl",
        "{place}/squares/0.png",
        "http://127.0.0.1:1/x",
        "file:///etc/passwd",
    ],
)
def test_gradio_hands_out_no_file_of_the_machine(open_studio: Running, path: str) -> None:
    named = path.format(place=open_studio.place)
    for route in ("/studio/gradio_api/file=", "/studio/file=", "/studio/gradio_api/proxy=", "/studio/static/"):
        status, _, body = asked(open_studio.address, route + named)
        assert status in (400, 403, 404, 405), (route, named, status)
        assert b"root:" not in body
        assert b"red square" not in body
        assert b"PNG" not in body


def upload(address: str, content: bytes) -> tuple[int, bytes]:
    line = "--rebus"
    head = f'{line}\r\nContent-Disposition: form-data; name="files"; filename="../../x.png"\r\n\r\n'
    body = head.encode() + content + f"\r\n{line}--\r\n".encode()
    kind = "multipart/form-data; boundary=rebus"
    status, _, told = asked(address, "/studio/gradio_api/upload", "POST", body, Content_Type=kind)
    return status, told


def test_what_is_dropped_is_capped_and_stays_where_it_belongs(open_studio: Running) -> None:
    import os

    status, told = upload(open_studio.address, b"x" * 1000)
    assert status == 200
    (path,) = json.loads(told)
    home = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    assert home in Path(path).resolve().parents
    assert home.stat().st_mode & 0o077 == 0  # nobody else's business
    assert upload(open_studio.address, b"x" * 3 * 2**20)[0] == 413


def test_it_has_no_page_that_tells_of_its_inside(open_studio: Running) -> None:
    for path in (
        "/studio/docs",
        "/studio/redoc",
        "/studio/openapi.json",
        "/studio/monitoring",
        "/studio/gradio_api/mcp",
    ):
        assert asked(open_studio.address, path)[0] in (401, 403, 404, 405), path
    page = asked(open_studio.address, "/studio/")[2].decode()
    assert not re.findall(r"""(?:src|href)=["']https?://(?!127)""", page.replace('href="https://gradio.app', ""))
    config = json.loads(asked(open_studio.address, "/studio/config")[2])
    assert not config["analytics_enabled"]
    assert config["stylesheets"] == []


def test_no_socket_leaves_the_machine_while_it_starts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    gone: list[object] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):  # type: ignore[index]
            gone.append(address)
            raise OSError("refused by the test")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", watched)
    run = run_studio(None, place)
    studio = next(run)
    assert asked(studio.address, "/studio/")[0] == 200
    next(run, None)
    assert gone == []


def test_gradio_s_other_routes_do_not_exist(open_studio: Running) -> None:
    for path in (
        "component_server", "call/ask", "call/v2/ask", "api/ask", "run/ask", "vibe-edit", "process_recording",
        "stream/x", "reset_all",
    ):  # fmt: skip
        assert asked(open_studio.address, f"/studio/gradio_api/{path}", "POST", b"{}")[0] == 404, path
    for path in ("deep_link?session_hash=x", "monitoring", "dev/reload", "proxy=http://127.0.0.1", "vibe-code", "runs"):
        assert asked(open_studio.address, f"/studio/gradio_api/{path}")[0] == 404, path
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert asked(open_studio.address, "/studio/gradio_api/queue/join", method)[0] == 405


def test_the_page_names_nothing_that_is_not_there(open_studio: Running) -> None:
    page = asked(open_studio.address, "/studio/")[2].decode("utf-8")
    named = re.findall(r'<(?:link|script)[^>]+(?:href|src)="([^"#]+)"', page)
    assert len(named) >= 2
    for address in named:
        assert asked(open_studio.address, urljoin("/studio/", address))[0] == 200, address


def test_an_upload_belongs_to_the_browser_that_sent_it(open_studio: Running) -> None:
    from storm.paths import Client

    mine, other = Client(open_studio.address), Client(open_studio.address)
    path = mine.upload("a b.txt", b"mine")
    assert mine.ask(f"/studio/gradio_api/file={quote(path)}").text == "mine"
    assert other.ask(f"/studio/gradio_api/file={quote(path)}").status == 403
    other.upload("c.txt", b"theirs")
    assert other.ask(f"/studio/gradio_api/file={quote(path)}").status == 403
    large = json.dumps({"fn_index": 0, "data": ["x" * 2**20], "session_hash": "x"}).encode()
    assert mine.ask("/studio/gradio_api/queue/join", "POST", large).status == 413


def test_slow_and_wrong_keys_do_not_keep_out_who_knows_it(place: Path) -> None:
    """More slow forms than connections that the server allows: the oldest give way to who comes now."""
    import socket
    import time

    run = run_studio(None, place, api_key=KEY, limits=Limits(connections=40))
    studio = next(run)
    where = urlsplit(studio.address)
    head = "POST /studio/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nk"
    sockets = []
    try:
        for _ in range(120):
            slow = socket.create_connection((where.hostname, where.port), timeout=10)
            slow.sendall(head.encode())
            sockets.append(slow)
        time.sleep(0.5)
        status, headers, _ = asked(studio.address, "/studio/sign-in", "POST", f"key={quote(KEY)}".encode())
        assert (status, headers["location"]) == (303, "/studio/")
        cookie = headers["set-cookie"].split(";")[0]
        assert asked(studio.address, "/studio/config", Cookie=cookie)[0] == 200
        sockets[0].settimeout(10)
        told = sockets[0].recv(4096)  # the oldest was answered, and its connection closed
        assert told.split()[1] in (b"408", b"503")
        assert b"connection: close" in told.lower()
    finally:
        for one in sockets:
            one.close()
        next(run, None)


def test_the_guard_stands_before_the_form(locked: Running) -> None:
    form = f"key={quote(KEY)}".encode()
    assert asked(locked.address, "/studio/sign-in", "POST", form, Origin="http://evil.example")[0] == 403
    assert asked(locked.address, "/studio/", Accept="text/html", Origin="http://evil.example")[0] == 403
