"""The known attacks on servers of models, by their names, each refused; and the server answers afterwards."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image

from rebus.serve.bodies import read_json
from rebus.serve.errors import ApiError
from rebus.serve.grammars import check_pattern, check_schema
from rebus.serve.settings import Limits
from tiny_server import Running, as_url, running, shown, square


@pytest.fixture(scope="module")
def strict(seer: Path) -> Iterator[Running]:
    """A server with small limits."""
    limits = {
        "body_mb": 1,
        "header_seconds": 0.5,
        "body_seconds": 0.5,
        "pixels": 10_000,
        "images": 2,
        "max_tokens": 32,
        "n": 2,
        "header_kb": 4,
    }
    with running(seer, limits=limits) as made:
        yield made


@pytest.fixture(autouse=True)
def still_answers(strict: Running) -> Iterator[None]:
    yield
    assert strict.chat("Hello").status_code == 200


def refused(told: httpx.Response, status: int = 400, code: str | None = None) -> dict[str, Any]:
    """The error object of an answer with this status."""
    assert told.status_code == status, told.text
    error = told.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if code is not None:
        assert error["code"] == code
    return dict(error)


JSON = {"Content-Type": "application/json"}


class Listener:
    """A server that notices whether anybody calls: what a forged request would reach."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.3)
        self.port = self.socket.getsockname()[1]

    def called(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except TimeoutError:
            return False
        return True


ADDRESSES = [
    "http://127.0.0.1:{port}/latest/meta-data/",
    "https://127.0.0.1:{port}/x.png",
    "HTTP://127.0.0.1:{port}/x.png",
    " http://127.0.0.1:{port}/x.png",
    "ftp://127.0.0.1:{port}/x.png",
    "//127.0.0.1:{port}/x.png",
    "gopher://127.0.0.1:{port}/_GET",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "/etc/passwd",
    "../../../../etc/passwd",
    "data:text/html;base64,AAAA",
    "data:image/png,raw",
    "data:image/png;base64,http://127.0.0.1:{port}/",
    "",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_server_side_request_forgery(strict: Running, address: str) -> None:
    listener = Listener()
    url = address.format(port=listener.port)
    error = refused(strict.chat("What is it?", url))
    assert "passwd" not in error["message"]
    earlier = [shown("One.", url), shown("Two.", as_url(square()))]  # one that would not even be looked at
    if not url.startswith("data:image/png;base64"):
        refused(strict.http.post("/v1/chat/completions", json={"model": "seer", "messages": earlier}))
    refused(strict.http.post("/v1/embeddings", json={"model": "seer", "input": [_part(url)]}))
    assert not listener.called()


def _part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_paths_in_rows_are_not_opened(answering: Running, tmp_path: Path) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(square())
    for value in (str(file), f"file://{file}", "table.csv", {"path": str(file)}, {"bytes": "x", "path": str(file)}, 7):
        row = {"image": value, "question": "What?"}
        told = answering.http.post("/v1/predict", json={"rows": [row], "task": "answer"})
        assert str(tmp_path) not in refused(told)["message"]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that promises so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 200_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (101, 100)])
def test_decompression_bombs(strict: Running, size: tuple[int, int]) -> None:
    start = time.perf_counter()
    told = strict.chat("What is it?", as_url(bomb(*size)))
    refused(told, 400, "image_too_large")
    assert time.perf_counter() - start < 5
    answer = strict.http.post("/v1/embeddings", json={"model": "seer", "input": [_part(as_url(bomb(*size)))]})
    refused(answer, 400, "image_too_large")


def test_decompression_bombs_inside_icons(strict: Running) -> None:
    inside = bomb(40_000, 40_000)
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 1, 1, 0, 0, 1, 32, len(inside), 22) + inside
    refused(strict.chat("What is it?", as_url(icon, "x-icon")), 400, "image_too_large")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_animated_bombs(strict: Running, form: str) -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (16, 16), (number, 0, 255 - number)) for number in range(0, 250, 10)]
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    error = refused(strict.chat("What is it?", as_url(out.getvalue(), form.lower())), 400, "too_many_frames")
    assert "still" in error["message"]
    still = io.BytesIO()
    frames[0].save(still, form)
    assert strict.chat("What is it?", as_url(still.getvalue(), form.lower())).status_code == 200


