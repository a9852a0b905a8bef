"""The container GGUF: metadata and tensors of a file, mapped, not loaded. It knows no architectures and no tokenizers.

The header is read here and every length in it is held against the size of the file, since a header may be cut or
hostile; blocks of quantised numbers are turned into floats by the ``gguf`` package.
Source: docs/gguf.md of ggml-org/ggml, versions 2 and 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.errors import MissingPackageError, WeightsError

MAGIC, VERSIONS = b"GGUF", (2, 3)
_DO = "copy or fetch the file again"
_STRING, _ARRAY = 8, 9
_MOST = 2**24  # entries of a list; the largest vocabularies have a sixtieth
_SCALARS: dict[int, tuple[str, Any]] = {
    0: ("<B", np.uint8),
    1: ("<b", np.int8),
    2: ("<H", np.dtype("<u2")),
    3: ("<h", np.dtype("<i2")),
    4: ("<I", np.dtype("<u4")),
    5: ("<i", np.dtype("<i4")),
    6: ("<f", np.dtype("<f4")),
    7: ("<?", np.bool_),
    10: ("<Q", np.dtype("<u8")),
    11: ("<q", np.dtype("<i8")),
    12: ("<d", np.dtype("<f8")),
}
_PLAIN: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def gguf_package() -> Any:
    """The package ``gguf``. Raises MissingPackageError."""
    try:
        import gguf
    except ImportError as error:
        raise MissingPackageError("gguf", "gguf", "reading and writing GGUF files") from error
    return gguf


@dataclass(frozen=True)
class Entry:
    """One tensor in the file.

    Attributes:
        kind: its type, such as F16 or Q4_K.
        shape: as torch has it, the last dimension within a row.
        start: of its bytes in the file.
        size: of its bytes.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass
