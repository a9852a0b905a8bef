"""A transformer layer with layer norms and a plain MLP: BERT's (norms after) and SigLIP's (norms before).

The decoder's layer, with RMS norms, SwiGLU and a cache, is in ``rebus.models.towers.decoder``.
"""

from __future__ import annotations

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
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads, bias=True, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, L, D) and a bool mask that broadcasts to (B, H, L, L), True = may attend -> (B, L, D)."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
            x = x + self.dropout(self.mlp(self.norm2(x)))
        else:
            x = self.norm1(x + self.dropout(self.attention(x, mask=mask)))
            x = self.norm2(x + self.dropout(self.mlp(x)))
        return x


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
