"""Tables whose truth needs both modalities, one of them, or neither; and what runs on them would say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rebus.comparison.setup import Setup, set_up
from rebus.comparison.trial import Trial, has_both
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.tasks import Prediction

COLUMNS = {"image": "image", "text": "words", "label": "label"}


def write_table(folder: Path, kind: str, rows: int = 130, gaps: int = 0, seed: int = 0) -> Path:
    """A square, red or blue, and a word, sun or moon; the label is their exclusive or, one of them, or chance."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(seed), []
    for number in range(rows):
        red, sun, other = (int(x) for x in rng.integers(0, 2, 3))
        label = {"both": red ^ sun, "image": red, "text": sun, "none": other}[kind]
        pixels = np.full((16, 16, 3), 90)
        pixels[4:12, 4:12] = (220, 30, 30) if red else (30, 60, 220)
        pixels = np.clip(pixels + rng.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        row = {
            "image": f"{number}.png",
            "words": f"{'sun' if sun else 'moon'} {number % 7}",
            "label": "yes" if label else "no",
        }
        if number < 2 * gaps:
            row[("image", "words")[number % 2]] = ""
        lines.append({**row, "tags": [row["label"]], "size": float(label), "question": f"{row['words']}?"})
    (folder / "table.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return folder / "table.jsonl"


def small_recipe(table: Path, task: str = "classify", columns: dict[str, str] | None = None, steps: int = 50) -> Recipe:
    """Models of a few thousand parameters."""
    return Recipe().replace(
        {
            "data.inputs": {"tabular": []},
            "data.path": str(table),
            "image.size": 16,
            "text.vocab_size": 300,
            "text.max_length": 16,
            "model.image": Tower(kind="auto", width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(width=24, depth=1, heads=2),
            "model.fusion": Fusion(depth=1),
            "tasks": [TaskSettings(name=task, columns=columns or COLUMNS, max_new_tokens=4)],
            "train.batch_size": 16,
            "train.precision": "fp32",
            "train.steps": steps,
        }
    )


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The table of a kind, written once."""
    made: dict[str, Path] = {}

    def table(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_table(
                tmp_path_factory.mktemp(kind), kind.removesuffix("-gaps"), gaps=8 * ("gaps" in kind)
            )
        return made[kind]

    return table


def pretended(setup: Setup, skill: dict[str, float], seed: int = 0) -> list[Trial]:
    """Trials of strategies that are right with these chances (joint-concat where a name is missing: as ``joint``)."""
    rng, trials = np.random.default_rng(seed), []
    for split in range(len(setup.splits)):
        rows = [row for row, name in enumerate(setup.names(split)) if name == "test"]
        luck = rng.random(len(rows))  # shared: strategies find the same rows hard
        for arm in setup.arms:
            chance = skill.get(arm.name, skill.get(arm.fusion, 0.5))
            own = 0.7 * luck + 0.3 * rng.random(len(rows))
            told = []
            for row, draw in zip(rows, own < np.quantile(own, chance), strict=True):
                truth = setup.values["label"][row]
                said = truth if draw else {"yes": "no", "no": "yes"}[truth]
                told.append(Prediction(said, 0.9, {said: 0.9, {"yes": "no", "no": "yes"}[said]: 0.1}))
            complete = [row for row in rows if has_both(setup.task, setup.values, row)]
            trials.append(Trial(arm.name, split, rows, told, {}, complete, 1000, 10, 1.5, 100.0, len(luck) * 2))
    return trials


def settle(table: Path, **how: object) -> Setup:
    return set_up(small_recipe(table), lambda _: None, **how)  # type: ignore[arg-type]
