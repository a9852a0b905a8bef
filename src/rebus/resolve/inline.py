"""Images inside texts: which ids stand for one, and what a recipe settles before its model is built.

It joins the tokenizer, which knows the marks, to the model's plan, which knows how many image tokens there are.
"""

from __future__ import annotations

from rebus import recipe
from rebus.checkpoints.inline_images import is_inline
from rebus.errors import RecipeError
from rebus.models.image_tokens import plan_of
from rebus.resolve.known import Log, Rows


def settle_inline(settings: recipe.Recipe, _: Rows, log: Log) -> recipe.Recipe:
    """What the layout decides and the recipe does not say.

    Raises:
        RecipeError: the layout is for another fusion, or no square of image tokens can be made as it is asked for.
    """
    model, image = settings.model, settings.image
    if model.image.kind in ("none", "auto"):
        return settings
    if model.fusion.layout == "inline" and model.fusion.kind not in ("unified", "none"):
        do = "set model.fusion.kind=unified, or leave model.fusion.layout out"
        raise RecipeError("model.fusion.layout", "prefix, unless the fusion is unified", "'inline'", do)
    if not is_inline(model):
        if model.image.tokens is not None:
            plan_of(model, image)
        return settings
    if model.fusion.projector == "mlp" and model.image.kind == "vit" and model.image.pool != "probe":
        settings = settings.fill({"model.image.last_norm": "pooled"})  # Llava reads a tower before its last norm
    projector = plan_of(settings.model, image).projector or "linear"
    settings = settings.replace({"model.fusion.projector": projector})
    if settings.base is None:  # what other programs do with images for this layout
        settings = settings.fill({"image.resample": "lanczos", "image.fit": "squash"})
    fit = settings.image.fit
    if (settings.base is not None or image.sets("fit")) and (fit == "pad" or (fit == "crop" and projector != "mlp")):
        log(f"image.fit={fit}: programs that open this model's folder squash images that are not square")
    return settings
