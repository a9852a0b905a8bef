"""DINOv2 checkpoints (in the Dinov2Model layout) and the vision transformer."""

from __future__ import annotations

from typing import Any

from rebus.errors import WeightsError
from rebus.formats.config import Fields
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.names import NameMap, prefixed
from rebus.formats.processors import IMAGENET
from rebus.formats.vision import BASE
from rebus.formats.vit import MODULE_ATTENTION, Batched, shared_rows
from rebus.recipe import Tower

_LAYER = "dinov2.encoder.layer.{n}"
_ROWS = (
    ("layers.{n}.norm1.{p}", f"{_LAYER}.norm1.{{p}}"),
    ("layers.{n}.scale1", f"{_LAYER}.layer_scale1.lambda1"),
    ("layers.{n}.norm2.{p}", f"{_LAYER}.norm2.{{p}}"),
    ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.fc1.{{p}}"),
    ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.fc2.{{p}}"),
    ("layers.{n}.scale2", f"{_LAYER}.layer_scale2.lambda1"),
)


@FAMILIES.register("dinov2")
class Dinov2(Batched):
    """A class token, and a learned scale on what each layer adds."""

    name, base, usual = "dinov2", "Dinov2Model", IMAGENET
    # the mask token stands for hidden patches while it is trained
    names = NameMap(
        "dinov2",
        (*shared_rows("dinov2"), *prefixed("image.", _ROWS)),
        base="dinov2.",
        ignored=r"^classifier\.|mask_token$",
    )
    file_names = MODULE_ATTENTION
    defaults = {**BASE, "patch_size": 14, "mlp_ratio": 4}
    shape = {"class_token": True, "pool": "cls"}

    def own_settings(self, fields: Fields) -> dict[str, Any]:
        """The scales and the ratio of the feed-forward size."""
        fields.demand("qkv_bias", (True,), True)
        fields.demand("use_swiglu_ffn", (False,), False)
        scale = fields.decimal("layerscale_value", 1.0) or 1.0  # where it starts: the file holds what it is
        return {"layer_scale": scale, "hidden": fields.number("mlp_ratio") * fields.number("hidden_size")}

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a vision transformer.

        Raises:
            WeightsError: the feed-forward size is no multiple of the width: the layout has a place for the ratio alone.
        """
        entries = super().config(spec, **context)
        ratio, rest = divmod(entries.pop("intermediate_size"), entries["hidden_size"])
        if rest:
            do = "use another layout, or train with a multiple"
            received = str(spec.image.hidden if spec.image is not None else None)
            raise WeightsError("model.image.hidden", "a multiple of the width", received, do)
        return {**entries, "mlp_ratio": ratio}

    def own_config(self, image: Tower) -> dict[str, Any]:
        """The scale, and what this tower has not."""
        without = {"qkv_bias": True, "use_mask_token": False, "use_swiglu_ffn": False}
        return {"attention_probs_dropout_prob": image.dropout, "layerscale_value": image.layer_scale, **without}

    def fits_tower(self, image: Tower) -> bool:
        """Whether an image tower can be written so."""
        return bool(image.layer_scale) and super().fits_tower(image.model_copy(update={"layer_scale": None}))
