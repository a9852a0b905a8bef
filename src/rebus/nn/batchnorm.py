"""Batch norm over images' channels, which stays as it is where it does not learn."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """(B, C, H, W) -> same. A frozen one norms by what it has seen, in training too, and forgets nothing of it.

    Source: Ioffe and Szegedy (2015), "Batch Normalization".
    """

    def forward(self, x: Tensor) -> Tensor:
        """Norm by the batch while it learns, else by the averages kept."""
        if self.training and not self.weight.requires_grad:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        out: Tensor = super().forward(x)
        return out
