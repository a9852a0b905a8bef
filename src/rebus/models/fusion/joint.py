"""``joint``: pooled features of each modality, fused by concat, mean, weighted gates or sum.

Letters: B items, M modalities, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features
from rebus.models.fusion.base import FUSIONS, Condition, Fusion
from rebus.nn.feedforward import SwiGLU
from rebus.nn.norms import RMSNorm


@FUSIONS.register("joint")
class Joint(Fusion):
    """One vector an item.

    A generative head is conditioned position by position: the image's vector and the token's own embedding are
    fused in the same way as two modalities are, so that the strategy means the same thing in every task.
    """

    blends = True

    def __init__(self, settings: recipe.Fusion, widths: dict[str, int], width: int) -> None:
        super().__init__(settings, widths, width)
        self.how = settings.how
        self.blend = Blend(settings.how, len(widths), width, settings.dropout)
        self.enter_norm = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.enter_blend = Blend(settings.how, 2, width, settings.dropout)
        # A blend is linear: by itself it cannot say "red and moon, or blue and sun". A decoder's layers can.
        self.deepen: nn.Module | None = nn.Sequential(RMSNorm(width), SwiGLU(width, 4 * width * 2 // 3))

    def forward(self, features: dict[str, Features]) -> Features:
        """Fuse pooled features; ``tokens`` is the fused vector alone, (B, 1, D)."""
        vector, present = self._fused(features)
        if self.deepen is not None:
            vector = vector + self.deepen(vector)
        return Features(vector.unsqueeze(1), torch.ones_like(present).unsqueeze(1), vector)

    def only_writes(self) -> None:
        """The decoder is deep enough."""
        self.deepen = None

    def condition(self, features: dict[str, Features]) -> Condition:
        """The fused vector (B, D)."""
        vector, present = self._fused(features)
        return Condition(vector=vector, present=present)

    def enter(self, condition: Condition, embedded: Tensor) -> Tensor:
        """Fuse the condition's vector into each position of (B, L, D)."""
        if condition.vector is None or condition.present is None:
            return embedded
        vector = self.enter_norm[0](condition.vector).unsqueeze(1).expand_as(embedded)
        here = condition.present.unsqueeze(1).expand(embedded.shape[:2])
        parts = torch.stack([vector, self.enter_norm[1](embedded)], dim=-2)  # (B, L, 2, D)
        blended: Tensor = self.enter_blend(parts, torch.stack([here, torch.ones_like(here)], dim=-1))
        return blended

    def text_tokens(self, features: dict[str, Features]) -> Tensor:
        """Each text token blended with the fused vector, as ``enter`` does for a decoder: (B, L, D)."""
        return self.enter(self.condition(features), self.project["text"](features["text"].tokens))

    def gates(self, features: dict[str, Features]) -> dict[str, Tensor]:
        """The share of each modality for each item, (B,); equal shares unless ``how`` is weighted."""
        parts, present = self._stacked(features)
        shares = self.blend.shares(parts, present)
        return {name: shares[:, i] for i, name in enumerate(self.modalities)}

    def _fused(self, features: dict[str, Features]) -> tuple[Tensor, Tensor]:
        parts, present = self._stacked(features)
        return self.blend(parts, present), present.any(-1)

    def _stacked(self, features: dict[str, Features]) -> tuple[Tensor, Tensor]:
        """(B, M, D) and (B, M); a modality that was not given is absent."""
        known = self.projected(features)
        some = next(iter(known.values()))
        zeros, nowhere = torch.zeros_like(some.pooled), torch.zeros_like(some.mask[:, 0])
        vectors = [known[m].pooled if m in known else zeros for m in self.modalities]
        present = [known[m].mask.any(1) if m in known else nowhere for m in self.modalities]
        return torch.stack(vectors, dim=-2), torch.stack(present, dim=-1)


class Blend(nn.Module):
    """M vectors to one: (..., M, D), present (..., M) -> (..., D).

    In the place of an absent one stands a learned vector; shares (mean, weighted) are of those present, or of all
    where none is.
    """

    def __init__(self, how: str, count: int, width: int, dropout: float) -> None:
        super().__init__()
        self.how = how
        self.absent = nn.Parameter(torch.zeros(count, width))
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Linear(count * width, count) if how == "weighted" else None
        self.mix = nn.Linear(count * width, width) if how == "concat" else nn.Linear(width, width)

    def shares(self, parts: Tensor, present: Tensor) -> Tensor:
        """How much each vector counts, (..., M), summing to one over those present; all count where none is."""
        present = present | ~present.any(-1, keepdim=True)
        scores = torch.zeros_like(present, dtype=parts.dtype) if self.gate is None else self.gate(parts.flatten(-2))
        scores = scores.float().masked_fill(~present, -1e9)
        return torch.where(present, scores.softmax(-1), 0.0).to(parts.dtype)

    def forward(self, parts: Tensor, present: Tensor) -> Tensor:
        """Blend."""
        parts = torch.where(present.unsqueeze(-1), parts, self.absent.to(parts.dtype))
        if self.how == "concat":
            mixed = parts.flatten(-2)
        elif self.how == "sum":
            mixed = parts.sum(-2)
        else:  # mean is the case of equal shares
            mixed = (parts * self.shares(parts, present).unsqueeze(-1)).sum(-2)
        out: Tensor = self.mix(self.dropout(mixed))
        return out
