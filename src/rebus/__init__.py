"""Rebus: train, question and evaluate vision-language models on your own pictures and text.

``import rebus`` imports nothing heavy: each name below is fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rebus._version import __version__

if TYPE_CHECKING:
    from rebus.api import Comparison, Model, compare, load, train
    from rebus.errors import RebusError
    from rebus.recipe import Recipe
    from rebus.run import Run

_HOMES = {
    "Comparison": "rebus.api",
    "Model": "rebus.api",
    "Recipe": "rebus.recipe",
    "RebusError": "rebus.errors",
    "Run": "rebus.run",
    "compare": "rebus.api",
    "load": "rebus.api",
    "train": "rebus.api",
}

__all__ = ["Comparison", "Model", "RebusError", "Recipe", "Run", "__version__", "compare", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rebus' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
