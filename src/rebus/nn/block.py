"""A transformer layer with layer norms and a plain MLP: BERT's (norms after), SigLIP's and CLIP's (norms before).

The decoder's layer, with RMS norms, SwiGLU and a cache, is in ``rebus.models.towers.decoder``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rebus.nn.attention import Attention
from rebus.nn.feedforward import MLP


class EncoderLayer(nn.Module):
    """Self-attention that sees both ways, then an MLP, each added to the stream.

    Args:
        width: D.
        heads: attention heads.
        hidden: size inside the MLP.
        activation: of the MLP.
        norm_first: norm what enters each part (SigLIP) or the sum that leaves it (BERT).
        eps: of the norms.
        dropout: chance of dropping a value in training.
        layer_scale: what the learned factors start at on what each part adds; None or 0: there are none. Source:
            Touvron et al. (2021), "Going deeper with Image Transformers".
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        activation: str = "gelu",
        norm_first: bool = True,
        eps: float = 1e-6,
        dropout: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads, bias=True, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, activation)
        self.dropout = nn.Dropout(dropout)
        self.scale1 = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None
        self.scale2 = nn.Parameter(torch.full((width,), layer_scale)) if layer_scale else None

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, L, D) and a bool mask that broadcasts to (B, H, L, L), True = may attend -> (B, L, D).

        With ``causal``, a token also sees none of those after it.
        """
        first, second = self.norm_first, not self.norm_first
        mixed = self.dropout(self.attention(self.norm1(x) if first else x, mask=mask, causal=causal))
        x = x + (mixed if self.scale1 is None else mixed * self.scale1)
        x = self.norm1(x) if second else x
        changed = self.dropout(self.mlp(self.norm2(x) if first else x))
        x = x + (changed if self.scale2 is None else changed * self.scale2)
        return self.norm2(x) if second else x


def start_weights(root: nn.Module, *, std: float | None = None) -> None:
    """Give every linear layer and embedding below ``root`` its first values.

    Args:
        root: a module.
        std: of linear weights; None: one over the root of the inputs, so that outputs start as large as inputs.
    """
    for module in root.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5 if std is None else std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