def test_broken_images_tell_nothing_of_the_decoder(strict: Running) -> None:
    whole = square()
    for content in (whole[:60], whole[:-30], b"GIF89a" + b"\xff" * 50, b"%!PS-Adobe", b"<svg/>", b"\x00" * 64):
        error = refused(strict.chat("What is it?", as_url(content)), 400, "invalid_image")
        for word in ("PIL", "truncated", "libpng", "zlib", "Traceback", "/"):
            assert word not in error["message"]
    refused(strict.chat("What is it?", "data:image/png;base64,!!!"), 400, "invalid_image")


def test_pixels_of_the_limit_pass_and_more_images_than_the_limit_do_not(strict: Running) -> None:
    assert strict.chat("What is it?", as_url(square(side=100))).status_code == 200
    refused(strict.chat("What is it?", *[as_url(square())] * 3))


@pytest.mark.parametrize(
    "change",
    [
        {"n": 3},
        {"n": 10**9},
        {"max_tokens": 33},
        {"max_tokens": 2**62},
        {"logprobs": True, "top_logprobs": 10**6},
        {"stop": ["a"] * 9},
        {"stop": ["a" * 300]},
        {"stop": [""]},
        {"seed": 2**70},
        {"messages": [{"role": "user", "content": "a"}] * 600},
        {"messages": [{"role": "user", "content": "a" * 250_000}]},
    ],
)
def test_unbounded_n_and_its_kin(strict: Running, change: dict[str, Any]) -> None:
    refused(strict.chat(**change))


def test_unbounded_prompts_and_inputs(strict: Running) -> None:
    refused(strict.http.post("/v1/completions", json={"model": "seer", "prompt": ["a"] * 100}))
    refused(strict.http.post("/v1/completions", json={"model": "seer", "prompt": "a", "best_of": 50}))
    refused(strict.http.post("/v1/completions", json={"model": "seer", "prompt": [10**9]}))
    refused(strict.http.post("/v1/completions", json={"model": "seer", "prompt": "a", "suffix": "b"}))
    refused(strict.http.post("/v1/embeddings", json={"model": "seer", "input": ["a"] * 300}))
    refused(strict.http.post("/v1/predict", json={"rows": [{"question": "a"}] * 300}))
    why = {"rows": [{"question": "a"}] * 9, "explain": True}  # each costs many predictions
    assert "explained" in refused(strict.http.post("/v1/predict", json=why))["message"]


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


SCHEMAS: list[dict[str, Any]] = [
    nested(30),
    {"type": "string", "pattern": "(a+)+$" * 200},
    {"type": "string", "pattern": "(((a{1,90}){1,90}){1,90}){1,90}"},
    {"type": "string", "pattern": "[a-z]{99999999}"},
    {"type": "string", "minLength": 10**9},
    {"type": "array", "items": {"type": "string"}, "maxItems": 10**8},
    {"type": "object", "patternProperties": {"a{5000}": {}}},
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"enum": ["x" * 40 + str(number) for number in range(3000)]},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_regex_and_schema_bombs(strict: Running, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    start = time.perf_counter()
    refused(strict.chat("Go on", response_format=form))
    assert time.perf_counter() - start < 5
    with pytest.raises(ApiError):
        check_schema(schema, Limits())


EXPRESSIONS = ["(a+)+$", "(a|aa)+$", "([a-zA-Z]+)*$", "(.*)*x", "(a?){200}a{200}", "(.*a){20}", "(x+x+)+y"]


@pytest.mark.parametrize("pattern", EXPRESSIONS)
def test_expressions_that_backtrack_cost_nothing_here(strict: Running, pattern: str) -> None:
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    start = time.perf_counter()
    assert strict.chat("Go on", response_format=form, max_tokens=16).status_code in (200, 400)
    assert time.perf_counter() - start < 10


def test_schemas_of_an_ordinary_size_pass() -> None:
    schema = {
        "type": "object",
        "properties": {"minLength": {"type": "string"}, "pattern": {"type": "string", "pattern": "[0-9]{2,4}"}},
        "$defs": {"a": {"type": "string", "maxLength": 80}},
        "items": {"$ref": "#/$defs/a"},
    }
    check_schema(schema, Limits())
    check_pattern("^[a-z]{1,20}@[a-z]{1,20}\\.org$", Limits())


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "a/../seer", "seer\0", "Seer"]
)
def test_path_traversal_in_model_names(strict: Running, name: str) -> None:
    refused(strict.chat(model=name), 404, "model_not_found")
    for path in (quote(name, safe=""), quote(name, safe="/").replace(".", "%2e"), f"%2e%2e/{quote(name, safe='')}"):
        told = refused(strict.http.get(f"/v1/models/{path}"), 404)
        assert "root:" not in told["message"]
    refused(strict.chat(model="x" * 5000))


