"""Texts of ids padded into a tensor; and what a cell of a table says, under the names that tasks know it by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.data.cells import is_blank as missing
from rebus.data.cells import labels as as_labels
from rebus.data.cells import text as as_text
from rebus.data.cells import texts as as_texts

__all__ = ["answer_text", "as_labels", "as_text", "as_texts", "missing", "pad_texts", "pad_to"]


def pad_to(length: int, multiple: int = 8) -> int:
    """The next multiple: few distinct shapes keep kernels and memory steady."""
    return max(multiple, -(-length // multiple) * multiple)


def pad_texts(ids: list[NDArray[Any]], pad_id: int = 0, multiple: int = 8) -> tuple[Tensor, Tensor]:
    """Pad on the right: R arrays -> (R, L) ids and (R, L) bool mask."""
    length = pad_to(max(len(text) for text in ids), multiple)
    padded = torch.full((len(ids), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), length), dtype=torch.bool)
    for row, text in enumerate(ids):
        padded[row, : len(text)] = torch.from_numpy(np.asarray(text))
        mask[row, : len(text)] = True
    return padded, mask


def answer_text(value: Any) -> str:
    """A prediction as one line: labels with commas, spans as ``Anna (person), Paris (place)``."""
    if not isinstance(value, list):
        return str(value)
    parts = [
        f"{item['text']} ({item['label']})" if isinstance(item, dict) and "text" in item else str(item)
        for item in value
    ]
    return ", ".join(parts)
