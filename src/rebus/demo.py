"""The demo: scenes of six artists' images to learn from, then questions about two artists it never saw.

It is a user like any other: it writes a table, trains on it by the common road, and judges what came out.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Grid

from rebus.catalogue import LANGUAGES, translate, translate_list, translator
from rebus.checkpoints.run_folder import Run
from rebus.data.demo.write import write_scenes
from rebus.data.table import Table as TableOfRun
from rebus.errors import RunError
from rebus.evaluation.evaluate import Evaluation, judge
from rebus.evaluation.rows import Rows, rows_of
from rebus.explain.faithfulness import Effort, Faithfulness, measure_rows
from rebus.explain.faithfulness.store import keep_faithfulness
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.invocation import invocation
from rebus.loop.lines import LOCK, locked
from rebus.recipe import Recipe, load_recipe
from rebus.report.compose import write_outputs
from rebus.report.contents import Example, Table
from rebus.report.parts import PARTS, ReportPart, kept_part
from rebus.tasks import Prediction
from rebus.tasks.cells import as_text
from rebus.training.train import Trained, learn

RECIPE = Path(__file__).parent / "data" / "demo" / "recipe.yaml"
TEST_SCENES = 200  # by seen artists, and again as many by unseen ones
BLIND_SHARE = 0.08  # of the minutes go to the model that never sees an image
MAPPED = Effort(points=48, curves=6, sanity=3, steps=9, cascade=False)  # about ten seconds
METHODS = ("saliency", "rollout", "relevance", "attention")  # those that cost one pass


@dataclass
class DemoFigures:
    """Shares of right answers by type of question.

    Attributes:
        unseen, seen, baseline, blind: type: share; ``baseline`` and ``blind`` are for the unseen artists.
        languages: language: share over the unseen artists' questions.
        counts: how many questions of each group.
    """

    unseen: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    blind: dict[str, float] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def demo_recipe() -> Recipe:
    """The demo's recipe, every setting of it."""
    return load_recipe(RECIPE)


def write_demo_scenes(folder: Path, *, train: int = 12000) -> Path:
    """Write the demo's table of scenes; gives the folder."""
    return write_scenes(folder, train=train, test_scenes=TEST_SCENES)


def run_demo(out: Path, *, minutes: float | None = None, lang: str = "en", train: int = 12000) -> Run:
    """Write scenes, train, judge, ask, report.

    Args:
        out: folder for the scenes and the Runs; those of an earlier demo there are replaced.
        minutes: of training in all; None: as the recipe says.
        lang: of what is printed.
        train: how many training scenes.

    Raises:
        RunError: the folder holds something that is not a demo's, or cannot be written.
    """
    with locked(out):  # the Runs of an earlier demo there are removed
        return _run_demo(out, minutes, lang, train)


def _run_demo(out: Path, minutes: float | None, lang: str, train: int) -> Run:
    started, texts, console = time.time(), translator("demo", lang), Console(highlight=False)
    recipe = demo_recipe()
    limit = minutes if minutes is not None else (recipe.train.time_limit or 5.0)
    console.print(texts("scenes"))
    scenes = write_demo_scenes(out / "scenes", train=train)
    recipe = recipe.replace({"data.path": str(scenes / "answer.jsonl"), "train.time_limit": limit * (1 - BLIND_SHARE)})
    console.print(texts("train", minutes=recipe.train.time_limit))
    run = learn(recipe, _cleared(out / "run"), log=_quiet, evaluate=False)
    console.print(texts("blind"))
    blind_recipe = blind(recipe, limit * BLIND_SHARE)
    blind_run = learn(blind_recipe, _cleared(out / "question-only"), log=_quiet, quiet=True, evaluate=False)
    console.print(texts("judge"))
    model, blind_model, table = _model(run), _model(blind_run), run.table
    assert table is not None  # noqa: S101 - it was trained from a table
    figures, source, rows, message = judge_both(model, blind_model, run, table)
    print_figures(console, figures, lang)
    faithfulness = measure_maps(model, source, table, rows)
    print_maps(console, faithfulness, lang)
    examples = six(source, rows, message, texts("group"))
    print_examples(console, examples, lang)
    minutes_spent = (time.time() - started) / 60
    with run.writing():
        parts = {language: kept_part(part_of_report(figures, examples, language)) for language in LANGUAGES}
        run.write_json(PARTS, {**vars(figures), "minutes": round(minutes_spent, 2), "report": parts})
        write_outputs(run, lang=lang, predictor=model, table=table)
        run.close()
    console.print(texts("took", minutes=(time.time() - started) / 60))
    print_next(console, run, scenes, lang)
    return run


