"""The verbs, gathered into one command.

Nothing here or in a verb's module head imports torch: ``rebus --help`` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from rebus._version import __version__
from rebus.cli import (
    ask,
    chat,
    check,
    compare,
    corpus,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    find,
    flow,
    generate,
    index,
    predict,
    recipe,
    report,
    serve,
    studio,
    tokenizer,
    train,
)
from rebus.cli.shared import told

app = typer.Typer(
    name="rebus",
    help="Train vision-language models on your own pictures and text, then question them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data = typer.Typer(help="Look at a table before training on it.", no_args_is_help=True, rich_markup_mode="rich")
pieces = typer.Typer(
    help="Learn a vocabulary from text, or look at one.", no_args_is_help=True, rich_markup_mode="rich"
)


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
app.command("compare")(told(compare.compare))
app.command("index")(told(index.index))
app.command("find")(told(find.find))
app.command("ask")(told(ask.ask))
app.command("chat")(told(chat.chat))
app.command("generate")(told(generate.generate))
data.command("check")(told(check.check))
data.command("shard")(told(corpus.shard))
data.command("clean")(told(corpus.clean))
app.add_typer(data, name="data")
pieces.command("train")(told(tokenizer.train))
pieces.command("inspect")(told(tokenizer.inspect))
app.add_typer(pieces, name="tokenizer")
app.command("serve")(told(serve.serve))
app.command("studio")(told(studio.studio))
app.command("export")(told(export.export))
app.command("demo")(told(demo.demo))
app.command("explain")(told(explain.explain))
app.command("flow")(told(flow.flow))
app.command("report")(told(report.report))
app.command("recipe")(told(recipe.recipe))
app.command("doctor")(told(doctor.doctor))
