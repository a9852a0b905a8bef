"""How fast images come out of tar shards, how much memory that takes, and whether training waits for them.

    python bench/loader.py make --count 1000000      # tiny JPEG images with classes, in shards, once
    python bench/loader.py index --count 1000000     # time of the index, cold and kept
    python bench/loader.py stream --count 1000000    # one pass: images/s beside plain Pillow, memory on the way
    python bench/loader.py train --count 1000000     # training steps, and the share of their time spent waiting
    python bench/loader.py decode                    # large JPEG files: simplejpeg beside Pillow, whole and drafted

The images are drawn by this script: soft blobs of colour, ten classes. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from rebus.jsonl import json_lines

A_SHARD = 10_000


def blob(index: int, side: int) -> bytes:
    """A JPEG of soft blobs; its class is ``index % 10``."""
    rng = np.random.default_rng(index)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    small[0, :, index % 3] = 25 * (index % 10)
    saved = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(saved, "JPEG", quality=85)
    return saved.getvalue()


def write_shard(job: tuple[str, int, int, int]) -> int:
    path, first, last, side = job
    with tarfile.open(path + ".part", "w", format=tarfile.USTAR_FORMAT) as archive:
        for index in range(first, last):
            for ending, content in (("jpg", blob(index, side)), ("cls", str(index % 10).encode())):
                entry = tarfile.TarInfo(f"{index:09d}.{ending}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    os.replace(path + ".part", path)
    return last - first


def shards(args: argparse.Namespace) -> Path:
    """The folder of shards, made where it is not there."""
    folder = Path(args.cache).expanduser() / f"loader-{args.count}-{args.side}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (str(folder / f"blobs-{number:05d}.tar"), first, min(first + A_SHARD, args.count), args.side)
        for number, first in enumerate(range(0, args.count, A_SHARD))
    ]
    jobs = [job for job in jobs if not Path(job[0]).exists()]
    if jobs:
        start = time.perf_counter()
        with ProcessPoolExecutor(args.workers or 1) as pool:
            made = sum(pool.map(write_shard, jobs))
        print(f"made {made:,} images in {time.perf_counter() - start:.0f} s: {folder}")
    return folder


def recipe(folder: Path, args: argparse.Namespace):
    from rebus.recipe import Recipe, TaskSettings

    return Recipe().replace(
        {
            "data.path": str(folder),
            "data.workers": args.workers,
            "data.cache_mb": args.cache_mb,
            "data.jpeg": args.jpeg,
            "data.order": args.order,
            "data.split.valid": 1000 / args.count,
            "data.split.test": 0.0,
            "image.size": args.side,
            "train.batch_size": args.batch,
            "tasks": [TaskSettings(name="classify", columns={"image": "image", "label": "label"})],
        }
    )


def memory() -> float:
    """MiB of this process and its children; pages they share are counted once (PSS)."""
    me, total = os.getpid(), 0
    family = {me}
    for _ in range(3):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, ValueError):
                    continue
                if parent in family:
                    family.add(int(entry.name))
    for process in family:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        # mapped files (the index) are the system's to drop: only what is the process's own counts
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return total / 1024


def index(args: argparse.Namespace) -> None:
    from rebus.data.readers import read_table
    from rebus.recipe import Data

    folder = shards(args)
    data = Data(path=str(folder), workers=args.workers)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["XDG_CACHE_HOME"] = empty
        for name in ("cold", "kept"):
            start = time.perf_counter()
            table = read_table(data)
            seconds = time.perf_counter() - start
            print(f"index {name}: {len(table):,} rows in {seconds:.2f} s, {memory():.0f} MiB of memory")


def stream(args: argparse.Namespace) -> None:
    from rebus.training.loader_workers import BatchBuilderPool
    from rebus.training.train import assemble

    folder = shards(args)
    print(f"at the start: {memory():.0f} MiB")
    start = time.perf_counter()
    ready = assemble(recipe(folder, args), lambda _: None)
    print(f"index, check and model: {time.perf_counter() - start:.1f} s, {memory():.0f} MiB")
    values = ready.prepared.table.column("image")
    rng = np.random.default_rng(0)
    chosen = [values[at] for at in rng.integers(len(values), size=args.plain)]
    del values
    start, begun = time.perf_counter(), time.process_time()
    for value in chosen:
        name, _, rest = value.partition("#")
        offset, _, size = rest.split("/", 1)[0].partition("+")
        with open(folder / name, "rb") as file:
            file.seek(int(offset))
            np.asarray(Image.open(io.BytesIO(file.read(int(size)))).convert("RGB"))
    plain, spent = len(chosen) / (time.perf_counter() - start), (time.process_time() - begun) / len(chosen)
    print(f"plain Pillow, one process, any order: {plain:,.0f} images/s, {1e6 * spent:.0f} us of CPU each")
    pool = BatchBuilderPool(ready.builder, args.workers) if args.workers else None
    parts_at = pool.parts_at if pool else ready.builder.parts_at
    steps = int(args.passes * args.count / args.batch)
    start, begun, told = time.perf_counter(), time.process_time(), []
    for step in range(steps):
        parts_at(step, 0.5)
        if step % max(1, steps // 10) == steps // 20 or step == steps - 1:
            told.append(memory())
            print(
                f"  step {step}: {told[-1]:.0f} MiB, {(step + 1) * args.batch / (time.perf_counter() - start):,.0f}/s"
            )
    rate = steps * args.batch / (time.perf_counter() - start)
    spent = (time.process_time() - begun) / (steps * args.batch)
    if pool:
        pool.close()
    else:
        print(f"loader: {1e6 * spent:.0f} us of CPU an image")
    print(
        f"loader, {args.workers} workers, cache {args.cache_mb} MiB, {args.jpeg}: {rate:,.0f} images/s "
        f"({rate / plain:.2f} of plain Pillow); memory {told[0]:.0f} MiB early, {told[len(told) // 2]:.0f} in the "
        f"middle, {told[-1]:.0f} at the end"
    )


def train(args: argparse.Namespace) -> None:
    from rebus.loop.batches import Prefetcher
    from rebus.training.train import learn

    waited = []
    real = Prefetcher.get

    def timed(self, step):
        start = time.perf_counter()
        batch = real(self, step)
        waited.append(time.perf_counter() - start)
        return batch

    Prefetcher.get = timed
    made = recipe(shards(args), args)
    made = made.replace({"train.steps": args.steps, "train.validate_every": args.steps, "train.precision": "fp32"})
    with tempfile.TemporaryDirectory() as out:
        begun = time.perf_counter()
        run = learn(made, Path(out) / "run", log=lambda _: None, quiet=True, evaluate=False)
        print(f"all: {time.perf_counter() - begun:.1f} s, {memory():.0f} MiB")
        lines = [json.loads(line) for _, line in json_lines((run.folder / "metrics.jsonl").read_text())]
    rates = sorted(line["examples_per_second"] for line in lines if "examples_per_second" in line)
    rate = rates[len(rates) // 2] if rates else float("nan")
    steady = waited[max(5, len(waited) // 10) :]
    share = sum(steady) / (len(steady) * args.batch / rate)
    print(
        f"training, images of {args.side}, {args.workers} workers: {rate:,.0f} examples/s; a step of "
        f"{1000 * args.batch / rate:.1f} ms waited {1000 * np.mean(steady):.2f} ms for its batch, {share:.1%} of it"
    )


def decode(args: argparse.Namespace) -> None:
    from rebus.data.images import decode_image
    from rebus.data.jpeg import decoder

    print(decoder("pil"), "beside", decoder("auto"))
    for height, width in ((480, 640), (1500, 2000), (3000, 4000)):
        rng = np.random.default_rng(0)
        small = rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
        saved = io.BytesIO()
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(saved, "JPEG", quality=90)
        for near in (None, 224):
            spent = {}
            for choice in ("pil", "simplejpeg") * 5:
                start = time.process_time()
                array = decode_image(saved.getvalue(), near=near, jpeg=choice)
                spent[choice] = min(spent.get(choice, 9e9), time.process_time() - start)
            told = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in spent.items())
            print(f"{width} x {height} at {array.shape[1]} x {array.shape[0]}: {told}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "index", "stream", "train", "decode"))
    parser.add_argument("--cache", default="~/.cache/rebus-bench")
    parser.add_argument("--count", type=int, default=100_000, help="images")
    parser.add_argument("--side", type=int, default=32, help="their side, in pixels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache-mb", type=int, default=16, help="so that a pass is read from the shards")
    parser.add_argument("--jpeg", choices=("auto", "pil", "simplejpeg"), default="auto")
    parser.add_argument("--order", choices=("rows", "blocks"), default="rows")
    parser.add_argument("--passes", type=float, default=1.0, help="stream: over the images")
    parser.add_argument("--plain", type=int, default=20_000, help="stream: images that plain Pillow reads")
    parser.add_argument("--steps", type=int, default=200, help="train: steps")
    args = parser.parse_args()
    {"make": shards, "index": index, "stream": stream, "train": train, "decode": decode}[args.what](args)


if __name__ == "__main__":
    main()
