"""preprocessor_config.json both ways, and the same pixels as transformers' processors make with Pillow."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from rebus.data.transforms import fit_image, fitted_image
from rebus.errors import WeightsError
from rebus.formats.family import CheckpointSpec
from rebus.formats.family import family as known
from rebus.formats.processors import DEFAULTS, image_from_hf, image_to_hf, is_exact, read_processor
from rebus.recipe import Image

CLIP48 = {"size": {"shortest_edge": 48}, "crop_size": {"height": 40, "width": 40}}
SQUARE = {"size": {"height": 40, "width": 40}}
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("CLIP", CLIP48),
    "CLIP, both sides": ("CLIP", {**SQUARE, "do_center_crop": False, "resample": 2}),
    "CLIP, not cut": ("CLIP", {"size": {"shortest_edge": 40}, "crop_size": 40}),
    "Siglip": ("Siglip", SQUARE),
    "Siglip, Lanczos": ("Siglip", {**SQUARE, "resample": 1}),
    "ViT": ("ViT", {**SQUARE, "do_convert_rgb": True}),
    "Bit": ("Bit", {**CLIP48, "rescale_factor": 1 / 127.5}),
    "Bit, not normalised": ("Bit", {**CLIP48, "do_normalize": False}),
    "DeiT": (
        "DeiT",
        {"size": {"height": 48, "width": 48}, "crop_size": {"height": 40, "width": 40}, "do_convert_rgb": True},
    ),
    "ConvNext": ("ConvNext", {"size": {"shortest_edge": 40}, "crop_pct": 0.8, "do_convert_rgb": True}),
    "ConvNext, large": ("ConvNext", {"size": {"shortest_edge": 384}, "do_convert_rgb": True}),
    "EfficientNet": (
        "EfficientNet",
        {**SQUARE, "do_convert_rgb": True, "rescale_factor": 1 / 127.5, "rescale_offset": True},
    ),
    "EfficientNet, once": ("EfficientNet", {**SQUARE, "do_convert_rgb": True, "include_top": False}),
}


def images() -> dict[str, PILImage.Image]:
    """Of odd sizes and several modes; noise, so that every filter shows."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (61, 97, 4), dtype=np.uint8)
    return {
        "wide": PILImage.fromarray(wide[..., :3]),
        "high": PILImage.fromarray(rng.integers(0, 256, (113, 50, 3), dtype=np.uint8)),
        "small": PILImage.fromarray(rng.integers(0, 256, (17, 23, 3), dtype=np.uint8)),
        "just so": PILImage.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)),
        "grey": PILImage.fromarray(wide[..., 0]),
        "transparent": PILImage.fromarray(wide),
        "grey and transparent": PILImage.fromarray(wide[..., :2].copy(), mode="LA"),
        "palette": PILImage.fromarray(wide[..., :3]).quantize(32),
    }


