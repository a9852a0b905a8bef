"""From a Run folder to its plots, report.html and model card: what training left, and examples asked of the model.

What each part of a report says is in ``rebus.report.sections``; here they are put together and written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.catalogue import translate_name, translator
from rebus.checkpoints.run_folder import Run
from rebus.data.table import Table as TableOfRun
from rebus.errors import RebusError
from rebus.evaluation.evaluate import Evaluation
from rebus.inference.predictor import Predictor
from rebus.report.ablation import ablation_verdicts
from rebus.report.card import render_card
from rebus.report.contents import ReportData, Result, Table, results_of
from rebus.report.course import course_tables, remark_lines
from rebus.report.html import render_report
from rebus.report.labels import check_language
from rebus.report.language import describe_language_run
from rebus.report.parts import add_part
from rebus.report.sections import SECTIONS, Subject
from rebus.report.sections.about import head_of
from rebus.report.sections.charts import plots_of_predictions, plots_of_run
from rebus.report.sections.examples import examples_of
from rebus.report.summary import beside
from rebus.tasks.metrics import Comparison
from rebus.tasks.metrics.intervals import Interval


def write_outputs(
    run: Run, *, lang: str = "en", predictor: Predictor | None = None, table: TableOfRun | None = None
) -> Path:
    """Write plots/, report.html and README.md; gives the report's path.

    Page and card are made whole before either is written, so that a report that fails leaves the old ones.

    Args:
        run: a finished Run.
        lang: en or zh.
        predictor: its model; None: loaded.
        table: its table; None: read again.

    Raises:
        RecipeError: the language is neither. RunError: the Run is unfinished, damaged or cannot be written.
    """
    check_language(lang)
    with run.writing():
        data = describe_run(run, lang, predictor, table)
        add_part(data, run, lang)
        page, card = render_report(data, lang), render_card(data, lang)
        atomic.write_text(run.report_path, page)
        atomic.write_text(run.folder / "README.md", card)
    return run.report_path


def keep_ablation(run: Run, evaluation: Evaluation, lang: str | None, *, own: bool) -> None:
    """Put what a model loses into words; of its own held-out rows also into the Run, its report and its card."""
    language = lang or language_of(run)
    check_language(language)
    for item in evaluation.ablation.values():
        item.verdict = ablation_verdicts(item.as_dict(), language)
    if own and run.weights_path.exists() and run.evaluation:
        with run.writing():
            run.write_json("evaluation.json", run.evaluation | {"ablation": evaluation.as_dict()["ablation"]})
            write_outputs(run, lang=language)


def language_of(run: Run) -> str:
    """The language that a Run's report is in; English where there is none yet."""
    if not run.report_path.exists():
        return "en"
    with open(run.report_path, encoding="utf-8", errors="replace") as page:
        return "zh" if 'lang="zh' in page.read(200) else "en"


def describe_run(
    run: Run, lang: str, predictor: Predictor | None = None, table: TableOfRun | None = None
) -> ReportData:
    """Everything that a Run can tell of itself. Raises RunError: it is unfinished or damaged."""
    subject = Subject.open(run, lang, predictor, table)
    results = [
        item
        for name, score in subject.evaluation.get("tasks", {}).items()
        for item in results_of_score(name, score, lang)
    ]
    if subject.is_language_run:
        data = describe_language_run(subject, results)
    else:
        data = head_of(subject)
        data.results = results
        data.tables = [*course_tables(subject.evaluation, lang), *type_tables(subject.evaluation, lang)]
        data.warnings += remark_lines(subject.evaluation, lang)
        data.plots = plots_of_run(subject, results)
        for looked in subject.looked:
            if looked.task.answers != "vector":
                data.examples += examples_of(looked, lang)
            data.plots += plots_of_predictions(subject, looked)
    for make in SECTIONS:
        try:
            section = make(subject)
        except RebusError as error:
            subject.warn("compose.failed", error)
            continue
        if section is not None:
            data.sections.append(section)
    data.warnings += subject.warnings
    return data


def type_tables(evaluation: Mapping[str, Any], lang: str) -> list[Table]:
    """Figures by type of each task that has types."""
    texts, tables = translator("compose", lang), []
    for name, score in evaluation.get("tasks", {}).items():
        if score["by_type"]:
            columns = list(next(iter(score["by_type"].values())))
            cells = [
                [kind, *(_whole(column, figures.get(column)) for column in columns)]
                for kind, figures in score["by_type"].items()
            ]
            heads = [texts("type"), *(translate_name("compose.columns", column, lang) for column in columns)]
            tables.append(Table(f"{name}: {texts('by_type')}", heads, cells))
    return tables


def results_of_score(task: str, score: Mapping[str, Any], lang: str = "en") -> list[Result]:
    """A task's figures, each beside its baseline."""
    compared = {
        name: Comparison(
            Interval(value, *score["intervals"].get(name, (value, value))),
            difference=Interval(*score["gains"][name]) if name in score["gains"] else None,
        )
        for name, value in score["metrics"].items()
    }
    results = results_of(
        score["metrics"],
        task=task,
        baseline=score["baseline"],
        baseline_name=translate_name("baseline", str(score.get("baseline_name", "")), lang),
        comparisons=compared,
    )
    return [replace(result, beside=beside(task, score, result.metric, lang)) for result in results]


def _whole(column: str, figure: Any) -> Any:
    return int(figure) if column == "count" and figure is not None else figure
