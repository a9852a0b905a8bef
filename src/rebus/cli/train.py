"""``rebus train``: a table or raw text in, a Run folder out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rebus.cli.completion import FUSIONS, IMAGE_TOWERS, among, complete_text
from rebus.cli.shared import (
    GroupColumn,
    Ignore,
    Kinds,
    RecipeFile,
    Settings,
    SplitColumn,
    Tasks,
    given,
    kind_settings,
    say,
    show_table,
)
from rebus.errors import RecipeError
from rebus.invocation import invocation

if TYPE_CHECKING:
    from rebus.checkpoints.run_folder import Run


def train(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="A table (CSV, TSV, JSON, JSONL, Parquet), text files, or a folder."),
    ] = None,
    task: Tasks = None,
    recipe: RecipeFile = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The Run folder to make.")] = None,
    sets: Settings = None,
    kind: Kinds = None,
    ignore: Ignore = None,
    time_limit: Annotated[
        float | None,
        typer.Option("--time-limit", metavar="MINUTES", help="Train for this long, whatever the recipe says."),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", metavar="N", help="Passes over the training rows.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Images (or rows without images) a step.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", metavar="X", help="Peak learning rate of AdamW (or SGD).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of weights, order and augmentation.")] = None,
    base: Annotated[
        Path | None,
        typer.Option("--from", metavar="BASE", help="A Run or checkpoint folder whose weights to start from."),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option("--fusion", metavar="NAME", autocompletion=among(*FUSIONS), help="joint, unified or cross."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="TOWER",
            autocompletion=among(*IMAGE_TOWERS),
            help="The image tower: convnet, vit, resnet, efficientnet or none.",
        ),
    ] = None,
    vision: Annotated[
        str | None,
        typer.Option("--vision", metavar="MODEL", help="A Run or checkpoint whose image tower to start from."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TOWER",
            autocompletion=complete_text,
            help="The text tower: decoder, encoder, recurrent or none; "
            "or a Run or checkpoint to take it from, with its tokenizer.",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            "--tune",
            metavar="WHAT",
            help="With --from, what learns: full, lora (adapters) or head. With --vision and --text, in the second "
            "stage: lora unless you say full; head makes it one stage.",
        ),
    ] = None,
    size: Annotated[
        Literal["nano", "micro", "mini", "small", "base"] | None,
        typer.Option("--size", help="Raw text: one dial for width, depth, batch, rates and length of the run."),
    ] = None,
    split_column: SplitColumn = None,
    group_column: GroupColumn = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the complete recipe, size, memory and time; train nothing.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a Run that was interrupted.")
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="With --resume: go on although recipe or data have changed since the start.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the Run folder.")] = False,
) -> None:
    """Train a model on a table of images and text, or on raw text, and leave a Run folder."""
    settings = [
        *given(
            seed=seed,
            train__time_limit=time_limit,
            train__epochs=epochs,
            train__batch_size=batch_size,
            train__lr=lr,
            model__fusion__kind=fusion,
            model__image__kind=image,
            train__tune=tune,
            model__size=size,
            data__split__column=split_column,
            data__split__group=group_column,
            data__ignore=ignore or None,
        ),
        *kind_settings(kind),
        *(sets or []),
    ]
    if resume is not None:
        if settings or task or recipe or out or base or vision or text or dry_run:
            raise RecipeError(
                "--resume",
                "no other setting: a Run goes on with its own recipe",
                "settings beside it",
                f"run `rebus train --resume {resume}` alone (with DATA where that lies elsewhere now), "
                "or start a new Run with `rebus train DATA`",
            )
        from rebus import api

        _tell(api.resume(resume, data=data, accept_changes=accept_changes, quiet=quiet), quiet)
        return
    if accept_changes:
        raise RecipeError("--accept-changes", "--resume beside it", "none", "leave it out: a new run accepts its data")
    if data is None:
        raise RecipeError("rebus train", "a table or folder to learn from", "none", "write `rebus train DATA`")

    from rebus import api

    if dry_run:
        plan = api.dry_run(data, task=task, recipe=recipe, settings=settings, base=base, vision=vision, text=text)
        say(plan.recipe_text)
        seconds = "not known" if plan.seconds is None else f"{plan.seconds / 60:.1f} minutes"
        rows = [["parameters", f"{plan.parameters:,}"], ["memory", f"{plan.memory_mb:,.0f} MiB"], ["time", seconds]]
        passes = f"{plan.epochs:.3g} passes over the training rows"
        rows.append(["steps", f"{plan.steps:,}, {passes}" + (": not all are seen" if plan.epochs < 1 else "")])
        show_table(["estimate", ""], rows)
        return
    run = api.train(
        data,
        task=task,
        recipe=recipe,
        out=out,
        settings=settings,
        base=base,
        vision=vision,
        text=text,
        quiet=quiet,
    )
    _tell(run, quiet)


def _tell(run: Run, quiet: bool) -> None:
    """Where the Run is, or how to go on with one that was stopped."""
    from rebus.loop.parallel import is_first

    if not is_first():  # the first process saves and judges while the others are done
        return
    if not run.weights_path.exists():
        say(f"Stopped before the end. Go on with: {invocation()} train --resume {run.folder}", style="yellow", err=True)
        raise typer.Exit(130)
    say(str(run.folder) if quiet else f"The Run is in {run.folder}. Its report: {run.report_path}")
