"""The kinds of columns: Rebus's own, and those of modalities, which lie in a room above and enter themselves here.

It is how the columns of another package's modality are named in a recipe and recognised in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from rebus.registry import plugins

Kind = str  # one of ``known_kinds``
KINDS = ("image", "text", "category", "labels", "number", "date", "boxes", "tags", "messages", "ignore")
Recognise = Callable[[str, Sequence[Any]], float]  # a column's name and sample -> the share of cells that look like it

_modalities: dict[str, tuple[tuple[str, ...], Recognise]] = {}


def declare_kinds(modality: str, kinds: Sequence[str], recognise: Recognise) -> None:
    """Enter the kinds of columns that a modality reads."""
    _modalities[modality] = tuple(kinds), recognise


def known_kinds() -> list[str]:
    """All kinds of columns, those of other packages' modalities after Rebus's own."""
    _load_plugins()
    return list(dict.fromkeys([*KINDS, *(kind for kinds, _ in _modalities.values() for kind in kinds)]))


def recognised_kind(name: str, cells: Sequence[Any], least: float = 0.9) -> Kind | None:
    """The kind that a modality says a column is, by its name and a sample of cells; None: no modality says so."""
    _load_plugins()
    shares = {kinds[0]: recognise(name, cells) for kinds, recognise in _modalities.values() if kinds}
    best = max(shares, key=lambda kind: shares[kind], default=None)
    return best if best is not None and shares[best] >= least else None


@cache
def _load_plugins() -> None:
    for point in plugins("modality"):
        with suppress(Exception):  # the registry of modalities names what does not work
            point.load()
