"""``rebus tokenizer train`` and ``rebus tokenizer inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rebus.cli.shared import RecipeFile, Settings, given, say, show_table
from rebus.cli.verb import JsonOutput, write_json_output

if TYPE_CHECKING:
    from rebus.checkpoints.tokenizers import Inspected


def train(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Text, a table with a column of text, or a folder of them; .gz, .zst too."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where tokenizer.json goes.")],
    vocab_size: Annotated[
        str, typer.Option("--vocab-size", metavar="N|auto", help="Most pieces; auto: found from the text.")
    ] = "auto",
    gain: Annotated[
        float, typer.Option("--gain", metavar="SHARE", min=0, max=1, help="auto: the least gain worth a doubling.")
    ] = 0.1,
    sample_mb: Annotated[float, typer.Option("--sample-mb", metavar="MB", min=0.001, help="Text to learn from.")] = 64,
    pattern: Annotated[
        Literal["qwen2", "llama-bpe", "gpt-2", "smollm", "rebus"],
        typer.Option("--pattern", help="How text is cut before pieces are learned; all but rebus are llama.cpp's."),
    ] = "qwen2",
    mask: Annotated[bool, typer.Option("--mask", help="With the token that masked models (task mlm) need.")] = False,
    column: Annotated[
        str | None, typer.Option("--column", metavar="NAME", help="The column that holds the text.")
    ] = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
    json_output: JsonOutput = None,
) -> None:
    """Learn a vocabulary from text, and say how dense it makes English and Chinese.

    auto takes the smallest of 1,024, 2,048, ... 65,536 pieces after which doubling gains less than 10% of bytes
    a token (see --gain), on a tenth of the sample that is held out.
    """
    from rebus.checkpoints.tokenizers import train_tokenizer
    from rebus.errors import RecipeError
    from rebus.recipe import Recipe, load_recipe, override

    if vocab_size != "auto" and not vocab_size.isdecimal():
        raise RecipeError(
            "--vocab-size", "a whole number or auto", f"'{vocab_size}'", "write it like --vocab-size 8192"
        )
    built = override(load_recipe(recipe) if recipe else Recipe(), [*given(corpus__column=column), *(sets or [])])
    result = train_tokenizer(
        data,
        out,
        vocab_size="auto" if vocab_size == "auto" else int(vocab_size),
        gain=gain,
        sample_mb=sample_mb,
        pattern=pattern,
        mask=mask,
        settings=built,
        log=lambda line: say(line, err=True),
    )
    _show(result, json_output)


def inspect(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN_OR_TOKENIZER", help="A Run, a folder, a tokenizer.json, a .gguf file or a hub id."),
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="DATA|TEXT", help="Text to measure on: files, or a sentence itself.")
    ] = None,
    sample_mb: Annotated[float, typer.Option("--sample-mb", metavar="MB", min=0.001, help="Text to read.")] = 4,
    json_output: JsonOutput = None,
) -> None:
    """Say how dense a tokenizer makes English and Chinese, and how it cuts a sentence."""
    from rebus.checkpoints.tokenizers import inspect_tokenizer

    _show(inspect_tokenizer(model, what, sample_mb=sample_mb), json_output)


def _show(inspected: Inspected, json_output: str | None) -> None:
    import dataclasses

    if write_json_output(json_output, dataclasses.asdict(inspected)):
        return
    if inspected.search is not None:
        rows = [
            [f"{step.size:,}", f"{step.bytes_per_token:.3f}", "" if step.gain is None else f"{step.gain:+.1%}"]
            for step in inspected.search.steps
        ]
        show_table(["pieces", "bytes a token", "doubling gains"], rows)
        say(f"chosen: {inspected.search.size:,}, after which doubling gains less than {inspected.search.share:.0%}")
    rows = [
        [
            figure.language,
            f"{figure.bytes:,}",
            f"{figure.tokens:,}",
            f"{figure.bytes_per_token:.3f}",
            f"{figure.characters_per_token:.3f}",
            f"{figure.single_bytes / max(figure.tokens, 1):.2%}",
            f"{figure.parts / max(figure.tokens, 1):.2%}",
            f"{figure.unknown:,}",
        ]
        for figure in inspected.figures
    ]
    headings = ["language", "bytes", "tokens", "bytes a token", "characters a token", "single bytes"]
    show_table([*headings, "parts of characters", "unknown"], rows)
    for pieces in inspected.cuts:
        say("|".join(piece.replace("\n", "⏎") for piece in pieces))
    say("longest: " + "  ".join(repr(piece) for piece in inspected.longest))
    say(
        f"{inspected.vocab_size:,} pieces, cut as '{inspected.pattern or 'its own'}', "
        f"{inspected.fingerprint[:12]}: {inspected.name}"
    )
