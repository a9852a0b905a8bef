"""How the learning rate moves over a run: a pure function of progress, so that a resume needs only the step.

Knows no optimizer and no clock.
"""

from __future__ import annotations

import math
from typing import Literal

Shape = Literal["cosine", "linear", "wsd", "constant"]


def rate_factor(progress: float, shape: Shape, *, warmup: float = 0.0, decay: float = 0.3, final: float = 0.0) -> float:
    """The factor on the peak rate.

    Args:
        progress: share of the run that is done, 0 to 1; clamped.
        shape: what follows the warm-up: ``cosine`` and ``linear`` fall to the end, ``wsd``
            (warmup-stable-decay; Hu et al. 2024, MiniCPM) stays and falls linearly at the end, ``constant`` stays.
        warmup: share of the run in which the factor rises linearly from 0 to 1.
        decay: ``wsd`` only: share of the run in which the factor falls; never reaches back into the warm-up.
        final: the factor at the end (except ``constant``).

    Returns:
        A factor from 0 to 1.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    if shape == "constant":
        return 1.0
    start = max(warmup, 1.0 - decay) if shape == "wsd" else warmup
    if progress <= start:
        return 1.0
    fallen = (progress - start) / (1.0 - start)
    share = 0.5 * (1.0 + math.cos(math.pi * fallen)) if shape == "cosine" else 1.0 - fallen
    return final + (1.0 - final) * share
