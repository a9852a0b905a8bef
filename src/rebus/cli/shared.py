"""What several verbs share: printing, what happens on failure, and shorthands written out as settings."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rebus.cli import interruption
from rebus.cli.completion import TASKS, among, complete_kinds, complete_runs, complete_settings
from rebus.errors import ImageError, RebusError, RecipeError

P = ParamSpec("P")
R = TypeVar("R")

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", autocompletion=complete_runs, help="A Run folder, made by `rebus train`.")
]
AnyModel = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        autocompletion=complete_runs,
        help="A Run folder, a Hugging Face folder, a .gguf file or a hub id.",
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", metavar="TEXT", help="What a model that converses is told first."),
]
Precision = Annotated[
    Literal["fp32", "bf16"], typer.Option("--precision", help="Of the weights; bf16 writes about twice as fast.")
]
DataPath = Annotated[
    Path, typer.Argument(metavar="DATA", help="A table (CSV, JSON, Parquet, ...), tar shards, or a folder.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="COLUMN=KIND",
        autocompletion=complete_kinds,
        help="Say what a column holds: image, text, category, number, ...",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="COLUMN", help="A column that is not read at all. May be repeated."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete_settings,
        help="Change a setting; `rebus recipe` lists them. May be repeated.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="TASK",
        autocompletion=among(*TASKS),
        help="What to learn; found from the columns unless named. May be repeated.",
    ),
]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", metavar="FILE", help="A recipe.yaml to start from.")]

Language = Annotated[Literal["en", "zh"], typer.Option("--lang", help="Language of what is written: en or zh.")]
SplitColumn = Annotated[
    str | None, typer.Option("--split-column", metavar="COLUMN", help="A column that says train, valid or test.")
]
GroupColumn = Annotated[
    str | None, typer.Option("--group-column", metavar="COLUMN", help="Rows that share its value stay in one split.")
]


def told(verb: Callable[P, R]) -> Callable[P, R]:
    """Wrap a verb so that a user's mistake is told in one paragraph and a defect keeps its traceback.

    Exit status: 2 a user's mistake, 130 interrupted, 1 a defect of Rebus.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except RebusError as error:
            say(f"Error: {error}", style="red", err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            say(str(stop) or "Stopped.", style="yellow", err=True)
            raise typer.Exit(130) from None
        except Exception:
            if interruption.happened:
                say("Stopped.", style="yellow", err=True)
                raise typer.Exit(130) from None
            traceback.print_exc()
            say(
                "This is a defect of Rebus, not of your data. "
                "Please report it with the lines above and the output of `rebus doctor`.",
                style="red",
                err=True,
            )
            raise typer.Exit(1) from None

    return run


def console(err: bool = False) -> Console:
    """A console on stdout or stderr; made when needed, so that a test or a pipe that replaces the stream is obeyed."""
    return Console(stderr=err, highlight=False)


def say(text: str, style: str = "", err: bool = False) -> None:
    """Print plain text: no markup is read from it, and only a terminal gets colour and broken lines."""
    screen = console(err)
    if screen.is_terminal:
        screen.print(Text(text, style=style))
    else:
        print(text, file=sys.stderr if err else sys.stdout, flush=True)


def show_table(headings: list[str], rows: list[list[str]]) -> None:
    """Print rows in columns; on a pipe, as tab-separated lines that no cell is cut from."""
    screen = console()
    if not screen.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    screen.print(table)


def existing_image(path: Path | None) -> Path | None:
    """The path of an image, looked for before a model is loaded.

    Raises:
        ImageError: there is no such file.
    """
    if path is None:
        return None
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):
        folder = path.absolute().parent
        received = "no such file" if os.path.isdir(folder) else "no such folder"
        received = (
            "a folder" if os.path.isdir(path) else "what is no ordinary file" if os.path.exists(path) else received
        )
        raise ImageError(path, f"an image file in {folder}", received, "check the path")
    return path


def kind_settings(kinds: list[str] | None) -> list[str]:
    """``["age=number"]`` written out as settings under ``data.kinds``.

    Raises:
        RecipeError: a word without a column, '=' and a kind.
    """
    settings = []
    for word in kinds or []:
        column, _, kind = word.rpartition("=")
        if not column or not kind:
            raise RecipeError(f"--kind {word}", "COLUMN=KIND", f"'{word}'", "write it like --kind age=number")
        settings.append(setting(f"data.kinds.{column}", kind))
    return settings


def setting(key: str, value: object) -> str:
    """A word for ``rebus.recipe.override``; JSON is YAML, and keeps 'yes' or '1' a text."""
    return f"{key}={json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)}"


def given(**shorthands: object) -> list[str]:
    """Settings of the shorthands that were given: ``given(seed=1, train__time_limit=None)`` is ``["seed=1"]``."""
    return [setting(name.replace("__", "."), value) for name, value in shorthands.items() if value is not None]
