"""A drawing redrawn: the random changes of style by which six artists become many in training.

Knows nothing of scenes. Everything is a pure function of the generator handed in.
Letters: H, W height and width of one drawing in pixels. Drawings are RGBA float32 0..1, colour premultiplied by alpha.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LUMA_ROWS = np.tile(LUMA, (3, 1))
_IDENTITY = np.eye(3, dtype=np.float32)
UNTOUCHED = 0.2  # share of training drawings left as their artist drew them, save for pose


def recoloured(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another palette: hue, saturation or grey, contrast, brightness, a gradient of light, fewer shades.

    Args:
        drawing: premultiplied RGBA float32 (H, W, 4).
        rng: where every choice comes from.

    Returns:
        The same shape; alpha is unchanged.
    """
    alpha = drawing[..., 3:]
    colour = drawing[..., :3] / np.maximum(alpha, 1e-3)
    matrix = _hue(rng.uniform(-math.pi, math.pi) if rng.random() < 0.3 else rng.normal(0, 0.3))
    grey = rng.random()
    saturation = 0.0 if grey < 0.12 else rng.uniform(0.1, 0.7) if grey < 0.3 else rng.uniform(0.7, 1.6)
    matrix = (_LUMA_ROWS * (1 - saturation) + _IDENTITY * saturation) @ matrix
    contrast = rng.uniform(0.55, 1.5)
    shift = np.float32(0.5 - 0.5 * contrast + rng.uniform(-0.18, 0.18))
    colour = (colour.reshape(-1, 3) @ (matrix.T * np.float32(contrast)) + shift).reshape(colour.shape)
    if rng.random() < 0.35:  # light from one side, as painters with gradients draw
        colour = colour * _ramp(drawing.shape[:2], rng, 0.45)[..., None]
    if rng.random() < 0.1:  # a tint over everything
        colour = colour + (rng.random(3).astype(np.float32) - colour) * rng.uniform(0.15, 0.5)
    if rng.random() < 0.25:  # flat shading: few levels a channel
        levels = int(rng.integers(2, 6))
        colour = np.rint(colour * levels) / levels
    return np.concatenate([np.clip(colour, 0, 1) * alpha, alpha], axis=2)


def redrawn(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another hand: inked lines inside, thin lines smoothed away, blur; at most one of them.

    Args:
        drawing: premultiplied RGBA float32 (H, W, 4).
        rng: where every choice comes from.

    Returns:
        The same shape.
    """
    choice = rng.random()
    if choice < 0.18:
        return _inked(drawing, rng)
    if choice < 0.5:
        image = to_image(drawing)
        if choice < 0.34:
            image = image.filter(ImageFilter.MedianFilter(3))
        else:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.1))))
        return from_image(image)
    return drawing


def edged(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another outline: one is drawn around the thing, or its own is shaved off, or a shadow falls; or nothing.

    Args:
        drawing: premultiplied RGBA float32 (H, W, 4) with at least three empty pixels on each side.
        rng: where every choice comes from.

    Returns:
        The same shape.
    """
    choice = rng.random()
    if choice >= 0.5:
        return drawing
    alpha = drawing[..., 3]
    if choice < 0.3:
        around = _grown(alpha)
        if rng.random() < 0.35:
            around = _grown(around)
        shade = rng.uniform(0.85, 1.0, 3) if rng.random() < 0.3 else rng.uniform(0.0, 0.25, 3)
        return under(drawing, shade.astype(np.float32), around[..., None])
    if choice < 0.4:
        inside = 1 - _grown(1 - alpha)
        keep = np.minimum(inside / np.maximum(alpha, 1e-3), 1)[..., None]
        return drawing * keep if inside.sum() > 0.6 * alpha.sum() else drawing  # a thing of thin lines would vanish
    moved = np.roll(drawing[..., 3:], (int(rng.integers(1, 3)), int(rng.integers(-2, 3))), (0, 1))
    return under(drawing, np.zeros(3, np.float32), moved * np.float32(rng.uniform(0.15, 0.45)))


def under(drawing: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """``drawing`` (H, W, 4) laid over one ``colour`` (3,) of coverage ``alpha`` (H, W, 1), all premultiplied."""
    below = alpha * (1 - drawing[..., 3:])
    return np.concatenate([drawing[..., :3] + colour * below, drawing[..., 3:] + below], axis=2)


def to_image(drawing: np.ndarray) -> Image.Image:
    """A premultiplied float drawing (H, W, 4) as a Pillow image.

    Its mode is RGBX, in which Pillow treats four channels alike: in RGBA it would premultiply once more.
    """
    pixels = (np.clip(drawing, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Image.frombytes("RGBX", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def from_image(image: Image.Image) -> np.ndarray:
    """The inverse of ``to_image``."""
    return np.asarray(image, np.float32) / 255


def _grown(alpha: np.ndarray) -> np.ndarray:
    """Coverage (H, W) grown by one pixel, corners rounded; the border row and column wrap, and are empty."""
    return np.asarray(
        np.maximum.reduce([alpha, *(np.roll(alpha, step, axis) for axis in (0, 1) for step in (1, -1))]), np.float32
    )


def _inked(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pen drawing: dark where brightness changes, the fill paler."""
    luma = drawing[..., :3] @ LUMA
    down = np.abs(np.diff(luma, axis=0, append=luma[-1:]))
    across = np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    ink = np.clip((down + across) * rng.uniform(1.5, 3.5) - 0.3, 0, 1)[..., None]
    alpha = drawing[..., 3:]
    pale = rng.uniform(0, 1) ** 0.5
    fill = drawing[..., :3] + (alpha - drawing[..., :3]) * pale
    return np.concatenate([fill * (1 - ink) + ink * alpha * rng.uniform(0, 0.2), alpha], axis=2).astype(np.float32)


def _ramp(shape: tuple[int, int], rng: np.random.Generator, strength: float) -> np.ndarray:
    """A linear gradient around 1 over (H, W), in a random direction."""
    angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 1.0) * strength
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None]
    return np.asarray(1 + np.float32(reach) * (np.float32(math.sin(angle)) * y + np.float32(math.cos(angle)) * x))


def _hue(angle: float) -> np.ndarray:
    """The 3x3 rotation of RGB by ``angle`` radians about the grey axis."""
    cos, sin = math.cos(angle), math.sin(angle) / math.sqrt(3)
    a, b = (1 - cos) / 3 + cos, (1 - cos) / 3
    return np.array([[a, b - sin, b + sin], [b + sin, a, b - sin], [b - sin, b + sin, a]], np.float32)
