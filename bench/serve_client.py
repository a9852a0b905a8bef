"""What ``bench/serve.py`` and its soak share: questions, a client that streams, a server in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

THINGS = ["a lighthouse", "a market", "the sea", "a teacher", "winter", "a river", "bread", "the moon", "a train"]
THINGS += ["an old clock", "rain", "a garden"]
ASKS = ("Tell me a long story about {}.", "Explain {} to a child.", "Write a letter about {}.", "List facts about {}.")
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
READY = ("health", "v1/models")  # one of them answers 200 once a server is ready, whosever it is
PATIENCE = 600.0  # seconds without a byte before an answer is lost


@dataclass
class Answer:
    """What one request got: its text, seconds to the first of it and to the end, and whether the end came."""

    text: str = ""
    first: float = 0.0
    seconds: float = 0.0
    whole: bool = False
    status: int = 0


def question(number: int) -> str:
    """A question unlike all others."""
    thing, ask = THINGS[number % len(THINGS)], ASKS[number // len(THINGS) % len(ASKS)]
    return f"{ask.format(thing)} (number {number})"


def body_of(model: str, text: str, new: int, **more: Any) -> dict[str, Any]:
    messages = [SYSTEM, {"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": new, "temperature": 0.0, "stream": True, **more}


async def ask(client: httpx.AsyncClient, body: dict[str, Any], leave: int = 0) -> Answer:
    """One streamed answer; ``leave``: go away after so many pieces."""
    answer, start = Answer(), time.perf_counter()
    try:
        return await _read(client, body, leave, answer, start)
    except httpx.HTTPError as error:  # told as an answer that is not whole
        answer.text += f" ({type(error).__name__})"
        return answer


async def _read(client: httpx.AsyncClient, body: dict[str, Any], leave: int, answer: Answer, start: float) -> Answer:
    pieces = 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as told:
        answer.status = told.status_code
        if told.status_code != 200:
            await told.aread()
            return answer
        async for line in told.aiter_lines():
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                answer.whole = True
                break
            choices = json.loads(line[6:]).get("choices") or [{}]
            said = choices[0].get("delta", {}).get("content") or ""
            if body["messages"][-1]["content"] in said:  # transformers' server streams the prompt first
                continue
            if said and not answer.text:
                answer.first = time.perf_counter() - start
            answer.text += said
            pieces += bool(said)
            if leave and pieces >= leave:
                return answer
            answer.whole |= choices[0].get("finish_reason") is not None
    answer.seconds = time.perf_counter() - start
    return answer


@contextmanager
def serving(words: Sequence[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, once it answers."""
    with log.open("wb") as out:
        made = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        end = time.monotonic() + 300
        while True:
            if made.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{' '.join(words[:4])} did not start: {log.read_text(errors='replace')[-800:]}")
            try:
                if 200 in (httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5).status_code for path in READY):
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        yield made
    finally:
        made.terminate()
        try:
            made.wait(30)
        except subprocess.TimeoutExpired:
            made.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def rebus_words(source: Path, port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "rebus", "serve", str(source), "--port", str(port), "--name", "model", *more]
