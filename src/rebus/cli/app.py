"""The verbs, gathered into one command.

Nothing here or in a verb's module head imports torch: ``rebus --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from rebus._version import __version__
from rebus.cli import ask, chat, check, demo, doctor, evaluate, predict, recipe, report, train
from rebus.cli.shared import told

app = typer.Typer(
    name="rebus",
    help="Train vision-language models on your own pictures and text, then question them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data = typer.Typer(help="Look at a table before training on it.", no_args_is_help=True, rich_markup_mode="rich")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


app.command("train")(told(train.train))
app.command("predict")(told(predict.predict))
app.command("evaluate")(told(evaluate.evaluate))
app.command("ask")(told(ask.ask))
app.command("chat")(told(chat.chat))
data.command("check")(told(check.check))
app.add_typer(data, name="data")
app.command("demo")(told(demo.demo))
app.command("report")(told(report.report))
app.command("recipe")(told(recipe.recipe))
app.command("doctor")(told(doctor.doctor))
