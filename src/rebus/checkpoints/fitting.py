"""Whether a configuration fits the weights beside it, found out before room is made for either.

Only names and shapes are looked at; towers are built without numbers, on the device ``meta``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rebus.errors import RebusError, WeightsError
from rebus.formats.weights import check_tensors
from rebus.models.towers import TOWERS
from rebus.recipe import Tower

_DO = "use the configuration that came with the weights"


def check_layers(where: str, tower: Tower, tensors: int) -> None:
    """Raise WeightsError where a tower has more layers than there are tensors: it would take hours to build."""
    layers = max(tower.depth, sum(tower.stages))
    if tower.kind != "none" and layers > tensors:
        raise WeightsError(where, f"at most {tensors} layers, as there are tensors", str(layers), _DO)


def check_tower(where: str, tower: Tower, state: Mapping[str, Tensor], under: str = "", **context: Any) -> None:
    """Hold a tower's settings against tensors.

    Args:
        where: the checkpoint, for messages.
        tower: the settings.
        state: tensors under the names that they have in the tower; further ones do not matter.
        under: prefix of the tower's names in ``state``.
        context: what towers are built with: vocab_size, or size of the images.

    Raises:
        WeightsError: the tower has no such shape, or a tensor is missing or of another shape.
    """
    check_layers(where, tower, len(state))
    try:
        with torch.device("meta"):
            expected = TOWERS.get(tower.kind)(tower, **context).state_dict()
    except WeightsError:
        raise
    except RebusError as error:
        raise WeightsError(f"{where}, {error.where}", error.expected, error.found, _DO) from error
    except (ValueError, RuntimeError, ZeroDivisionError, OverflowError) as error:
        message = " ".join(str(error).split())[:120]
        raise WeightsError(where, f"sizes that a {tower.kind} can have", f"'{message}'", _DO) from error
    check_tensors(where, {f"{under}{name}": item for name, item in expected.items()}, state, exact=False)
