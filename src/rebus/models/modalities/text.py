"""Text, read by a text tower or a decoder. Its tokens depend on the task, so tasks make them, not the batch builder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebus.models.modalities.base import MODALITIES, Item, Modality


@MODALITIES.register("text")
class TextModality(Modality):
    """Words: see ``tasks.base.TextProcessor``."""

    name = "text"
    kinds = ("text", "messages", "tags")
    towers = ("decoder", "encoder", "recurrent")
    per_example = False
    files = False

    def item(self, cells: Mapping[str, Any], root: Path, where: str) -> Item | None:
        """None: texts are items of tasks."""
        return None
