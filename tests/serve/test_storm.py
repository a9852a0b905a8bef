"""The short form of ``tests/storm/attacks.py``: other requests hardly delay ``/health``; portions, turns, leaving."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from rebus.inference.session import Session
from rebus.serve import embeddings, predict
from tiny_server import Running, as_url, running, square

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "storm"))

import attacks

WORST = (
    "nulls for messages",
    "31 MiB of quotes",
    "an image of 25,000,000 x 1",
    "chunks of a byte",
    "embeddings of texts that are too long",
)


def test_no_known_attack_delays_health() -> None:
    """With a lenient bound, as the machine may be busy: it was 11 to 22 s."""
    said = attacks.run(1.0, only=WORST, most=1.0)
    assert said.startswith("attacks: ")


def slowly(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, seconds: float) -> list[int]:
    """Make each portion of a route take so long; gives a list with an entry a portion."""
    work, done = getattr(module, name), []

    def slow(*given: Any, **named: Any) -> Any:
        done.append(1)
        time.sleep(seconds)
        return work(*given, **named)

    monkeypatch.setattr(module, name, slow)
    return done


MANY = {"model": "run", "input": ["what colour is the square " * 4] * 256}
ROW = {"question": "What?", "image": as_url(square())}


def test_many_embeddings_do_not_hold_the_next_client_up(answering: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "TOKENS", 100)
    done = slowly(monkeypatch, Session, "embed_texts", 0.05)
    thread = threading.Thread(target=answering.http.post, args=("/v1/embeddings",), kwargs={"json": MANY})
    thread.start()
    while not done:
        time.sleep(0.005)
    told = httpx.post(f"{answering.url}/v1/embeddings", json={"model": "run", "input": "a", "user": "next"}, timeout=30)
    before = len(done)
    thread.join()
    assert told.status_code == 200
    assert 2 * before < len(done)  # it did not wait for all of them


@pytest.mark.parametrize(
    ("route", "body", "module", "name"),
    [
        ("embeddings", MANY, Session, "embed_texts"),
        ("predict", {"rows": [{"question": "a", "image": None}] * 200, "task": "classify"}, predict, "as_json"),
        ("predict", {"rows": [ROW] * 8, "task": "classify", "explain": True}, predict, "explained"),
        ("predict", {"rows": [ROW] * 8, "task": "classify"}, predict.images, "opened"),
    ],
    ids=["embeddings", "predictions", "explanations", "images"],
)
def test_work_ends_when_the_client_leaves(
    asked: Path, monkeypatch: pytest.MonkeyPatch, route: str, body: dict[str, Any], module: Any, name: str
) -> None:
    done = slowly(monkeypatch, module, name, 0.05)
    with running(asked) as made:

        async def leave() -> None:
            async with httpx.AsyncClient(base_url=made.url) as client:
                work = asyncio.create_task(client.post(f"/v1/{route}", json=body))
                while not done:
                    await asyncio.sleep(0.005)
                work.cancel()

        asyncio.run(leave())
        time.sleep(0.5)
        count = len(done)
        time.sleep(0.3)
        assert len(done) == count  # nothing more is done
        assert count < 20
        assert made.chat().status_code == 200
