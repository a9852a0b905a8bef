"""``cross``: two towers that attend to each other, unless the recipe says otherwise through gates that start at zero.

The gate, tanh of a learned number that starts at zero, is that of Alayrac et al., "Flamingo: a Visual Language
Model for Few-Shot Learning", 2022: at the first step each tower is as it would be alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from rebus import recipe
from rebus.models.features import Features, join_features, masked_mean
from rebus.models.fusion.base import FUSIONS, Condition, Fusion, FusionLayer
from rebus.nn.norms import RMSNorm


@FUSIONS.register("cross")
class Cross(Fusion):
    """Each modality's tokens attend to the tokens of the others, layer by layer.

    A generative head gets all tokens as memory that each of its layers attends to.
    """

    attends_memory = True
    tokenwise = True
    by_modality = True

    def __init__(self, settings: recipe.Fusion, widths: dict[str, int], width: int) -> None:
        super().__init__(settings, widths, width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: FusionLayer.of(settings, width, "zero") for name in widths})
            for _ in range(settings.depth)
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
        others = [part for other, part in known.items() if other != name]
        if not others:
            return known[name]
        memory = join_features(others)
        return replace(known[name], tokens=layer(known[name].tokens, memory.mask, memory.tokens))
