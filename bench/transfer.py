"""What images without labels are worth: a tower that learned from them alone, beside one that begins anew.

    python bench/transfer.py --data fashion --minutes 12            # Fashion-MNIST, 28 x 28, ten classes
    python bench/transfer.py --data stamps --minutes 12             # Tux Paint's stamps, 12 topics

For each method (SimCLR, masked images) a tower learns from all training images without their labels. Then 1%, 10%
and 100% of the labels are taken, and a classifier is trained from that tower and from nothing, with the same steps and
settings, once for each seed; both are judged on the same test images. Printed: accuracy with the 95% interval over
test images and seeds, the gain with the interval of the difference (paired by image and seed), the frozen tower's
linear probe and nearest neighbours beside those of a tower that has learned nothing. The time is dealt out at the
start; a first line says how. Data come from Debian's packages, as in bench/real.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real import fashion_tables, stamps_table

import rebus
from rebus.api import make_recipe
from rebus.data.readers import read_table
from rebus.evaluation.linear_probe import fit_probe
from rebus.inference.predictor import Predictor
from rebus.recipe import Data
from rebus.tasks.metrics import Interval, paired_difference
from rebus.tasks.metrics.intervals import bootstrap_interval
from rebus.training.train import learn

TOWERS = {"simclr": "convnet", "masked": "vit"}
PRETEXT_SHARE = 0.45  # of the time goes to learning without labels
PROBE_ROWS = 10_000  # most training images that probes learn from


@dataclass
class Source:
    """Images with labels, cut into train and test.

    Attributes:
        train, test: (path or bytes, label) of each image.
        settings: of the tower and of how images are seen.
    """

    train: list[tuple[Any, str]]
    test: list[tuple[Any, str]]
    settings: dict[str, Any]


def fashion(cache: Path, most: int) -> Source:
    """Fashion-MNIST; its own test images, at most ``most`` of them, which keeps judging short."""
    folder, _ = fashion_tables(cache)
    rows = {
        split: [(str(path), path.parent.name) for path in sorted((folder / split).rglob("*.png"))]
        for split in ("train", "test")
    }
    rng = np.random.default_rng(0)
    test = [rows["test"][place] for place in sorted(rng.permutation(len(rows["test"]))[:most])]
    train = [rows["train"][place] for place in rng.permutation(len(rows["train"]))]
    sizes = {"image.size": 32, "model.image.patch": 8, "model.image.width": 96, "model.image.depth": 1}
    return Source(train, test, sizes)


def stamps(cache: Path, most: int) -> Source:
    """Tux Paint's stamps by topic; a quarter is for testing."""
    table = read_table(Data(path=str(stamps_table(cache))))
    rows = [(table.value(row, "image"), table.value(row, "topic")) for row in range(len(table))]
    order = np.random.default_rng(0).permutation(len(rows))
    cut = min(most, len(rows) // 4)
    sizes = {"image.size": 64, "model.image.patch": 8, "model.image.width": 96, "model.image.depth": 1}
    return Source([rows[place] for place in order[cut:]], [rows[place] for place in order[:cut]], sizes)


def labelled(source: Source, share: float, seed: int) -> list[tuple[Any, str]]:
    """This share of the training images, dealt by the seed, every class at least twice."""
    rng = np.random.default_rng(seed)
    classes: dict[str, list[tuple[Any, str]]] = {}
    for row in source.train:
        classes.setdefault(row[1], []).append(row)
    chosen = []
    for rows in classes.values():
        count = min(len(rows), max(2, round(share * len(rows))))
        chosen += [rows[place] for place in rng.permutation(len(rows))[:count]]
    return chosen


def write_table(path: Path, train: list[tuple[Any, str]], test: list[tuple[Any, str]], *, labels: bool) -> Path:
    """A table with absolute paths; test rows are judged on and never learned from."""
    rows = [{"image": p, "label": c, "split": "train"} for p, c in train]
    rows += [{"image": p, "label": c, "split": "test"} for p, c in test]
    if not labels:
        rows = [{"image": row["image"], "split": row["split"]} for row in rows]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def learned_alone(source: Source, method: str, minutes: float, work: Path) -> Path:
    """A Run of the task ``pretrain_image`` on all training images."""
    out = work / f"pretext-{method}"
    shutil.rmtree(out, ignore_errors=True)
    table = write_table(work / "images.jsonl", source.train, source.test[:200], labels=False)
    settings = {
        **source.settings,
        "model.image.kind": TOWERS[method],
        "tasks": [{"name": "pretrain_image", "method": method}],
        "train.time_limit": minutes,
        "train.batch_size": 128,
        "data.split.valid": 0.01,
    }
    if method == "masked":
        settings["model.image.depth"] = 4
        settings["model.image.patch"] = 4 if settings["image.size"] == 32 else 8
    run = rebus.train(table, out=out, settings=settings, quiet=True)
    figures = run.evaluation["tasks"]["pretrain_image"]["metrics"]
    steps = run.evaluation["training"]["steps"]
    told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"{method}: {steps} steps in {minutes:.1f} min without labels; {told}", flush=True)
    return out


