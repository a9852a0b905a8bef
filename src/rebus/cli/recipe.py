"""``rebus recipe``: every setting there is."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from rebus.cli.shared import say, show_table
from rebus.errors import RecipeError


def recipe(
    part: Annotated[str, typer.Argument(metavar="PART", help="Only this branch, e.g. train or model.image.")] = "",
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a complete recipe.yaml of defaults instead.")] = False,
) -> None:
    """Print every setting with its meaning and default."""
    from rebus.recipe import Recipe, describe

    if as_yaml:
        say(Recipe().save_text().rstrip("\n"))
        return
    settings = [row for row in describe() if not part or row[0] == part or row[0].startswith(f"{part}.")]
    if not settings:
        names = [name.split(".") for name, *_ in describe()]
        known = {".".join(words[:depth]) for words in names for depth in range(1, len(words) + 1)}
        close = difflib.get_close_matches(part, known, n=1) or sorted({words[0] for words in names})
        raise RecipeError(
            f"rebus recipe {part}", "a setting or a branch of the recipe", f"'{part}'", f"look at {', '.join(close)}"
        )
    show_table(["setting", "values", "default", "meaning"], [list(row) for row in settings])