def png(image: PILImage.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def processor_of(name: str) -> Any:
    import transformers

    kind, config = PROCESSORS[name]
    return getattr(transformers, f"{kind}ImageProcessorPil")(**config)


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_the_same_pixel_for_pixel(tmp_path: Path, name: str) -> None:
    processor = processor_of(name)
    processor.save_pretrained(tmp_path)
    found = image_from_hf(read_processor(tmp_path) or {})
    assert found is not None
    seen = Image.model_validate(found)
    assert is_exact(seen)
    bare = {"include_top": False} if name.startswith("EfficientNet") else {}
    for mode, image in images().items():
        expected = processor(image, return_tensors="np")["pixel_values"][0]
        plain = processor(image, return_tensors="np", do_rescale=False, do_normalize=False, **bare)
        given = png(image)
        ours = fitted_image(given, size=seen.size, fit=seen.fit, where=mode, resample=seen.resample, edge=seen.edge)
        np.testing.assert_array_equal(ours.transpose(2, 0, 1), np.rint(plain["pixel_values"][0]).astype(np.uint8))
        mean, std = np.array(seen.mean)[:, None, None], np.array(seen.std)[:, None, None]
        np.testing.assert_allclose((ours.transpose(2, 0, 1) / 255 - mean) / std, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["clip", "siglip_vision_model", "vit", "dinov2", "resnet"])
@pytest.mark.parametrize("how", [{"fit": "crop", "edge": 48}, {"fit": "crop"}, {"fit": "squash"}])
def test_ours_is_read_by_transformers_and_comes_back(tmp_path: Path, family: str, how: dict[str, Any]) -> None:
    from transformers import AutoImageProcessor

    seen = Image(size=40, resample="bilinear", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), **how)
    written = image_to_hf(seen, known(family).processor)
    assert Image.model_validate(image_from_hf(written)) == seen
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    image = images()["wide"]
    array = np.asarray(image)
    ours = fit_image(array, 40, seen.fit, "white", seen.resample, seen.edge).transpose(2, 0, 1) / 255
    mean, std = np.array(seen.mean)[:, None, None], np.array(seen.std)[:, None, None]
    theirs = processor(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose((ours - mean) / std, theirs, rtol=0, atol=2e-5)


def test_what_the_file_does_not_say_is_as_in_transformers() -> None:
    import transformers

    for kind in DEFAULTS:
        processor = getattr(transformers, f"{kind}ImageProcessorPil")()
        whole = json.loads(processor.to_json_string())
        assert image_from_hf({"image_processor_type": f"{kind}ImageProcessor"}) == image_from_hf(whole), kind
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "resample": 3}
    assert image_from_hf(old)["fit"] == "crop"
    assert image_from_hf({"feature_extractor_type": "ViTFeatureExtractor", "size": 224})["fit"] == "squash"
    assert image_from_hf({"image_processor_type": "SiglipImageProcessorFast", "size": 384})["size"] == 384


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "image_processor_type.*found none"),
        ({"image_processor_type": "DonutImageProcessor"}, "'DonutImageProcessor'"),
        ({"image_processor_type": "CLIPImageProcessor", "do_resize": False}, "do_resize"),
        ({"image_processor_type": "CLIPImageProcessor", "do_center_crop": False}, "a square"),
        ({"image_processor_type": "CLIPImageProcessor", "crop_size": {"height": 32, "width": 64}}, "a square"),
        ({"image_processor_type": "CLIPImageProcessor", "crop_size": 999}, "nothing smaller"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 64}}, "a square"),
        ({"image_processor_type": "ViTImageProcessor", "size": "large"}, "a square"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "resample.*'?9"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]}, "image_mean"),
    ],
)
def test_what_cannot_be_done_is_told(config: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        image_from_hf(config)
    assert all(caught.value.as_dict().values())


def test_a_damaged_file_is_told_and_a_missing_one_is_none(tmp_path: Path) -> None:
    assert read_processor(tmp_path) is None
    for content in ('{"size":', "[]"):
        (tmp_path / "preprocessor_config.json").write_text(content)
        with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
            clip_image(tmp_path, 224)


def test_without_a_filter_nothing_changes_and_large_jpegs_are_decoded_whole_with_one() -> None:
    rng = np.random.default_rng(1)
    smooth = np.asarray(PILImage.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((400, 300)))
    out = io.BytesIO()
    PILImage.fromarray(smooth).save(out, "JPEG", quality=95)
    whole = np.asarray(PILImage.open(io.BytesIO(out.getvalue())))
    exact = fitted_image(out.getvalue(), size=32, fit="squash", resample="lanczos")
    np.testing.assert_array_equal(exact, fit_image(whole, 32, "squash", "white", "lanczos"))
    for fit in ("pad", "crop", "squash"):
        array = images()["wide"]
        auto = fit_image(np.asarray(array), 32, fit)
        assert auto.shape == (32, 32, 3)
        again = fit_image(np.asarray(array), 32, fit, "white", "lanczos")
        if fit != "crop":  # which is cut at fractions of a pixel
            np.testing.assert_array_equal(auto, again)


def clip_image(folder: Path, size: int) -> dict[str, Any]:
    return known("clip").image_fields(folder, CheckpointSpec(size=size), lambda _: None)


OURS = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 32}, "crop_size": 32}
OURS |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2}


def test_the_newer_file_counts_where_it_has_an_image_processor(tmp_path: Path) -> None:
    newer, older = tmp_path / "processor_config.json", tmp_path / "preprocessor_config.json"
    newer.write_text(json.dumps({"image_processor": OURS, "processor_class": "CLIPProcessor"}))
    found = clip_image(tmp_path, 32)
    assert found == {
        **{"size": 32, "fit": "crop", "edge": None, "resample": "bilinear"},
        **{"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)},
    }
    older.write_text(json.dumps({**OURS, "image_mean": [0.9, 0.9, 0.9]}))  # transformers takes the newer one too
    assert clip_image(tmp_path, 32) == found
    newer.write_text(json.dumps({"processor_class": "CLIPProcessor", "image_seq_len": 9}))
    assert clip_image(tmp_path, 32)["mean"] == (0.9, 0.9, 0.9)
    newer.write_text(json.dumps({"image_processor": [1]}))
    with pytest.raises(WeightsError, match="an object 'image_processor'"):
        clip_image(tmp_path, 32)


@pytest.mark.parametrize(
    ("family", "mean", "fit"),
    [
        ("clip", 0.48145466, "crop"),
        ("clip_vision_model", 0.48145466, "crop"),
        ("siglip", 0.5, "squash"),
        ("vit", 0.5, "squash"),
        ("dinov2", 0.485, "crop"),
        ("resnet", 0.485, "crop"),
    ],
)
def test_without_a_file_what_is_usual_for_the_family_is_taken_and_said(
    tmp_path: Path, family: str, mean: float, fit: str
) -> None:
    said: list[str] = []
    found = known(family).image_fields(tmp_path, CheckpointSpec(size=48), said.append)
    assert (found["size"], found["mean"][0], found["fit"]) == (48, mean, fit)
    assert len(said) == 1
    assert f"as is usual for {family}, 48 pixels a side, mean {mean:.3g}" in said[0]


@pytest.mark.parametrize(
    "change",
    [
        {"image_std": [0.0, 1.0, 1.0]},
        {"image_mean": [float("nan"), 0.5, 0.5]},
        {"image_mean": [True, 0.5, 0.5]},
        {"rescale_factor": "1/255"},
        {"rescale_factor": 0},
        {"rescale_factor": 1e-300},
        {"size": {"shortest_edge": 10**12}, "crop_size": 10**12},
        {"size": {"shortest_edge": 10**12}},
        {"crop_size": [32]},
        {"resample": True},
    ],
)
def test_numbers_that_no_image_survives_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match=next(iter(change)).replace("crop_size", "size and crop_size")):
        image_from_hf({**OURS, **change})
