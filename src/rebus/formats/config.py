"""Reading a Hugging Face config.json: what every family's translation needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebus.errors import WeightsError

# Hugging Face's names of activations: ours; the first of several that mean the same is the one written
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def load_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder. Raises WeightsError where it is missing or is not a JSON object."""
    return read_object(Path(folder) / "config.json")


def read_object(file: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint that holds one object. Raises WeightsError where it is missing or holds no such."""
    again = "copy or fetch the file again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(file, "a file of the checkpoint", f"'{error.strerror}'", "check the path") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(file, "settings in JSON", f"'{error}'", again) from error
    if not isinstance(content, dict):
        raise WeightsError(file, "a JSON object", type(content).__name__, again)
    return content


def demand(config: Mapping[str, Any], family: str, key: str, allowed: tuple[Any, ...], default: Any = None) -> Any:
    """The value of ``key``. Raises WeightsError unless it is one of ``allowed``: the tower computes nothing else."""
    value = config.get(key, default)
    if value not in allowed:
        raise WeightsError(
            where=f"the {family} configuration, '{key}'",
            expected=" or ".join(repr(one) for one in allowed),
            found=repr(value),
            do="this variant is not supported; use a checkpoint without it",
        )
    return value


def number(config: Mapping[str, Any], family: str, key: str, default: int | None = None) -> int:
    """A whole number, which the configuration must have where there is no default. Raises WeightsError."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        do = "use the config.json that came with the weights"
        raise WeightsError(f"the {family} configuration, '{key}'", "a whole number from 1 up", repr(value), do)
    return value


def side(config: Mapping[str, Any], family: str, key: str) -> int:
    """The side of a square, which some files give as height and width. Raises WeightsError for anything else."""
    value = config.get(key)
    if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
        return number({key: value[0]}, family, key)
    return number(config, family, key)


def numbers(config: Mapping[str, Any], family: str, key: str, default: tuple[int, ...]) -> list[int]:
    """Whole numbers from 1 up, as many as there are in the list. Raises WeightsError for anything else."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, list | tuple) or not value:
        do = "use the config.json that came with the weights"
        raise WeightsError(f"the {family} configuration, '{key}'", "a list of whole numbers", repr(value), do)
    return [number({key: one}, family, key) for one in value]


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``vision_config`` or ``text_config`` by its name before the line; {} where it is not said."""
    found: dict[str, Any] = {}
    for key in (f"{name}_config", f"{name}_config_dict"):  # the second wins in old files that have both
        value = config.get(key)
        if value is not None and not isinstance(value, Mapping):
            do = "use the config.json that came with the weights"
            raise WeightsError(f"the configuration, '{key}'", "an object", repr(value)[:60], do)
        found |= value or {}
    return found


def as_many(key: str, values: list[int], others: str, count: int, family: str) -> None:
    """Raise WeightsError unless a list is as long as another."""
    if len(values) != count:
        do = "use the config.json that came with the weights"
        raise WeightsError(f"the {family} configuration, '{key}'", f"{count} numbers, as {others}", str(values), do)


def decimal(config: Mapping[str, Any], family: str, key: str, default: float) -> float:
    """A number from 0 up, ``default`` where there is none. Raises WeightsError for anything else."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        do = "use the config.json that came with the weights"
        raise WeightsError(f"the {family} configuration, '{key}'", "a number from 0 up", repr(value), do)
    return float(value)


def activation_to_hf(name: str) -> str:
    """Our name of an activation as Hugging Face has it."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def shared_entries(context: Mapping[str, Any]) -> dict[str, Any]:
    """What every configuration ends with: special tokens, and the type of the weights under its old and new name."""
    tokens = {key: context[key] for key in TOKENS if context.get(key) is not None}
    dtype = str(context.get("dtype", "float32"))
    return {**tokens, "torch_dtype": dtype, "dtype": dtype}
