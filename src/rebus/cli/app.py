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
    verify,
)
from rebus.cli.shared import told
from rebus.cli.verb import Group, add

app = typer.Typer(
    name="rebus",
    cls=Group,
    help="Train vision-language models on your own images and text, then question them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data = typer.Typer(
    cls=Group, help="Look at a table before training on it.", no_args_is_help=True, rich_markup_mode="rich"
)
pieces = typer.Typer(
    cls=Group, help="Learn a vocabulary from text, or look at one.", no_args_is_help=True, rich_markup_mode="rich"
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


# group, verb, function, examples
_VERBS = (
    (
        "Train",
        "train",
        train.train,
        "rebus train pets.csv --time-limit 5",
        "rebus train reviews.xlsx --task classify --epochs 3 --out runs/reviews",
    ),
    ("Train", "compare", compare.compare, "rebus compare scenes.jsonl --time-limit 2 --folds 3"),
    ("Train", "demo", demo.demo, "rebus demo --out demo"),
    ("Ask", "ask", ask.ask, 'rebus ask runs/pets-1 photo.jpg "What is in the image?"'),
    ("Ask", "chat", chat.chat, "rebus chat runs/pets-1 --image photo.jpg"),
    ("Ask", "generate", generate.generate, 'rebus generate runs/novels-1 "It was" --temperature 0.8 --n 3'),
    ("Ask", "predict", predict.predict, "rebus predict runs/pets-1 new.csv --out answers.csv"),
    ("Ask", "index", index.index, "rebus index runs/photos-1 photos/"),
    ("Ask", "find", find.find, 'rebus find runs/photos-1 "a red bus" --k 5'),
    ("Judge", "evaluate", evaluate.evaluate, "rebus evaluate runs/pets-1 new.csv --by species"),
    ("Judge", "explain", explain.explain, 'rebus explain runs/pets-1 --image photo.jpg --text "How many?"'),
    ("Judge", "flow", flow.flow, "rebus flow runs/pets-1 --image photo.jpg --out flow.html"),
    ("Judge", "report", report.report, "rebus report runs/pets-1 --lang zh"),
    ("Judge", "verify", verify.verify, "rebus verify runs/pets-1"),
    ("Share", "serve", serve.serve, "rebus serve runs/pets-1 --port 8000"),
    ("Share", "studio", studio.studio, "rebus studio runs/pets-1"),
    ("Share", "export", export.export, "rebus export runs/novels-1 novels.gguf"),
    ("Help", "recipe", recipe.recipe, "rebus recipe train"),
    ("Help", "doctor", doctor.doctor, "rebus doctor"),
)
for group, name, verb, *examples in _VERBS:
    add(app, name, told(verb), group, *examples)
app.add_typer(data, name="data", rich_help_panel="Data")
app.add_typer(pieces, name="tokenizer", rich_help_panel="Data")
add(data, "check", told(check.check), "Commands", "rebus data check pets.csv --json check.json")
add(data, "shard", told(corpus.shard), "Commands", "rebus data shard photos.csv shards/ --shard-mb 256")
add(data, "clean", told(corpus.clean), "Commands", "rebus data clean novels/ --out clean.jsonl")
add(pieces, "train", told(tokenizer.train), "Commands", "rebus tokenizer train novels/ --out pieces")
add(pieces, "inspect", told(tokenizer.inspect), "Commands", 'rebus tokenizer inspect pieces "It was a dark night"')
