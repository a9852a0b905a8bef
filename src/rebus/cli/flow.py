"""``rebus flow``: one example followed through a model, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.explain import columns_of
from rebus.cli.shared import AnyModel, Language, existing_image, say


def flow(
    run: AnyModel,
    image: Annotated[Path | None, typer.Option("--image", metavar="IMAGE", help="The image to follow.")] = None,
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="The question, the prompt, or the text.")] = "",
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Which of the model's tasks.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=VALUE", help="What else the task reads: text, or JSON. May be repeated."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page.")] = Path("flow.html"),
    lang: Language = "en",
) -> None:
    """Follow one example through the model, from the file to the answer: a page that needs no network."""
    image = existing_image(image)
    from rebus import api

    api.flow(run, image, text, columns=columns_of(column), task=task, lang=lang, out=out)
    say(f"Written: {out}")
