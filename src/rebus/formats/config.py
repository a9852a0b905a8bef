"""Reading a Hugging Face config.json: what every family's translation needs.

Nothing in a configuration is believed: each value is read by one of these functions, which hold it to a type and a
range, and ``tower_of`` holds all of them together to what a tower may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rebus.errors import WeightsError
from rebus.recipe import Tower

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
MOST = 2**26  # of any size in a configuration; the longest context and the largest vocabulary there are stay below it
_ITS_OWN = "use the config.json that came with the weights"
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


def model_type(config: Mapping[str, Any]) -> str:
    """The name of the family."""
    return str(config.get("model_type"))


def tower_of(family: str, **settings: Any) -> Tower:
    """A tower's settings. Raises WeightsError where they are none that a tower may have."""
    try:
        return Tower.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"the {family} configuration, read as a tower's '{name}'"
        raise WeightsError(where, first["msg"], repr(first["input"])[:60], _ITS_OWN) from error


def demand(config: Mapping[str, Any], family: str, key: str, allowed: tuple[Any, ...], default: Any = None) -> Any:
    """The value of ``key``. Raises WeightsError unless it is one of ``allowed``: the tower computes nothing else."""
    value = config.get(key, default)
    if value not in allowed:
        raise WeightsError(
            where=f"the {family} configuration, '{key}'",
            expected=" or ".join(repr(one) for one in allowed),
            found=repr(value)[:80],
            do="this variant is not supported; use a checkpoint without it",
        )
    return value


def number(config: Mapping[str, Any], family: str, key: str, default: int | None = None, *, least: int = 1) -> int:
    """A whole number, which the configuration must have where there is no default. Raises WeightsError."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
        expected = f"a whole number from {least} to {MOST}"
        raise WeightsError(f"the {family} configuration, '{key}'", expected, repr(value)[:60], _ITS_OWN)
    return value


def flag(config: Mapping[str, Any], family: str, key: str, default: bool) -> bool:
    """True or false. Raises WeightsError for anything else."""
    return bool(demand(config, family, key, (True, False, None), default) if key in config else default)


def mapping(config: Mapping[str, Any], family: str, key: str) -> dict[str, Any]:
    """An object inside the configuration; {} where there is none. Raises WeightsError for anything else."""
    value = config.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise WeightsError(f"the {family} configuration, '{key}'", "an object", repr(value)[:60], _ITS_OWN)
    return dict(value or {})


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
        raise WeightsError(
            f"the {family} configuration, '{key}'", "a list of whole numbers", repr(value)[:60], _ITS_OWN
        )
    return [number({key: one}, family, key) for one in value]


def section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``vision_config`` or ``text_config`` by its name before the line; {} where it is not said."""
    # the second wins in old files that have both
    return mapping(config, name, f"{name}_config") | mapping(config, name, f"{name}_config_dict")


def as_many(key: str, values: list[int], others: str, count: int, family: str) -> None:
    """Raise WeightsError unless a list is as long as another."""
    if len(values) != count:
        expected = f"{count} numbers, as {others}"
        raise WeightsError(f"the {family} configuration, '{key}'", expected, str(values)[:60], _ITS_OWN)


def decimal(config: Mapping[str, Any], family: str, key: str, default: float) -> float:
    """A number from 0 up, ``default`` where there is none. Raises WeightsError for anything else."""
    value = default if config.get(key) is None else config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise WeightsError(f"the {family} configuration, '{key}'", "a number from 0 up", repr(value)[:60], _ITS_OWN)
    return float(value)


def activation_to_hf(name: str) -> str:
    """Our name of an activation as Hugging Face has it."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def shared_entries(context: Mapping[str, Any]) -> dict[str, Any]:
    """What every configuration ends with: special tokens, and the type of the weights under its old and new name."""
    tokens = {key: context[key] for key in TOKENS if context.get(key) is not None}
    dtype = str(context.get("dtype", "float32"))
    return {**tokens, "torch_dtype": dtype, "dtype": dtype}
