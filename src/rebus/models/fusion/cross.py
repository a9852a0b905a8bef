"""``cross``: two towers that attend to each other, unless the recipe says otherwise through gates that start at zero.

The gate, tanh of a learned number that starts at zero, is that of Alayrac et al., "Flamingo: a Visual Language
Model for Few-Shot Learning", 2022: at the first step each tower is as it would be alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features, join_features, masked_mean
from rebus.models.fusion.base import FUSIONS, Condition, Fusion, GateKind, gate_of, gated, make_gate
from rebus.nn.attention import Attention
from rebus.nn.feedforward import SwiGLU
from rebus.nn.norms import RMSNorm


@FUSIONS.register("cross")
class Cross(Fusion):
    """Each modality's tokens attend to the tokens of the others, layer by layer.

    A generative head gets all tokens as memory that each of its layers attends to.
    """

    attends_memory = True

    def __init__(self, settings: recipe.Fusion, widths: dict[str, int], width: int) -> None:
        super().__init__(settings, widths, width)
        made = (width, settings.heads or 1, settings.dropout, gate_of(settings, "zero"))
        self.layers = nn.ModuleList(
            [nn.ModuleDict({name: GatedCrossLayer(*made) for name in widths}) for _ in range(settings.depth)]
        )
        self.norm = RMSNorm(width)
        self.mix = nn.Linear(len(widths) * width, width)

    def forward(self, features: dict[str, Features]) -> Features:
        """Tokens of all modalities after attending to one another; ``pooled`` mixes each modality's mean."""
        known = self.completed(features)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)  # noqa: S101 - as built above
            known = {name: self._step(layer[name], name, known) for name in known}
        joined = join_features(list(known.values()))
        means = [
            self.norm(masked_mean(known[m].tokens, known[m].mask))
            if m in known
            else self.absent[m].to(joined.pooled.dtype).expand_as(joined.pooled)
            for m in self.modalities
        ]
        return Features(self.norm(joined.tokens), joined.mask, self.mix(torch.cat(means, dim=-1)))

    def only_writes(self) -> None:
        """The decoder is the network then."""
        self.layers = nn.ModuleList()

    def condition(self, features: dict[str, Features]) -> Condition:
        """All tokens as memory for the decoder's cross-attention."""
        return Condition(memory=join_features(list(self.completed(features).values())))

    def _step(self, layer: nn.Module, name: str, known: dict[str, Features]) -> Features:
        here = known[name]
        others = [part for other, part in known.items() if other != name]
        if not others:
            return here
        return Features(layer(here.tokens, join_features(others)), here.mask, here.pooled)


class GatedCrossLayer(nn.Module):
    """Cross-attention and feed-forward, each behind its own gate: (B, L, D), memory -> (B, L, D)."""

    def __init__(self, width: int, heads: int, dropout: float, gate: GateKind = "zero") -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, heads, qk_norm=True)
        self.attention_gate = make_gate(gate, width)
        self.forward_norm = RMSNorm(width)
        self.forward_net = SwiGLU(width, 4 * width * 2 // 3)
        self.forward_gate = make_gate(gate, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Features) -> Tensor:
        """Attend to the memory's real tokens."""
        seen = self.attention(self.attention_norm(x), memory=memory.tokens, mask=memory.mask[:, None, None, :])
        x = x + gated(self.dropout(seen), self.attention_gate)
        out: Tensor = x + gated(self.dropout(self.forward_net(self.forward_norm(x))), self.forward_gate)
        return out
