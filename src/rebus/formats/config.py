"""Reading a Hugging Face config.json: what every family's translation needs.

Nothing in a configuration is believed: ``Fields`` holds each value to a type and a range, and ``tower_of`` holds all of
them together to what a tower may be.
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
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
OTHER_VARIANT = "this variant is not supported; use a checkpoint without it"
ITS_OWN = "use the config.json that came with the weights"


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


def tower_of(family: str, **settings: Any) -> Tower:
    """A tower's settings. Raises WeightsError where they are none that a tower may have."""
    try:
        return Tower.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"the {family} configuration, read as a tower's '{name}'"
        raise WeightsError(where, first["msg"], repr(first["input"])[:60], ITS_OWN) from error


class Fields:
    """The entries of a configuration. Every method that reads one raises WeightsError for a value it does not allow.

    Args:
        entries: config.json, or an object inside it.
        family: whose configuration it is, for messages.
        defaults: what a file leaves out.
    """

    def __init__(self, entries: Mapping[str, Any], family: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.entries, self.family = {**(defaults or {}), **entries}, family

    def refuse(self, key: str, expected: str, received: Any, do: str = ITS_OWN) -> WeightsError:
        """The error for an entry that is not what it should be."""
        return WeightsError(f"the {self.family} configuration, '{key}'", expected, str(received)[:80], do)

    def demand(self, key: str, allowed: tuple[Any, ...], default: Any = None) -> Any:
        """A value that is one of ``allowed``: the tower computes nothing else."""
        value = self.entries.get(key, default)
        if value not in allowed:
            raise self.refuse(key, " or ".join(repr(item) for item in allowed), repr(value), OTHER_VARIANT)
        return value

    def number(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number, which must be there where there is no default."""
        value = default if self.entries.get(key) is None else self.entries[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
            raise self.refuse(key, f"a whole number from {least} to {MOST}", repr(value))
        return value

    def numbers(self, key: str, default: tuple[int, ...]) -> list[int]:
        """Whole numbers from 1 up, as many as there are in the list."""
        value = default if self.entries.get(key) is None else self.entries[key]
        if not isinstance(value, list | tuple) or not value:
            raise self.refuse(key, "a list of whole numbers", repr(value))
        return [Fields({key: item}, self.family).number(key) for item in value]

    def decimal(self, key: str, default: float) -> float:
        """A number from 0 up."""
        value = default if self.entries.get(key) is None else self.entries[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise self.refuse(key, "a number from 0 up", repr(value))
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self.demand(key, (True, False, None), default) if key in self.entries else default)

    def side(self, key: str) -> int:
        """The side of a square, which some files give as height and width."""
        value = self.entries.get(key)
        if isinstance(value, list | tuple) and len(value) == 2 and value[0] == value[1]:
            return Fields({key: value[0]}, self.family).number(key)
        return self.number(key)

    def activation(self, key: str, default: str) -> str:
        """Rebus' name of an activation."""
        return ACTIVATIONS[self.demand(key, tuple(ACTIVATIONS), default)]

    def mapping(self, key: str) -> dict[str, Any]:
        """An object inside; {} where there is none."""
        value = self.entries.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise self.refuse(key, "an object", repr(value))
        return dict(value or {})

    def section(self, name: str) -> dict[str, Any]:
        """``vision_config`` or ``text_config`` by its name before the line; {} where there is none."""
        # the second wins in old files that have both
        return self.mapping(f"{name}_config") | self.mapping(f"{name}_config_dict")


def activation_to_hf(name: str) -> str:
    """Our name of an activation as Hugging Face has it."""
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


def shared_entries(context: Mapping[str, Any]) -> dict[str, Any]:
    """What every configuration ends with: special tokens, and the type of the weights under its old and new name."""
    tokens = {key: context[key] for key in TOKENS if context.get(key) is not None}
    dtype = str(context.get("dtype", "float32"))
    return {**tokens, "torch_dtype": dtype, "dtype": dtype}
