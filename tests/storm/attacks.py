"""Attacks on a server that runs in a process of its own, while ``/health`` is asked from here: how long does it wait?

``run`` serves a tiny Run, attacks it with one known kind of costly request after the other, and asks ``/health`` every
20 ms meanwhile, beside a server that does nothing. No answer may come ``MOST`` later than the slowest of that one, as
that shows how busy the machine is by itself. Everything stays on this machine's loopback.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tiny_server import as_url, square, write_run

MOST = 0.1  # seconds that an attack may add to an answer of /health
EVERY = 0.02  # seconds between two questions
MIB = 2**20
Send = Callable[["Target"], None]
PROBABILITIES: dict[str, Any] = {"logprobs": True, "top_logprobs": 20}


NOTHING = """
import asyncio, sys
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print("answers at http://127.0.0.1:%d/" % server.sockets[0].getsockname()[1], file=sys.stderr, flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Target:
    """A server in its own process.

    Args:
        folder: a Run; None: a server that does nothing, which shows how busy the machine is by itself.
    """

    def __init__(self, folder: Path | None) -> None:
        words = [sys.executable, "-m", "rebus", "serve", str(folder), "--port", "0", "--cache-mb", "16"]
        if folder is None:
            words = [sys.executable, "-c", NOTHING]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"})
        assert self.process.stderr is not None
        line = next(line for line in self.process.stderr if "answers at" in line)
        self.port = int(line.split("127.0.0.1:")[1].split("/")[0])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def connect(self, patience: float = 60.0) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=patience)

    def post(self, path: str, body: Any, *, wait: bool = True, seconds: float = 60.0) -> bytes:
        """Send a body and read the answer; without ``wait`` leave at once."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with self.connect(seconds) as made, contextlib.suppress(OSError):
            made.sendall(f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode())
            made.sendall(content)
            return b"".join(iter(lambda: made.recv(65536), b"")) if wait else b""
        return b""

    def health(self) -> float:
        """Seconds until ``/health`` has answered."""
        start = time.perf_counter()
        with self.connect() as made:
            made.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            told = b"".join(iter(lambda: made.recv(4096), b""))
        seconds = time.perf_counter() - start
        assert b" 200 " in told[:16], told
        return seconds

    def stop(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def png(width: int, height: int) -> bytes:
    """A grey PNG of this size, of few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def chat(content: Any, **more: Any) -> dict[str, Any]:
    """A request of one message."""
    return {"model": "run", "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}


def image(url: str) -> list[dict[str, Any]]:
    """A message's parts with an image."""
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]


def posts(path: str, body: Any) -> Send:
    """An attack of one request."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda target: (target.post(path, content), None)[1]


def leaves(path: str, body: Any, count: int = 8) -> Send:
    """Clients that send a request and leave."""
    content = json.dumps(body).encode()

    def attack(target: Target) -> None:
        for _ in range(count):
            target.post(path, content, wait=False)

    return attack


def tiny_chunks(target: Target) -> None:
    """A body in chunks of one byte."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with target.connect() as made, contextlib.suppress(OSError):
        made.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 200_000 + b"0\r\n\r\n")
        made.recv(4096)


def pipelined(target: Target) -> None:
    """Thousands of requests in one packet."""
    with target.connect() as made, contextlib.suppress(OSError):
        made.settimeout(0.5)
        made.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000)
        while made.recv(65536):
            pass


def silent(target: Target) -> None:
    """Many connections that say nothing."""
    with contextlib.ExitStack() as made:
        for _ in range(200):
            made.enter_context(target.connect())
        time.sleep(0.3)


