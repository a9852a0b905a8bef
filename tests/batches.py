"""Batches of images for tests, made by hand, and whether two batches are the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rebus.models.batch import Batch, Inputs
from rebus.models.modalities import MODALITIES, Item
from rebus.models.modalities.rows import RowInputs
from rebus.recipe import Recipe


def image_batch(pixels: Tensor, there: list[bool] | None = None, **targets: dict[str, Tensor]) -> Batch:
    """A batch of (B, 3, S, S) images, of which only those that are ``there`` are given."""
    batch = Batch(len(pixels), {"image": Inputs.one_each(pixels=pixels)}, targets)
    if there is not None:
        batch.inputs["image"] = batch.inputs["image"].where(torch.tensor(there))
    return batch


def pixels_of(batch: Batch) -> Tensor:
    """The images of a batch."""
    return batch.inputs["image"].tensors["pixels"]


def same(one: Any, other: Any) -> bool:
    """Whether two nests hold the same."""
    if isinstance(one, (Batch, Inputs)):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def in_parts(builder: Any, step: int, progress: float, parts: int) -> list[Batch]:
    """A batch in so many equal parts, as ``train.accumulate`` has it."""
    before = builder.settings
    builder.settings = before.replace(train=before.train.replace(accumulate=parts))
    try:
        made: list[Batch] = builder.parts_at(step, progress)
    finally:
        builder.settings = before
    return made


def image_inputs(give: Callable[[int], Any]) -> RowInputs:
    """What a model sees of rows: a function gives each row's image, (S, S, 3), or None."""
    inputs = RowInputs({"image": MODALITIES.get("image")(Recipe(), ["image"])}, {})

    def items(row: int) -> list[Item]:
        image = give(row)
        return [] if image is None else [{"pixels": image}]

    return inputs.replaced("image", items)
