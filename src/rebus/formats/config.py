"""Reading a Hugging Face config.json: what every family's translation needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebus.errors import WeightsError


def load_config(folder: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder. Raises WeightsError where it is missing or is not a JSON object."""
    file = Path(folder) / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(file, "the checkpoint's configuration", f"'{error.strerror}'", "check the path") from error
    except ValueError as error:
        raise WeightsError(file, "a configuration in JSON", f"'{error}'", "copy or fetch the file again") from error
    if not isinstance(content, dict):
        raise WeightsError(file, "a JSON object", type(content).__name__, "copy or fetch the file again")
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


def number(config: Mapping[str, Any], family: str, key: str) -> int:
    """A whole number that the configuration must have. Raises WeightsError where it has not."""
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        do = "use the config.json that came with the weights"
        raise WeightsError(f"the {family} configuration, '{key}'", "a whole number from 1 up", repr(value), do)
    return value