def slow_reader(target: Target) -> None:
    """A stream that nobody reads."""
    content = json.dumps(chat("Go on", stream=True, max_tokens=40, n=8, **PROBABILITIES)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with target.connect() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        made.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        time.sleep(0.3)


def attacks() -> dict[str, Callable[[], Send]]:
    """What makes the known kinds, by name: some are large."""
    nulls, words = [None] * 190_000, "what colour is the square " * 7_000
    strip, square_25 = as_url(png(25_000_000, 1)), as_url(png(5_000, 5_000))
    long = {"model": "run", "input": ["what colour is it " * 5] * 256}
    schema = {"type": "object", "properties": {f"a{i}": {"type": "string", "maxLength": 900} for i in range(300)}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    rows = [{"question": "What?", "image": square_25}]
    small = [{"question": "What?", "image": as_url(square())}]
    why = {"task": "classify", "explain": True, "method": "occlusion", "rows": small * 4}
    many, data = {f"{i}": 1 for i in range(90_000)}, "data:image/png;base64,"
    turns = chat("a" * 5000)["messages"]
    return {
        "nulls for messages": lambda: posts("chat/completions", chat("a") | {"messages": nulls}),
        "nulls for parts": lambda: posts("chat/completions", chat(nulls)),
        "nulls for rows": lambda: posts("predict", {"rows": nulls}),
        "nulls for inputs": lambda: posts("embeddings", {"model": "run", "input": nulls}),
        "31 MiB of quotes": lambda: posts("chat/completions", b'"' * (31 * MIB)),
        "31 MiB of escapes": lambda: posts("chat/completions", b'{"model":"' + b'\\"' * (31 * MIB // 2) + b'"}'),
        "escapes within the limit": lambda: posts("chat/completions", b'{"model":"' + b"\\u4f60" * 900_000 + b'"}'),
        "31 MiB of text": lambda: posts("predict", {"rows": [{"question": "a" * (31 * MIB), "image": None}]}),
        "31 MiB of letters of three bytes": lambda: posts("predict", b'{"task":"' + "你".encode() * (10 * MIB) + b'"}'),
        "31 MiB of blanks": lambda: posts("predict", b" " * (31 * MIB)),
        "200,000 values": lambda: posts("predict", {"rows": [{"question": [[[[1, 2, 3]]]] * 20_000, "image": None}]}),
        "49,000 unknown fields": lambda: posts("chat/completions", chat("a") | {f"x{i}": 1 for i in range(49_000)}),
        "90,000 unknown fields": lambda: posts("chat/completions", chat("a") | {f"x{i}": 1 for i in range(90_000)}),
        "a map of 90,000 biases": lambda: posts("completions", {"model": "run", "logit_bias": many}),
        "190,000 stops": lambda: posts("completions", {"model": "run", "prompt": "a", "stop": ["a"] * 190_000}),
        "190,000 token ids": lambda: posts("completions", {"model": "run", "prompt": [1] * 190_000}),
        "numbers of many digits": lambda: posts("predict", b'{"rows":[{"a":' + b"9" * (3 * MIB) + b"}]}"),
        "lists in lists": lambda: posts("chat/completions", b"[" * (8 * MIB)),
        "base64 of 31 MiB that is no image": lambda: posts("chat/completions", chat(image(data + "A" * (31 * MIB)))),
        "base64 of 31 MiB of blanks": lambda: posts("chat/completions", chat(image(data + " " * (31 * MIB)))),
        "an image of 25,000,000 x 1": lambda: posts("chat/completions", chat(image(strip))),
        "an image of 5,000 x 5,000": lambda: posts("chat/completions", chat(image(square_25))),
        "rows with large images": lambda: posts("predict", {"task": "classify", "rows": rows * 8}),
        "256 embeddings": lambda: posts("embeddings", long),
        "embeddings of texts that are too long": lambda: posts("embeddings", long | {"input": [words] * 100}),
        "prompts that are too long": lambda: posts("completions", {"model": "run", "prompt": [words] * 32}),
        "a conversation of 512 turns": lambda: posts("chat/completions", chat("a") | {"messages": turns * 512}),
        "explanations": lambda: posts("predict", why),
        "a large schema": lambda: posts("chat/completions", chat("a", response_format=form)),
        "many probabilities": lambda: posts(
            "chat/completions", chat("a", n=8, logprobs=True, top_logprobs=20, max_tokens=40)
        ),
        "clients that leave embeddings": lambda: leaves("embeddings", long),
        "clients that leave predictions": lambda: leaves("predict", {"task": "classify", "rows": rows * 8}),
        "clients that leave streams": lambda: leaves("chat/completions", chat("Go on", stream=True, max_tokens=60)),
        "chunks of a byte": lambda: tiny_chunks,
        "thousands of requests at once": lambda: pipelined,
        "connections that say nothing": lambda: silent,
        "a stream that nobody reads": lambda: slow_reader,
    }


def during(target: Target, idle: Target, work: Callable[[], None]) -> tuple[list[float], list[float]]:
    """Seconds of the answers of ``/health`` while ``work`` is done and after it, and of a server that does nothing."""
    ended = threading.Event()
    found: tuple[list[float], list[float]] = ([], [])

    def ask(one: Target, into: list[float]) -> None:
        while not ended.wait(EVERY):
            into.append(one.health())
        into.append(one.health())

    threads = [threading.Thread(target=ask, args=pair) for pair in zip((target, idle), found, strict=True)]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return found


def run(seconds: float, seed: int = 0, *, most: float = MOST, only: Sequence[str] = (), tries: int = 3) -> str:
    """Attack for about so many seconds, in an order that the seed says.

    Args:
        seconds: after which no further attack begins.
        seed: of the order.
        most: seconds that an attack may add to an answer, beyond what a server that does nothing takes meanwhile.
        only: names of attacks; none: all.
        tries: how often an attack may be repeated where an answer was late, as the machine may have other work.

    Returns:
        One line with the worst answer.

    Raises:
        AssertionError: an answer came too late at every try, or not at all.
    """
    known = attacks()
    order = list(only or known)
    random.Random(seed).shuffle(order)
    worst, slowest, name, count, asked = 0.0, 0.0, "", 0, 0
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        target, idle = Target(write_run(Path(folder), "answer", "caption", "classify")), Target(None)
        stack.callback(idle.stop)
        stack.callback(target.stop)
        target.post("embeddings", {"model": "run", "input": "a"})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            attack = order[count % len(order)]
            attacked, added, longest = known[attack](), float("inf"), 0.0
            for _ in range(tries):
                answers, others = during(target, idle, partial(attacked, target))
                asked += len(answers)
                added, longest = min((added, longest), (max(answers) - max(others), max(answers)))
                if added <= most:
                    break
            assert added <= most, f"'{attack}' makes /health {added * 1000:.0f} ms slower ({longest * 1000:.0f} ms)"
            worst, slowest, name = max((worst, slowest, name), (added, longest, attack))
            count += 1
    return (
        f"attacks: {count} ({min(count, len(order))} of {len(order)} kinds), {asked} answers of /health, the most that "
        f"one was delayed {worst * 1000:.0f} ms, to {slowest * 1000:.0f} ms ({name})"
    )


if __name__ == "__main__":
    print(run(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0))
