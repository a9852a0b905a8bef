"""Normalisation over the last dimension."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.nn import fused_cpu


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale: ``weight * x / sqrt(mean(x^2) + eps)``.

    Computed in float32 whatever the input's type, and given back in the input's type.
    Source: Zhang and Sennrich (2019), "Root Mean Square Layer Normalization".

    Args:
        width: size of the last dimension.
        eps: added to the mean square.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if fused_cpu.applies(x):
            return fused_cpu.rms_norm(x, self.weight, self.eps)
        if x.dtype == torch.float32:
            return F.rms_norm(x, self.weight.shape, self.weight.float(), self.eps)
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)

    def extra_repr(self) -> str:
        """Width and epsilon, for printing."""
        return f"{self.weight.numel()}, eps={self.eps}"


def make_norm(kind: str, width: int, eps: float) -> nn.Module:
    """An RMS norm (``rms``), or a layer norm with a bias (``layer``; Ba et al., 2016, "Layer Normalization")."""
    return RMSNorm(width, eps) if kind == "rms" else nn.LayerNorm(width, eps=eps)
