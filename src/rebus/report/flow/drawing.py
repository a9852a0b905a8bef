"""Small images for the signal-flow page: heat over an image, enlarged without smoothing. It knows no model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SIDE = 192  # pixels of a small image
_STOPS = np.array(  # dark blue over green to yellow: even steps in lightness, told apart by the colour-blind too
    [[38, 34, 98], [45, 84, 140], [38, 130, 142], [53, 183, 121], [170, 220, 50], [253, 231, 37]], dtype=np.float64
)


def heat(values: NDArray[np.float32]) -> Pixels:
    """Numbers (h, w) as colours (h, w, 3): the smallest dark, the largest bright; all alike: all dark."""
    spread = float(np.ptp(values))
    share = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    at = share * (len(_STOPS) - 1)
    low = np.clip(np.floor(at).astype(int), 0, len(_STOPS) - 2)
    rest = (at - low)[..., None]
    mixed = _STOPS[low] * (1 - rest) + _STOPS[low + 1] * rest
    return np.asarray(mixed.round().astype(np.uint8))


def over(values: NDArray[np.float32], image: Pixels, strength: float = 0.6) -> Pixels:
    """Heat of a grid (h, w) over a square image, cell by cell: (SIDE, SIDE, 3)."""
    cells, below = enlarged(heat(values)).astype(np.float64), enlarged(image).astype(np.float64)
    grey = below.mean(2, keepdims=True)
    return np.asarray((strength * cells + (1 - strength) * grey).round().astype(np.uint8))


def enlarged(image: Pixels, side: int = SIDE) -> Pixels:
    """A square image at another size, its cells left sharp where it grows."""
    from PIL import Image

    scaled = Image.fromarray(np.ascontiguousarray(image))
    how = Image.Resampling.NEAREST if max(scaled.size) <= side else Image.Resampling.LANCZOS
    return np.asarray(scaled.resize((side, side), how), dtype=np.uint8)


def anchors(similarity: NDArray[np.float32], first: int, count: int) -> list[int]:
    """Tokens that differ most: ``first``, then each time the one least like all before. (P, P) -> at most ``count``."""
    chosen = [first]
    while len(chosen) < min(count, len(similarity)):
        nearest = similarity[chosen].max(0)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen
