"""Which precision suits this machine, and how many operations a second it reaches. Knows no model and no recipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]


def native_precision(device: torch.device) -> Precision:
    """bf16 where the processor or the GPU multiplies bfloat16 in hardware, else fp32.

    A rule and no measurement, so that the same command gives the same weights each time. float16 is never chosen: it
    needs loss scaling, bfloat16 does not.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if any(able.get(name) for name in ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16")) else "fp32"


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
    items = []
    for _ in range(rounds):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        items.append(time.perf_counter() - start)
    return min(items)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