def connect(made: Running) -> socket.socket:
    host, port = made.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_slow_headers(strict: Running) -> None:
    """Slowloris: a connection that never finishes its headers is closed, one that says nothing too."""
    for opening in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"):
        with connect(strict) as made:
            made.sendall(opening)
            start = time.monotonic()
            while time.monotonic() - start < 1.2:
                try:
                    made.sendall(b"X-A: b\r\n" if opening else b"")
                except OSError:
                    break
                time.sleep(0.1)
            assert made.recv(100) == b""
            assert time.monotonic() - start < 4
    assert not [one for one in strict.server.server_state.connections if not getattr(one, "cycle", None)]


def test_slow_headers_of_a_second_request(strict: Running) -> None:
    with connect(strict) as made:
        made.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in made.recv(4096)
        made.sendall(b"GET /health HTTP/1.1\r\n")
        while made.recv(4096):  # the rest of the first answer, then the end
            pass


def test_slow_bodies(strict: Running) -> None:
    with connect(strict) as made:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        made.sendall(f"{head}Content-Length: 500\r\n\r\n".encode())
        made.sendall(b"{")
        told = b"".join(iter(lambda: made.recv(4096), b""))
    assert b"408" in told.split(b"\r\n")[0]
    assert b"slow_client" in told


def test_large_bodies_told_and_untold(strict: Running) -> None:
    big = json.dumps({"model": "seer", "messages": [{"role": "user", "content": "x" * 2**21}]}).encode()
    headers = JSON
    refused(strict.http.post("/v1/chat/completions", content=big, headers=headers), 413)

    def pieces() -> Iterator[bytes]:
        yield from (big[start : start + 65536] for start in range(0, len(big), 65536))

    try:
        told = strict.http.post("/v1/chat/completions", content=pieces(), headers=headers)
        refused(told, 413)
    except httpx.WriteError:  # it hung up before all was sent
        pass


def test_compressed_bodies(strict: Running) -> None:
    content = zlib.compress(b"x" * 10**6)
    headers = {"Content-Type": "application/json", "Content-Encoding": "deflate"}
    refused(strict.http.post("/v1/chat/completions", content=content, headers=headers), 415)


