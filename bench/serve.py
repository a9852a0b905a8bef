"""Load a server: Rebus beside transformers' own and llama-cpp-python's, and a soak of Rebus alone.

    python bench/serve.py load                                            # SmolLM2-135M: 1, 4, 16 and 64 streams
    python bench/serve.py load --llama-python /path/to/venv/bin/python    # llama.cpp too
    python bench/serve.py soak --requests 10000
    python bench/serve.py load --random-tiny --streams 1 4 --new 8        # to try the bench itself, in seconds

Every server gets the same load in turn: so many clients, each asking one question after the other, each answer streamed
and greedy. Tokens are counted from the text, with the model's own tokenizer, for all servers alike; the rate is all
tokens over the time from the first request to the last answer. "one at a time" is Rebus with ``--running 1``: the same
model and code, without batching. The soak sends questions of which 5% are left in the middle and 5% are malformed, and
compares every other answer with the one that the engine without a server writes for that question and seed; memory is
the server's resident set, after a tenth of the requests and at the end, with nothing running.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent))
from generate import smollm_file
from serve_client import PATIENCE, THINGS, Answer, ask, body_of, free_port, question, rebus_words, serving
from serve_soak import soak

from rebus.inference.predictor import Predictor

# ---------------------------------------------------------------- servers


def servers(options: argparse.Namespace, source: Path, folder: Path) -> Iterator[tuple[str, str, list[str], int]]:
    """(name, what it calls the model, its command, its port) of each server that was asked for."""
    from rebus.checkpoints.export import export

    hf, gguf = folder / "hf", folder / "model.gguf"
    if {"transformers", "transformers-cb"} & set(options.servers):
        export(source, hf, precision="f32" if options.precision == "fp32" else "bf16")
    for name in options.servers:
        port = free_port()
        if name in ("rebus", "one"):
            more = ["--precision", options.precision, *(("--running", "1") if name == "one" else ())]
            yield (
                {"rebus": "rebus", "one": "rebus, one at a time"}[name],
                "model",
                rebus_words(source, port, *more),
                port,
            )
        elif name.startswith("transformers"):
            command = [str(Path(sys.executable).with_name("transformers")), "serve", str(hf), "--host", "127.0.0.1"]
            command += ["--port", str(port), "--device", "cpu"]
            yield name, str(hf), [*command, *(["--continuous-batching"] if name.endswith("cb") else [])], port
        elif name == "llama" and options.llama_python is not None:
            export(source, gguf, precision="f32" if options.precision == "fp32" else "bf16")
            command = [str(options.llama_python), "-m", "llama_cpp.server", "--model", str(gguf), "--n_ctx", "2048"]
            threads = str(options.threads)
            command += [
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--n_threads",
                threads,
                "--n_threads_batch",
                threads,
                "--interrupt_requests",  # else a new question cuts the answer that is being written
                "false",
            ]
            yield "llama-cpp-python", "model", command, port


# ---------------------------------------------------------------- load


async def load_one(url: str, model: str, streams: int, each: int, new: int, start: int) -> tuple[list[Answer], float]:
    """So many clients, each asking ``each`` questions one after the other."""
    limits = httpx.Limits(max_connections=streams + 4)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits, trust_env=False) as client:

        async def worker(number: int) -> list[Answer]:
            asked = range(start + number * each, start + (number + 1) * each)
            return [await ask(client, body_of(model, question(one), new)) for one in asked]

        begun = time.perf_counter()
        found = await asyncio.gather(*(worker(number) for number in range(streams)))
        return [one for several in found for one in several], time.perf_counter() - begun


def load(options: argparse.Namespace, source: Path, folder: Path) -> None:
    tokenizer = Predictor.open(source).processor.tokenizer
    rates: dict[tuple[str, int], float] = {}
    for name, model, command, port in servers(options, source, folder):
        try:
            with serving(command, port, folder / f"{name.split()[0]}.log"):
                url = f"http://127.0.0.1:{port}"
                asyncio.run(load_one(url, model, min(4, max(options.streams)), 1, options.new, 10**6))  # warm up
                for streams in options.streams:
                    each = max(options.rounds, -(-options.least // streams))
                    answers, seconds = asyncio.run(load_one(url, model, streams, each, options.new, streams * 1000))
                    rates[name, streams] = told(name, streams, answers, seconds, tokenizer)
        except RuntimeError as error:
            print(f"{name}: {error}", flush=True)
    for streams in options.streams:
        ours = rates.get(("rebus", streams))
        beside = {name: rate for (name, some), rate in rates.items() if some == streams and name != "rebus" and rate}
        if ours and beside:
            ratios = ", ".join(f"{ours / rate:.2f} times {name}" for name, rate in beside.items())
            print(f"{streams} streams: rebus writes {ratios}")


def told(name: str, streams: int, answers: list[Answer], seconds: float, tokenizer: Any) -> float:
    """Print one line; gives tokens a second."""
    whole = [one for one in answers if one.whole]
    tokens = sum(len(tokenizer.encode(one.text)) for one in answers)
    firsts = sorted(one.first for one in whole if one.first) or [float("nan")]
    p95 = firsts[min(int(len(firsts) * 0.95), len(firsts) - 1)]
    print(
        f"{name}, {streams} streams: {tokens / seconds:.1f} tokens/s, "
        f"first token after {statistics.median(firsts):.2f} s (p50) and {p95:.2f} s (p95); "
        f"{len(whole)} of {len(answers)} answers whole, {tokens} tokens in {seconds:.1f} s",
        flush=True,
    )
    return tokens / seconds


def tiny(folder: Path) -> Path:
    """A Run of an untrained model of a few thousand parameters that converses."""
    import torch

    from rebus.checkpoints.save_load import save_model, save_processor
    from rebus.recipe import Recipe, TaskSettings, Tower
    from rebus.training.train import assemble

    table = folder / "talk.jsonl"
    turns = [[{"role": "user", "content": question(n)}, {"role": "assistant", "content": THINGS[n]}] for n in range(12)]
    table.write_text("\n".join(json.dumps({"messages": one}) for one in turns), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "text.vocab_size": 400,
            "text.max_length": 256,
            "model.text": Tower(kind="decoder", width=64, depth=2, heads=4),
            "tasks": [TaskSettings(name="converse", columns={"messages": "messages"}, max_new_tokens=32)],
        }
    )
    torch.manual_seed(0)
    ready = assemble(recipe, lambda _: None)
    with torch.no_grad():
        for parameter in ready.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    run = folder / "run"
    run.mkdir()
    save_processor(run, ready.processor)
    (run / "recipe.yaml").write_text(ready.prepared.recipe.save_text(), encoding="utf-8")
    save_model(run, ready.model, ready.prepared.recipe, ready.prepared.tasks, ready.processor)
    return run


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("load", "soak"))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rebus-bench")
    parser.add_argument("--random-tiny", action="store_true", help="a tiny model with random weights")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    known = ("rebus", "one", "transformers", "transformers-cb", "llama")
    parser.add_argument("--servers", nargs="+", choices=known, default=["rebus", "one", "transformers", "llama"])
    parser.add_argument("--llama-python", type=Path, help="a Python that has llama-cpp-python with its server")
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=2, help="questions a client, at least")
    parser.add_argument("--least", type=int, default=8, help="questions a measurement, at least")
    parser.add_argument("--new", type=int, default=64, help="tokens of an answer, at most")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--requests", type=int, default=10_000, help="of the soak")
    parser.add_argument("--distinct", type=int, default=200, help="different questions of the soak")
    parser.add_argument("--streams-soak", type=int, default=32, help="clients of the soak")
    parser.add_argument("--cache-mb", type=int, default=128, help="of the soak's server: soon used all over")
    options = parser.parse_args(words)
    if options.what == "soak":
        options.new = min(options.new, 16)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = tiny(folder) if options.random_tiny else smollm_file(options.cache)
        if options.what == "load":
            load(options, source, folder)
        else:
            soak(options, source, folder)


if __name__ == "__main__":
    main()
