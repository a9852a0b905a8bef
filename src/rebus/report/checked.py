"""Measure how honest a Run's explanations are, and say it in its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rebus.checkpoints.run_folder import Run
from rebus.explain.faithfulness import Faithfulness, check_faithfulness
from rebus.report.compose import language_of, write_outputs


def check_maps(
    run: str | Path,
    data: str | Path,
    *,
    task: str | None = None,
    rows: int = 200,
    methods: Sequence[str] = (),
    split: str | None = None,
    only: Mapping[str, str] | None = None,
    tolerance: float = 0.0,
    lang: str | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Faithfulness:
    """Measure a model's explanations on a table; of a Run, explain.json, the report and the card then say it.

    Arguments are those of ``rebus.explain.faithfulness.check_faithfulness``; ``lang`` is that of the report, None: as
    it is now.

    Raises:
        RebusError: the model, the table or an option cannot be used.
    """
    result = check_faithfulness(
        run, data, task=task, rows=rows, methods=methods, split=split, only=only, tolerance=tolerance, log=log
    )
    folder = Run(run)
    if folder.weights_path.exists() and folder.recipe_path.exists() and folder.evaluation:
        write_outputs(folder, lang=lang or language_of(folder))
    return result
