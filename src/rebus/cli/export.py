"""``rebus export``: a model as files that llama.cpp, transformers and vLLM open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rebus.cli.shared import say


def export(
    model: Annotated[
        str, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A Run, a Hugging Face folder, a .gguf file or a hub id.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .gguf file or a folder to write.")],
    form: Annotated[
        Literal["gguf", "hf"] | None,
        typer.Option("--format", help="gguf: one file for llama.cpp; hf: a folder. Found from OUT unless named."),
    ] = None,
    kind: Annotated[
        Literal["f32", "f16", "bf16", "q8_0"] | None,
        typer.Option("--type", help="Of the matrices; f16 for gguf, f32 for hf unless named."),
    ] = None,
) -> None:
    """Write a text model for other programs: tensors, settings, tokenizer and chat template."""
    from rebus.checkpoints.export import export as write

    result = write(model, out, format=form, precision=kind)
    for note in result.notes:
        say(f"Note: {note}", style="yellow", err=True)
    size = result.path.stat().st_size if result.path.is_file() else sum(p.stat().st_size for p in result.path.iterdir())
    say(f"{result.parameters:,} parameters as {result.format} {result.precision}, {size / 1e6:,.1f} MB: {result.path}")
