"""Small archives for tests: what other programs write, member by member."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def image(shade: int, kind: str = "JPEG", size: tuple[int, int] = (12, 8)) -> bytes:
    saved = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(saved, kind)
    return saved.getvalue()


def noise(seed: int, kind: str = "JPEG", size: int = 32) -> bytes:
    saved = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)).save(saved, kind)
    return saved.getvalue()


def pack(path: Path, files: list[tuple[str, bytes]], layout: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=layout) as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path
