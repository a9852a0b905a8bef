"""A table of names, read forwards and backwards.

Each row pairs one of our parameter names with the Hugging Face name for the same tensor; ``{n}``, ``{m}`` and ``{k}``
stand for numbers of layers, ``{p}`` for ``weight`` or ``bias`` and ``{s}`` for what a batch norm keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from rebus.errors import WeightsError

State = dict[str, Tensor]
_NUMBER = r"\d+"
_LETTERS = {
    **{"n": _NUMBER, "m": _NUMBER, "k": _NUMBER},
    **{"p": "weight|bias", "s": "running_mean|running_var|num_batches_tracked"},
}


class NameMap:
    """One family's names.

    Args:
        family: its name, for messages.
        rows: pairs (ours, Hugging Face's).
        base: the prefix in ``rows`` that checkpoints of the base model alone lack.
        ignored: a pattern of Hugging Face names that hold nothing to load: computed tables, heads of other tasks.
    """

    def __init__(self, family: str, rows: tuple[tuple[str, str], ...], base: str = "", ignored: str = "") -> None:
        self.family, self.base = family, base
        self._ignored = re.compile(ignored) if ignored else None
        self._out = [(_pattern(ours), theirs) for ours, theirs in rows]
        self._in = [(_pattern(theirs), ours) for ours, theirs in rows]

    def to_hf(self, state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's. Raises WeightsError for a tensor that the family has no place for."""
        out: State = {}
        for name, tensor in state.items():
            target = _renamed(name, self._out)
            if target is None:
                raise self._unknown(name, "one that has a place in it")
            out[target] = tensor
        return out

    def from_hf(self, state: Mapping[str, Tensor]) -> State:
        """Hugging Face's names, with or without the base prefix, to ours. Raises WeightsError for an unknown one."""
        out: State = {}
        for name, tensor in state.items():
            if self._ignored is not None and self._ignored.search(name):
                continue
            target = _renamed(name, self._in) or _renamed(self.base + name, self._in)
            if target is None:
                raise self._unknown(name, "one that it knows")
            out[target] = tensor
        return out

    def _unknown(self, name: str, expected: str) -> WeightsError:
        do = "use the adapter of the checkpoint's own family, or leave the tensor out"
        return WeightsError(f"the {self.family} layout", f"names of this family's tensors, {expected}", f"'{name}'", do)


def _renamed(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in table:
        found = pattern.fullmatch(name)
        if found is not None:
            return target.format(**found.groupdict())
    return None


def _pattern(name: str) -> re.Pattern[str]:
    escaped = re.escape(name)
    for letter, meaning in _LETTERS.items():
        escaped = escaped.replace(rf"\{{{letter}\}}", f"(?P<{letter}>{meaning})")
    return re.compile(escaped)
