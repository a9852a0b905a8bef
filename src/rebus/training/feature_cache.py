"""Features of frozen towers, computed once an example and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rebus import recipe
from rebus.loop.frozen import FeatureCache
from rebus.models.batch import Batch
from rebus.models.modalities.rows import RowInputs
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.batch_builder import Features

NAMES = ("tokens", "pooled")


def frozen_features(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    groups: Sequence[list[int]],
    rows: RowInputs,
    *,
    still: bool | None = None,
) -> Mapping[str, Features]:
    """Modality: group numbers -> tensors, where its tower is frozen and its items are not changed.

    Args:
        model: its frozen towers are put in evaluation mode by the first features that are asked for.
        settings: the recipe.
        groups: row numbers, the rows of one example together.
        rows: their inputs.
        still: whether the towers are frozen for a while at least; None: as the recipe says.
    """
    features = {}
    for name, modality in rows.modalities.items():
        frozen = settings.model.tower(name).frozen if still is None else still
        fixed = name in model.modalities and frozen and not modality.changes
        if fixed and all(rows.count(name, group[0]) <= 1 for group in groups):
            compute = _Compute(name, model, groups, rows)
            cache = FeatureCache(compute, len(groups), limit_mb=settings.data.cache_mb)
            features[name] = lambda numbers, cache=cache: dict(
                zip(("tokens", "pooled"), cache.get(numbers), strict=True)
            )
    return features


class _Compute:
    """Group numbers -> (tokens (B, P, D), pooled (B, D)) of their first rows; zeros for one without an item."""

    def __init__(self, name: str, model: VisionLanguageModel, groups: Sequence[list[int]], rows: RowInputs) -> None:
        self.name, self.model, self.groups, self.rows = name, model, groups, rows

    def __call__(self, numbers: Sequence[int]) -> tuple[Tensor, ...]:
        tower = self.model.tower(self.name)
        if tower.training:  # asked for before training: dropout off, statistics as they are
            tower.eval()
        items = [self.rows.items(self.name, self.groups[number][0]) for number in numbers]
        inputs = self.rows.modalities[self.name].inputs(items).to(self.model.device)
        seen = self.model.see(Batch(len(numbers), {self.name: inputs}))[self.name]
        return seen.tokens.float().cpu(), seen.pooled.float().cpu()
