"""The image pack: things drawn by eight artists, read from the package. Knows nothing of scenes or questions."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from rebus.errors import DataError, nearest

FOLDER = "pack"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of thing the demo asks about.

    Args:
        name: the thing's name in the pack, e.g. ``redapple``.
        en: English singular, e.g. ``apple``; also its label in boxes.
        plural: English plural.
        article: ``a`` or ``an``.
        zh: Chinese noun.
        measure: Chinese measure word.
    """

    name: str
    en: str
    plural: str
    article: str
    zh: str
    measure: str


@dataclass(frozen=True, slots=True)
class Thing:
    """Anything in the pack: its Unicode code points, names and the artists who draw it."""

    name: str
    hexcode: str
    group: str
    en: str
    zh: str
    artists: tuple[str, ...]


@dataclass
class Pack:
    """The images of the pack; an artist's sheet is decoded when first asked for.

    Args:
        artists: names of the artists, sorted.
        kinds: the curated kinds, each drawn by every artist.
        things: everything in the pack, kinds included; a few are missing at one artist.
        info: by artist: title, author, licence and where it comes from.
    """

    artists: list[str]
    kinds: list[Kind]
    things: list[Thing]
    info: dict[str, dict[str, Any]]
    cell: int
    columns: int
    _sheets: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def image(self, artist: str, kind: str | Kind) -> np.ndarray:
        """What ``artist`` draws for ``kind``: RGBA uint8 (64, 64, 4), a read-only view.

        Args:
            artist: one of ``artists``.
            kind: a ``Kind``, its English noun, or the name of any thing of the pack.

        Raises:
            DataError: there is no such artist or thing, or this artist does not draw it.
        """
        name = kind.name if isinstance(kind, Kind) else self._names.get(kind, kind)
        place = self._places.get(name)
        if place is None or artist not in self.things[place].artists:
            known = self._places if place is None else self.things[place].artists
            raise DataError(
                where="the demo's image pack",
                expected="an artist and a thing of the pack",
                found=f"artist '{artist}' and thing '{name}'",
                do=nearest(name if place is None else artist, known),
            )
        y, x = (self.cell * i for i in divmod(place, self.columns))
        return self._sheet(artist)[y : y + self.cell, x : x + self.cell]

    def _sheet(self, artist: str) -> np.ndarray:
        if artist not in self._sheets:
            content = (files("rebus.data") / FOLDER / f"{artist}.webp").read_bytes()
            with Image.open(io.BytesIO(content)) as sheet:
                pixels = np.array(sheet.convert("RGBA"))
            pixels.flags.writeable = False
            self._sheets[artist] = pixels
        return self._sheets[artist]

    def __post_init__(self) -> None:
        self._places = {thing.name: i for i, thing in enumerate(self.things)}
        self._names = {kind.en: kind.name for kind in self.kinds}


@cache
def load_pack() -> Pack:
    """The pack that comes with the package; its index is read now, its images when they are asked for."""
    index = json.loads((files("rebus.data") / FOLDER / "index.json").read_text(encoding="utf-8"))
    return Pack(
        artists=[artist["name"] for artist in index["artists"]],
        kinds=[Kind(**kind) for kind in index["kinds"]],
        things=[Thing(**thing | {"artists": tuple(thing["artists"])}) for thing in index["things"]],
        info={artist["name"]: artist for artist in index["artists"]},
        cell=index["cell"],
        columns=index["columns"],
    )


def check_artists(pack: Pack, names: Sequence[str], where: str) -> None:
    """Refuse a name that is no artist of the pack.

    Raises:
        DataError: naming the nearest right one.
    """
    for name in names:
        if name not in pack.artists:
            raise DataError(where, "an artist of the image pack", f"'{name}'", nearest(name, pack.artists))
