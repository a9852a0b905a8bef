"""A checkpoint family of one tower, asked under the names that tensors have within that tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from rebus.formats.family import CheckpointFamily, CheckpointSpec, family, family_for
from rebus.recipe import Tower


def spec_of(settings: Tower, rows_or_size: int = 0, **more: Any) -> CheckpointSpec:
    """A model that is this tower alone; the number is rows of its embeddings or the side of its images."""
    if settings.kind in ("vit", "resnet", "efficientnet"):
        return CheckpointSpec(image=settings, size=rows_or_size, **more)
    kind = settings.kind if settings.kind != "auto" else "decoder"
    return CheckpointSpec(settings.model_copy(update={"rows": rows_or_size or settings.rows, "kind": kind}), **more)


class OneTower:
    """See above."""

    def __init__(self, family: CheckpointFamily) -> None:
        self.family, self.name, self.base, self.part = family, family.name, family.base, family.owns[0]

    def settings_from_hf(self, config: Mapping[str, Any]) -> tuple[Tower, int]:
        """The tower, without the rows of its embeddings, and these or the side of its images."""
        spec = self.family.image_settings(config)
        if spec.text is None:
            assert spec.image is not None
            return spec.image, spec.size
        return spec.text.model_copy(update={"rows": None}), spec.rows

    def config_to_hf(self, settings: Tower, rows_or_size: int, **context: Any) -> dict[str, Any]:
        return self.family.config(spec_of(settings, rows_or_size), **context)

    def from_hf(self, state: Mapping[str, Tensor], settings: Tower) -> dict[str, Tensor]:
        named = self.family.from_hf(state, spec_of(settings))
        return {name.removeprefix(self.part): one for name, one in named.items() if name.startswith(self.part)}

    def to_hf(self, state: Mapping[str, Tensor], settings: Tower | None = None, **more: Any) -> dict[str, Tensor]:
        spec = replace(CheckpointSpec() if settings is None else spec_of(settings), **more)
        return self.family.to_hf({f"{self.part}{name}": tensor for name, tensor in state.items()}, spec)


def one_tower(name: str) -> OneTower:
    return OneTower(family(name))


def tower_family(settings: Tower) -> OneTower | None:
    """What a tower alone can be written as."""
    found = family_for(spec_of(settings))
    return None if found is None else OneTower(found)
