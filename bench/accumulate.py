"""What it costs to cut a batch into parts: a step of four parts beside a step of one, of the same total.

    python bench/accumulate.py                       # about a minute; seconds a step each way, and their ratio
    python bench/accumulate.py --workers 0           # batches prepared in a thread

The two are timed in turns in one process, from the same images and the same first weights, so that a busy machine slows
both alike. The figure is the median over the turns of (four parts / one part). The images are drawn by this script.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rebus.loop.batches import Prefetcher
from rebus.loop.optim import build_optimizers
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.training.loader_workers import BatchBuilderPool
from rebus.training.losses import summed_loss
from rebus.training.train import Assembled, assemble


def table(folder: Path, count: int, side: int) -> Path:
    """Blobs in ten classes with a word each."""
    rows = []
    for number in range(count):
        rng = np.random.default_rng(number)
        small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        small[0, :, 0] = 25 * (number % 10)
        Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
        rows.append({"image": f"{number}.jpg", "text": f"blob {number}", "label": f"class {number % 10}"})
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "t.jsonl"


def ready_for(path: Path, options: argparse.Namespace, parts: int) -> Assembled:
    columns = {"image": "image", "text": "text", "label": "label"}
    recipe = Recipe().replace(
        {
            "data.path": str(path),
            "data.workers": options.workers,
            "data.cache_mb": 0,
            "data.split.valid": 0.0,
            "data.split.test": 0.0,
            "image.size": options.side,
            "image.augment.shift": 0.1,
            "image.augment.colour": 0.3,
            "text.vocab_size": 400,
            "model.image": Tower(kind="convnet", width=options.width, depth=4, heads=4, patch=16),
            "model.text": Tower(kind="decoder", width=options.width, depth=4, heads=4),
            "tasks": [TaskSettings(name="classify", columns=columns)],
            "train.batch_size": options.batch,
            "train.accumulate": parts,
        }
    )
    return assemble(recipe, lambda _: None)


class Steps:
    """Training steps of one way, each with its batch from workers or a thread."""

    def __init__(self, ready: Assembled, workers: int) -> None:
        self.ready, self.step = ready, 0
        self.pool = BatchBuilderPool(ready.builder, workers) if workers else None
        parts_at = self.pool.parts_at if self.pool else ready.builder.parts_at
        self.ahead = Prefetcher(lambda step: parts_at(step, 0.5), 0)
        self.optimizers = build_optimizers(ready.model, ready.recipe.train)

    def run(self, count: int) -> float:
        """Seconds of so many steps."""
        start = time.perf_counter()
        for _ in range(count):
            parts = self.ahead.get(self.step)
            for part in parts:
                loss, _ = summed_loss(self.ready.tasks, self.ready.model(part), part)
                (loss / len(parts)).backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.step += 1
        return time.perf_counter() - start

    def close(self) -> None:
        """End the thread and the processes."""
        self.ahead.close()
        if self.pool:
            self.pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=int, default=192, help="of both towers")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2, help="a turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = table(Path(folder), 10 * options.batch, options.side)
        ways = {parts: Steps(ready_for(path, options, parts), options.workers) for parts in (1, options.parts)}
        for way in ways.values():
            way.run(options.steps)
        spent: dict[int, list[float]] = {parts: [] for parts in ways}
        for turn in range(options.turns):
            for parts in list(ways) if turn % 2 else list(ways)[::-1]:
                spent[parts].append(ways[parts].run(options.steps) / options.steps)
        for way in ways.values():
            way.close()
    ratio = statistics.median(many / one for one, many in zip(spent[1], spent[options.parts], strict=True))
    for parts, seconds in spent.items():
        print(f"{parts} part(s): {statistics.median(seconds):.4f} s a step of {options.batch} rows")
    print(f"{options.parts} parts take {ratio - 1:+.1%} of the time of one")


if __name__ == "__main__":
    main()
