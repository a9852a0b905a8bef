"""``rebus generate``: go on from a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import AnyModel, Precision, say
from rebus.errors import DataError


def generate(
    run: AnyModel,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from; - reads it from stdin.")],
    max_new_tokens: Annotated[int, typer.Option(metavar="N", help="Longest text, in tokens.")] = 256,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="0: the likeliest token each time; above 0 they are drawn.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(metavar="K", help="Draw among the K likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(metavar="P", help="Draw among the likeliest tokens of this probability together.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(metavar="P", help="Draw among tokens at least this share as likely as the likeliest.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(metavar="X", help="Above 1: tokens that stand there already become less likely.")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End the text before this. May be repeated.")
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Texts to write.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw; the same seed gives the same text.")] = 0,
    beams: Annotated[int, typer.Option(metavar="N", help="Above 1: beam search over so many beams.")] = 1,
    json_schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one JSON value of the schema in this file.")
    ] = None,
    regex: Annotated[
        str | None, typer.Option(metavar="EXPRESSION", help="Write a text that matches this regular expression.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the text as it is written.")] = False,
    precision: Precision = "fp32",
) -> None:
    """Go on from a prompt; several texts are divided by a line of dashes."""
    text = sys.stdin.read() if prompt == "-" else prompt
    schema = None if json_schema is None else _read(json_schema)

    from rebus import api

    message = api.load(run, precision=precision).generate(
        text,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or (),
        n=n,
        seed=seed,
        beams=beams,
        json_schema=schema,
        regex=regex,
        stream=stream,
    )
    if stream:
        for piece in message:
            print(piece, end="", flush=True)
        print(flush=True)
    else:
        say("\n---\n".join([message] if isinstance(message, str) else message))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(file, "a file with a JSON schema", str(error), "check the path after --json-schema") from error