def classified(
    source: Source, rows: list[tuple[Any, str]], base: Path | None, like: Path, **options: Any
) -> np.ndarray:
    """(N,) whether each test image is classified right, by a model trained on ``rows``."""
    work, seed, steps = options["work"], options["seed"], options["steps"]
    table = write_table(work / "labelled.jsonl", rows, source.test, labels=True)
    shape = rebus.Run(like).recipe.model.image
    settings = {
        **source.settings,
        "model.image.kind": shape.kind,
        "model.image.depth": shape.depth,
        "model.image.patch": shape.patch,
        "model.image.width": shape.width,
        "tasks": [{"name": "classify", "columns": {"image": "image", "label": "label"}}],
        "image.augment.flip": 0.5,
        "image.augment.shift": 0.06,
        "data.kinds": {"label": "category"},
        "data.split.valid": 0.0,
        "train.steps": steps,
        "train.batch_size": 64,
        "train.validate_every": steps,
        "train.valid_rows": 1,  # nothing is chosen by it: it only costs time
        "seed": seed,
    }
    out = work / "run"
    shutil.rmtree(out, ignore_errors=True)
    recipe = make_recipe(table, None, None, settings, base=base)
    learn(recipe, out, log=lambda _: None, quiet=True, evaluate=False)
    predictor = Predictor.open(out)
    told = predictor.predict([{"image": image} for image, _ in source.test], task="classify")
    return np.array([float(one.value == label) for one, (_, label) in zip(told, source.test, strict=True)])


def probed(source: Source, run: Path, *, fresh: bool) -> dict[str, np.ndarray]:
    """(N,) whether each test image is told right from frozen features; ``fresh``: of a tower with new weights."""
    predictor = Predictor.open(run)
    if fresh:
        from rebus.checkpoints.save_load import build_model

        predictor.model = build_model(predictor.recipe, predictor.tasks, predictor.processor).eval()
    labels = sorted({label for _, label in source.train})
    train = source.train[:PROBE_ROWS]
    vectors = [pooled(predictor, [image for image, _ in rows]) for rows in (train, source.test)]
    numbers = [np.array([labels.index(label) for _, label in rows]) for rows in (train, source.test)]
    cut = len(train) * 9 // 10
    found = {}
    for kind in ("linear", "knn"):
        valid = (vectors[0][cut:], numbers[0][cut:])
        probe = fit_probe(kind, vectors[0][:cut], numbers[0][:cut], len(labels), valid=valid)  # type: ignore[arg-type]
        found[kind] = (probe.probabilities(vectors[1]).argmax(1) == numbers[1]).astype(np.float64)
    return found


@torch.inference_mode()
def pooled(predictor: Predictor, images: list[Any]) -> np.ndarray:
    """(N, D) pooled features."""
    model, found = predictor.model, []
    for start in range(0, len(images), 256):
        squares = [predictor.open_image(one, Path("/"), "an image") for one in images[start : start + 256]]
        pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
        found.append(model.image.encode(pixels).pooled.float().numpy())
    return np.concatenate(found)


def interval(right: np.ndarray, groups: list[int]) -> str:
    low, high = bootstrap_interval(right, groups=groups)
    return f"{100 * right.mean():.1f}% ({100 * low:.1f} to {100 * high:.1f})"


