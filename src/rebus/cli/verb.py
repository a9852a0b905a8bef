"""How every verb looks: its group and examples in the help, names of types, `--json` with or without a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from rebus.cli.shared import say

_STDOUT = "-"


def _json_file(where: str | None) -> str | None:
    """What ``--json`` was given; a word that is no .json file is a misplaced argument, or a table to be replaced."""
    if where is not None and where != _STDOUT and not where.lower().endswith(".json"):
        raise typer.BadParameter(f"expected a file ending in .json, found '{where}'; to print JSON, write --json last")
    return where


JsonOutput = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="[FILE]",
        callback=_json_file,
        help="The result as JSON: in FILE, or printed in place of text where none is named.",
    ),
]


_WORDS = {"int": "N", "float": "X", "Path": "PATH", "str": "TEXT"}  # what to type for Python's types


class _Plain:
    """Help shows what is to be typed: nothing for a flag, a word in place of a Python type, arguments by name alone."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As the base class, with a word for each option."""
        result: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in result:
            if not isinstance(param, TyperOption):
                param.display_type_rich = lambda ctx: None
            elif param.is_flag:
                param.metavar = ""
            elif param.metavar is None and not param.type_descriptor.is_choice:
                held = str(param.type_descriptor.annotation)
                param.metavar = next((word for name, word in _WORDS.items() if name in held), None)
        return result


class Group(_Plain, TyperGroup):
    """A command of commands."""


class Verb(_Plain, TyperCommand):
    """A command; its ``--json`` needs no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the base class; ``--json`` before another option or at the end means standard output."""
        if any("--json" in param.opts for param in self.params):
            args = [
                f"--json={_STDOUT}" if word == "--json" and (not rest or rest[0].startswith("--")) else word
                for word, rest in ((word, args[at + 1 :]) for at, word in enumerate(args))
            ]
        return super().parse_args(ctx, args)


def add(app: typer.Typer, name: str, verb: Callable[..., Any], group: str, *examples: str) -> None:
    """Put a verb into the command, in a group of the help, with examples below its options."""
    epilog = "\n\n".join(f"[dim]Example:[/dim] {example}" for example in examples)
    app.command(name, cls=Verb, rich_help_panel=group, epilog=epilog)(verb)


def write_json_output(where: str | None, value: Any) -> bool:
    """Write what ``--json`` asks for; whether it took the place of the text on standard output."""
    if where is None:
        return False
    if where == _STDOUT:
        say(json.dumps(value, ensure_ascii=False, indent=2, default=str))
        return True
    from rebus.atomic import write_json

    write_json(Path(where), value)
    say(f"Written: {where}", err=True)
    return False
