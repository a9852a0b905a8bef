"""From a recipe to its fusion, or to none where there is nothing to join."""

from __future__ import annotations

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.fusion.base import FUSIONS, Fusion


def attends_memory(settings: recipe.Fusion) -> bool:
    """Whether a decoder beneath this fusion needs cross-attention layers."""
    return settings.kind != "none" and FUSIONS.get(settings.kind).attends_memory


def make_fusion(settings: recipe.Model, widths: dict[str, int], *, writes: bool, reads: bool = True) -> Fusion | None:
    """The recipe's fusion; None where it is ``none`` or nothing is fused.

    Args:
        settings: the recipe's ``model``.
        widths: modality: width of its tower's Features.
        writes: whether a decoder writes from what these towers read.
        reads: whether a head reads what is fused; heads that compare images with texts need no fusion.

    Raises:
        RecipeError: it is ``none`` and there is something to join.
    """
    if settings.fusion.kind == "none":
        if (len(widths) > 1 and reads) or writes:
            found = " and ".join([*widths, *(["what is written"] if writes else [])])
            do = "set model.fusion.kind to joint, unified or cross"
            raise RecipeError("model.fusion.kind", "a fusion", f"'none', with {found} to join", do)
        return None
    fusion: type[Fusion] = FUSIONS.get(settings.fusion.kind)
    joined = settings.fusion.replace(heads=settings.fusion.heads or settings.text.heads)
    return fusion(joined, widths, settings.text.width) if widths else None
