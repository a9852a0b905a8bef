"""How images become tensors: Hugging Face's preprocessor_config.json and the recipe's ``image``, both ways.

Newer files have the same under ``image_processor`` in a processor_config.json, which then counts.

It knows no pixels. Processors are described by what they do; one that does something that the recipe has no words for
is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rebus.errors import WeightsError
from rebus.formats.config import read_object
from rebus.recipe import Image

FILE, WHOLE = "preprocessor_config.json", "processor_config.json"
FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
_CLIP = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_CROPPED = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 3}
# What a processor does where its file does not say.
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": {**_CROPPED, **_CLIP},
    "Bit": {**_CROPPED, **_CLIP},
    "Siglip": {"size": 224, "resample": 3, **_HALF},
    "ViT": {"size": 224, "resample": 2, **_HALF},
    "DeiT": {"size": 256, "crop_size": 224, "do_center_crop": True, "resample": 3, **_HALF},
    "ConvNext": {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256, "resample": 3, **_HALF},
    "EfficientNet": {"size": 346, "crop_size": 289, "resample": 3, "include_top": True, **_HALF},
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SHORTEST = ("CLIP", "Bit", "ConvNext")  # a size that is one number is the shorter side's
_NEAR_ZERO, _FAR = 1e-6, 1e4  # no published file is near these
_WARPED = 384  # from here up ConvNext scales both sides
_SMALLEST, _LARGEST = 8, 2048  # pixels a side of an image, as the recipe has it


def image_from_hf(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``recipe.Image`` that a preprocessor_config.json decides: size, fit, resample, edge, mean, std.

    Raises:
        WeightsError: it is of a kind that is not known, or gives images that are not square.
    """
    kind = _kind(config)
    full = {**DEFAULTS[kind], **{key: value for key, value in config.items() if value is not None}}
    if full.get("do_resize") is False or full.get("do_pad"):
        raise _refused("do_resize and do_pad", "images scaled to one size", "others")
    number = full["resample"]
    filter = FILTERS.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
    if filter is None:
        raise _refused("resample", "a number of Pillow's filters, 0 to 5", repr(number)[:80])
    return {**_square(kind, full), "resample": filter, **_colours(kind, full)}


