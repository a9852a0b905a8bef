"""What a signal-flow page tells: stations on the road of one example, each with its tensors' shapes and what they hold.

It knows no model, no words of a language and no page. Letters: B images, R texts, L text tokens, P image tokens,
D width, H heads, V vocabulary, C classes, N read positions, M modalities, S side of the square image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """A tensor: what it is called, its letters as docs/ARCHITECTURE.md has them, and its real sizes."""

    name: str
    letters: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """Pixels (H, W, 3) uint8 under a caption's key; ``names`` fills the caption in.

    Attributes:
        grid: (rows, columns) of image tokens to be drawn over it with their numbers; None: none.
        mark: number of the token to be framed; None: none.
    """

    caption: str
    pixels: NDArray[np.uint8] = field(repr=False)
    names: dict[str, str] = field(default_factory=dict)
    grid: tuple[int, int] | None = None
    mark: int | None = None


@dataclass(frozen=True)
class Token:
    """A token of a text. ``strength``, 0 to 1, is what colours it: its vector's norm beside the largest one."""

    text: str
    id: int | None = None
    strength: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Bars:
    """Named shares, the largest first: answers with their probabilities, modalities with their weights."""

    caption: str
    values: Sequence[tuple[str, float]]
    names: dict[str, str] = field(default_factory=dict)
    shares: bool = True


@dataclass(frozen=True)
class Strip:
    """One number a token, as a strip of colours."""

    caption: str
    values: Sequence[float]
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Station:
    """A place on the road.

    Attributes:
        name: ``image``, ``transformed``, ``patches``, ``tokens``, ``image_tower``, ``text_tower``, ``fusion``,
            ``head`` or ``answer``.
        kind: which sentences are said of it: of ``fusion``, for one, joint, unified, cross, inline or none.
        shapes: of its tensors.
        facts: what the sentences name, by key.
        images, tokens, strips, bars: what is shown of them, with captions' keys.
        steps: of a model that writes: each written token with the likeliest ones at its place.
        over: the caption's key of ``tokens``, and what fills it in.
    """

    name: str
    kind: str = ""
    shapes: tuple[Shape, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    images: tuple[Image, ...] = ()
    tokens: tuple[Token, ...] = ()
    strips: tuple[Strip, ...] = ()
    bars: tuple[Bars, ...] = ()
    steps: tuple[Bars, ...] = ()
    over: tuple[str, dict[str, str]] = field(default=("", {}))


@dataclass(frozen=True)
class Flow:
    """One example on its road.

    Attributes:
        task: that was asked.
        fusion: of the model: joint, unified, cross, inline or none.
        text: that the model was given.
        answer: as people read it.
        stations: in the order of the road.
        lang: en or zh, of a page that names no language.
    """

    task: str
    fusion: str
    text: str
    answer: str
    stations: tuple[Station, ...]
    lang: str = "en"

    def station(self, name: str) -> Station | None:
        """A station by name; None where the road does not pass it."""
        return next((item for item in self.stations if item.name == name), None)
