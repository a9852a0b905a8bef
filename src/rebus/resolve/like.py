"""Towers, images and losses as CLIP or SigLIP has them, where ``model.like`` asks for it."""

from __future__ import annotations

from typing import Any

from rebus import recipe
from rebus.checkpoints.hf_save import PAIRS
from rebus.errors import RecipeError
from rebus.formats.dual import Dual
from rebus.formats.family import family
from rebus.resolve.known import Cells, Log


def settle_like(settings: recipe.Recipe, _: Cells, log: Log) -> recipe.Recipe:
    """What ``model.like`` decides and the recipe does not say.

    Raises:
        RecipeError: the recipe says something else, or has no task ``retrieve``.
    """
    name = settings.model.like
    if name is None:
        return settings
    places = [place for place, task in enumerate(settings.tasks) if task.name == PAIRS]
    if not places:
        others = ", ".join(task.name for task in settings.tasks) or "none"
        raise RecipeError("model.like", f"the task '{PAIRS}'", others, f"add --task {PAIRS}, or leave it out")
    layout = family(name)
    assert isinstance(layout, Dual)  # noqa: S101 - the recipe allows no other
    images, texts = layout.towers_like()
    wanted: dict[str, Any] = {f"model.image.{field}": value for field, value in images.items()}
    wanted |= {f"model.text.{field}": value for field, value in texts.items()}
    wanted |= {"model.maps": layout.maps, **{f"tasks.{place}.loss": layout.loss for place in places}}
    for path, value in wanted.items():
        mine = settings.get(path)
        if mine not in (settings.default(path), value):
            where = path if path.startswith("model.") else f"task {PAIRS}.{path.rpartition('.')[2]}"
            do = f"leave {where} out, or model.like"
            raise RecipeError(where, f"{value!r}, as model.like={name} has it", repr(mine), do)
    return settings.replace(wanted).fill({"image.fit": "squash", "image.resample": "bicubic"})
