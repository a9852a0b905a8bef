"""Make the images of docs/explaining.md from a Run of the demo: python scripts/explain_docs.py RUN SCENES.

RUN is the folder that ``rebus demo`` leaves, SCENES its table of questions (answer.jsonl). The scenes are the first of
the test split, drawn with images of artists that the model never saw; none is chosen by hand.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image

from rebus.explain import Explanation, explain
from rebus.explain.draw import overlay, word_sheet, write_png
from rebus.inference.predictor import Predictor
from rebus.jsonl import json_lines

COLOURS = 96  # of an image's palette: small files


def rows_of(table: Path) -> list[dict[str, Any]]:
    """The test rows."""
    rows = [json.loads(line) for _, line in json_lines(table.read_text(encoding="utf-8"))]
    return [row | {"image": str(table.parent / row["image"])} for row in rows if row["split"] == "test"]


def first(rows: list[dict[str, Any]], kind: str, language: str) -> dict[str, Any]:
    """The first question of a type in a language."""
    return next(row for row in rows if row["type"] == kind and row["language"] == language)


def small(image: Image.Image, width: int) -> Image.Image:
    """At most so wide, with few colours."""
    high = round(image.height * width / image.width)
    return image.resize((width, high), Image.Resampling.LANCZOS).quantize(COLOURS)


def beside(found: list[Explanation]) -> Image.Image:
    """Several explanations of one image in a row, the original first."""
    tiles = [overlay(found[0]), *(overlay(one, side=False) for one in found[1:])]
    sheet = Image.new("RGB", (sum(tile.width + 12 for tile in tiles) - 12, tiles[0].height), "white")
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width + 12
    return sheet


def main() -> None:
    """Write the images, and print what each shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    predictor, rows = Predictor.open(given.run), rows_of(given.scenes)

    where = first(rows, "where", "en")
    methods = ["saliency", "relevance", "gradcam", "occlusion", "gradients"]
    found = [explain(predictor, image=where["image"], text=where["question"], method=name) for name in methods]
    write_png(given.out / "explain-methods.png", small(beside(found), 900))
    print(f"explain-methods.png: {where['question']} -> {found[0].answer} ({', '.join(methods)})")

    caption = first(rows, "caption", "en") if any(row["type"] == "caption" for row in rows) else where
    for name, row, lang in (("explain-words.png", caption, "en"), ("explain-zh.png", first(rows, "where", "zh"), "zh")):
        told = explain(predictor, image=row["image"], text=row["question"])
        write_png(given.out / name, small(word_sheet(told, lang), 900 if len(told.words) > 2 else 620))
        print(f"{name}: {row['question']} -> {told.answer}")


if __name__ == "__main__":
    main()
