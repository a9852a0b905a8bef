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
    made = override(load_recipe(recipe) if recipe else Recipe(), [*given(corpus__column=column), *(sets or [])])
    found = train_tokenizer(
        data,
        out,
        vocab_size="auto" if vocab_size == "auto" else int(vocab_size),
        gain=gain,
        sample_mb=sample_mb,
        pattern=pattern,
        mask=mask,
        settings=made,
        log=lambda line: say(line, err=True),
    )
    _show(found, json_output)


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


def _show(found: Inspected, json_output: str | None) -> None:
    import dataclasses

    if write_json_output(json_output, dataclasses.asdict(found)):
        return
    if found.search is not None:
        rows = [
            [f"{step.size:,}", f"{step.bytes_per_token:.3f}", "" if step.gain is None else f"{step.gain:+.1%}"]
            for step in found.search.steps
        ]
        show_table(["pieces", "bytes a token", "doubling gains"], rows)
        say(f"chosen: {found.search.size:,}, after which doubling gains less than {found.search.share:.0%}")
    rows = [
        [
            one.language,
            f"{one.bytes:,}",
            f"{one.tokens:,}",
            f"{one.bytes_per_token:.3f}",
            f"{one.characters_per_token:.3f}",
            f"{one.single_bytes / max(one.tokens, 1):.2%}",
            f"{one.parts / max(one.tokens, 1):.2%}",
            f"{one.unknown:,}",
        ]
        for one in found.figures
    ]
    headings = ["language", "bytes", "tokens", "bytes a token", "characters a token", "single bytes"]
    show_table([*headings, "parts of characters", "unknown"], rows)
    for pieces in found.cuts:
        say("|".join(piece.replace("\n", "⏎") for piece in pieces))
    say("longest: " + "  ".join(repr(piece) for piece in found.longest))
    say(f"{found.vocab_size:,} pieces, cut as '{found.pattern or 'its own'}', {found.fingerprint[:12]}: {found.name}")
