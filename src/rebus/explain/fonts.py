"""A font of this machine that has Chinese glyphs, where there is one. Nothing is bundled and nothing is fetched."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from rebus.tasks.metrics.words import has_cjk

if TYPE_CHECKING:
    from PIL import ImageFont

# Beginnings of files' names in lower case, the best first.
_NAMES = (
    "notosanscjk", "notosanssc", "sourcehansans", "pingfang", "hiraginosansgb", "msyh", "wqy-microhei", "wqy-zenhei",
    "simhei", "notoserifcjk", "sourcehanserif", "stheiti", "simsun", "uming", "ukai", "droidsansfallback",
    "arialunicode", "arial unicode",
)  # fmt: skip
_ENDS = (".ttf", ".ttc", ".otf")
SAMPLE = "汉"


def has_chinese() -> bool:
    """Whether this machine has a font with Chinese glyphs."""
    return chinese_font() is not None


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font with Chinese glyphs where there is one, else Pillow's own; ``size`` is in pixels."""
    from PIL import ImageFont

    result = chinese_font()
    if result is not None:
        return ImageFont.truetype(str(result), size)
    return ImageFont.load_default(size)


def lacking(text: str) -> str:
    """A line for people where a text cannot be drawn on an image; nothing where it can."""
    if not has_cjk(text) or has_chinese():
        return ""
    return (
        "this machine has no font with Chinese glyphs, so that Chinese words on the images are empty boxes; "
        "install one, such as Noto Sans CJK (Debian: apt install fonts-noto-cjk)"
    )


@cache
def chinese_font() -> Path | None:
    """The file of a font with Chinese glyphs; None: there is none."""
    result: dict[int, Path] = {}
    for folder in _folders():
        for parent, _, files in os.walk(folder):
            for file in sorted(files):
                name = file.lower()
                rank = next((number for number, item in enumerate(_NAMES) if name.startswith(item)), None)
                if rank is not None and name.endswith(_ENDS):
                    result.setdefault(rank, Path(parent) / file)
    return next((result[rank] for rank in sorted(result) if _draws(result[rank])), None)


def _folders() -> list[Path]:
    """Where fonts are kept."""
    home = Path(os.path.expanduser("~"))  # stays "~" where nobody knows a home
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]


def _draws(file: Path) -> bool:
    """Whether a font's Chinese character differs from what it draws for one that does not exist."""
    from PIL import ImageFont

    try:
        result = ImageFont.truetype(str(file), 24)
        return bytes(result.getmask(SAMPLE)) != bytes(result.getmask("\U0010fffd"))
    except OSError:
        return False
