"""Image towers of other projects: tiny, random weights, saved as their makers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SHAPE: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
VIT = {**SHAPE, "image_size": 32, "patch_size": 8}
DINO = {name: value for name, value in VIT.items() if name != "intermediate_size"} | {"mlp_ratio": 2}
STAGES: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 24, 32], "depths": [1, 2, 1]}
# name: transformers' class, and what its configuration says
IMAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "siglip": ("SiglipVisionModel", VIT),
    "siglip without a head": ("SiglipVisionModel", {**VIT, "vision_use_head": False}),
    "clip": ("CLIPVisionModel", VIT),
    "vit": ("ViTModel", VIT),
    "dinov2": ("Dinov2Model", {**DINO, "layerscale_value": 0.5}),
    "resnet basic": ("ResNetModel", {**STAGES, "layer_type": "basic"}),
    "resnet bottleneck": ("ResNetModel", STAGES),
}


def varied(model: nn.Module) -> nn.Module:
    """Every number drawn anew, none of them at a start that would hide a mistake; in eval mode."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("normalization.weight", "norm.weight")):
                tensor.uniform_(0.3, 0.9)
            elif tensor.dim() == 4:
                tensor.normal_(std=tensor[0].numel() ** -0.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.2)
    return model.eval()


def image_model(name: str) -> Any:
    """A model of transformers'."""
    import transformers

    kind, config = IMAGES[name]
    made = getattr(transformers, kind.replace("Model", "Config"))(**config)
    return varied(getattr(transformers, kind)(made))


def saved(folder: Path, name: str) -> Any:
    """The same, with its files in a folder."""
    model = image_model(name)
    model.save_pretrained(folder)
    return model


def seen_by(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Patches (B, L, D), without a class token, and the pooled vector (B, D) if there is one."""
    out = model(pixel_values=pixels)
    tokens, pooled = out.last_hidden_state, getattr(out, "pooler_output", None)
    if tokens.dim() == 4:
        return tokens.flatten(2).transpose(1, 2), pooled.flatten(1)
    grid = model.config.image_size // model.config.patch_size
    return tokens[:, tokens.shape[1] - grid**2 :], pooled
