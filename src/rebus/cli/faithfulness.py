"""``rebus explain RUN --check DATA``: whether the maps can be believed, printed as tables."""

from __future__ import annotations

from pathlib import Path

from rebus.cli.shared import say, show_table


def check_maps(
    run: str,
    data: Path,
    *,
    task: str | None,
    rows: int,
    methods: str | None,
    split: str | None,
    only: list[str] | None,
    tolerance: float,
    lang: str,
) -> None:
    """Measure, print the tables of the report, say what was written."""
    from rebus import api
    from rebus.cli.evaluate import split_names
    from rebus.explain.faithfulness.store import FILE
    from rebus.report.faithfulness import faithfulness_points, faithfulness_tables

    result = api.check_maps(
        run,
        data,
        task=task,
        rows=rows,
        methods=split_names(methods) or (),
        split=split,
        only=values_of(only),
        tolerance=tolerance,
        lang=None if lang == "en" else lang,  # a report in Chinese stays so
        log=lambda text: say(text, style="dim", err=True),
    )
    entry = result.as_dict()
    for table in faithfulness_tables(result.task, entry, lang):
        say(table.title)
        show_table(list(table.columns), [["" if cell is None else str(cell) for cell in row] for row in table.rows])
        if table.note:
            say(table.note)
    for point in faithfulness_points(result.task, entry, lang):
        say(point)
    if (Path(run) / FILE).exists():
        say(f"Written: {Path(run) / FILE}")


def values_of(words: list[str] | None) -> dict[str, str]:
    """``["type=where"]`` -> column: value.

    Raises:
        RecipeError: a word without a column and '='.
    """
    from rebus.errors import RecipeError

    entries = {}
    for word in words or []:
        column, equals, value = word.partition("=")
        if not column or not equals:
            raise RecipeError(f"--only {word}", "COLUMN=VALUE", f"'{word}'", "write it like --only type=where")
        entries[column] = value
    return entries
