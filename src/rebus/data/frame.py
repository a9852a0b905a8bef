"""Where things in an image are after it was moved, scaled, mirrored or cropped at random (see ``transforms``).

It does not know what the things are. Places are fractions of a side, from the left and the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rebus.data.transforms import crop_of, draws
from rebus.recipe import Augment

Axis = tuple[float, float]  # (a, b): what stands at f in the changed image stood at a f + b before


@dataclass(frozen=True)
class Frame:
    """Which part of the image the changed one shows.

    Attributes:
        across: of the horizontal places; the first number is below zero in a mirror image.
        down: of the vertical ones.
    """

    across: Axis
    down: Axis

    def box(self, box: Any) -> list[float] | None:
        """[x0, y0, x1, y1] in the changed image, cut at its edges; None where nothing of it is seen."""
        (x0, x1), (y0, y1) = (
            sorted((float(box[at + end]) - b) / a for end in (0, 2))
            for at, (a, b) in enumerate((self.across, self.down))
        )
        x0, y0, x1, y1 = (min(1.0, max(0.0, side)) for side in (x0, y0, x1, y1))
        return [x0, y0, x1, y1] if x0 < x1 and y0 < y1 else None

    def boxes(self, boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Labels with boxes that are still seen, at their new places."""
        return [{**item, "box": box} for item in boxes if (box := self.box(item["box"])) is not None]


def frame_of(settings: Augment, seed: int, epoch: int, index: int) -> Frame | None:
    """The frame of an image that ``transforms.augment`` changes under the same key; None where it stays in place."""
    u = draws(seed, epoch, index)
    mirrored = u[0] < (settings.flip or 0.0)
    if not (mirrored or settings.shift or settings.scale or settings.crop):
        return None
    factor = 1.0 + settings.scale * (2 * u[1] - 1)
    axes = []
    high, wide = crop_of(settings, u[13:17]) if settings.crop else (1.0, 1.0)
    for move, share, where, turned in (
        (settings.shift * (2 * u[3] - 1), wide, u[16], mirrored),
        (settings.shift * (2 * u[2] - 1), high, u[15], False),
    ):
        a, b = 1 / factor, 0.5 - (0.5 + move) / factor
        if turned:
            a, b = -a, 1 - b
        axes.append((a * share, b * share + where * (1 - share)))
    return Frame(axes[0], axes[1])