def blind(recipe: Recipe, minutes: float) -> Recipe:
    """The same recipe without an image tower and without what needs one."""
    tasks = [task.replace(start=0.0) for task in recipe.tasks if task.name == "answer"]
    return recipe.replace({"model.image.kind": "none", "tasks": tasks, "train.time_limit": minutes})


def judge_both(
    predictor: Predictor, blind: Predictor, run: Run, table: TableOfRun
) -> tuple[DemoFigures, Rows, list[int], list[Prediction]]:
    """Both models on every test question; also what the first said to the unseen artists' rows.

    Args:
        predictor: the model.
        blind: that of the questions alone.
        run: where the model's figures are written.
        table: of the scenes.
    """
    task = predictor.task("answer")
    source = rows_of(predictor, table, task)
    rows = chosen_rows(table, predictor.recipe, "test")
    known, training = source.values, chosen_rows(table, predictor.recipe, "train")
    language = table.column("language")
    seen = [as_text(value).lower() == "true" for value in table.column("seen")]
    evaluation = Evaluation()
    new, message = judge(evaluation, predictor, source, [row for row in rows if not seen[row]], known, training, table)
    old = [row for row in rows if seen[row]]
    with run.writing():
        run.write_json("evaluation.json", {**run.evaluation, **evaluation.as_dict()})
    naive, _ = task.naive(source.values, new, known, training)
    blind_told = rows_of(blind, table, task).predict(blind, new)

    def shares(which: list[int], answers: list[Prediction], of: list[str] | None = None) -> dict[str, float]:
        return by_type(
            np.asarray(of or task.types(source.values, which) or []), task.right(source.values, which, answers)
        )

    figures = DemoFigures(
        unseen=shares(new, message),
        seen=shares(old, source.predict(predictor, old)),
        baseline=shares(new, naive),
        blind=shares(new, blind_told),
        languages=shares(new, message, [language[row] for row in new]),
        counts={"unseen": len(new), "seen": len(old)},
    )
    return figures, source, new, message


def measure_maps(predictor: Predictor, source: Rows, table: TableOfRun, rows: Sequence[int]) -> Faithfulness | None:
    """Whether the maps of answers to "where is the ..." can be believed; kept in the Run. None where none is asked."""
    asked = [row for row in rows if source.values["type"][row] == "where"]
    if not asked or not source.sees or predictor.folder is None:
        return None
    task = predictor.task("answer")
    result = measure_rows(predictor, table, task, asked, METHODS, effort=MAPPED)
    result.table, result.split = table.name, "test"
    result.settings["only"] = {"type": "where", "seen": "false"}
    keep_faithfulness(predictor.folder, task.name, result.as_dict())
    return result


def by_type(types: NDArray[Any], right: NDArray[Any]) -> dict[str, float]:
    """type: mean."""
    return {str(kind): float(right[types == kind].mean()) for kind in dict.fromkeys(types.tolist())}


def six(source: Rows, rows: Sequence[int], predictions: Sequence[Prediction], group: str) -> list[Example]:
    """Six questions about six images, alternately in English and Chinese; not chosen by success."""
    order = ("caption", "caption", "existence", "left", "where", "above", "count", "background")
    languages = ("en", "zh")
    used: set[object] = set()
    examples: list[Example] = []
    values = source.values
    for number, kind in enumerate(order):
        language = languages[number % 2]
        for place, row in enumerate(rows):
            image = values["image"][row]
            spoken = "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in values["question"][row]) else "en"
            if values["type"][row] == kind and spoken == language and image not in used:
                used.add(image)
                truth = str(values["answer"][row])
                right = source.task.right(values, [row], [predictions[place]])[0] >= 1.0
                examples.append(
                    Example(
                        answer=str(predictions[place].value),
                        truth=truth,
                        question=str(values["question"][row]),
                        image=str(image),
                        right=bool(right),
                        group=group,
                        confidence=predictions[place].confidence,
                        note=str(image),
                    )
                )
                break
        if len(examples) == 6:
            break
    return examples


