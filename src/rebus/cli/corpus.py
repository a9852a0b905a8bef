"""``rebus data shard`` and ``rebus data clean``: images or raw text made ready for training, or only looked at."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rebus.cli.shared import Kinds, RecipeFile, Settings, given, kind_settings, say, show_table
from rebus.cli.verb import JsonOutput, write_json_output

if TYPE_CHECKING:
    from rebus.data.corpus import Manifest
    from rebus.data.tars.manifest import TarManifest
    from rebus.recipe import Recipe

TextPath = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Text, a table with a column of text, or a folder of them; .gz, .zst too."),
]
Column = Annotated[str | None, typer.Option("--column", metavar="NAME", help="The column that holds the text.")]
Workers = Annotated[int | None, typer.Option("--workers", metavar="N", help="Processes that clean and encode.")]


def shard(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A table with images, tar shards, or text; or a folder of them.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder where the shards go.")],
    shard_mb: Annotated[
        float | None,
        typer.Option("--shard-mb", metavar="N", min=0.001, help="Images: size of a shard; 256 unless said."),
    ] = None,
    recode: Annotated[
        Literal["jpeg", "png", "webp"] | None,
        typer.Option("--recode", help="Images: write them anew; their own bytes unless said."),
    ] = None,
    side: Annotated[
        int | None,
        typer.Option("--side", metavar="N", min=8, help="Images, with --recode: longer side at most, in pixels."),
    ] = None,
    quality: Annotated[
        int, typer.Option("--quality", metavar="N", min=1, max=100, help="Images: of --recode jpeg and webp.")
    ] = 90,
    shuffle: Annotated[
        bool,
        typer.Option("--shuffle", help="Images: in an order that the recipe's seed decides, for readers that stream."),
    ] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", metavar="PATH", help="Text: a Run or a tokenizer.json; one is trained unless named."
        ),
    ] = None,
    words: Annotated[
        bool, typer.Option("--words", help="Text: also store where words start, for masked models (task mlm).")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Throw away shards of another source, tokenizer or settings.")
    ] = False,
    kinds: Kinds = None,
    column: Column = None,
    workers: Workers = None,
    json_output: JsonOutput = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
) -> None:
    """Write shards to train from: tar files of images (WebDataset), or tokens of text. Stopped, it can go on."""
    from rebus import api
    from rebus.data.tars.manifest import TarManifest

    settings = [*given(corpus__column=column, data__workers=workers), *kind_settings(kinds), *(sets or [])]
    manifest = api.shard(
        source,
        out,
        shard_mb=shard_mb,
        recode=recode,
        side=side,
        quality=quality,
        shuffle=shuffle,
        tokenizer=tokenizer,
        words=words,
        rebuild=rebuild,
        recipe=recipe,
        settings=settings,
    )
    if write_json_output(json_output, dataclasses.asdict(manifest)):
        return
    if isinstance(manifest, TarManifest):
        _show_tars(manifest, out)
    else:
        _show_tokens(manifest, out, api.make_recipe(source, None, recipe, settings))


def _show_tars(manifest: TarManifest, out: Path) -> None:
    rows = [
        [shard.url, f"{shard.nsamples:,}", f"{shard.rows:,}", f"{shard.filesize:,}", shard.sha256[:12]]
        for shard in manifest.shards
    ]
    show_table(["shard", "samples", "rows", "bytes", "sha256"], rows)
    left_out = manifest.left_out
    if left_out["count"]:
        say(f"left out {left_out['count']:,} rows of broken images; the first: {left_out['first'][0]}")
    samples, total = sum(item.nsamples for item in manifest.shards), sum(item.filesize for item in manifest.shards)
    say(f"{samples:,} samples, {total:,} bytes in {len(manifest.shards)} shards: {out}")


def _show_tokens(manifest: Manifest, out: Path, recipe: Recipe) -> None:
    from rebus.data.corpus import PackedRows, Shards

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
    opened, block = Shards.open(out), recipe.corpus.block
    for packing in ("bestfit", "stream"):
        packed = PackedRows(opened, "train", block, packing, recipe.seed)
        say(
            f"{packing} rows of {block}: {len(packed):,}, {packed.waste:.2%} padding, {packed.cut:,} documents cut"
            + (" (corpus.packing)" if packing == recipe.corpus.packing else "")
        )
    say(f"{manifest.seconds:.1f} s; vocabulary {manifest.vocab_size:,}, tokenizer {manifest.tokenizer[:12]}: {out}")


def clean(
    data: TextPath,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write what is kept as JSONL; .jsonl.gz or .jsonl.zst packs it."),
    ] = None,
    column: Column = None,
    workers: Workers = None,
    json_output: JsonOutput = None,
    recipe: RecipeFile = None,
    sets: Settings = None,
) -> None:
    """Say what cleaning text would leave out and change, by reason, with examples; settings: corpus.clean."""
    from rebus import api

    settings = [*given(corpus__column=column, data__workers=workers), *(sets or [])]
    report = api.clean(data, out, recipe=recipe, settings=settings)
    if not write_json_output(json_output, report.as_dict()):
        for line in report.lines():
            say(line)
    if out is not None:
        say(f"Written: {out}", err=json_output is not None)
