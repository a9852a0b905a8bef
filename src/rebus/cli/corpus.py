"""``rebus data shards`` and ``rebus data clean``: raw text made ready for training, or only looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rebus.cli.shared import RecipeFile, Settings, given, say, show_table

if TYPE_CHECKING:
    from rebus.recipe import Recipe

TextPath = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Text, a table with a column of text, or a folder of them; .gz, .zst too."),
]
Column = Annotated[str | None, typer.Option("--column", metavar="NAME", help="The column that holds the text.")]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes that clean and encode.")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the report as JSON.")]


def shards(
    data: TextPath,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the shards go.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", metavar="PATH", help="A Run or a tokenizer.json; one is trained unless named."),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Also store where words start, for masked models (task mlm).")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Throw away shards of another source, tokenizer or settings.")
    ] = False,
    column: Column = None,
    workers: Workers = None,
    json_file: JsonFile = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
) -> None:
    """Clean text, cut it into tokens and write them to shards, once. Killed and started again, it goes on."""
    import dataclasses

    from rebus.atomic import write_json
    from rebus.data.corpus import PackedRows, Shards
    from rebus.data.corpus.prepare import make_shards

    made = _recipe(data, recipe, column, workers, sets)
    manifest = make_shards(
        made, out, tokenizer=tokenizer, words=words, rebuild=rebuild, tell=lambda line: say(line, err=True)
    )
    rows = [
        [
            name,
            f"{split.documents:,}",
            f"{split.tokens:,}",
            f"{split.bytes:,}",
            f"{split.bytes / split.tokens:.2f}",
            str(len(split.shards)),
        ]
        for name, split in manifest.splits.items()
    ]
    show_table(["split", "documents", "tokens", "bytes", "bytes a token", "shards"], rows)
    opened, block = Shards.open(out), made.corpus.block
    for packing in ("bestfit", "stream"):
        packed = PackedRows(opened, "train", block, packing, made.seed)
        say(
            f"{packing} rows of {block}: {len(packed):,}, {packed.waste:.2%} padding, {packed.cut:,} documents cut"
            + (" (corpus.packing)" if packing == made.corpus.packing else "")
        )
    say(f"{manifest.seconds:.1f} s; vocabulary {manifest.vocab_size:,}, tokenizer {manifest.tokenizer[:12]}: {out}")
    if json_file is not None:
        write_json(json_file, dataclasses.asdict(manifest))
        say(f"Written: {json_file}")


def clean(
    data: TextPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write what is kept as JSONL; .jsonl.gz or .jsonl.zst packs it."),
    ] = None,
    column: Column = None,
    workers: Workers = None,
    json_file: JsonFile = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
) -> None:
    """Say what cleaning text would leave out and change, by reason, with examples; settings: corpus.clean."""
    from rebus.atomic import write_json
    from rebus.data.corpus.prepare import clean_text

    report = clean_text(_recipe(data, recipe, column, workers, sets), out)
    for line in report.lines():
        say(line)
    if json_file is not None:
        write_json(json_file, report.as_dict())
        say(f"Written: {json_file}")
    if out is not None:
        say(f"Written: {out}")


def _recipe(data: Path, file: Path | None, column: str | None, workers: int | None, sets: list[str] | None) -> Recipe:
    from rebus.recipe import Recipe, load_recipe, override

    made = load_recipe(file) if file is not None else Recipe()
    words = given(data__path=data, corpus__column=column, data__workers=workers)
    return override(made, [*words, *(sets or [])])
