"""Small tables and folders of images, and what the check says of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rebus.recipe import Data, Recipe, TaskSettings
from rebus.resolve.from_table import Checked
from rebus.training.dry_run import look_at


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(sum(map(ord, name))))


def checked(path: Path, *tasks: str, **data: Any) -> Checked:
    return look_at(Recipe(data=Data(path=str(path), **data), tasks=[TaskSettings(name=name) for name in tasks]))
