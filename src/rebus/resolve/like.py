"""Towers, images and losses as CLIP or SigLIP has them, where ``model.like`` asks for it."""

from __future__ import annotations

from typing import Any

from rebus import recipe
from rebus.checkpoints.hf_dual import TASK
from rebus.errors import RecipeError
from rebus.formats import dual
from rebus.resolve.known import Cells, Log


def settle_like(settings: recipe.Recipe, _: Cells, log: Log) -> recipe.Recipe:
    """What ``model.like`` decides and the recipe does not say.

    Raises:
        RecipeError: the recipe says something else, or has no task ``retrieve``.
    """
    family = settings.model.like
    if family is None:
        return settings
    places = [place for place, task in enumerate(settings.tasks) if task.name == TASK]
    if not places:
        names = ", ".join(task.name for task in settings.tasks) or "none"
        raise RecipeError("model.like", f"the task '{TASK}'", names, f"add --task {TASK}, or leave it out")
    images, texts = dual.like(family)
    clip = family == "clip"
    wanted: dict[str, Any] = {f"model.image.{name}": value for name, value in images.items()}
    wanted |= {f"model.text.{name}": value for name, value in texts.items()}
    wanted |= {"model.maps": "both" if clip else "text"}
    wanted |= {f"tasks.{place}.loss": "softmax" if clip else "sigmoid" for place in places}
    for path, value in wanted.items():
        mine = settings.get(path)
        if mine not in (settings.default(path), value):
            where = path if path.startswith("model.") else f"task {TASK}.{path.rpartition('.')[2]}"
            do = f"leave {where} out, or model.like"
            raise RecipeError(where, f"{value!r}, as model.like={family} has it", repr(mine), do)
    return settings.replace(wanted).fill({"image.fit": "squash", "image.resample": "bicubic"})
