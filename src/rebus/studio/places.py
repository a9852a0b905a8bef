"""Which files the Studio may reach: a path that somebody types in a page leads only below the folders it was given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.data.picture_sources import picture_bytes, picture_span
from rebus.data.pictures import decode_picture
from rebus.errors import DataError

_DEEPEST, _MOST = 3, 4000  # folders looked into for Runs


class Places:
    """Folders that pages may read and write below.

    Args:
        roots: the first is what relative paths start from, and where new Runs go.
        pixels: most pixels of a picture that a page shows.
    """

    def __init__(self, roots: Sequence[str | Path], pixels: int) -> None:
        self.roots = [Path(root).resolve() for root in roots]
        self.pixels = pixels

    @property
    def home(self) -> Path:
        """The first folder."""
        return self.roots[0]

    def inside(self, text: str | Path, what: str) -> Path:
        """A path as typed.

        Raises:
            DataError: it is empty, or leads out of the folders.
        """
        typed = str(text or "").strip()
        if not typed or "\0" in typed:
            raise DataError(what, "a path", "nothing" if not typed else "a zero byte in it", "type one, or drop a file")
        path = Path(os.path.expanduser(typed))
        found = (path if path.is_absolute() else self.home / path).resolve()
        if not self.holds(found):
            where = ", ".join(str(root) for root in self.roots)
            do = "move it there, or start the Studio with --root FOLDER for a folder above it"
            raise DataError(what, f"a path below {where}", f"'{typed}'", do)
        return found

    def holds(self, path: Path) -> bool:
        """Whether a path, its links followed, is below one of the folders."""
        found = path.resolve()
        return any(found == root or root in found.parents for root in self.roots)

    def shown(self, path: Path) -> str:
        """A path as short as it can be typed."""
        try:
            return str(path.resolve().relative_to(self.home))
        except ValueError:
            return str(path)

    def picture(self, value: Any, root: Path, where: str, *, near: int | None = None) -> NDArray[np.uint8]:
        """A picture of a table, (H, W, 3) uint8; its file must be in the table's folder or below one of ours.

        Raises:
            PictureError: it cannot be read, or has too many pixels. DataError: its path leads elsewhere.
        """
        if isinstance(value, str) and picture_bytes(value, where) is None:
            file = picture_span(value, root, where)[0].resolve()
            if not self.holds(file) and root.resolve() not in file.parents:
                expected = "a picture below the table's folder or the Studio's"
                raise DataError(where, expected, f"'{value[:80]}'", "start the Studio with --root FOLDER")
        return decode_picture(value, root, pixel_budget=self.pixels, where=where, near=near)

    def runs(self) -> list[Path]:
        """Folders with a recipe in them, the newest first."""
        found: dict[Path, float] = {}
        looked = 0
        for root in self.roots:
            for folder, below, files in os.walk(root):
                looked += 1
                path = Path(folder)
                if "recipe.yaml" in files:
                    found[path] = (path / "recipe.yaml").stat().st_mtime
                    below.clear()
                if looked > _MOST or len(path.relative_to(root).parts) >= _DEEPEST:
                    below.clear()
                below[:] = sorted(name for name in below if not name.startswith((".", "__")) and name != "node_modules")
        return sorted(found, key=lambda path: -found[path])
