"""Towers: each turns an image or a text into Features.

An image tower's forward takes normalised pixels (B, 3, H, W); a text tower's takes ids (B, L) and a mask (B, L).
Both are built as ``TOWERS.get(kind)(settings, **context)``; each ignores the context it has no use for.
"""

from __future__ import annotations

from typing import Any

from rebus.registry import Registry

TOWERS: Registry[Any] = Registry("tower")

IMAGE_TOWERS = ("convnet", "efficientnet", "resnet", "vit")
TEXT_TOWERS = ("decoder", "encoder", "recurrent", "wordvectors")

# the classes file themselves under their names when their modules are imported
from rebus.models.towers import (  # noqa: E402
    convnet,  # noqa: F401
    decoder,  # noqa: F401
    efficientnet,  # noqa: F401
    encoder,  # noqa: F401
    recurrent,  # noqa: F401
    resnet,  # noqa: F401
    vit,  # noqa: F401
    wordvectors,  # noqa: F401
)
