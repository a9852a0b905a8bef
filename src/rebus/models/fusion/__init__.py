"""Ways to join modalities, swappable by one word. Entry-point group of other packages: ``rebus.fusions``."""

from __future__ import annotations

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.fusion.base import FUSIONS, Condition, Fusion
from rebus.models.fusion.cross import Cross
from rebus.models.fusion.joint import Joint
from rebus.models.fusion.unified import Unified

__all__ = ["FUSIONS", "Condition", "Cross", "Fusion", "Joint", "Unified", "make_fusion"]


def make_fusion(settings: recipe.Model, widths: dict[str, int], *, writes: bool, reads: bool) -> Fusion | None:
    """The recipe's fusion; None where it is ``none`` or nothing is fused.

    Args:
        settings: the recipe's ``model``.
        widths: modality: width of its tower's Features.
        writes: whether a decoder writes from what these towers read.
        reads: whether a head reads what is fused.

    Raises:
        RecipeError: it is ``none`` and there is something to join.
    """
    if settings.fusion.kind == "none" and ((len(widths) > 1 and reads) or writes):
        received = " and ".join([*widths, *(["what is written"] if writes else [])])
        do = "set model.fusion.kind to joint, unified or cross"
        raise RecipeError("model.fusion.kind", "a fusion", f"'none', with {received} to join", do)
    if settings.fusion.kind == "none" or not widths or not (reads or writes):
        return None
    joined = settings.fusion.replace(heads=settings.fusion.heads or settings.text.heads)
    return FUSIONS.get(settings.fusion.kind)(joined, widths, settings.text.width)
