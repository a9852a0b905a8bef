"""Which archives a path means: one, a folder of them, or a pattern. Nothing is read."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from rebus.errors import DataError

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST = 1_000_000


def tar_paths(text: str) -> list[Path] | None:
    """The archives that a path means: one, ``train-*.tar`` or ``train-{000..007}.tar``; None: it means no archive.

    Raises:
        DataError: a pattern that names no file, a packed archive, or one of a numbered row that is missing.
    """
    if not text.endswith((".tar", *PACKED)):
        return None
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        return None
    if text.endswith(PACKED):
        do = "unpack the compression only, so that images can be read from the middle: gzip -d, xz -d, zstd -d"
        raise DataError(text, "plain tar archives", "a packed one", do)
    braces = _BRACES.search(str(path))
    if braces is not None and not path.exists():
        return _numbered(str(path), braces)
    if path.exists() or not glob.has_magic(text):
        return [path]
    result = [Path(name) for name in sorted(glob.glob(str(path)))]
    if not result:
        raise DataError(text, "archives of this pattern", "none", "check the folder and the pattern")
    return result


def folder_of(text: str) -> Path:
    """The folder that values in archives of a path or a pattern start from: the deepest that has no pattern in it."""
    place = Path(os.path.expanduser(text)).absolute().parent
    while not place.is_dir():
        place = place.parent
    return place


def tars_in(folder: Path) -> list[Path]:
    """Archives of a folder and of the folders in it, sorted; hidden ones are passed over.

    Raises:
        DataError: there are packed archives and no plain ones.
    """
    result = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if not path.name.startswith("."))
    tars = [path for path in result if path.name.endswith(".tar") and path.is_file()]
    packed = [path for path in result if path.name.endswith(PACKED) and path.is_file()]
    if packed and not tars:
        tar_paths(str(packed[0]))
    return tars


def _numbered(text: str, braces: re.Match[str]) -> list[Path]:
    first, last, width = int(braces[1]), int(braces[2]), len(braces[1])
    if last < first or last - first >= _MOST:
        raise DataError(text, "numbers from a smaller to a larger one", braces[0], "correct the pattern")
    paths = [Path(f"{text[: braces.start()]}{n:0{width}d}{text[braces.end() :]}") for n in range(first, last + 1)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        received = f"{len(missing)} of {len(paths)} missing, the first '{missing[0].name}'"
        raise DataError(text, "all archives of the pattern", received, "correct the pattern, or fetch them")
    return paths
