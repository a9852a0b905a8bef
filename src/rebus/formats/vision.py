"""What the configurations of all vision transformers say in the same words: CLIP's, SigLIP's, ViT's and DINOv2's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.formats.config import ACTIVATIONS, activation_to_hf, decimal, demand, number, side, tower_of
from rebus.recipe import Tower


def shape_to_hf(settings: Tower, size: int) -> dict[str, Any]:
    """The shape of a vision transformer that sees images of ``size`` pixels a side, but for its feed-forward size."""
    return {
        "hidden_size": settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_channels": 3,
        "image_size": size,
        "patch_size": settings.patch,
        "layer_norm_eps": settings.eps or 1e-6,
        "hidden_act": activation_to_hf(settings.activation or "gelu_tanh"),
    }


def shape_from_hf(config: Mapping[str, Any], family: str, *, activation: str, eps: float, **own: Any) -> Tower:
    """The other way round.

    Args:
        config: of the vision transformer alone, with what the family takes for granted filled in.
        family: for messages.
        activation: Hugging Face's name of the one that is meant where none is said.
        eps: of the norms, likewise.
        own: what the family says in its own words, as fields of the tower.

    Raises:
        WeightsError: the configuration asks for something that the tower does not do.
    """
    demand(config, family, "num_channels", (3,), 3)
    said = demand(config, family, "hidden_act", tuple(ACTIVATIONS), activation)
    return tower_of(
        family,
        kind="vit",
        width=number(config, family, "hidden_size"),
        depth=number(config, family, "num_hidden_layers"),
        heads=number(config, family, "num_attention_heads"),
        patch=side(config, family, "patch_size"),
        eps=decimal(config, family, "layer_norm_eps", eps),
        activation=ACTIVATIONS[said],
        **own,
    )
