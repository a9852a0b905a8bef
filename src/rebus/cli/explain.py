"""``rebus explain``: where a model looked and which words mattered, from the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rebus.catalogue import rendered, translate_name, translator
from rebus.cli.faithfulness import check_maps
from rebus.cli.shared import AnyModel, Language, existing_image, say, show_table
from rebus.cli.verb import JsonOutput, write_json_output

if TYPE_CHECKING:
    from rebus.explain import Explanation

FOLDER = "explanations"


def explain(
    run: AnyModel,
    image: Annotated[Path | None, typer.Option("--image", metavar="IMAGE", help="The image to look at.")] = None,
    text: Annotated[str, typer.Option("--text", metavar="TEXT", help="The question, the prompt, or the text.")] = "",
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Which of the model's tasks.")] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="OUTPUT", help="A label, a tag, a word of the answer or its number from 1."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="relevance, rollout, attention, saliency, gradients, occlusion or gradcam; auto: the best."
        ),
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=VALUE", help="What else the task reads: text, or JSON. May be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where page and images go; explanations/N unless said."),
    ] = None,
    json_output: JsonOutput = None,
    lang: Language = "en",
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="DATA", help="Measure how honest the maps are on a table; choose the default."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", help="With --check: most rows.")] = 200,
    methods: Annotated[
        str | None, typer.Option("--methods", metavar="A,B,C", help="With --check: which methods; else all that fit.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="With --check: train, valid, test or all.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="COLUMN=VALUE", help="With --check: rows with this value. May be repeated."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", metavar="SHARE", help="With --check: how far beside a box counts as on it."),
    ] = 0.0,
) -> None:
    """Show why a model says what it says: where in the image it looked, and which words mattered.

    With --check: measure whether that can be believed.
    """
    if check is not None:
        check_maps(
            run, check, task=task, rows=rows, methods=methods, split=split, only=only, tolerance=tolerance, lang=lang
        )
        return
    image = existing_image(image)
    from rebus import api
    from rebus.explain.files import write_explanation
    from rebus.explain.fonts import lacking

    model = api.load(run)
    explanation = model.explain(image, text, columns=columns_of(column), task=task, target=target, method=method)
    as_json = write_json_output(json_output, explanation.to_json())
    if not as_json:
        _show(explanation, lang)
    if out is None and json_output is not None:
        return
    for file in write_explanation(out or _new_folder(), explanation, lang):
        say(f"Written: {file}", err=as_json)
    if explanation.image is not None and (
        note := lacking(f"{explanation.answer} {explanation.text if lang == 'en' else '汉'}")
    ):
        say(note, style="yellow", err=True)


def columns_of(words: list[str] | None) -> dict[str, Any]:
    """``["passage=A text.", "count=3"]`` as a row: a value that is JSON is read as that, any other is text.

    Raises:
        RecipeError: a word without a name and '='.
    """
    from rebus.errors import RecipeError

    row: dict[str, Any] = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise RecipeError(f"--column {word}", "NAME=VALUE", f"'{word}'", "write it like --column passage='A text.'")
        try:
            row[name] = json.loads(value)
        except ValueError:
            row[name] = value
    return row


def _show(explanation: Explanation, lang: Any) -> None:
    texts = translator("explain_page", lang)
    method = translate_name("method", explanation.method, lang)
    say(f"{texts('answer')}: {explanation.answer or texts('silent')}")
    say(f"{texts('explained')}: {rendered(explanation.target, lang)} ({explanation.score:.4g}); {method}")
    for column in explanation.words or (explanation,):
        peak = column.peak()
        if peak is not None:
            say(f"{texts('image')}: {rendered(column.target, lang)}: x {peak[0]:.0%}, y {peak[1]:.0%}")
    if explanation.tokens:
        show_table(
            [texts("text"), texts("score")], [[column.text, f"{column.score:.4g}"] for column in explanation.tokens]
        )
    if explanation.columns:
        rows = [
            [column.column, column.text, f"{column.share:.0%}", f"{column.score:+.4g}"]
            for column in explanation.columns
        ]
        show_table([texts("column"), texts("value"), texts("share"), texts("score")], rows)
    if explanation.weights:
        say(f"{texts('weights')}: " + ", ".join(f"{name} {share:.0%}" for name, share in explanation.weights.items()))
    for remark in explanation.remarks:
        say(rendered(remark, lang), style="dim")


def _new_folder() -> Path:
    number = 1
    while (folder := Path(FOLDER) / str(number)).exists():
        number += 1
    return folder
