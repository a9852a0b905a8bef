"""Images inside texts: which ids stand for one, and what a recipe settles before its model is built.

It joins the tokenizer, which knows the marks, to the model's plan, which knows how many image tokens there are.
"""

from __future__ import annotations

from collections.abc import Callable

from rebus import recipe
from rebus.checkpoints.inline_images import is_inline
from rebus.errors import RecipeError
from rebus.models.image_tokens import plan_of


def settle_inline(settings: recipe.Recipe, log: Callable[[str], None]) -> None:
    """Fill in what the layout decides and the recipe does not say, in place.

    Raises:
        RecipeError: the layout is for another fusion, or no square of image tokens can be made as it is asked for.
    """
    model, image = settings.model, settings.image
    if model.image.kind in ("none", "auto"):
        return
    if model.fusion.layout == "inline" and model.fusion.kind not in ("unified", "none"):
        do = "set model.fusion.kind=unified, or leave model.fusion.layout out"
        raise RecipeError("model.fusion.layout", "prefix, unless the fusion is unified", "'inline'", do)
    if not is_inline(model):
        if model.image.tokens is not None:
            plan_of(model, image)
        return
    vit = model.image.kind == "vit" and model.image.pool != "probe"
    if model.fusion.projector == "mlp" and vit and "last_norm" not in model.image.model_fields_set:
        model.image.last_norm = "pooled"  # Llava reads a tower before its last norm
    model.fusion.projector = plan_of(model, image).projector or "linear"
    if settings.base is None and "resample" not in image.model_fields_set:
        image.resample = "lanczos"  # this and the next: what other programs do with images for this layout
    if settings.base is None and "fit" not in image.model_fields_set:
        image.fit = "squash"
    elif image.fit == "pad" or (image.fit == "crop" and model.fusion.projector != "mlp"):
        log(f"image.fit={image.fit}: programs that open this model's folder squash images that are not square")