def part_of_report(figures: DemoFigures, examples: list[Example], lang: str) -> ReportPart:
    """What the demo adds to a Run's report."""
    texts = translator("demo", lang)
    headings = translate_list("demo.columns", lang)
    columns = {
        headings[1]: figures.unseen,
        headings[2]: figures.seen,
        headings[3]: figures.baseline,
        headings[4]: figures.blind,
    }
    rows = [[kind, *(column.get(kind) for column in columns.values())] for kind in figures.unseen]
    rows.append([texts("mean"), *(float(np.mean(list(column.values()))) for column in columns.values())])
    note = texts("note", **figures.counts) + " " + texts("languages", **figures.languages)
    return ReportPart(
        title=texts("title"),
        judged_on=texts("judged", **figures.counts),
        tables=[Table(texts("table"), headings, rows, note)],
        types={texts("table"): columns},
        examples=[replace(example, group=texts("group")) for example in examples],
    )


def print_figures(console: Console, figures: DemoFigures, lang: str) -> None:
    """The table of figures."""
    texts = translator("demo", lang)
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(translate_list("demo.columns", lang)):
        grid.add_column(heading, justify="left" if number == 0 else "right")
    columns = (figures.unseen, figures.seen, figures.baseline, figures.blind)
    for kind in figures.unseen:
        grid.add_row(kind, *(f"{column.get(kind, 0.0):.1%}" for column in columns))
    grid.add_row(texts("mean"), *(f"{np.mean(list(column.values())):.1%}" for column in columns), style="bold")
    console.print(grid)
    console.print(texts("languages", **figures.languages))


def print_maps(console: Console, faithfulness: Faithfulness | None, lang: str) -> None:
    """How often the maps point at what was asked about, beside a random point."""
    if faithfulness is not None and "pointing" in faithfulness.random:
        rate, low, high = faithfulness.methods[faithfulness.method].figures["pointing"]
        chance = faithfulness.random["pointing"].value
        console.print(translate("demo.maps", lang, rate=rate, low=low, high=high, chance=chance))


def print_examples(console: Console, examples: list[Example], lang: str) -> None:
    """Question, answer and truth, one line each."""
    texts = translator("demo", lang)
    console.print(f"\n{texts('asked')}")
    for example in examples:
        mark = "[green]✓[/green]" if example.right else "[red]✗[/red]"
        console.print(
            f"  {mark} {example.question}  →  {example.answer}   [dim]({texts('true')}: {example.truth})[/dim]"
        )


def print_next(console: Console, run: Run, scenes: Path, lang: str) -> None:
    """Commands to try."""
    image = scenes / "images" / "test" / "test-unseen-00000.jpg"
    console.print(f"\n{translate('demo.next', lang)}")
    rebus = invocation()
    for command in (
        f"open {run.report_path}",
        f"{rebus} chat {run.folder} --image {image}",
        f'{rebus} ask {run.folder} {image} "What is in the image?" "图里有什么？"',
        f'{rebus} explain {run.folder} --image {image} --text "How many things are there?"',
        f"{rebus} evaluate {run.folder} --by artist",
        f"{rebus} train YOUR-TABLE.csv",
    ):
        console.print(f"  {command}", markup=False, soft_wrap=True)  # to be pasted, so not cut into lines


def _model(run: Trained) -> Predictor:
    """The model in memory. Raises RunError where its training was interrupted."""
    return run.predictor or Predictor.open(run.folder)


def _cleared(folder: Path) -> Path:
    """A folder without an earlier demo's Run. Raises RunError where something else is there."""
    if folder.exists() and any(folder.iterdir()):
        if not ((folder / "recipe.yaml").exists() or (folder / LOCK).exists()):
            raise RunError(folder, "a new folder, or an earlier demo's Run", "something else", "choose another --out")
        shutil.rmtree(folder)
    return folder


def _quiet(_: str) -> None:
    """The demo explains itself; what was inferred is in its report."""
