"""Train on real data that Debian's packages hold, and print the figures that docs/LOG.md quotes.

    python bench/real.py --cache .cache/real stamps      # Tux Paint's stamps: topic from image, caption, both
    python bench/real.py --cache .cache/real fashion     # Fashion-MNIST as class folders and as Parquet

The packages (tuxpaint-stamps-default, GPL-2+; dataset-fashion-mnist, MIT) are fetched by apt-get into the cache and
unpacked there; nothing of them is part of Rebus.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import rebus

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def unpacked(package: str, cache: Path) -> Path:
    """The files of a Debian package, fetched once."""
    folder = cache / package
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None:
        sys.exit(f"{package} is fetched with apt-get, and there is none here")
    cache.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", package], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    archive = next(cache.glob(f"{package}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    return folder


def stamps_table(cache: Path) -> Path:
    """One row a stamp: image, English and Chinese caption, topic folder."""
    root = unpacked("tuxpaint-stamps-default", cache) / "usr" / "share" / "tuxpaint" / "stamps"
    rows = []
    for image in sorted(root.rglob("*.png")):
        words = image.with_suffix(".txt")
        if image.stem.endswith("_mirror") or not words.exists():
            continue
        lines = words.read_text(encoding="utf-8").splitlines()
        chinese = [line.partition("=")[2] for line in lines if line.startswith("zh_CN")]
        rows.append(
            {
                "image": str(image),
                "caption": lines[0].strip(),
                "caption_zh": chinese[0] if chinese else None,
                "topic": image.relative_to(root).parts[0],
            }
        )
    table = cache / "stamps.jsonl"
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"stamps: {len(rows)} rows, {len({row['topic'] for row in rows})} topics")
    return table


def idx(path: Path, head: int) -> np.ndarray:
    """The bytes of a gzipped IDX file after its head."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=head)


def fashion_tables(cache: Path) -> tuple[Path, Path]:
    """Fashion-MNIST as folders of classes, and the same rows as one Parquet file with the images in it."""
    files = {path.name: path for path in unpacked("dataset-fashion-mnist", cache).rglob("*ubyte.gz")}
    folder, parquet = cache / "fashion", cache / "fashion.parquet"
    if parquet.exists():
        return folder, parquet
    rows: dict[str, list[object]] = {"image": [], "label": [], "split": []}
    for name, split in (("train", "train"), ("t10k", "test")):
        images = idx(files[f"{name}-images-idx3-ubyte.gz"], 16).reshape(-1, 28, 28)
        labels = idx(files[f"{name}-labels-idx1-ubyte.gz"], 8)
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "png")
            (place / f"{number:05d}.png").write_bytes(png.getvalue())
            rows["image"].append(png.getvalue())
            rows["label"].append(CLASSES[label])
            rows["split"].append(split)
    pq.write_table(pa.table(rows), parquet)
    return folder, parquet


def trained(name: str, data: Path, out: Path, **settings: object) -> None:
    """Train, judge, print one line."""
    shutil.rmtree(out, ignore_errors=True)
    changes = {key.replace("__", "."): value for key, value in settings.items()}
    started = time.time()
    run = rebus.train(data, task="classify", out=out, settings=changes, quiet=True)
    score = run.evaluation["tasks"]["classify"]
    low, high = score["intervals"]["accuracy"]
    print(
        f"{name}: accuracy {score['metrics']['accuracy']:.3f} ({low:.3f} to {high:.3f}), "
        f"macro F1 {score['metrics']['macro_f1']:.3f}, majority class {score['baseline']['accuracy']:.3f}, "
        f"{run.evaluation['rows']['classify']} rows judged, {time.time() - started:.0f} s in all",
        flush=True,
    )


def stamps(cache: Path, minutes: float) -> None:
    """The topic of a stamp from its image, from its caption, from both in each fusion."""
    table = stamps_table(cache)
    common = {
        "train__time_limit": minutes,
        "data__split__valid": 0.1,
        "data__split__test": 0.25,
        "image__size": 64,
        "model__image__patch": 8,
        "model__image__depth": 1,
        "model__image__width": 96,
        "model__text__width": 96,
        "model__text__depth": 2,
        "model__image__dropout": 0.1,
        "model__fusion__dropout": 0.2,
        "image__augment__flip": 0.5,
        "image__augment__shift": 0.1,
        "image__augment__scale": 0.2,
        "image__augment__colour": 0.3,
        "data__kinds": {"caption": "text", "caption_zh": "ignore", "topic": "category"},
        "train__patience": 4,
    }
    label = {"label": "topic"}
    both = [{"name": "classify", "columns": {**label, "image": "image", "text": "caption"}}]
    trained(
        "image",
        table,
        cache / "run",
        **common,
        tasks=[{"name": "classify", "columns": {**label, "image": "image"}}],
    )
    trained(
        "caption", table, cache / "run", **common, tasks=[{"name": "classify", "columns": {**label, "text": "caption"}}]
    )
    for fusion, how in (("joint", "concat"), ("unified", "concat"), ("cross", "concat")):
        trained(
            f"both, {fusion}",
            table,
            cache / "run",
            **common,
            tasks=both,
            model__fusion__kind=fusion,
            model__fusion__how=how,
        )


def fashion(cache: Path, minutes: float) -> None:
    """The class of a garment, from folders and from Parquet."""
    folder, parquet = fashion_tables(cache)
    small = {"image__size": 32, "model__image__patch": 8, "model__image__width": 96, "model__image__depth": 1}
    common = {**small, "train__time_limit": minutes, "train__batch_size": 64, "image__augment__shift": 0.06}
    trained("class folders", folder, cache / "run", **common)
    trained("Parquet", parquet, cache / "run", **common)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stamps", "fashion"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/real"))
    parser.add_argument("--minutes", type=float, default=1.0, help="of training a model")
    options = parser.parse_args()
    {"stamps": stamps, "fashion": fashion}[options.what](options.cache.resolve(), options.minutes)


if __name__ == "__main__":
    main()
