"""A vision transformer in the layouts of SigLIP, CLIP, ViT and DINOv2.

Sources: Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words"; Zhai et al. (2023), "Sigmoid Loss for Language
Image Pre-Training"; Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision";
Oquab et al. (2024), "DINOv2"; the pooling head: Zhai et al. (2022), "Scaling Vision Transformers".
``rebus.formats`` renames the parameters of Hugging Face's models to these.
Letters: B items, S side of the image, P side of a patch, L = (S / P)^2 tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.models.towers.base import TOWERS, ImageTower, all_real
from rebus.nn.attention import Attention
from rebus.nn.block import EncoderLayer, start_weights
from rebus.nn.feedforward import MLP

EPS, ACTIVATION = 1e-6, "gelu_tanh"  # where the recipe says nothing


class PoolingHead(nn.Module):
    """One learned question asked of all patches: (B, L, D) -> (B, D)."""

    def __init__(self, width: int, heads: int, hidden: int, activation: str, eps: float) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = Attention(width, heads, bias=True)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, activation)

    def forward(self, tokens: Tensor) -> Tensor:
        """The probe's vector after attention and MLP."""
        x = self.attention(self.probe.expand(len(tokens), -1, -1), memory=tokens)
        out: Tensor = (x + self.mlp(self.norm(x)))[:, 0]
        return out


@TOWERS.register("vit")
class ViT(ImageTower):
    """Patches, learned positions, layers that norm first, and a last norm. Its Features hold the patches alone.

    Args:
        settings: width, depth, heads, hidden (None: four times the width), patch, dropout, activation, eps,
            patch_bias, class_token, pre_norm, layer_scale;
            ``pool``: ``mean`` of the patches, ``cls``, the class token, ``pooler``, tanh(W x + b) of it, or ``probe``,
            by attention, as SigLIP does; ``last_norm``: norm all ``tokens``, or, as CLIP does, ``pooled`` alone.
        context: see ``ImageTower``.

    Raises:
        RecipeError: the size is not a multiple of the patch, or the settings do not go together.
    """

    follows = True
    drops_patches = True  # it can be given some patches only: see ``forward``'s ``keep``

    def __init__(self, settings: recipe.Tower, **context: Any) -> None:
        super().__init__(settings, **context)
        _check_pool(settings)
        width, hidden = settings.width, settings.hidden or 4 * settings.width
        activation, eps = settings.activation or ACTIVATION, settings.eps or EPS
        self.patches = nn.Conv2d(3, width, settings.patch, stride=settings.patch, bias=settings.patch_bias)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02) if settings.class_token else None
        self.before = int(settings.class_token)
        self.pooling = {"mean": "mean", "probe": "probe"}.get(settings.pool, "first")
        self.position = nn.Parameter(torch.randn(self.num_tokens + settings.class_token, width) * 0.02)
        self.pre_norm = nn.LayerNorm(width, eps=eps) if settings.pre_norm else None
        self.layers = nn.ModuleList(
            EncoderLayer(
                width,
                settings.heads,
                hidden,
                activation=activation,
                eps=eps,
                dropout=settings.dropout,
                layer_scale=settings.layer_scale,
            )
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = PoolingHead(width, settings.heads, hidden, activation, eps) if settings.pool == "probe" else None
        self.pooler = nn.Linear(width, width) if settings.pool == "pooler" else None
        start_weights(self)
        for name, weight in self.layers.named_parameters():
            if name.endswith(("attention.o_proj.weight", "mlp.fc2.weight")):  # each layer starts as the identity
                nn.init.zeros_(weight)

    def forward(self, pixels: Tensor, keep: Tensor | None = None) -> Features:
        """(B, 3, S, S) normalised -> Features of L tokens, row by row; with ``keep`` (B, K), of these places."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)  # (B, L, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1).to(x.dtype), x], dim=1)
        x = x + self.position
        if keep is not None:  # a class token stays
            first, chosen = x.split([x.shape[1] - self.num_tokens, self.num_tokens], dim=1)
            x = torch.cat([first, chosen.gather(1, keep[..., None].expand(-1, -1, self.width))], dim=1)
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        for layer in self.layers:
            x = layer(x)
        late = self.settings.last_norm == "pooled"
        if not late:
            x = self.norm(x)
        patches = x if self.class_token is None else x[:, 1:]
        return all_real(patches, self._pooled(x, patches, late))

    def fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors with positions for this tower's grid."""
        position = {name: resized_positions(tensor, self.grid) for name, tensor in state.items() if name == "position"}
        return {**state, **position}

    def _pooled(self, x: Tensor, patches: Tensor, late: bool) -> Tensor:
        if self.head is not None:
            probed: Tensor = self.head(patches)
            return probed
        pooled = patches.mean(1) if self.settings.pool == "mean" else x[:, 0]
        if late:
            pooled = self.norm(pooled)
        return pooled if self.pooler is None else torch.tanh(self.pooler(pooled))


def resized_positions(position: Tensor, grid: int) -> Tensor:
    """Learned positions for another grid, bicubic as in DINOv2: (cls + L, D) -> (cls + grid^2, D), cls 0 or 1.

    Given back as they are where they fit already, or are of no square with or without a class token.
    """
    side = int(position.shape[0] ** 0.5)
    first = position.shape[0] - side * side
    if side == grid or first not in (0, 1) or not side or grid < 1:
        return position
    square = position[first:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([position[:first], resized[0].flatten(1).T.to(position.dtype)])


def _check_pool(settings: recipe.Tower) -> None:
    if settings.pool in ("cls", "pooler") and not settings.class_token:
        do = "set model.image.class_token=true, or another pool"
        raise RecipeError("setting 'model.image.pool'", "a class token to pool by", f"'{settings.pool}', none", do)
    if settings.pool == "probe" and settings.last_norm == "pooled":
        do = "set model.image.last_norm=tokens"
        raise RecipeError("setting 'model.image.last_norm'", "tokens, with a probe", "'pooled'", do)
