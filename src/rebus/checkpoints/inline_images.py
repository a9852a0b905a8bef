"""Images inside texts: which ids stand for one.

It joins the tokenizer, which knows the marks, to the model's plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from rebus import recipe
from rebus.models.image_tokens import plan_of
from rebus.text.images import AFTER, ALL, BEFORE, IMAGE
from rebus.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Inside:
    """What stands for an image.

    Attributes:
        tokenizer: with the tokens for it.
        ids: one for each image token, and what stands around them.
        image_id: the one that an image token takes the place of.
    """

    tokenizer: Tokenizer
    ids: tuple[int, ...] = ()
    image_id: int | None = None


def is_inline(model: recipe.Model) -> bool:
    """Whether a recipe's images stand inside its texts."""
    sees = model.image.kind not in ("none", "auto")
    return sees and model.fusion.kind == "unified" and model.fusion.layout == "inline"


def inside_of(settings: recipe.Recipe, tokenizer: Tokenizer) -> Inside:
    """The tokenizer with its image marks, where the recipe's images stand inside texts; else as it is.

    Raises:
        RecipeError: the recipe asks for a number of image tokens that its tower cannot give.
    """
    if not is_inline(settings.model):
        return Inside(tokenizer)
    plan = plan_of(settings.model, settings.image)
    named = tokenizer.image_mark
    mark = named if named in tokenizer.specials and not tokenizer.own_turns else IMAGE  # a name of its makers'
    around = plan.projector != "mlp"
    tokenizer = tokenizer.with_tokens([mark, *ALL[1:]] if around else [mark])
    before, after = (tokenizer.encode("".join(names), allow_special=True) for names in (BEFORE, AFTER))
    inner = [tokenizer.image_id] * plan.inside
    return Inside(tokenizer, tuple([*before, *inner, *after] if around else inner), tokenizer.image_id)
