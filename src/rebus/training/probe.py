"""Which precision is the faster here: measured, not guessed. Knows no model and no recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Attributes:
        precision: of the forward and backward pass: bf16 where autocast is at least a tenth faster.
        muon: of Muon's products: bf16 where those are faster.
        seconds: of the best pass of each: ``fp32``, ``bf16`` (with autocast), ``muon_fp32``, ``muon_bf16``.
    """

    precision: Precision
    muon: Precision
    seconds: dict[str, float]


def probe_precision(device: torch.device, rounds: int = 3) -> Probe:
    """Time a small transformer-like product and a convolution, forward and backward, and Muon's products.

    Takes about 0.3 s on a CPU. float16 is never tried: it needs loss scaling, bfloat16 does not.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1536, 256, generator=generator).to(device)
    weight = torch.randn(768, 256, generator=generator).to(device).requires_grad_()
    pictures = torch.randn(8, 32, 24, 24, generator=generator).to(device)
    kernel = torch.randn(64, 32, 3, 3, generator=generator).to(device).requires_grad_()
    square = torch.randn(4, 192, 192, generator=generator).to(device)

    def both(dtype: torch.dtype) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            product = functional.linear(tokens, weight)
            picture = functional.conv2d(pictures, kernel, padding=1)
        torch.autograd.grad(product.float().mean() + picture.float().mean(), (weight, kernel))

    def products(dtype: torch.dtype) -> None:
        matrices = square.to(dtype)
        for _ in range(4):
            matrices = torch.bmm(matrices, matrices)

    seconds = {
        "fp32": _best(lambda: both(torch.float32), device, rounds),
        "bf16": _best(lambda: both(torch.bfloat16), device, rounds),
        "muon_fp32": _best(lambda: products(torch.float32), device, rounds),
        "muon_bf16": _best(lambda: products(torch.bfloat16), device, rounds),
    }
    return Probe(
        precision="bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32",
        muon="bf16" if seconds["muon_bf16"] < seconds["muon_fp32"] else "fp32",
        seconds=seconds,
    )


def measure_peak(device: torch.device, precision: Precision, rounds: int = 5) -> float:
    """FLOP/s of a product of two square matrices, the best of some rounds: what a training step is measured against.

    1024 wide on a CPU (0.1 s in all), 8192 on a GPU.
    """
    side = 1024 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return 2.0 * side**3 / _best(lambda: torch.mm(matrix, matrix), device, rounds)


def _best(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    run()
    found = []
    for _ in range(rounds):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        found.append(time.perf_counter() - start)
    return min(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
