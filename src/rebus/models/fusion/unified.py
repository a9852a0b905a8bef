"""``unified``: one network reads image tokens and text tokens together.

When a head classifies, the network is a transformer of the fusion's own that sees every token both ways.
When a head writes, the network is the decoder: image tokens are a prefix that all tokens see both ways,
and the text is read causally (the prefix language model of Liu et al., "Generating Wikipedia by Summarizing
Long Sequences", 2018, as used for images by Wang et al., "SimVLM", 2021).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from rebus import recipe
from rebus.models.features import Features, join_features, masked_mean
from rebus.models.fusion.base import FUSIONS, Condition, Fusion, FusionLayer
from rebus.nn.norms import RMSNorm


@FUSIONS.register("unified")
class Unified(Fusion):
    """A transformer over all tokens, with an embedding that says which modality a token is of."""

    tokenwise = True

    def __init__(self, settings: recipe.Fusion, widths: dict[str, int], width: int) -> None:
        super().__init__(settings, widths, width)
        self.modality = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in widths})
        self.layers = nn.ModuleList(FusionLayer.of(settings, width, "none") for _ in range(settings.depth))
        self.norm = RMSNorm(width)

    def forward(self, features: dict[str, Features]) -> Features:
        """All tokens through the transformer; ``pooled`` is the mean over real tokens."""
        joined = self._joined(features)
        x = joined.tokens
        for layer in self.layers:
            x = layer(x, joined.mask)
        x = self.norm(x)
        return Features(x, joined.mask, masked_mean(x, joined.mask))

    def only_writes(self) -> None:
        """The decoder is the network then."""
        self.layers = nn.ModuleList()

    def condition(self, features: dict[str, Features]) -> Condition:
        """All tokens as a prefix for the decoder."""
        return Condition(prefix=self._joined(features))

    def _joined(self, features: dict[str, Features]) -> Features:
        known = self.completed(features)
        return join_features([replace(part, tokens=part.tokens + self.modality[name]) for name, part in known.items()])