def image_to_hf(image: Image, processor: str) -> dict[str, Any]:
    """The preprocessor_config.json of a recipe's ``image``.

    Args:
        image: with ``resample`` at ``auto``, the nearest that there is: scaled in another way, or without the frame
            that ``pad`` puts around an image. ``is_exact`` tells.
        processor: the kind to name, a key of ``DEFAULTS``; all of them can scale, cut and square.
    """
    number = next((number for number, name in FILTERS.items() if name == image.resample), 1)
    edge = image.edge or image.size
    cut = image.fit == "crop" or (image.fit == "squash" and edge != image.size)
    return {
        "image_processor_type": f"{processor}ImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": edge} if image.fit == "crop" else {"height": edge, "width": edge},
        "resample": number,
        "do_center_crop": cut,
        **({"crop_size": {"height": image.size, "width": image.size}} if cut else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def is_exact(image: Image) -> bool:
    """Whether Hugging Face's processor makes the same pixels of an image as Rebus does."""
    return image.resample != "auto" and image.fit != "pad"


def read_processor(folder: str | Path) -> dict[str, Any] | None:
    """The settings of a checkpoint's image processor, from whichever file has them; None where there are none.

    Raises:
        WeightsError: a file is damaged.
    """
    for name in (WHOLE, FILE):  # in the order of transformers
        file = Path(folder) / name
        result = read_object(file) if file.is_file() else {}
        inside = result.get("image_processor") if name == WHOLE else result
        if inside is not None and not isinstance(inside, dict):
            raise WeightsError(file, "an object 'image_processor'", repr(inside)[:60], "copy or fetch the file again")
        if inside:
            return inside
    return None


def load_image(
    folder: str | Path,
    family: str,
    processor: str,
    usual: Mapping[str, Any] | None,
    size: int,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The fields that a checkpoint's folder decides, or those that are usual where it has no file for them.

    Args:
        folder: the checkpoint.
        family: of checkpoints, for people.
        processor: the kind that files of the family name.
        usual: what published files of the family say; None: nothing is known of them.
        size: side of the images that its tower was made for.
        log: prints a line for people: what was assumed, or that positions are resized.

    Raises:
        WeightsError: a file is damaged, or as ``image_from_hf``.
    """
    config = read_processor(folder)
    if config is not None:
        image = image_from_hf(config)
        if image["size"] != size:
            log(
                f"{folder}: its processor makes images of {image['size']} pixels a side, its tower was made for "
                f"{size}: positions are resized"
            )
        return image
    if usual is None:
        return {"size": size}
    entries = {"image_processor_type": f"{processor}ImageProcessor", **usual}
    shortest = _kind(entries) in _SHORTEST
    image = image_from_hf({**entries, "size": {"shortest_edge": size} if shortest else size, "crop_size": size})
    log(
        f"{folder}: no {FILE} and no {WHOLE}: images are prepared as is usual for {family}, {size} pixels a side, "
        f"mean {_shown(image['mean'])}, std {_shown(image['std'])}; put its own file beside the weights if it has one"
    )
    return image


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _kind(config: Mapping[str, Any]) -> str:
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", name)
    if kind not in DEFAULTS:
        known = " or ".join(f"{item}ImageProcessor" for item in DEFAULTS)
        raise _refused("image_processor_type", known, f"'{name}'" if name else "none")
    return kind


def _square(kind: str, full: Mapping[str, Any]) -> dict[str, Any]:
    """Size, fit and edge."""
    size = full["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size} if kind in _SHORTEST else {"height": size, "width": size}
    cut = full.get("crop_size") if full.get("do_center_crop") else None
    if isinstance(cut, dict):
        cut = cut.get("height") if cut.get("height") == cut.get("width") else -1
    shortest = size.get("shortest_edge") if isinstance(size, dict) and "longest_edge" not in size else None
    if kind == "ConvNext" and isinstance(shortest, int):
        if shortest >= _WARPED:
            return _fields(shortest, "squash", None, size)
        return _fields(shortest, "crop", int(shortest / _number(full, "crop_pct", 1.0)), size)
    if shortest is not None:
        return _fields(cut, "crop", shortest, size)
    high, wide = (size.get("height"), size.get("width")) if isinstance(size, dict) else (None, None)
    side = high if high == wide else None
    return _fields(side if cut is None else cut, "squash", None if cut is None else side, size)


def _fields(size: Any, fit: str, edge: Any, value: Any) -> dict[str, Any]:
    whole = isinstance(size, int) and _SMALLEST <= size <= _LARGEST
    if not whole or (edge is not None and (not isinstance(edge, int) or not size <= edge <= 2 * _LARGEST)):
        raise _refused("size and crop_size", "a square, cut out of nothing smaller", f"{value}, cut to {size}")
    return {"size": size, "fit": fit, "edge": None if edge == size else edge}


def _colours(kind: str, full: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and std of pixels from 0 to 1, whatever else they are rescaled and moved by before."""
    factor = _number(full, "rescale_factor", 1 / 255) if full.get("do_rescale", True) else 1.0
    offset = 1.0 if full.get("rescale_offset") else 0.0
    mean, std = _three(full, "image_mean"), _three(full, "image_std")
    if not full.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    whole = 255.0 * factor
    twice = std if kind == "EfficientNet" and full.get("include_top") else (1.0, 1.0, 1.0)
    if factor == 1 / 255 and not offset:
        return {"mean": mean, "std": tuple(item * more for item, more in zip(std, twice, strict=True))}
    return {
        "mean": tuple((item + offset) / whole for item in mean),
        "std": tuple(item * more / whole for item, more in zip(std, twice, strict=True)),
    }


def _number(full: Mapping[str, Any], key: str, default: float) -> float:
    value = full.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not _NEAR_ZERO < value < 1 / _NEAR_ZERO:
        raise _refused(key, "a number above 0", repr(value))
    return float(value)


def _three(full: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    value = full[key]
    values = [value] * 3 if isinstance(value, int | float) else list(value) if isinstance(value, list | tuple) else []
    least = _NEAR_ZERO if key == "image_std" else -_FAR
    if len(values) != len("RGB") or not all(_is_number(item) and least < item < _FAR for item in values):
        raise _refused(key, "a number for each of three channels", repr(value)[:80])
    return float(values[0]), float(values[1]), float(values[2])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refused(key: str, expected: str, text: str) -> WeightsError:
    do = "use a checkpoint whose images are prepared so, or set the recipe's image by hand"
    return WeightsError(f"{FILE}, '{key}'", expected, text, do)
