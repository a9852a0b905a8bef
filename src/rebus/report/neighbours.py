"""What a report shows of an image tower that learned without labels: which images it finds alike, and its uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rebus.catalogue import translator
from rebus.evaluation.rows import Rows
from rebus.report.contents import Plot
from rebus.report.sheet import COLUMNS, Cell, write_sheet
from rebus.tasks import Prediction
from rebus.training.pretrain_image import shown_name

ASKED = 6  # images, each with its nearest ones beside it


def plot_neighbours(
    path: Path, source: Rows, rows: Sequence[int], predictions: Sequence[Prediction], lang: str
) -> Plot | None:
    """Some images, each with the four nearest to it; None where there are too few. Raises RunError."""
    if len(rows) < COLUMNS:
        return None
    vectors = np.stack([prediction.extra["vector"] for prediction in predictions])
    cells = []
    for place in np.linspace(0, len(rows) - 1, ASKED).astype(int).tolist():
        cosines = vectors @ vectors[place]
        cosines[place] = np.inf
        for near in np.argsort(-cosines, kind="stable")[:COLUMNS].tolist():
            name = shown_name(source.values["image"][rows[near]], rows[near])
            cells.append(Cell(name, "" if near == place else f"{cosines[near]:.3f}", source.image(rows[near])))
    texts = translator("neighbours", lang)
    write_sheet(path, cells, heading=texts("heading"))
    return Plot(texts("title"), path)


def image_commands(folder: Path, data: str, lang: str) -> list[tuple[str, str]]:
    """How to use such a tower: (what for, command)."""
    texts = translator("neighbours", lang)
    return [
        (texts("transfer"), f"rebus train LABELLED --from {folder}"),
        (texts("probe"), f"rebus evaluate {folder} LABELLED --probe linear"),
        (texts("search"), f"rebus index {folder} FOLDER\nrebus find {folder} IMAGE --sheet found.png"),
        (texts("again"), f"rebus train {data} --recipe {folder}/recipe.yaml --out again"),
    ]
