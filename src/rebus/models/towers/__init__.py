"""Towers: each turns a picture or a text into Features.

A picture tower's forward takes normalised pixels (B, 3, H, W); a text tower's takes ids (B, L) and a mask (B, L).
Both are built as ``TOWERS.get(kind)(settings, **context)``; each ignores the context it has no use for.
"""

from __future__ import annotations

from typing import Any

from rebus.registry import Registry

TOWERS: Registry[Any] = Registry("tower")

PICTURE_TOWERS = ("convnet", "vit")
TEXT_TOWERS = ("decoder", "encoder", "recurrent", "wordvectors")

# the classes file themselves under their names when their modules are imported
from rebus.models.towers import convnet, decoder, encoder, recurrent, vit, wordvectors  # noqa: E402, F401
