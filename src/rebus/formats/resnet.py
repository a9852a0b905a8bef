"""ResNet checkpoints (in the ResNetModel layout) and the residual network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebus.formats.config import Fields, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.names import NameMap
from rebus.formats.processors import IMAGENET
from rebus.nn.stages import resnet_shape

_BLOCK = "resnet.encoder.stages.{n}.layers.{m}"
_ROWS = tuple(
    (f"image.{ours}.{part}", f"{theirs}.{its}")
    for ours, theirs in (
        ("stem", "resnet.embedder.embedder"),
        ("stages.{n}.{m}.shortcut", f"{_BLOCK}.shortcut"),
        ("stages.{n}.{m}.layers.{k}", f"{_BLOCK}.layer.{{k}}"),
    )
    for part, its in (
        ("conv.weight", "convolution.weight"),
        ("norm.{p}", "normalization.{p}"),
        ("norm.{s}", "normalization.{s}"),
    )
)
SIZE = 224  # of the images, which the configuration does not say


@FAMILIES.register("resnet")
class ResNet(CheckpointFamily):
    """Residual networks of basic or bottleneck blocks."""

    name, base, owns = "resnet", "ResNetModel", ("image.",)
    names = NameMap("resnet", _ROWS, base="resnet.", ignored=r"^classifier\.")
    heads = {"ResNetForImageClassification": "classifier.1"}
    usual = {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875, **IMAGENET}

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name)
        fields.demand("model_type", (self.name,))
        fields.demand("num_channels", (3,), 3)
        fields.demand("hidden_act", ("relu",), "relu")
        fields.demand("downsample_in_first_stage", (False,), False)
        fields.demand("downsample_in_bottleneck", (False,), False)
        channels = fields.numbers("hidden_sizes", (256, 512, 1024, 2048))
        blocks = fields.numbers("depths", (3, 4, 6, 3))
        if len(channels) != len(blocks):
            raise fields.refuse("hidden_sizes", f"{len(blocks)} numbers, as depths has", channels)
        image = tower_of(
            self.name,
            kind="resnet",
            width=channels[-1],
            depth=max(blocks),
            patch=2 ** (len(blocks) + 1),
            block=fields.demand("layer_type", ("basic", "bottleneck"), "bottleneck"),
            stages=blocks,
            channels=[fields.number("embedding_size", 64), *channels],
        )
        return CheckpointSpec(image=image, size=SIZE)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a residual network; the size of its images has no place there."""
        assert spec.image is not None  # noqa: S101 - it fits
        blocks, channels = resnet_shape(spec.image)
        return {
            "model_type": self.name,
            "architectures": [spec.architecture or self.base],
            "num_channels": 3,
            "embedding_size": channels[0],
            "hidden_sizes": channels[1:],
            "depths": blocks,
            "layer_type": spec.image.block,
            "hidden_act": "relu",
            "downsample_in_first_stage": False,
            "downsample_in_bottleneck": False,
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such an image tower."""
        image = spec.image
        return spec.text is None and image is not None and image.kind == "resnet" and image.eps in (None, 1e-5)