def points(gain: Interval) -> str:
    return f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("fashion", "stamps"), default="fashion")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rebus-bench"))
    parser.add_argument("--minutes", type=float, default=12.0, help="of training in all, about")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind with 1%% and 10%% of the labels")
    parser.add_argument("--methods", nargs="+", choices=tuple(TOWERS), default=list(TOWERS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--steps", nargs="+", type=int, help="of each classifier, one for each share; else by the time")
    parser.add_argument("--test", type=int, default=2000, help="test images")
    parser.add_argument("--pretext", type=Path, help="a finished Run of the task pretrain_image to use, for one method")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    cache = options.cache.expanduser().resolve()
    cache.mkdir(parents=True, exist_ok=True)
    work = cache / "transfer"
    work.mkdir(exist_ok=True)
    source = {"fashion": fashion, "stamps": stamps}[options.data](cache, options.test)
    seeds = [options.seeds if share < 1 else 1 for share in options.shares]
    alone = options.minutes * PRETEXT_SHARE / len(options.methods)
    # the time left is dealt to shares so that more labels get more steps: 1 : 2 : 4
    weight = [2.0**place for place in range(len(options.shares))]
    runs = sum(2 * n * w for n, w in zip(seeds, weight, strict=True)) * len(options.methods)
    unit = options.minutes * (1 - PRETEXT_SHARE) / runs
    print(
        f"{options.data}: {len(source.train)} training and {len(source.test)} test images; {alone:.1f} min without "
        f"labels a method; classifiers of {', '.join(f'{60 * unit * w:.0f} s' for w in weight)} for "
        f"{', '.join(f'{100 * share:g}%' for share in options.shares)} of the labels, seeds {seeds}",
        flush=True,
    )
    figures: dict[str, Any] = {"data": options.data, "minutes": options.minutes, "methods": {}}
    for method in options.methods:
        run = options.pretext.resolve() if options.pretext else learned_alone(source, method, alone, work)
        told: dict[str, Any] = {"pretext": rebus.Run(run).evaluation}
        for kind, right in probed(source, run, fresh=False).items():
            fresh = probed(source, run, fresh=True)[kind]
            places = list(range(len(right)))
            gain = paired_difference(right, fresh)
            print(
                f"{method}, frozen, {kind}: {interval(right, places)}; a tower that has learned nothing "
                f"{100 * fresh.mean():.1f}%; gain {points(gain)}",
                flush=True,
            )
            told[kind] = {"accuracy": float(right.mean()), "fresh": float(fresh.mean()), "gain": list(gain)}
        pace = paced(source, run, work) if options.steps is None else 0.0
        for place, share in enumerate(options.shares):
            steps = options.steps[place] if options.steps else max(20, int(60 * unit * weight[place] * pace))
            marks: dict[str, list[np.ndarray]] = {"transfer": [], "scratch": []}
            for seed in range(seeds[place]):
                rows = labelled(source, share, seed)
                for name, base in (("transfer", run), ("scratch", None)):
                    marks[name].append(classified(source, rows, base, run, work=work, seed=seed, steps=steps))
            groups = list(range(len(source.test))) * seeds[place]  # a test image is one item, whatever the seed
            with_, without = (np.concatenate(marks[name]) for name in ("transfer", "scratch"))
            gain = paired_difference(with_, without, groups=groups)
            print(
                f"{method}, {100 * share:g}% of the labels ({len(rows)} images), {steps} steps, "
                f"{seeds[place]} seeds: transfer {interval(with_, groups)}, from scratch {interval(without, groups)}, "
                f"gain {points(gain)}",
                flush=True,
            )
            told[f"{share:g}"] = {
                "rows": len(rows),
                "steps": steps,
                "transfer": [float(one.mean()) for one in marks["transfer"]],
                "scratch": [float(one.mean()) for one in marks["scratch"]],
                "gain": list(gain),
            }
        figures["methods"][method] = told
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


def paced(source: Source, run: Path, work: Path) -> float:
    """Steps a second of a classifier here, from a short one."""
    started, steps = time.time(), 30
    classified(source, labelled(source, 0.01, 0), run, run, work=work, seed=0, steps=steps)
    seconds = rebus.Run(work / "run").evaluation["training"]["seconds"]
    return steps / max(min(seconds, time.time() - started), 1e-3)


if __name__ == "__main__":
    main()
