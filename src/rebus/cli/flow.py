"""``rebus flow``: one example followed through a model, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.explain import columns_of
from rebus.cli.shared import AnyModel, Language, say


def flow(
    run: AnyModel,
    image: Annotated[Path | None, typer.Option("--image", metavar="PICTURE", help="The picture to follow.")] = None,
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
    from rebus.report.flow import flow as follow
    from rebus.report.flow import write_flow
    from rebus.run.predictor import Predictor

    predictor = Predictor.open(run, tell=lambda line: say(line, style="dim", err=True))
    found = follow(predictor, picture=image, text=text, columns=columns_of(column), task=task, lang=lang)
    say(f"Written: {write_flow(out, found)}")
