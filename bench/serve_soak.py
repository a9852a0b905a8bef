"""The soak of ``bench/serve.py``: many requests, some left, some malformed; nothing lost, nothing crossed, no leak."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from serve_client import PATIENCE, ask, body_of, free_port, question, rebus_words, serving

from rebus.generation.sampling import Sampling
from rebus.inference.generate import Writing
from rebus.inference.predictor import Predictor

JSON = {"content-type": "application/json"}


@dataclass
class Tally:
    """What happened in a soak."""

    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


MALFORMED: tuple[tuple[str, Any], ...] = (
    ("no JSON", b'{"model": "model", '),
    ("deep", b'{"model":' + b"[" * 500 + b"]" * 500 + b"}"),
    ("no messages", {"model": "model", "messages": []}),
    ("another model", {"model": "../model", "messages": [{"role": "user", "content": "a"}]}),
    ("n", {"model": "model", "n": 10**6, "messages": [{"role": "user", "content": "a"}]}),
    ("tokens", {"model": "model", "max_tokens": 10**9, "messages": [{"role": "user", "content": "a"}]}),
    ("a role", {"model": "model", "messages": [{"role": "robot", "content": "a"}]}),
    (
        "an address",
        {
            "model": "model",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a"}}]}
            ],
        },
    ),
)


def resident(process: int) -> float:
    """MiB of a process' memory."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


async def soak_some(
    url: str, numbers: range, known: list[tuple[dict[str, Any], str]], streams: int, tally: Tally
) -> None:
    """The requests of these numbers, by ``streams`` clients; what request ``number`` is depends on it alone."""
    waiting = iter(numbers)
    limits = httpx.Limits(max_connections=streams + 4)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:

        async def worker() -> None:
            for number in waiting:
                rng = random.Random(number)  # noqa: S311 - a load, not a secret
                drawn, (body, expected) = rng.random(), known[rng.randrange(len(known))]
                if drawn < 0.05:
                    await ask(client, body, leave=rng.randint(1, 3))
                    tally.kinds["left"] += 1
                elif drawn < 0.10:
                    name, content = rng.choice(MALFORMED)
                    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                    status = (await client.post("/v1/chat/completions", content=raw, headers=JSON)).status_code
                    tally.kinds["refused"] += 1
                    if not 400 <= status < 500:
                        tally.wrong.append(f"malformed ({name}): status {status}")
                else:
                    answer = await ask(client, body)
                    tally.kinds["answered"] += 1
                    if not answer.whole:
                        tally.wrong.append(f"request {number}: lost (status {answer.status})")
                    elif answer.text != expected:
                        tally.wrong.append(f"request {number}: crossed ({answer.text[:40]!r}, not {expected[:40]!r})")

        await asyncio.gather(*(worker() for _ in range(streams)))


def offline(options: argparse.Namespace, source: Path) -> list[tuple[dict[str, Any], str]]:
    """Questions with seeds, and what the model says to them without a server."""
    predictor = Predictor.open(source, precision=options.precision)
    writing = Writing(predictor.model, predictor.tasks, predictor.processor)
    found = []
    for number in range(options.distinct):
        new, temperature = 4 + number % options.new, 0.8 if number % 4 else 0.0
        body = body_of("model", question(number), new, seed=number, temperature=temperature)
        sampling = Sampling(new, temperature=temperature, seed=number)
        found.append((body, writing.write([writing.turns(body["messages"])], sampling)[0].text.strip()))
    return found


def soak(options: argparse.Namespace, source: Path, folder: Path) -> None:
    known = offline(options, source)
    print(f"{len(known)} questions, {len({text for _, text in known})} different answers", flush=True)
    port, tally = free_port(), Tally()
    command = rebus_words(source, port, "--precision", options.precision, "--cache-mb", str(options.cache_mb))
    with serving(command, port, folder / "rebus.log") as made:
        url, warm = f"http://127.0.0.1:{port}", options.requests // 10
        start = time.perf_counter()
        asyncio.run(soak_some(url, range(warm), known, options.streams_soak, tally))
        before, memory = settled(made.pid), []
        for begin in range(warm, options.requests, max((options.requests - warm) // 9, 1)):
            end = min(begin + max((options.requests - warm) // 9, 1), options.requests)
            asyncio.run(soak_some(url, range(begin, end), known, options.streams_soak, tally))
            memory.append(settled(made.pid))
        seconds = time.perf_counter() - start
        figures = httpx.get(f"{url}/metrics", timeout=30).text
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(tally.kinds.items()))
    print(f"{options.requests} requests in {seconds:.0f} s by {options.streams_soak} clients: {kinds}")
    lost, crossed = (sum(word in one for one in tally.wrong) for word in ("lost", "crossed"))
    print(f"lost {lost}, crossed {crossed}, wrongly taken {len(tally.wrong) - lost - crossed}")
    for one in tally.wrong[:10]:
        print(f"  {one}")
    growth = memory[-1] / before - 1
    print(f"memory {before:.1f} MiB after {warm}, then {', '.join(f'{one:.1f}' for one in memory)}: {growth:+.1%}")
    for name in (
        "rebus_running_requests",
        "rebus_queue_requests",
        'rebus_cache_blocks{state="used"}',
        "rebus_requests_in_progress",
    ):
        print("  " + next((line for line in figures.splitlines() if line.startswith(name)), f"{name}: not told"))
    if tally.wrong or growth > 0.02:
        sys.exit("the soak failed")


def settled(process: int) -> float:
    """Memory once nothing runs."""
    time.sleep(1.0)
    return resident(process)