class GgufFile:
    """A file's metadata and the places of its tensors.

    Attributes:
        path: the file.
        fields: metadata: numbers, texts, lists.
        entries: name: tensor.
    """

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str | Path) -> GgufFile:
        """Read the header.

        Raises:
            WeightsError: no such file, not GGUF, a version or type that is not known, or cut short.
            MissingPackageError: ``gguf`` is not installed.
        """
        path = Path(path)
        gguf = gguf_package()
        try:
            data = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            message = f"'{getattr(error, 'strerror', None) or error}'"
            raise WeightsError(path, "a GGUF file", message, "check the path") from error
        if bytes(data[:4]) != MAGIC:
            raise WeightsError(path, "a GGUF file", f"one that begins with {bytes(data[:4])!r}", "check the path")
        opened = cls(path)
        reader = _Header(path, data)
        reader.at = 4
        version = reader.number("<I")
        if version not in VERSIONS:
            received = "one for machines with the other byte order" if version & 0xFFFF == 0 else f"version {version}"
            raise WeightsError(
                path, "GGUF of version 2 or 3, little-endian", received, "convert it with a newer llama.cpp"
            )
        tensors, pairs = reader.number("<Q"), reader.number("<Q")
        for _ in range(reader.fits(pairs, 12, "metadata")):
            key = reader.text()
            opened.fields[key] = reader.value(reader.number("<I"))
        rows = [reader.tensor() for _ in range(reader.fits(tensors, 24, "tensors"))]
        opened._place(rows, reader.at, gguf)
        return opened

    def _place(self, rows: list[tuple[str, tuple[int, ...], int, int]], end: int, gguf: Any) -> None:
        step = self.fields.get("general.alignment", gguf.GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(step, int) or step < 1 or step & (step - 1):
            raise WeightsError(self.path, "an alignment that is a power of two", repr(step), _DO)
        base = -(-end // step) * step
        taken: list[tuple[int, int, str]] = []
        whole = self.path.stat().st_size
        for name, shape, code, offset in rows:
            try:
                kind = gguf.GGMLQuantizationType(code)
            except ValueError as error:
                do = "use a file of a type that llama.cpp's convert script writes"
                raise WeightsError(f"{self.path}, '{name}'", "a known type of tensor", f"type {code}", do) from error
            block, size = gguf.GGML_QUANT_SIZES[kind]
            if shape and shape[-1] % block:
                received = f"rows of {shape[-1]} numbers, {kind.name} needs a multiple of {block}"
                raise WeightsError(f"{self.path}, '{name}'", "whole blocks", received, _DO)
            if not shape or 0 in shape:
                raise WeightsError(f"{self.path}, '{name}'", "a tensor with numbers in it", f"shape {shape}", _DO)
            count = int(np.prod(shape, dtype=object))
            entry = Entry(kind.name, shape, base + offset, count // block * size)
            if entry.start + entry.size > whole:
                received = f"that '{name}' ends at byte {entry.start + entry.size} of {whole}: the file is cut short"
                raise WeightsError(self.path, "all tensors that its header lists", received, _DO)
            self.entries[name] = entry
            taken.append((entry.start, entry.start + entry.size, name))
        taken.sort()
        for (_, end_of_one, item), (start, _, other) in pairwise(taken):
            if start < end_of_one:
                received = f"that '{item}' and '{other}' share bytes"
                raise WeightsError(self.path, "a place of its own for each tensor", received, _DO)
        if len(self.entries) < len(rows):
            raise WeightsError(self.path, "a name of its own for each tensor", "one that occurs twice", _DO)

    def tensor(self, name: str) -> Tensor:
        """A tensor: F32, F16 and BF16 as they are, others as float32.

        Raises:
            WeightsError: its type cannot be turned into floats.
        """
        entry = self.entries[name]
        data: NDArray[Any] = np.memmap(self.path, dtype=np.uint8, mode="r", offset=entry.start, shape=(entry.size,))
        if entry.kind in _PLAIN:
            return torch.from_numpy(data.view(_PLAIN[entry.kind]).reshape(entry.shape).copy())
        if entry.kind == "BF16":
            return torch.from_numpy(data.view("<i2").reshape(entry.shape).copy()).view(torch.bfloat16)
        gguf = gguf_package()
        kind = gguf.GGMLQuantizationType[entry.kind]
        try:
            rows = np.asarray(data).reshape(*entry.shape[:-1], -1)
            return torch.from_numpy(gguf.quants.dequantize(rows, kind)).reshape(entry.shape)
        except (NotImplementedError, LookupError, AttributeError, ValueError) as error:
            do = "fetch the model as F16, Q8_0, Q6_K, Q5_K or Q4_K"
            raise WeightsError(f"{self.path}, '{name}'", "a type that can be read", entry.kind, do) from error

    def get(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Metadata of a type, ``default`` where there is none. Raises WeightsError where it is of another type."""
        value = self.fields.get(key, default)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
            raise WeightsError(f"{self.path}, '{key}'", str(kind), f"{type(value).__name__} {str(value)[:60]}", _DO)
        return value


class _Header:
    """A place in the file that moves on; nothing is read beyond its end."""

    def __init__(self, path: Path, data: NDArray[np.uint8]) -> None:
        self.path, self.at, self._view = path, 0, memoryview(data)  # type: ignore[arg-type]

    def number(self, form: str) -> Any:
        size = struct.calcsize(form)
        self._need(size)
        (result,) = struct.unpack_from(form, self._view, self.at)
        self.at += size
        return result

    def text(self) -> str:
        length = self.number("<Q")
        self._need(length)
        content = bytes(self._view[self.at : self.at + length])
        self.at += length
        return content.decode("utf-8", "replace")

    def value(self, code: int) -> Any:
        if code == _STRING:
            return self.text()
        if code in _SCALARS:
            return self.number(_SCALARS[code][0])
        if code != _ARRAY:
            self._wrong("a known type of metadata", f"type {code}")
        inner, count = self.number("<I"), self.number("<Q")
        if inner == _STRING:
            return [self.text() for _ in range(self.fits(count, 8, "a list"))]
        if inner not in _SCALARS:
            self._wrong("lists of numbers or texts", f"a list of type {inner}")
        dtype = np.dtype(_SCALARS[inner][1])
        self.fits(count, dtype.itemsize, "a list")
        result = np.frombuffer(self._view, dtype, count, self.at)
        self.at += count * dtype.itemsize
        return result.tolist()

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset."""
        name, dims = self.text(), self.number("<I")
        if dims > 4:
            self._wrong("tensors of at most 4 dimensions", f"{dims} for '{name[:80]}'")
        shape = tuple(self.number("<Q") for _ in range(dims))
        return name, shape[::-1], self.number("<I"), self.number("<Q")

    def fits(self, count: int, least: int, what: str) -> int:
        """``count``, if that many things of at least so many bytes can still follow."""
        if count * least > len(self._view) - self.at or count > _MOST:
            self._wrong("a whole header", f"{what} of {count} entries that the rest of the file cannot hold")
        return count

    def _need(self, size: int) -> None:
        if size > len(self._view) - self.at:
            self._wrong("a whole header", f"that the file ends within it, at byte {len(self._view)}")

    def _wrong(self, expected: str, text: str) -> NoReturn:
        raise WeightsError(self.path, expected, text, _DO)
