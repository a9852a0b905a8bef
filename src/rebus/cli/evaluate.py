"""``rebus evaluate``: measure a Run or another project's checkpoint on a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rebus.cli.shared import Kinds, RunFolder, console, kind_settings, say, show_table
from rebus.cli.verb import JsonOutput, write_json_output


def evaluate(
    run: RunFolder,
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="A table or folder; without one, the table that the Run was trained from."),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="train, valid, test or all.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="COLUMN", help="Also measure each value of this column.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="What to judge: what it was trained for, or choose, generate, translate, converse, answer or lm, "
            "which a language model does untrained. May be repeated.",
        ),
    ] = None,
    probe: Annotated[
        Literal["linear", "knn"] | None,
        typer.Option("--probe", help="Judge frozen features: a linear classifier or nearest neighbours on the labels."),
    ] = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Judge a model trained to `retrieve` on classes it is told by name only."),
    ] = False,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="A,B,C", help="With --zero-shot: the classes; else the table's.")
    ] = None,
    lang: Annotated[
        Literal["en", "zh"] | None,
        typer.Option("--lang", help="With --zero-shot: the sentences around the names. With --ablate: of the verdict."),
    ] = None,
    ablate: Annotated[
        bool,
        typer.Option("--ablate", help="Also what it loses with images or text shuffled, blank or gone."),
    ] = False,
    kinds: Kinds = None,
    json_output: JsonOutput = None,
    out: Annotated[Path | None, typer.Option("--out", hidden=True)] = None,  # the name of --json FILE until 0.1
) -> None:
    """Measure a Run, or a checkpoint of another project, on rows it was not trained on, beside a naive baseline."""
    from rebus import api
    from rebus.report.ablation import ablation_tables

    kind_settings(kinds)  # refuses what is not COLUMN=KIND
    known = {word.rpartition("=")[0]: word.rpartition("=")[2] for word in kinds or []}
    frozen = {"probe": probe, "zero_shot": zero_shot, "labels": split_names(labels), "lang": lang}
    evaluation = api.evaluate(run, data, split=split, by=by, task=task, kinds=known, ablate=ablate, **frozen)  # type: ignore[arg-type]
    if write_json_output(json_output or (str(out) if out is not None else None), evaluation.as_dict()):
        return
    evaluation.render(console())
    for table in ablation_tables({name: value.as_dict() for name, value in evaluation.ablation.items()}, lang or "en"):
        say(table.title)
        show_table(list(table.columns), [["" if cell is None else str(cell) for cell in row] for row in table.rows])
        say(table.note)


def split_names(text: str | None) -> list[str] | None:
    """``cat, dog`` or ``猫，狗`` -> its parts; None: nothing was said."""
    if text is None:
        return None
    return [part.strip() for part in text.replace("，", ",").split(",") if part.strip()]
