"""Linear layers in the order in which compiled code reads their weights (products.h), for rows of any number.

It knows no decoder. Letters: R rows, N outputs, k inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.generation.decoders.packed import weight_and_bias


class Tiles:
    """A linear layer's weights in the order in which compiled code reads them; see products.h.

    Args:
        layer: linear, or an embedding that is tied to what is predicted.
        dtype: float32 or bfloat16.
        lanes: outputs of a tile.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype, lanes: int) -> None:
        weight, bias = weight_and_bias(layer)
        self.outputs, self.inputs = weight.shape
        deep = 2 if dtype == torch.bfloat16 else 1
        weight = F.pad(weight.to(dtype), (0, -self.inputs % deep, 0, -self.outputs % lanes))
        self.weight = weight.view(-1, lanes, weight.shape[1] // deep, deep).transpose(1, 2).contiguous()
        self.bias = None if bias is None else bias.float().contiguous()
        self.half = int(dtype == torch.bfloat16)

    @property
    def addresses(self) -> tuple[int, int | None]:
        """Of weights and biases."""
        return self.weight.data_ptr(), None if self.bias is None else self.bias.data_ptr()


class Tiled:
    """Several linear layers of one input, for rows of any number; a ``Product``.

    Args:
        parts: their weights.
        library: the compiled code.
    """

    def __init__(self, parts: Sequence[Tiles], library: Any) -> None:
        self.parts, self._library = parts, library
        self.outputs = sum(part.outputs for part in parts)

    def exact(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out) float32."""
        flat = x.reshape(-1, x.shape[-1]).float().contiguous()
        rows = flat.shape[0]
        out, work = torch.empty(rows, self.outputs), torch.empty(flat.numel() + 2 * rows)
        start, threads = 0, ctypes.c_int32(torch.get_num_threads())
        for part in self.parts:
            weight, bias = part.addresses
            self._library.rebus_product(
                part.half,
                rows,
                flat.data_ptr(),
                weight,
                bias,
                part.outputs,
                part.inputs,
                out.data_ptr() + 4 * start,
                self.outputs,
                work.data_ptr(),
                threads,
            )
            start += part.outputs
        return out.view(*x.shape[:-1], self.outputs)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.exact(x).to(x.dtype)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """The product, added to ``to``."""
        return self.exact(x).add_(to).to(to.dtype)
