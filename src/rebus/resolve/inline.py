"""Pictures inside texts: which ids stand for one, and what a recipe settles before its model is built.

It joins the tokenizer, which knows the marks, to the model's plan, which knows how many picture tokens there are.
"""

from __future__ import annotations

from collections.abc import Callable

from rebus import recipe
from rebus.checkpoints.inline_images import is_inline
from rebus.errors import RecipeError
from rebus.models.picture_tokens import plan_of


def settle_inline(settings: recipe.Recipe, tell: Callable[[str], None]) -> None:
    """Fill in what the layout decides and the recipe does not say, in place.

    Raises:
        RecipeError: the layout is for another fusion, or no square of picture tokens can be made as it is asked for.
    """
    model, picture = settings.model, settings.picture
    if model.picture.kind in ("none", "auto"):
        return
    if model.fusion.layout == "inline" and model.fusion.kind not in ("unified", "none"):
        do = "set model.fusion.kind=unified, or leave model.fusion.layout out"
        raise RecipeError("model.fusion.layout", "prefix, unless the fusion is unified", "'inline'", do)
    if not is_inline(model):
        if model.picture.tokens is not None:
            plan_of(model, picture)
        return
    vit = model.picture.kind == "vit" and model.picture.pool != "probe"
    if model.fusion.projector == "mlp" and vit and "last_norm" not in model.picture.model_fields_set:
        model.picture.last_norm = "pooled"  # Llava reads a tower before its last norm
    model.fusion.projector = plan_of(model, picture).projector or "linear"
    if settings.base is None and "resample" not in picture.model_fields_set:
        picture.resample = "lanczos"  # this and the next: what other programs do with pictures for this layout
    if settings.base is None and "fit" not in picture.model_fields_set:
        picture.fit = "squash"
    elif picture.fit == "pad" or (picture.fit == "crop" and model.fusion.projector != "mlp"):
        tell(f"picture.fit={picture.fit}: programs that open this model's folder squash pictures that are not square")
