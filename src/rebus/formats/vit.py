"""ViT checkpoints (Google's, in the ViTModel layout) and the vision transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import Fields
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.names import NameMap, State, prefixed
from rebus.formats.vision import VisionTransformer
from rebus.recipe import Tower

MODULE_ATTENTION = {
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
}


def shared_rows(base: str) -> tuple[tuple[str, str], ...]:
    """Names that ViT and DINOv2 have in common, under the base's prefix."""
    layer = f"{base}.encoder.layer.{{n}}"
    rows = (
        ("class_token", f"{base}.embeddings.cls_token"),
        ("position", f"{base}.embeddings.position_embeddings"),
        ("patches.{p}", f"{base}.embeddings.patch_embeddings.projection.{{p}}"),
        ("layers.{n}.attention.q_proj.{p}", f"{layer}.attention.attention.query.{{p}}"),
        ("layers.{n}.attention.k_proj.{p}", f"{layer}.attention.attention.key.{{p}}"),
        ("layers.{n}.attention.v_proj.{p}", f"{layer}.attention.attention.value.{{p}}"),
        ("layers.{n}.attention.o_proj.{p}", f"{layer}.attention.output.dense.{{p}}"),
        ("norm.{p}", f"{base}.layernorm.{{p}}"),
    )
    return prefixed("image.", rows)


class Batched(VisionTransformer):
    """Families whose files hold the class token as (1, 1, D) and positions as (1, L, D)."""

    dropout = "hidden_dropout_prob"

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the names of a model; one of another shape stays as it is, to be refused by whoever loads it.

        The pooler is kept where ``pool`` is ``pooler``.
        """
        named = self.names.from_hf(state)
        for name, lead in (("image.class_token", (1, 1)), ("image.position", (1,))):
            if name in named and named[name].dim() == 3 and named[name].shape[: len(lead)] == lead:
                named[name] = named[name].reshape(named[name].shape[len(lead) :])
        pooled = spec.image is not None and spec.image.pool == "pooler"
        return {name: tensor for name, tensor in named.items() if pooled or not name.startswith("image.pooler.")}

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round."""
        lead = {"image.class_token": (1, 1), "image.position": (1,)}
        return self.names.to_hf({name: item.reshape(*lead.get(name, ()), *item.shape) for name, item in state.items()})


@FAMILIES.register("vit")
class Vit(Batched):
    """A class token, pooled by it alone or through a layer of its own."""

    name, base, processor = "vit", "ViTModel", "ViT"
    heads = {"ViTForImageClassification": "classifier"}
    names = NameMap(
        "vit",
        (
            *shared_rows("vit"),
            *prefixed(
                "image.",
                (
                    ("layers.{n}.norm1.{p}", "vit.encoder.layer.{n}.layernorm_before.{p}"),
                    ("layers.{n}.norm2.{p}", "vit.encoder.layer.{n}.layernorm_after.{p}"),
                    ("layers.{n}.mlp.fc1.{p}", "vit.encoder.layer.{n}.intermediate.dense.{p}"),
                    ("layers.{n}.mlp.fc2.{p}", "vit.encoder.layer.{n}.output.dense.{p}"),
                    ("pooler.{p}", "vit.pooler.dense.{p}"),
                ),
            ),
        ),
        base="vit.",
        ignored=r"^classifier\.|mask_token$|^decoder\.",
    )
    file_names = {
        r"(^|\.)layers\.(\d+)\.": r"\1encoder.layer.\2.",
        **MODULE_ATTENTION,
        r"\.mlp\.fc1\.": ".intermediate.dense.",
        r"(\.layer\.\d+)\.mlp\.fc2\.": r"\1.output.dense.",
    }
    eps = 1e-12
    shape = {"class_token": True}

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """How it is pooled.

        Its pooler is taken for what it is in a ViTModel; a model with another head, as its ``architectures`` tell, was
        trained without it and is pooled by its class token alone.
        """
        fields.demand("qkv_bias", (True,), True)
        fields.demand("pooler_act", ("tanh",), "tanh")
        fields.demand("pooler_output_size", (fields.number("hidden_size"), None))
        named = fields.entries.get("architectures") or ["ViTModel"]
        return {"pool": "pooler" if isinstance(named, list) and "ViTModel" in named else "cls"}

    def own_config(self, image: Tower) -> dict[str, Any]:
        """The same in config.json."""
        pooler = {"pooler_act": "tanh", "pooler_output_size": image.width}
        return {"attention_probs_dropout_prob": image.dropout, "qkv_bias": True, **pooler}

    def pools(self) -> tuple[str, ...]:
        """By its class token."""
        return ("cls", "pooler")
