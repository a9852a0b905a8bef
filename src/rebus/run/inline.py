"""Pictures inside texts: which ids stand for one, and what a recipe settles before its model is built.

It joins the tokenizer, which knows the marks, to the model's plan, which knows how many picture tokens there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.picture_tokens import plan_of
from rebus.text.pictures import AFTER, ALL, BEFORE, PICTURE
from rebus.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Inside:
    """What stands for a picture.

    Attributes:
        tokenizer: with the tokens for it.
        ids: one for each picture token, and what stands around them.
        picture_id: the one that a picture token takes the place of.
    """

    tokenizer: Tokenizer
    ids: tuple[int, ...] = ()
    picture_id: int | None = None


def is_inline(model: recipe.Model) -> bool:
    """Whether a recipe's pictures stand inside its texts."""
    sees = model.picture.kind not in ("none", "auto")
    return sees and model.fusion.kind == "unified" and model.fusion.layout == "inline"


def inside_of(settings: recipe.Recipe, tokenizer: Tokenizer) -> Inside:
    """The tokenizer with its picture marks, where the recipe's pictures stand inside texts; else as it is.

    Raises:
        RecipeError: the recipe asks for a number of picture tokens that its tower cannot give.
    """
    if not is_inline(settings.model):
        return Inside(tokenizer)
    plan = plan_of(settings.model, settings.picture)
    named = tokenizer.picture_mark
    mark = named if named in tokenizer.specials and not tokenizer.own_turns else PICTURE  # a name of its makers'
    around = plan.projector != "mlp"
    tokenizer = tokenizer.with_tokens([mark, *ALL[1:]] if around else [mark])
    before, after = (tokenizer.encode("".join(names), allow_special=True) for names in (BEFORE, AFTER))
    inner = [tokenizer.picture_id] * plan.inside
    return Inside(tokenizer, tuple([*before, *inner, *after] if around else inner), tokenizer.picture_id)


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
