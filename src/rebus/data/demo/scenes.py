"""Scenes: one to four things by one artist on a coloured ground, and where each of them stands.

Knows nothing of questions, files or models. A scene is a pure function of (seed, stream, index) and its settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from rebus.data.demo.augment import UNTOUCHED, edged, from_image, recoloured, redrawn, to_image
from rebus.data.demo.pack import Kind, load_pack

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (208, 58, 58),
    "orange": (240, 142, 48),
    "yellow": (244, 218, 84),
    "green": (84, 168, 92),
    "blue": (72, 122, 214),
    "purple": (140, 86, 182),
    "grey": (134, 134, 134),
    "white": (243, 243, 243),
}
SIDES = {1: (30, 46), 2: (28, 46), 3: (27, 40), 4: (26, 34)}  # longest side in pixels of a 96-pixel scene, by count
MARGIN = 2  # empty pixels between two things' boxes, at 96 pixels
APART = 7  # least distance of two centres from left to right, at 96 pixels: the reading order is never in doubt
MOST = 4


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing of a scene: its kind and its box (x0, y0, x1, y1) in fractions of the image."""

    kind: Kind
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, (x, y) in fractions."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A composed image and what is true of it.

    Args:
        pixels: RGB uint8 (size, size, 3).
        artist: who drew every thing in it.
        background: one of ``BACKGROUNDS``.
        things: in reading order, by centre from left to right; all of different kinds.
    """

    pixels: np.ndarray
    artist: str
    background: str
    things: tuple[Placed, ...]


def compose(
    seed: int,
    index: int,
    artists: Sequence[str],
    *,
    stream: int = 0,
    size: int = 96,
    kinds: int = 72,
    augment: bool = False,
) -> Scene:
    """The scene ``index`` of a stream: the same arguments always give the same pixels.

    Args:
        seed: of the whole set.
        index: which scene; the number of things is 1, 2, 3, 4, 1, ... by index.
        artists: one of them draws the whole scene.
        stream: keeps training, validation and test scenes of one seed apart.
        size: pixels a side.
        kinds: things come from the first ``kinds`` of the pack's kinds.
        augment: redraw every thing in another style (training scenes).
    """
    rng = np.random.default_rng([seed, stream, index])
    pack = load_pack()
    artist = artists[int(rng.integers(len(artists)))]
    count = 1 + index % MOST
    chosen = [pack.kinds[int(i)] for i in rng.choice(kinds, count, replace=False)]
    shrink = 1.0
    while True:
        drawings = [_drawing(artist, kind.name, count, size * shrink / 96, augment, rng) for kind in chosen]
        corners = _places([d.shape[:2] for d in drawings], size, rng)
        if corners is not None:
            break
        shrink *= 0.93  # crowded out: smaller things, same kinds
    background = _contrasting(drawings, rng)
    canvas = _ground(background, size, rng)
    placed = []
    for kind, drawing, (x, y) in zip(chosen, drawings, corners, strict=True):
        height, width = drawing.shape[:2]
        patch = canvas[y : y + height, x : x + width]
        patch *= 1 - drawing[..., 3:]
        patch += drawing[..., :3]
        box = (x / size, y / size, (x + width) / size, (y + height) / size)
        placed.append(Placed(kind, (round(box[0], 4), round(box[1], 4), round(box[2], 4), round(box[3], 4))))
    pixels = np.rint(np.clip(canvas, 0, 1) * 255).astype(np.uint8)
    return Scene(pixels, artist, background, tuple(sorted(placed, key=lambda thing: thing.centre)))


@lru_cache(maxsize=4096)
def _original(artist: str, name: str) -> Image.Image:
    """An image of the pack, cut to what is drawn; its colours are premultiplied, so that scaling bleeds no edge."""
    pixels = load_pack().image(artist, name).astype(np.float32) / 255
    rows, columns = np.flatnonzero((pixels[..., 3] > 0.06).any(1)), np.flatnonzero((pixels[..., 3] > 0.06).any(0))
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels[..., :3] *= pixels[..., 3:]
    return to_image(pixels)


def _drawing(artist: str, name: str, count: int, scale: float, augment: bool, rng: np.random.Generator) -> np.ndarray:
    """One thing ready to be laid down: premultiplied RGBA float32 (H, W, 4), cut to what is drawn."""
    original = _original(artist, name)
    low, high = SIDES[count]
    longest = rng.uniform(low, high) * scale
    restyle = augment and rng.random() >= UNTOUCHED
    stretch = math.exp(rng.uniform(-0.15, 0.15)) if augment else 1.0
    shear = rng.uniform(-0.18, 0.18) if augment and rng.random() < 0.5 else 0.0
    angle = math.radians(rng.uniform(-32, 32) if augment else rng.uniform(-20, 20))
    mirror = augment and rng.random() < 0.5
    reduce = longest / max(original.size)
    width = max(4, round(original.width * reduce * math.sqrt(stretch)))
    height = max(4, round(original.height * reduce / math.sqrt(stretch)))
    small = original.resize((width, height), Image.Resampling.BICUBIC)
    drawing = from_image(_posed(small, angle, shear, mirror))
    if restyle:
        drawing = edged(redrawn(recoloured(drawing, rng), rng), rng)
    alpha = drawing[..., 3] > 0.1
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    return drawing[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _posed(image: Image.Image, angle: float, shear: float, mirror: bool) -> Image.Image:
    """Turned, sheared and mirrored about the middle, with three empty pixels around."""
    cos, sin = math.cos(angle), math.sin(angle)
    # Source from target, as Pillow wants it: rotation after shear after mirror.
    a, b, c, d = cos + shear * sin, sin - shear * cos, -sin, cos
    if mirror:
        a, b = -a, -b
    determinant = a * d - b * c
    width, height = image.size
    new_w = math.ceil((abs(d) * width + abs(b) * height) / abs(determinant)) + 6
    new_h = math.ceil((abs(c) * width + abs(a) * height) / abs(determinant)) + 6
    x, y = width / 2 - a * new_w / 2 - b * new_h / 2, height / 2 - c * new_w / 2 - d * new_h / 2
    return image.transform((new_w, new_h), Image.Transform.AFFINE, (a, b, x, c, d, y), Image.Resampling.BILINEAR)


def _places(shapes: Sequence[tuple[int, ...]], size: int, rng: np.random.Generator) -> list[tuple[int, int]] | None:
    """A top left corner (x, y) for each (H, W) such that boxes keep their margin; None when they do not fit."""
    margin, apart = max(1, round(MARGIN * size / 96)), APART * size / 96
    largest_first = sorted(range(len(shapes)), key=lambda i: -shapes[i][0] * shapes[i][1])
    if max(max(shape[:2]) for shape in shapes) > size - 2 * margin:
        return None
    for _ in range(4):
        result: dict[int, tuple[int, int]] = {}
        for i in largest_first:
            height, width = shapes[i][:2]
            x = rng.integers(margin, size - margin - width + 1, 64)
            y = rng.integers(margin, size - margin - height + 1, 64)
            free = np.ones(64, bool)
            for j, (ox, oy) in result.items():
                free &= np.abs(x + width / 2 - ox - shapes[j][1] / 2) >= apart
                beside = (x + width + margin <= ox) | (ox + shapes[j][1] + margin <= x)
                free &= beside | (y + height + margin <= oy) | (oy + shapes[j][0] + margin <= y)
            if not free.any():
                break
            first = int(free.argmax())
            result[i] = int(x[first]), int(y[first])
        else:
            return [result[i] for i in range(len(shapes))]
    return None


def _contrasting(drawings: Sequence[np.ndarray], rng: np.random.Generator) -> str:
    """A background's name; drawn again, twice at most, when a thing would nearly vanish on it."""
    means = [d[..., :3].sum((0, 1)) / d[..., 3].sum() for d in drawings]
    names = list(BACKGROUNDS)
    name = names[int(rng.integers(len(names)))]
    for again in rng.integers(len(names), size=2):
        ground = np.array(BACKGROUNDS[name], np.float32) / 255
        if min(float(np.abs(mean - ground).sum()) for mean in means) > 0.3:
            break
        name = names[int(again)]
    return name


def _ground(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """The background as float32 0..1 (size, size, 3): a jittered shade, a light gradient, a soft texture."""
    shade = np.array(BACKGROUNDS[name], np.float32) / 255 + rng.normal(0, 0.02, 3).astype(np.float32)
    if name in ("grey", "white"):
        shade[:] = shade.mean()  # a tint would make it another colour
    coarse = rng.normal(0, rng.uniform(0.0, 0.03), (5, 5)).astype(np.float32)
    angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.08)
    line = np.linspace(-1, 1, 5, dtype=np.float32)
    coarse += np.float32(reach * math.sin(angle)) * line[:, None] + np.float32(reach * math.cos(angle)) * line[None]
    texture = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return np.array(shade + texture[..., None], np.float32)