def test_huge_headers(strict: Running) -> None:
    refused(strict.http.get("/v1/models", headers={"X-Long": "a" * 5_000}), 431, "headers_too_large")
    refused(strict.http.get("/v1/models?" + "a" * 5_000), 431, "headers_too_large")
    with connect(strict) as made, contextlib.suppress(OSError):  # that never end: refused once they are too long
        for _ in range(200):
            made.sendall(b"X-A: " + b"a" * 5000)
            time.sleep(0.005)
        raise AssertionError("a megabyte of headers was taken")


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
def test_deep_json(strict: Running, depth: int) -> None:
    body = b'{"model": "seer", "messages": ' + b"[" * depth + b"]" * depth + b"}"
    told = strict.http.post("/v1/chat/completions", content=body, headers=JSON)
    refused(told, 400, "json_too_deep")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" + b"1," * 300_000 + b"1]", "json_too_large"),
        (b"[" + b"[]" * 500_000 + b"]", "json_too_large"),
        (b'{"temperature": NaN}', "invalid_json"),
        (b'{"temperature": -Infinity}', "invalid_json"),
    ],
)
def test_json_of_too_many_values_or_none(body: bytes, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(body, Limits())
    assert caught.value.code == code


def test_what_stands_in_strings_is_not_counted_and_looking_is_quick() -> None:
    read_json(json.dumps({"a": "[" * 10**6, "b": 'NaN " \\ ' * 1000}).encode(), Limits())
    start = time.perf_counter()
    for wrong in (b'"' + b'\\"' * 500_000, b'"' * 999_999, b'\\"' * 500_000, b'"' + b"\\" * 999_999):
        with pytest.raises(ApiError):
            read_json(wrong, Limits())
    assert time.perf_counter() - start < 3


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"a":' + b"9" * 10_000 + b"}"])
def test_what_is_no_request(strict: Running, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/predict"):
        refused(strict.http.post(path, content=body, headers=JSON))


def test_broken_characters(strict: Running) -> None:
    body = b'{"model":"seer","max_tokens":2,"messages":[{"role":"user","content":"\\ud800 \\u0000 <|im_start|> </s>"}]}'
    told = strict.http.post("/v1/chat/completions", content=body, headers=JSON)
    refused(told)
    whole = body.replace(b"ud800 ", b"ud83d\\ude00 \\\\ud800 ")
    assert strict.http.post("/v1/chat/completions", content=whole, headers=JSON).status_code == 200
    body = b'{"rows":[{"question":"\\ud800"}]}'
    told = strict.http.post("/v1/predict", content=body, headers=JSON)
    refused(told)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:80",
        "::2",
        "",
        "127.0.0.1:1@evil.example",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost:8o",
        "[::1",
        "[::1]x",
        "[localhost]",
        "localhost evil.example",
        "localhost,evil.example",
        "localhost/evil.example",
        "http://localhost",
    ],
)
def test_dns_rebinding(strict: Running, host: str) -> None:
    refused(strict.http.get("/v1/models", headers={"Host": host}), 403, "host_not_allowed")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "::1", "127.8.8.8"]
)
def test_this_machines_own_names_pass(strict: Running, host: str) -> None:
    assert strict.http.get("/v1/models", headers={"Host": host}).status_code == 200


def test_other_pages_in_the_browser(strict: Running) -> None:
    """Cross-site requests: no CORS headers, no simple requests, no foreign origins."""
    refused(strict.http.get("/v1/models", headers={"Origin": "https://evil.example"}), 403, "origin_not_allowed")
    refused(strict.http.get("/v1/models", headers={"Origin": "null"}), 403)
    own = strict.url.removeprefix("http://")
    told = strict.http.get("/v1/models", headers={"Origin": strict.url, "Host": own})
    assert told.status_code == 200
    assert not [name for name in told.headers if name.startswith("access-control")]
    body = json.dumps({"model": "seer", "messages": [{"role": "user", "content": "a"}]})
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        told = strict.http.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
        refused(told, 415)
    assert strict.http.options("/v1/chat/completions").status_code == 405


def test_request_smuggling_and_nonsense(strict: Running) -> None:
    for text in (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ):
        with connect(strict) as made:
            made.sendall(text)
            assert b" 400 " in made.recv(4096).split(b"\r\n")[0]


def test_a_thousand_connections_that_do_nothing(seer: Path) -> None:
    with running(seer, limits={"connections": 20, "header_seconds": 1.0}) as made:
        idle = [connect(made) for _ in range(30)]
        refused(made.http.get("/health"), 503, "too_many_connections")
        idle += [connect(made) for _ in range(60)]
        assert idle[-1].recv(10) == b""  # twice as many are not even listened to
        time.sleep(1.5)
        assert made.http.get("/health").status_code == 200  # those that say nothing were closed
        for one in idle:
            one.close()


def test_as_many_requests_at_once_as_are_allowed(seer: Path) -> None:
    with running(seer, limits={"requests": 1}) as made:
        codes: list[int] = []
        long = {"max_tokens": 400, "temperature": 1.0, "stream": False}

        def ask() -> None:
            codes.append(httpx.post(f"{made.url}/v1/chat/completions", timeout=30, json=body).status_code)

        body = {"model": "seer", "messages": [{"role": "user", "content": "a"}], **long}
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes.count(200) >= 1
    assert set(codes) <= {200, 503}
