"""``rebus ask``: one picture, one or more questions, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import RunFolder, say


def ask(
    run: RunFolder,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture file.")],
    questions: Annotated[list[str], typer.Argument(metavar="QUESTION...", help="One or more questions, each quoted.")],
) -> None:
    """Ask a trained model about a picture; one line an answer."""
    from rebus import api

    model = api.load(run)
    for question in questions:
        say(model.ask(picture, question))
