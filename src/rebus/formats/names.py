"""A table of names, read forwards and backwards, and other ways to rename the tensors of a checkpoint.

Each row pairs one of our parameter names with the Hugging Face name for the same tensor; ``{n}``, ``{m}`` and ``{k}``
stand for numbers of layers, ``{p}`` for ``weight`` or ``bias`` and ``{s}`` for what a batch norm keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from rebus.errors import WeightsError

State = dict[str, Tensor]
Rows = tuple[tuple[str, str], ...]
Rename = Callable[[Mapping[str, Tensor]], State]
_NUMBER = r"\d+"
_LETTERS = {
    **{"n": _NUMBER, "m": _NUMBER, "k": _NUMBER},
    **{"p": "weight|bias", "s": "running_mean|running_var|num_batches_tracked"},
}
_QKV = ("q_proj", "k_proj", "v_proj")


class NameMap:
    """One family's names.

    Args:
        family: its name, for messages.
        rows: pairs (ours, Hugging Face's).
        base: the prefix in ``rows`` that checkpoints of the base model alone lack.
        ignored: a pattern of Hugging Face names that hold nothing to load: computed tables, heads of other tasks.
    """

    def __init__(self, family: str, rows: Rows, base: str = "", ignored: str = "") -> None:
        self.family, self.rows, self.base = family, rows, base
        self._ignored = re.compile(ignored) if ignored else None
        self._out = [(_pattern(ours), theirs) for ours, theirs in rows]
        self._in = [(_pattern(theirs), ours) for ours, theirs in rows]

    def to_hf(self, state: Mapping[str, Tensor]) -> State:
        """Our names to Hugging Face's. Raises WeightsError for a tensor that the family has no place for."""
        out: State = {}
        for name, tensor in state.items():
            target = _renamed(name, self._out)
            if target is None:
                raise self.unknown(name, "one that has a place in it")
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
                raise self.unknown(name, "one that it knows")
            out[target] = tensor
        return out

    def unknown(self, name: str, expected: str) -> WeightsError:
        """The error for a tensor that the family has not."""
        do = "use the adapter of the checkpoint's own family, or leave the tensor out"
        return WeightsError(f"the {self.family} layout", f"names of this family's tensors, {expected}", f"'{name}'", do)


def prefixed(prefix: str, rows: Rows) -> Rows:
    """Rows with a prefix before our names: where in a model the tensors stand."""
    return tuple((prefix + ours, theirs) for ours, theirs in rows)


def below(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The tensors under a prefix, which is taken off."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def within(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The tensors under a prefix, which is kept."""
    return {name: tensor for name, tensor in state.items() if name.startswith(prefix)}


def moved(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> State:
    """The same tensors, each name with the first prefix that it has replaced."""
    out: State = {}
    for name, tensor in state.items():
        old = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        out[name if old is None else prefixes[old] + name.removeprefix(old)] = tensor
    return out


def pack_qkv(state: Mapping[str, Tensor], inside: str, packed: str) -> State:
    """Queries, keys and values, which lie apart, in one tensor of each layer.

    Args:
        state: with names such as ``{inside}q_proj.weight``.
        inside: the end of the name of the attention, a dot included.
        packed: the new name in place of ``q_proj``.
    """
    out: State = {}
    for name, tensor in state.items():
        part = next((part for part in _QKV if f"{inside}{part}." in name), None)
        names = [] if part is None else [name.replace(part, other) for other in _QKV]
        if not names or not all(other in state for other in names):
            out[name] = tensor
        elif part == _QKV[0]:
            out[name.replace(part, packed)] = torch.cat([state[other] for other in names])
    return out


def unpack_qkv(state: Mapping[str, Tensor], packed: str) -> State:
    """The other way round; a tensor that cannot be cut into three stays as it is, to be refused by whoever loads it."""
    out: State = {}
    for name, tensor in state.items():
        if f".{packed}." in name and len(tensor) % 3 == 0:
            for part, piece in zip(_QKV, tensor.chunk(3), strict=True):
                out[name.replace(packed, part)] = piece.clone()
        else:
            out[name] = tensor
    return out


def renamer(patterns: Mapping[str, str]) -> Rename:
    """Replaces regular expressions in names, in order."""
    pairs = [(re.compile(old), new) for old, new in patterns.items()]

    def rename(state: Mapping[str, Tensor]) -> State:
        out: State = {}
        for name, tensor in state.items():
            for old, new in pairs:
                name = old.sub(new, name)
            out[name] = tensor
        return out

    return rename


def _renamed(name: str, table: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, target in table:
        match = pattern.fullmatch(name)
        if match is not None:
            return target.format(**match.groupdict())
    return None


def _pattern(name: str) -> re.Pattern[str]:
    escaped = re.escape(name)
    for letter, meaning in _LETTERS.items():
        escaped = escaped.replace(rf"\{{{letter}\}}", f"(?P<{letter}>{meaning})")
    return re.compile(escaped)
