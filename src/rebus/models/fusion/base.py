"""What a fusion is: it takes the towers' Features and gives one Features, or what a decoder writes from.

Letters: B items, L tokens, D width. A modality that an item lacks has no real token in the mask of its Features; a
fusion puts one learned token in its place, so that nothing ever attends to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features
from rebus.nn.attention import Attention
from rebus.nn.feedforward import SwiGLU
from rebus.nn.norms import RMSNorm
from rebus.registry import Registry

GateKind = Literal["none", "zero", "scale"]
SCALE = 0.1  # what LayerScale starts at for networks of up to 18 layers


@dataclass(frozen=True)
class Condition:
    """What a decoder is given to write from; a fusion fills one of the first three.

    Attributes:
        prefix: tokens read before the text, seen by all of it and by one another (``unified``).
        memory: tokens that every decoder layer may attend to (``cross``).
        vector: (B, D), fused into every text position (``joint``).
        present: (B,) bool, where ``vector`` holds anything.
        shown: image tokens that words are looked up in, where a head names patches: ``pooled`` is not used.
        names: (B, P, D), what each of these tokens shows, in the space of the words.
        inside: image tokens that take the place of the image marks in the text (``unified``, inline).
    """

    prefix: Features | None = None
    memory: Features | None = None
    vector: Tensor | None = None
    present: Tensor | None = None
    shown: Features | None = None
    names: Tensor | None = None
    inside: Features | None = None

    def select(self, owner: Tensor) -> Condition:
        """The condition of items ``owner`` (R,): several texts may share one image."""
        parts: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        for name, value in parts.items():
            if value is not None:
                parts[name] = value.select(owner) if isinstance(value, Features) else value[owner]
        return Condition(**parts)


class Fusion(nn.Module):
    """The base of all fusions.

    Args:
        settings: the recipe's ``model.fusion``.
        widths: modality: width of its tower's Features.
        width: D, of what the fusion gives.
    """

    attends_memory = False  # a decoder beneath this fusion needs cross-attention layers
    tokenwise = False  # it gives the tokens of all modalities, and so does its condition
    by_modality = False  # its layers hold one for each modality, which attends to the others
    blends = False  # it gives one vector, of which each modality has a share

    @property
    def mixes_tokens(self) -> bool:
        """Whether tokens attend to one another in it."""
        return self.tokenwise and len(getattr(self, "layers", ())) > 0

    def __init__(self, settings: recipe.Fusion, widths: dict[str, int], width: int) -> None:
        super().__init__()
        self.width = width
        self.modalities = list(widths)
        # Towers differ in scale; norming each before it meets the other keeps the louder one from drowning it.
        self.project = nn.ModuleDict(
            {name: nn.Sequential(RMSNorm(size), nn.Linear(size, width)) for name, size in widths.items()}
        )
        # Zeros: drawing them would change every weight that is drawn after them.
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name in widths})

    def forward(self, features: dict[str, Features]) -> Features:
        """Fuse: ``{modality: (B, L_m, D_m)}`` -> Features of width D."""
        raise NotImplementedError

    def condition(self, features: dict[str, Features]) -> Condition:
        """What a decoder writes from, given the same features."""
        raise NotImplementedError

    def text_tokens(self, features: dict[str, Features]) -> Tensor:
        """(B, L, D): what each text token is once it has met the other modalities."""
        fused: Features = self(features)  # a fusion of tokens keeps the order they are given in
        ends = accumulate(part.tokens.shape[1] for part in features.values())
        end = dict(zip(features, ends, strict=True))["text"]
        return fused.tokens[:, end - features["text"].tokens.shape[1] : end]

    def enter(self, condition: Condition, embedded: Tensor) -> Tensor:
        """Change text embeddings (B, L, D) on their way into the decoder; most fusions leave them."""
        return embedded

    def only_writes(self) -> None:
        """No head reads what ``forward`` gives: let go of the layers that only it uses."""

    def projected(self, features: dict[str, Features]) -> dict[str, Features]:
        """Every modality at width D."""
        project = self.project
        return {
            n: Features(project[n](part.tokens), part.mask, project[n](part.pooled)) for n, part in features.items()
        }

    def completed(self, features: dict[str, Features]) -> dict[str, Features]:
        """Every modality at width D, each item with at least one token of each: a learned one where it has none."""
        return {name: with_absent(part, self.absent[name]) for name, part in self.projected(features).items()}


def with_absent(part: Features, vector: Tensor) -> Features:
    """Features (B, L, D) in which an item without a real token has ``vector`` (D,) as its first and as ``pooled``."""
    there = part.mask.any(1, keepdim=True)  # (B, 1)
    vector = vector.to(part.tokens.dtype)
    first = torch.where(there, part.tokens[:, 0], vector)
    tokens = torch.cat([first.unsqueeze(1), part.tokens[:, 1:]], dim=1)
    mask = torch.cat([part.mask[:, :1] | ~there, part.mask[:, 1:]], dim=1)
    return Features(tokens, mask, torch.where(there, part.pooled, vector.to(part.pooled.dtype)))


class FusionLayer(nn.Module):
    """Pre-norm attention and feed-forward over (B, L, D), each behind a gate where there is one."""

    def __init__(self, width: int, heads: int, dropout: float, gate: GateKind = "none") -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, heads, qk_norm=True)
        self.attention_gate = make_gate(gate, width)
        self.forward_norm = RMSNorm(width)
        self.forward_net = SwiGLU(width, 4 * width * 2 // 3)
        self.forward_gate = make_gate(gate, width)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def of(cls, settings: recipe.Fusion, width: int, usual: GateKind) -> FusionLayer:
        """A layer with the recipe's heads, dropout and gate; ``usual`` where it leaves the gate to the fusion."""
        gate = usual if settings.gate == "auto" else settings.gate
        return cls(width, settings.heads or 1, settings.dropout, gate)

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor | None = None) -> Tensor:
        """(B, L, D) attends to a memory (B, M, D), or to itself, where the mask (B, M) is true -> (B, L, D)."""
        attended = self.attention(self.attention_norm(x), memory=memory, mask=mask[:, None, None, :])
        x = x + gated(self.dropout(attended), self.attention_gate)
        out: Tensor = x + gated(self.dropout(self.forward_net(self.forward_norm(x))), self.forward_gate)
        return out


def make_gate(kind: GateKind, width: int) -> nn.Parameter | None:
    """What a layer's change is multiplied by before it is added.

    ``zero``: tanh of one number that starts at zero, so that the layer does nothing at first (Alayrac et al. 2022,
    "Flamingo: a Visual Language Model for Few-Shot Learning"). ``scale``: D numbers that start at 0.1, LayerScale
    (Touvron et al. 2021, "Going deeper with Image Transformers").
    """
    if kind == "none":
        return None
    return nn.Parameter(torch.zeros(1) if kind == "zero" else torch.full((width,), SCALE))


def gated(change: Tensor, gate: nn.Parameter | None) -> Tensor:
    """A layer's change (B, L, D) after its gate."""
    if gate is None:
        return change
    return change * (gate.tanh() if gate.numel() == 1 else gate)


FUSIONS: Registry[type[Fusion]] = Registry("fusion")
