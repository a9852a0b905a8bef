"""Low-rank adapters beside linear layers. It knows no models, no files and no loops.

Source: Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models". Letters: I inputs, O outputs, r rank.

Adapters are trained by AdamW, whatever the other matrices are trained by: Muon makes all singular values of an update
alike, and a factor of rank r has only r of them, each of which then moves as much as the strongest; what the product
of the two factors changes has no such bound at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.nn.attention import Attention
from rebus.nn.feedforward import MLP, SwiGLU

FACTORS = ("lora_A", "lora_B")


class LoraLinear(nn.Linear):
    """``x W^T + b + scale * (drop(x) A^T) B^T``, with W and b frozen, A (r, I) and B (O, r) learned.

    It stands in place of a linear layer and shares its tensors, under the same names. B starts at zero, so that the
    layer starts as it was.

    Args:
        base: the layer to stand for; its weights are frozen.
        rank: r.
        scale: what the adapter's output counts: alpha / r.
        dropout: chance of dropping an input of the adapter in training.
        generator: A is drawn from it, uniformly within 1 / sqrt(I), as PEFT does.
    """

    def __init__(
        self, base: nn.Linear, rank: int, scale: float, dropout: float = 0.0, generator: torch.Generator | None = None
    ) -> None:
        nn.Module.__init__(self)  # the weights are the base's: none are drawn
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        for own in base.parameters():
            own.requires_grad_(False)
        bound = 1 / math.sqrt(self.in_features)
        start = torch.empty(rank, self.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(base.weight))
        self.lora_B = nn.Parameter(base.weight.new_zeros(self.out_features, rank))
        self.scale, self.dropout = scale, nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:
        """(..., I) -> (..., O)."""
        beside = F.linear(F.linear(self.dropout(input), self.lora_A), self.lora_B)
        return F.linear(input, self.weight, self.bias) + self.scale * beside

    @property
    def delta(self) -> Tensor:
        """(O, I): what the adapter adds to the weight."""
        return self.scale * (self.lora_B.float() @ self.lora_A.float())


Chooser = Callable[[str, nn.Linear, nn.Module], bool]


def inside_block(name: str, layer: nn.Linear, parent: nn.Module) -> bool:
    """Whether a layer belongs to an attention or a feed-forward: those that get an adapter unless others are named."""
    return isinstance(parent, (Attention, SwiGLU, MLP))


def ends_with(targets: list[str]) -> Chooser:
    """A chooser of the layers whose names end with one of ``targets``, from a dot on."""

    def chosen(name: str, layer: nn.Linear, parent: nn.Module) -> bool:
        return any(name == target or name.endswith("." + target) for target in targets)

    return chosen


def add_lora(
    model: nn.Module, choose: Chooser, *, rank: int, alpha: float, dropout: float = 0.0, seed: int = 0
) -> list[str]:
    """Put adapters in place of the linear layers that ``choose`` picks; gives their names, in the model's order.

    Args:
        model: changed in place; only the chosen layers' own weights are frozen.
        choose: (name, layer, the module that holds it) -> whether it gets one.
        rank: of every adapter.
        alpha: their outputs count alpha / rank.
        dropout: chance of dropping an adapter's input in training.
        seed: of the first factors.
    """
    generator = torch.Generator().manual_seed(seed)
    names = []
    for path, parent in list(model.named_modules()):
        for name, layer in list(parent.named_children()):
            full = f"{path}.{name}" if path else name
            if type(layer) is nn.Linear and choose(full, layer, parent):
                setattr(parent, name, LoraLinear(layer, rank, alpha / rank, dropout, generator))
                names.append(full)
    return names


def folded(layer: nn.Linear) -> Tensor:
    """(O, I): a layer's weight as it counts, its adapter added where it has one; for who makes the product itself."""
    if not isinstance(layer, LoraLinear):
        return layer.weight
    return (layer.weight.detach().float() + layer.delta.detach()).to(layer.weight.dtype)


def adapters(model: nn.Module) -> dict[str, LoraLinear]:
    """Name: adapted layer, in the model's order."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}


@torch.no_grad()
def merged(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's state with every adapter added to its weight and left out itself.

    Args:
        model: with or without adapters.
        state: its tensors by name, e.g. ``model.state_dict()``, in any precision.
    """
    layers = adapters(model)
    out = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] not in FACTORS}
    for name, layer in layers.items():
        weight = out[f"{name}.weight"]
        out[f"{name}.weight"] = (weight.float() + layer.delta.to(weight.device)).to(weight.dtype)
    return out


@torch.no_grad()
def take_out_lora(model: nn.Module) -> None:
    """Put plain linear layers where adapted ones are, each with its adapter added to its weight; in place."""
    for path, layer in adapters(model).items():
        parent, _, name = path.rpartition(".")
        plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        layer.weight.copy_(folded(layer))
        plain.weight, plain.bias = layer.weight, layer.bias
        setattr(model.get_submodule(parent), name, plain)
