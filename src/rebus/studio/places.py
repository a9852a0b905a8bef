"""Which files the Studio may reach: a path that somebody types in a page leads only below the folders it was given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebus.catalogue import note_or_text
from rebus.data.image_sources import image_bytes, image_span, is_base64_image, named_file, shown
from rebus.data.images import decode_image
from rebus.data.table import Table
from rebus.errors import StudioError
from rebus.recipe import Recipe, as_yaml, path_settings

_TABLES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".ods", ".txt"})
_LISTED_TABLES = 200
_NAMES = re.compile(r"path|image|image|url|file", re.I)  # keys of a message that hold a path
_LISTED = re.compile(r"[\[\]\"',;()\n]")  # between paths, where a cell is a list written as text
_DEEPEST, _MOST = 3, 4000  # folders looked into for Runs


class Places:
    """Folders that pages may read and write below.

    Args:
        roots: the first is what relative paths start from, and where new Runs go.
        pixels: most pixels of an image that a page shows.
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
            StudioError: it is empty, or leads out of the folders.
        """
        what, typed = note_or_text(what), str(text or "").strip()
        if not typed or "\0" in typed:
            raise StudioError.of("problem.no_path", what=what)
        path = Path(os.path.expanduser(typed))
        result = (path if path.is_absolute() else self.home / path).resolve()
        if not self.holds(result):
            raise StudioError.of("problem.outside", what=what, typed=typed, roots=", ".join(map(str, self.roots)))
        return result

    def holds(self, path: Path) -> bool:
        """Whether a path, its links followed, is below one of the folders."""
        result = path.resolve()
        return any(result == root or root in result.parents for root in self.roots)

    def shown(self, path: Path) -> str:
        """A path as short as it can be typed."""
        try:
            return str(path.resolve().relative_to(self.home))
        except ValueError:
            return str(path)

    def image(self, value: Any, root: Path, where: str, *, near: int | None = None) -> NDArray[np.uint8]:
        """An image of a table, (H, W, 3) uint8; its file must be in the table's folder or below one of ours.

        Raises:
            ImageError: it cannot be read, or has too many pixels. StudioError: its path leads elsewhere.
        """
        if isinstance(value, str) and image_bytes(value, where) is None:
            file = image_span(value, root, where)[0].resolve()
            if not self.holds(file) and root.resolve() not in file.parents:
                raise StudioError.of("problem.image_outside", where=where, named=shown(value))
        return decode_image(value, root, pixel_budget=self.pixels, where=where, near=near)

    def check_images(self, table: Table, columns: Iterable[str]) -> None:
        """That a table names no image outside its own folder and ours; nothing is opened to find out.

        Raises:
            StudioError: a path in one of the columns leads elsewhere, by itself or through a link.
        """
        home, folders = Path(table.root).resolve(), dict[str, bool]()

        def within(path: str) -> bool:
            folder, name = os.path.split(path)
            if folder not in folders:
                real = Path(os.path.realpath(folder))
                folders[folder] = real == home or home in real.parents or self.holds(real)
            if name == ".." or not os.path.islink(path):
                return folders[folder] and name != ".."
            real = Path(os.path.realpath(path))
            return home in real.parents or self.holds(real)

        for column in columns:
            if column not in table.columns:
                continue
            for row, value in enumerate(table.column(column)):
                for named in _named(value):
                    if not within(os.path.join(home, named)):
                        raise StudioError.of("problem.image_outside", where=table.where(row), named=shown(named))

    def settings(self, recipe: Recipe) -> list[str]:
        """The settings of a recipe that name files, as ``KEY=PATH`` with whole paths.

        Raises:
            StudioError: one of them leads out of the folders.
        """
        return [f"{name}={as_yaml(str(self.inside(path, name)))}" for name, path in path_settings(recipe)]

    def tables(self) -> list[str]:
        """Files that look like tables, as short as they can be typed, the newest first; none inside a Run."""
        result: dict[Path, float] = {}
        for folder, files in self._folders():
            if "recipe.yaml" not in files:
                for name in files:
                    path = folder / name
                    if path.suffix.lower() in _TABLES and not name.startswith(".") and self.holds(path):
                        result[path] = path.stat().st_mtime
        return [self.shown(path) for path in sorted(result, key=lambda path: -result[path])[:_LISTED_TABLES]]

    def runs(self) -> list[Path]:
        """Folders with a recipe in them, the newest first."""
        result = {
            folder: (folder / "recipe.yaml").stat().st_mtime
            for folder, files in self._folders()
            if "recipe.yaml" in files
        }
        return sorted(result, key=lambda path: -result[path])

    def _folders(self) -> Iterator[tuple[Path, list[str]]]:
        """Folders below the roots with the names of their files; nothing inside a Run, nothing hidden."""
        looked = 0
        for root in self.roots:
            for folder, below, files in os.walk(root):
                looked += 1
                yield Path(folder), files
                deep = len(Path(folder).relative_to(root).parts) >= _DEEPEST
                if looked > _MOST or deep or "recipe.yaml" in files:
                    below.clear()
                below[:] = sorted(name for name in below if not name.startswith((".", "__")) and name != "node_modules")


def _named(value: Any) -> Iterator[str]:
    """The files that a cell names, in both readings of a backslash."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _named(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) or _NAMES.search(str(key)):
                yield from _named(item)
    elif isinstance(value, str) and value.strip() and value[:5].lower() != "data:" and not is_base64_image(value):
        for written in {named_file(value.strip()), *(piece.strip() for piece in _LISTED.split(value) if piece.strip())}:
            yield written
            yield written.replace("\\", "/")
