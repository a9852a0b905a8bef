"""Image towers of CLIP, SigLIP, ViT, DINOv2 and ResNet, both ways, against transformers; EfficientNet-lite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from one_tower import one_tower, tower_family
from rebus.checkpoints.hf_load import is_image_checkpoint, read_checkpoint
from rebus.errors import WeightsError
from rebus.formats.config import load_config
from rebus.formats.family import FAMILIES, family_of
from rebus.formats.names import below
from rebus.formats.resnet import SIZE
from rebus.formats.weights import check_state, load_weights, save_weights
from rebus.models.towers import TOWERS
from rebus.models.towers.efficientnet import EfficientNet
from rebus.models.towers.vit import ViT
from rebus.nn.stages import BLOCKS, CHANNELS
from rebus.recipe import Tower
from tiny_images import IMAGES, VIT, image_model, saved, seen_by, varied

clip, siglip = one_tower("clip_vision_model"), one_tower("siglip_vision_model")
vit, dinov2, resnet, efficientnet = map(one_tower, ("vit", "dinov2", "resnet", "efficientnet_lite"))
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


def tower_of(folder: Path, size: int = 32) -> Any:
    found = read_checkpoint(folder, image_only=True)
    tower = TOWERS.get(found.tower.kind)(found.tower, size=size).eval()
    state = below("image.", found.state())
    check_state(tower, state)
    tower.load_state_dict(state)
    return tower


def with_size(folder: Path, size: int) -> None:
    """A processor that scales images to this size."""
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": size, "width": size}}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_a_checkpoint_gives_the_same_features(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name)
    with_size(tmp_path, 32)
    assert is_image_checkpoint(tmp_path)
    tower = tower_of(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    tokens, pooled = seen_by(model, pixels)
    features = tower(pixels)
    assert tokens.abs().max() > 0.5
    torch.testing.assert_close(features.tokens, tokens, **CLOSE)
    torch.testing.assert_close(features.pooled, tokens.mean(1) if pooled is None else pooled, **CLOSE)
    assert features.tokens.shape[1] == tower.num_tokens
    assert features.width == tower.width


@pytest.mark.parametrize("name", IMAGES)
@torch.no_grad()
def test_ours_loads_in_transformers_and_comes_back(tmp_path: Path, name: str) -> None:
    from transformers import AutoModel

    saved(tmp_path / "theirs", name)
    with_size(tmp_path / "theirs", 32)
    first = tower_of(tmp_path / "theirs")
    torch.manual_seed(5)
    tower = varied(TOWERS.get(first.settings.kind)(first.settings, size=32))
    family = tower_family(tower.settings)
    assert family is not None
    assert IMAGES[name][0] == family.base
    config = family.config_to_hf(tower.settings, 32)
    save_weights(tmp_path / "ours", family.to_hf(tower.state_dict()))
    (tmp_path / "ours/config.json").write_text(json.dumps(config))
    model, report = AutoModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    pixels = torch.randn(2, 3, 32, 32)
    tokens, pooled = seen_by(model.eval(), pixels)
    features = tower(pixels)
    torch.testing.assert_close(features.tokens, tokens, **CLOSE)
    if pooled is not None:
        torch.testing.assert_close(features.pooled, pooled, **CLOSE)
    settings, size = family.settings_from_hf(load_config(tmp_path / "ours"))
    assert settings == tower.settings
    assert size == (SIZE if family.name == "resnet" else 32)
    back = family.from_hf(load_weights(tmp_path / "ours"), settings)
    assert back.keys() == tower.state_dict().keys()
    assert all(torch.equal(back[key], one) for key, one in tower.state_dict().items())


@pytest.mark.parametrize("name", ["clip", "siglip", "vit", "dinov2"])
@torch.no_grad()
def test_images_of_another_size_are_seen_with_resized_positions(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name)
    with_size(tmp_path, 48)
    assert read_checkpoint(tmp_path, image_only=True).image["size"] == 48
    tower = tower_of(tmp_path, size=48)
    pixels = torch.randn(2, 3, 48, 48)
    how = {} if name == "dinov2" else {"interpolate_pos_encoding": True}  # which always does it
    expected = model(pixel_values=pixels, **how).last_hidden_state
    torch.testing.assert_close(tower(pixels).tokens, expected[:, expected.shape[1] - 36 :], **CLOSE)


@torch.no_grad()
def test_a_classifier_and_a_text_tower_are_left_out(tmp_path: Path) -> None:
    from transformers import (
        CLIPConfig,
        CLIPModel,
        Dinov2ForImageClassification,
        ResNetForImageClassification,
        ViTForImageClassification,
    )

    text = {**{key: VIT[key] for key in VIT if "size" not in key or key == "hidden_size"}, "intermediate_size": 40}
    text |= {"vocab_size": 30, "bos_token_id": 1, "eos_token_id": 3}
    makers = {
        "vit": ViTForImageClassification(image_model("vit").config),
        "dinov2": Dinov2ForImageClassification(image_model("dinov2").config),
        "resnet": ResNetForImageClassification(image_model("resnet basic").config),
        "clip": CLIPModel(CLIPConfig(text_config=text, vision_config=VIT, projection_dim=8)),
    }
    pixels = torch.randn(2, 3, 32, 32)
    for name, model in makers.items():
        varied(model).save_pretrained(tmp_path / name)
        inner = getattr(model, "vision_model" if name == "clip" else name)
        with_size(tmp_path / name, 32)
        tower = tower_of(tmp_path / name)
        assert tower.settings.pool == ("mean" if name == "resnet" else "cls")
        tokens, _ = seen_by(inner, pixels)
        torch.testing.assert_close(tower(pixels).tokens, tokens, **CLOSE)


# EfficientNet-lite, of which transformers has none: the published layers, written down again


@torch.no_grad()
def test_efficientnet_lite_is_the_published_network(tmp_path: Path) -> None:
    settings, size = efficientnet.settings_from_hf({"model_type": "efficientnet_lite"})
    assert (settings.width, size, settings.patch) == (1280, 224, 32)
    assert (settings.stages, settings.channels) == ([*BLOCKS], [*CHANNELS])
    thin = settings.model_copy(update={"width": 24, "stages": [1, 2, 1, 1, 1, 1, 1], "channels": [8] * 8})
    tower = varied(EfficientNet(thin, size=64))
    published = efficientnet.to_hf(tower.state_dict())
    assert {"_conv_stem.weight", "_bn0.running_var", "_blocks.2._expand_conv.weight", "_bn1.weight"} <= published.keys()
    assert "_blocks.0._expand_conv.weight" not in published
    pixels = torch.randn(2, 3, 64, 64)
    expected = published_lite(published, pixels, thin.stages)
    torch.testing.assert_close(tower(pixels).tokens, expected.flatten(2).transpose(1, 2), **CLOSE)
    save_weights(tmp_path, {**published, "_fc.weight": torch.zeros(10, 24), "_fc.bias": torch.zeros(10)})
    (tmp_path / "config.json").write_text(json.dumps(efficientnet.config_to_hf(thin, 64)))
    again = tower_of(tmp_path, 64)
    assert again.settings.model_copy(update={"depth": thin.depth}) == thin.model_copy(update={"eps": 1e-3})
    torch.testing.assert_close(again(pixels).tokens, tower(pixels).tokens)


def published_lite(state: dict[str, torch.Tensor], x: torch.Tensor, repeats: list[int]) -> torch.Tensor:
    """The layers of the package efficientnet_lite_pytorch, with TensorFlow's padding."""

    def conv(x: torch.Tensor, name: str, norm: str, stride: int = 1, groups: int = 1, cut: bool = True) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        pad = [max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0) for side in x.shape[2:]]
        x = F.pad(x, [pad[1] // 2, pad[1] - pad[1] // 2, pad[0] // 2, pad[0] - pad[0] // 2])
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        kept = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = F.batch_norm(x, *kept, training=False, eps=1e-3)
        return F.relu6(x) if cut else x

    x = conv(x, "_conv_stem", "_bn0", stride=2)
    strides = [stride if place == 0 else 1 for stride, count in zip((1, 2, 2, 2, 1, 2, 1), repeats, strict=True)
               for place in range(count)]  # fmt: skip
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in state:
            x = conv(x, f"{block}._expand_conv", f"{block}._bn0")
        x = conv(x, f"{block}._depthwise_conv", f"{block}._bn1", stride, groups=x.shape[1])
        x = conv(x, f"{block}._project_conv", f"{block}._bn2", cut=False)
        x = x + before if stride == 1 and x.shape == before.shape else x
    return conv(x, "_conv_head", "_bn1")


# what is refused


@pytest.mark.parametrize(
    ("adapter", "config", "said"),
    [
        (clip, {"model_type": "siglip"}, "model_type"),
        (clip, {"model_type": "clip_vision_model", "num_channels": 1}, "num_channels"),
        (clip, {"model_type": "clip_vision_model", "hidden_act": "mish"}, "hidden_act"),
        (clip, {"model_type": "clip_vision_model", "image_size": [32, 48]}, "image_size"),
        (one_tower("clip"), {"model_type": "clip", "vision_config": 5}, "vision_config"),
        (siglip, {"model_type": "siglip_vision_model", "vision_use_head": "yes"}, "vision_use_head"),
        (vit, {"model_type": "vit", "qkv_bias": False}, "qkv_bias"),
        (vit, {"model_type": "vit", "pooler_act": "relu"}, "pooler_act"),
        (vit, {"model_type": "vit", "pooler_output_size": 5}, "pooler_output_size"),
        (dinov2, {"model_type": "dinov2", "use_swiglu_ffn": True}, "use_swiglu_ffn"),
        (dinov2, {"model_type": "dinov2", "hidden_size": "wide"}, "hidden_size"),
        (resnet, {"model_type": "resnet", "downsample_in_bottleneck": True}, "downsample_in_bottleneck"),
        (resnet, {"model_type": "resnet", "downsample_in_first_stage": True}, "downsample_in_first_stage"),
        (resnet, {"model_type": "resnet", "hidden_act": "gelu"}, "hidden_act"),
        (resnet, {"model_type": "resnet", "depths": [1, 2]}, "hidden_sizes"),
        (resnet, {"model_type": "resnet", "hidden_sizes": 7}, "hidden_sizes"),
        (efficientnet, {"model_type": "efficientnet"}, "model_type"),
        (efficientnet, {"model_type": "efficientnet_lite", "depths": [1]}, "depths"),
    ],
)
def test_other_variants_are_refused(adapter: Any, config: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        adapter.settings_from_hf(config)
    assert all(caught.value.as_dict().values())


def test_an_unknown_family_is_told_with_those_there_are() -> None:
    with pytest.raises(WeightsError, match=r"clip, .*'beit'|'beit'"):
        family_of({"model_type": "beit"})
    assert {"clip", "siglip", "vit", "dinov2", "resnet", "efficientnet_lite"} <= set(FAMILIES.names())


@pytest.mark.parametrize(
    ("name", "lost", "said"),
    [
        ("clip", "vision_model.pre_layrnorm.weight", "pre_norm.weight"),
        ("siglip", "vision_model.head.probe", "head.probe"),
        ("resnet basic", "embedder.embedder.normalization.running_mean", "stem.norm.running_mean"),
    ],
)
def test_missing_further_and_misshapen_tensors_are_named(tmp_path: Path, name: str, lost: str, said: str) -> None:
    saved(tmp_path, name)
    with_size(tmp_path, 32)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    lost = next(key for key in whole if key.endswith(lost.removeprefix("vision_model.")))
    save_file({key: one for key, one in whole.items() if key != lost}, file)
    with pytest.raises(WeightsError, match=f"1 missing: 'image.{said}'"):
        tower_of(tmp_path)
    save_file({**whole, "rotary.table": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"layout.*'rotary\.table'"):
        tower_of(tmp_path)
    save_file({**whole, lost: torch.zeros(5)}, file)
    with pytest.raises(WeightsError, match=f"received \\(5,\\) for 'image.{said}'"):
        tower_of(tmp_path)


def test_a_tower_that_no_family_has_is_none() -> None:
    small: dict[str, Any] = {"width": 24, "depth": 1, "heads": 4, "patch": 8}
    assert tower_family(Tower(kind="convnet", **small)) is None
    assert tower_family(Tower(kind="vit", **small, layer_scale=0.1)) is None
    found = tower_family(Tower(kind="vit", **small))
    assert found is not None
    assert found.name == "siglip_vision_model"
    assert set(siglip.to_hf(ViT(Tower(kind="vit", **small), size=16).state_dict())) >= {
        "vision_model.embeddings.patch_embedding.bias"
    }
