"""What goes wrong around a server: clients that leave, queues that fill, folders that vanish, ports that are taken."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rebus.cli.app import app
from rebus.errors import RebusError, RecipeError
from rebus.serve.settings import Limits, ServeSettings, is_loopback, read_key
from tiny_server import TINY, Running, as_url, running, square

KEY = "a-key-of-the-tests"
LONG: dict[str, Any] = {"max_tokens": 400, "temperature": 1.0, "seed": 7}


def slowly(made: Running, seconds: float = 0.02) -> None:
    """Make each step of the engine take so long."""
    engine = made.writer.engine.engine
    step = engine.run_once

    def run_once() -> bool:
        time.sleep(seconds)
        return bool(step())

    engine.run_once = run_once


def body_of(made: Running, **more: Any) -> dict[str, Any]:
    return {"model": made.name, "messages": [{"role": "user", "content": "Go on"}], **LONG, **more}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(seer: Path, stream: bool) -> None:
    with running(seer) as made:
        slowly(made, 0.1)  # the text must not end by itself before the client leaves
        before = made.writer.stats()

        async def leave() -> None:
            async with httpx.AsyncClient(base_url=made.url) as client:
                work = asyncio.create_task(client.post("/v1/chat/completions", json=body_of(made, stream=stream)))
                await asyncio.sleep(0.6)
                work.cancel()

        asyncio.run(leave())
        assert made.quiet()
        after = made.writer.stats()
        assert after.cancelled - before.cancelled == 1
        assert after.new_tokens - before.new_tokens < 200
        assert (after.blocks_used, after.running, after.queued) == (0, 0, 0)
        assert made.chat().status_code == 200


def test_a_client_that_leaves_in_the_middle_of_a_stream(seer: Path) -> None:
    with running(seer) as made:
        slowly(made)
        with made.http.stream("POST", "/v1/chat/completions", json=body_of(made, stream=True)) as told:
            for number, _ in enumerate(told.iter_lines()):
                if number == 6:
                    break
        assert made.quiet()
        assert made.writer.stats().cancelled == 1


def test_past_the_queue_requests_are_told_when_to_come_back(seer: Path) -> None:
    with running(seer, running=1, limits={"queue": 2}) as made:
        slowly(made, 0.01)
        found: list[httpx.Response] = []

        def ask() -> None:
            found.append(httpx.post(f"{made.url}/v1/chat/completions", json=body_of(made, max_tokens=40), timeout=30))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [one for one in found if one.status_code == 429]
        assert len(refused) + sum(one.status_code == 200 for one in found) == 8
        assert 1 <= len(refused) <= 6
        for one in refused:
            assert int(one.headers["retry-after"]) >= 1
            assert one.json()["error"]["type"] == "rate_limit_error"
        assert made.chat().status_code == 200


def test_while_the_model_loads_health_says_so_and_requests_are_told_to_wait(seer: Path) -> None:
    made = Running(seer, TINY).start(load=False)
    try:
        told = made.http.get("/health")
        assert (told.status_code, told.json()["status"]) == (503, "loading")
        early = made.chat()
        assert early.status_code == 503
        assert int(early.headers["retry-after"]) >= 1
        assert early.json()["error"]["code"] == "model_loading"
        assert made.http.get("/v1/models").status_code == 503
        assert b"rebus_ready 0.0" in made.http.get("/metrics").content
        assert made.served is not None
        made.served.load()
        assert made.http.get("/health").json() == {"status": "ready", "details": []}
        assert made.chat().status_code == 200
    finally:
        made.stop()


def test_a_server_without_a_model(seer: Path) -> None:
    with running(None) as made:
        assert made.http.get("/health").json()["status"] == "no model"
        assert made.chat().json()["error"]["code"] == "no_model"
        assert made.http.get("/openapi.json").status_code == 200


def test_a_folder_that_is_deleted_while_serving(asked: Path, tmp_path: Path) -> None:
    shutil.copytree(asked, tmp_path / "run")
    with running(tmp_path / "run") as made:
        first = made.chat("What?", as_url(square())).json()["choices"]
        shutil.rmtree(tmp_path / "run")
        assert made.chat("What?", as_url(square())).json()["choices"] == first
        told = made.http.get("/health")
        assert told.status_code == 200
        assert "memory" in told.json()["details"][0]
        assert str(tmp_path) not in told.text


def test_told_to_stop_it_finishes_what_it_can(seer: Path) -> None:
    made = Running(seer, TINY).start()
    body = body_of(made, max_tokens=60, temperature=0, frequency_penalty=0.5)
    expected = made.http.post("/v1/chat/completions", json=body).json()
    slowly(made)
    found: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: found.append(httpx.post(f"{made.url}/v1/chat/completions", json=body, timeout=30))
    )
    thread.start()
    while not made.writer.active:
        time.sleep(0.01)
    made.stop()
    thread.join()
    assert found[0].status_code == 200
    assert found[0].json()["choices"] == expected["choices"]
    assert expected["usage"]["completion_tokens"] > 20
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{made.url}/health")


def test_told_to_stop_it_ends_what_takes_too_long_with_a_word(seer: Path) -> None:
    settings = ServeSettings(port=0, cache_mb=8, drain=0.3)
    made = Running(seer, settings).start()
    slowly(made, 0.05)
    lines: list[str] = []

    def read() -> None:
        with httpx.stream(
            "POST", f"{made.url}/v1/chat/completions", json=body_of(made, stream=True), timeout=30
        ) as told:
            lines.extend(line for line in told.iter_lines() if line)

    thread = threading.Thread(target=read)
    thread.start()
    while len(lines) < 3:
        time.sleep(0.01)
    made.stop()
    thread.join()
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last["error"]["code"] == "server_stopping"
    assert "[DONE]" not in lines[-1]


def test_a_request_that_takes_too_long_is_given_up(seer: Path) -> None:
    with running(seer, limits={"seconds": 0.3}) as made:
        slowly(made, 0.05)
        told = made.http.post("/v1/chat/completions", json=body_of(made))
        assert told.status_code == 504
        assert told.json()["error"]["code"] == "timeout"
        with made.http.stream("POST", "/v1/chat/completions", json=body_of(made, stream=True)) as streamed:
            last = [line for line in streamed.iter_lines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert made.quiet()


def test_a_defect_is_told_without_its_words(seer: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(seer) as made:
        made.writer.begin = lambda order: 1 / 0
        with caplog.at_level(logging.INFO):
            told = made.chat("my secret question")
        assert told.status_code == 500
        assert told.json()["error"]["message"] == "something went wrong on the server"
        assert "ZeroDivisionError" in caplog.text
        assert "secret" not in caplog.text


def test_prompts_are_in_the_log_only_if_wanted(seer: Path, caplog: pytest.LogCaptureFixture) -> None:
    for wanted in (False, True):
        with running(seer, log_prompts=wanted) as made, caplog.at_level(logging.DEBUG):
            assert made.chat("my secret question", as_url(square())).status_code == 200
            made.http.get("/v1/models?password=secret")
        ours = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith(("rebus", "uvicorn")))
        assert ("secret question" in ours) is wanted
        assert "password" not in ours
        assert "iVBOR" not in ours
        caplog.clear()


def test_large_images_come_through(seer: Path) -> None:
    """Nothing on the way has a smaller limit of its own."""
    rows = np.random.default_rng(0).integers(0, 256, (2000, 2200, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(rows).save(out, "PNG", compress_level=0)
    with running(seer) as made:
        assert len(out.getvalue()) > 12_000_000
        assert made.chat("What is it?", as_url(out.getvalue())).status_code == 200


# ---------------------------------------------------------------- keys


def test_every_route_but_health_wants_the_key(seer: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(seer, api_key=KEY) as made, caplog.at_level(logging.DEBUG):
        bare = httpx.Client(base_url=made.url)
        paths = [path for path in made.http.get("/openapi.json").json()["paths"] if path != "/health"]
        assert len(paths) >= 7
        for path in [*paths, "/openapi.json", "/docs", "/nothing", "/studio", "//health", "/health/../v1/models"]:
            for headers in (
                {},
                {"Authorization": KEY},
                {"Authorization": f"Bearer {KEY}x"},
                {"Authorization": f"Bearer {KEY[:-1]}"},
                {"Authorization": "Bearer"},
                {"Authorization": "Basic OmEta2V5LW9mLXRoZS10ZXN0cw=="} if path != "/studio" else {},
                {"X-Api-Key": KEY},
            ):
                for method in ("GET", "POST", "OPTIONS"):
                    told = bare.request(method, path, headers=headers)
                    assert told.status_code == 401, (path, headers, told.text)
                    assert told.json()["error"]["code"] == "invalid_api_key"
        assert bare.get("/health").status_code == 200
        assert made.chat().status_code == 200
        assert bare.get("/studio", headers={"Authorization": "Basic OmEta2V5LW9mLXRoZS10ZXN0cw=="}).status_code == 404
        far = bare.get("/v1/models", headers={"Host": "rebus.example", "Authorization": f"Bearer {KEY}"})
        assert far.status_code == 200  # a page of another origin has no key to send
    assert KEY not in caplog.text
    assert KEY not in repr(made.served.settings)  # type: ignore[union-attr]


def test_beyond_this_machine_only_with_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org", "127.0.0.1.example.org"):  # noqa: S104
        with pytest.raises(RecipeError, match="API key"):
            ServeSettings(host=host)
        assert ServeSettings(host=host, api_key=KEY).host == host
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1"):
        assert is_loopback(host)
        assert ServeSettings(host=host).api_key is None


@pytest.mark.parametrize("key", ["", "short", "with space in it", "schlüssel-schlüssel", "line\nbreak-in-a-key"])
def test_keys_that_are_none(key: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        ServeSettings(api_key=key)
    assert not key or key not in str(caught.value)
    (tmp_path / "key").write_text(key, encoding="utf-8")
    with pytest.raises(RecipeError):
        read_key(tmp_path / "key")


def test_a_key_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="utf-8")
    assert read_key(tmp_path / "key") == KEY
    with pytest.raises(RecipeError, match="No such file"):
        read_key(tmp_path / "other")


def test_cors_is_for_named_origins(seer: Path) -> None:
    with running(seer, cors=("https://page.example",)) as made:
        asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
        told = made.http.options("/v1/chat/completions", headers=asked)
        assert told.headers["access-control-allow-origin"] == "https://page.example"
        assert made.http.get("/v1/models", headers={"Origin": "https://page.example"}).status_code == 200
        other = made.http.get("/v1/models", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403
        assert "access-control-allow-origin" not in other.headers


def test_limits_are_changed_by_name() -> None:
    changed = Limits().changed(["pixels=100", "seconds=1.5"])
    assert (changed.pixels, changed.seconds, changed.n) == (100, 1.5, Limits().n)
    for wrong in ("pixel=1", "pixels", "pixels=many", "n=0", "n=-3", "n=1.5", "seconds=nan", "seconds=inf"):
        with pytest.raises(RecipeError):
            Limits().changed([wrong])


def test_settings_out_of_range() -> None:
    for change in ({"port": 70000}, {"running": 0}, {"cache_mb": 0}, {"drain": -1.0}, {"cors": ("page",)}):
        with pytest.raises(RecipeError):
            ServeSettings(**change)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the command


def test_the_command_refuses_what_cannot_be(asked: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = CliRunner().invoke(app, ["serve", str(asked), "--port", port])
        assert told.exit_code == 2
        assert "--port 0" in told.output
    for words in (
        ["--host", "0.0.0.0"],  # noqa: S104
        ["--api-key", KEY, "--api-key-file", "x"],
        ["--api-key-file", str(tmp_path / "no")],
        ["--limit", "pixl=3"],
        ["--host", "203.0.113.9", "--api-key", KEY],
    ):
        told = CliRunner().invoke(app, ["serve", str(asked), *words])
        assert told.exit_code == 2, told.output
        assert "What to do" in told.output.replace("\n", " ")
        assert KEY not in told.output


def test_the_command_without_its_libraries(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    told = CliRunner().invoke(app, ["serve", str(asked)])
    assert told.exit_code == 2
    assert "rebus-vlm[serve]" in told.output.replace("\n", "")


def test_a_model_that_cannot_be_loaded_ends_the_command(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "0"])
    assert told.exit_code == 2
    assert "What to do" in told.output


def test_the_command_serves_and_stops_when_it_is_told_to(asked: Path) -> None:
    words = [sys.executable, "-m", "rebus", "serve", str(asked), "--port", "0", "--drain", "2", "--cache-mb", "8"]
    made = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
    assert made.stderr is not None
    lines: list[str] = []
    for line in made.stderr:
        lines.append(line)
        if "answers at" in line:
            break
    url = next(word for word in lines[-1].split() if word.startswith("http"))
    body = {"model": "run", "messages": [{"role": "user", "content": "What?"}]}
    assert httpx.post(f"{url}/chat/completions", json=body, timeout=30).status_code == 200
    made.send_signal(signal.SIGTERM)
    assert made.wait(20) == 0
    assert "Traceback" not in "".join(lines) + made.stderr.read()


def test_every_error_has_four_parts() -> None:
    with pytest.raises(RebusError) as caught:
        ServeSettings(host="0.0.0.0")  # noqa: S104
    assert all(caught.value.as_dict().values())
