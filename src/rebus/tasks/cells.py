"""What a cell of a table holds: text, several texts, labels, nothing; and texts of ids padded into a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, blank text, an empty list, not-a-number."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float):
        return value != value
    return isinstance(value, (list, tuple, bytes)) and not value


def as_text(value: Any) -> str:
    """A cell as text; several texts are joined by a space."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(as_text(part) for part in value)
    return str(value)


def as_texts(value: Any) -> list[str]:
    """A cell that may hold several texts (captions, answers) as a list without blanks."""
    if missing(value):
        return []
    parts = value if isinstance(value, (list, tuple)) else [value]
    return [str(part) for part in parts if not missing(part)]


def as_labels(value: Any) -> list[str]:
    """A cell as labels: a list as it is, text split at ``|`` or ``;``."""
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [as_text(part).strip() for part in value if as_text(part).strip()]
    return [part.strip() for part in str(value).replace(";", "|").split("|") if part.strip()]


def pad_to(length: int, multiple: int = 8) -> int:
    """The next multiple: few distinct shapes keep kernels and memory steady."""
    return max(multiple, -(-length // multiple) * multiple)


def pad_texts(ids: list[NDArray[Any]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Pad on the right: R arrays -> (R, L) ids and (R, L) bool mask."""
    length = pad_to(max(len(text) for text in ids))
    padded = torch.full((len(ids), length), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), length), dtype=torch.bool)
    for row, text in enumerate(ids):
        padded[row, : len(text)] = torch.from_numpy(np.asarray(text))
        mask[row, : len(text)] = True
    return padded, mask
