"""Classes told from their names alone, by a model whose images and texts share a space: zero-shot classification.

Each class is a point: its name in many sentences, their vectors averaged and brought back to length one (Radford et al.
2021, "Learning Transferable Visual Models From Natural Language Supervision", prompt ensembling). English and Chinese
names get sentences of their own language.

Letters: N images, C classes, T templates, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from rebus import recipe
from rebus.errors import DataError, RecipeError, nearest
from rebus.evaluation.evaluate import Evaluation, judge, nothing_to_judge
from rebus.evaluation.linear_probe import Kind, labelled_table, probe_run, told_labels
from rebus.evaluation.rows import Rows
from rebus.inference.embedding import Vectors, check_space
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.tasks import Classify, Prediction
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics.words import cjk_share

if TYPE_CHECKING:
    from rebus.checkpoints.run_folder import Run

Language = Literal["en", "zh"]
TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": (
        "{}",
        "a photo of a {}.",
        "an image of a {}.",
        "a drawing of a {}.",
        "a photo of the {}.",
        "a close-up photo of a {}.",
        "a photo of one {}.",
        "this is a {}.",
    ),
    "zh": (
        "{}",
        "一张{}的照片。",
        "一张{}的图片。",
        "一幅{}的画。",
        "这是{}。",
        "{}的特写照片。",
        "图中有{}。",
        "一张有{}的照片。",
    ),
}


def sentences(label: str, lang: Language | None = None, templates: Sequence[str] | None = None) -> list[str]:
    """A class's name in sentences.

    Args:
        label: the name; underscores stand for spaces.
        lang: of the sentences; None: that of the name.
        templates: other sentences, each with ``{}`` where the name goes.

    Raises:
        RecipeError: a template has no place for the name, or there is no such language.
    """
    name = " ".join(label.replace("_", " ").split())
    chosen = templates
    if chosen is None:
        lang = lang or ("zh" if cjk_share(name) > 0.5 else "en")
        if lang not in TEMPLATES:
            raise RecipeError("--lang", " or ".join(TEMPLATES), f"'{lang}'", "choose one")
        chosen = TEMPLATES[lang]
    wrong = next((template for template in chosen if "{}" not in template), None)
    if wrong is not None or not chosen:
        raise RecipeError("a template", "text with {} where the name goes", repr(wrong or ""), "add {} to it")
    return [template.replace("{}", name) for template in chosen]


def class_vectors(
    predictor: Predictor, labels: Sequence[str], lang: Language | None = None, templates: Sequence[str] | None = None
) -> Vectors:
    """(C, D) of length one.

    Raises:
        DataError: the model has no shared space, or there are fewer than two labels. RecipeError: as ``sentences``.
    """
    check_space(predictor.model)
    names = [label.strip() for label in labels]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        do = "name them like --labels cat,dog,bird"
        raise DataError("the labels", "at least two different names", ", ".join(names) or "none", do)
    texts = [sentences(name, lang, templates) for name in names]
    flat = predictor.embed([text for some in texts for text in some])
    means, start = [], 0
    for some in texts:
        means.append(flat[start : start + len(some)].mean(0))
        start += len(some)
    stacked = np.stack(means)
    result: Vectors = stacked / np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-12)
    return result


def chances(predictor: Predictor, vectors: Vectors, classes: Vectors) -> NDArray[np.float64]:
    """(N, C) probabilities: the model's own scale times the cosines, through a softmax over the classes."""
    head = predictor.model.pairs
    assert head is not None  # noqa: S101 - check_space asked
    logits = float(head.scale().detach()) * (vectors.astype(np.float64) @ classes.astype(np.float64).T)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    result: NDArray[np.float64] = odds / odds.sum(1, keepdims=True)
    return result


def classify_by_names(
    predictor: Predictor,
    images: Iterable[Any],
    labels: Sequence[str],
    *,
    lang: Language | None = None,
    templates: Sequence[str] | None = None,
    root: str | Path = ".",
) -> list[Prediction]:
    """The likeliest label of each image, with the probabilities of all.

    Args:
        predictor: a model with a shared space.
        images: paths, bytes or (H, W, 3) arrays.
        labels: names of the classes.
        lang: of the sentences around them; None: that of each name.
        templates: other sentences.
        root: folder that relative paths start from.

    Raises:
        DataError: as ``class_vectors``. ImageError: an image cannot be read.
    """
    classes = class_vectors(predictor, labels, lang, templates)
    vectors = predictor.embed_images(images, root)
    return told_labels(list(labels), chances(predictor, vectors, classes)) if len(vectors) else []


class Named(Classify):
    """Labels told from their names alone."""

    name: ClassVar[str] = "zero-shot"

    def judgeable(self, values: Values, row: int) -> bool:
        """An image and a label."""
        return super().judgeable(values, row) and not missing(values["image"][row])


@dataclass
class NamedRows(Rows):
    """A table whose labels are told from their names.

    Attributes:
        classes: (C, D), a vector for each of the task's labels.
    """

    classes: Vectors = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    def predict(self, predictor: Predictor, rows: Sequence[int]) -> list[Prediction]:
        """The likeliest label of each row."""
        vectors = predictor.embed_images(self.image(row) for row in rows)
        return told_labels(self.task.known_labels(), chances(predictor, vectors, self.classes))


def zero_shot_run(
    run: Run | str | Path,
    data: str | Path | None,
    *,
    labels: Sequence[str] | None = None,
    lang: Language | None = None,
    split: str | None = None,
    by: str | None = None,
    kinds: Mapping[str, recipe.Kind] | None = None,
) -> Evaluation:
    """Judge a model on classes that it is told by name only.

    Args:
        run: a Run trained to ``retrieve``, or a checkpoint with a shared space.
        data: a table of images with labels; None: the one the Run was trained from.
        labels: names of the classes; None: those of the table's label column.
        lang: of the sentences around them; None: that of each name.
        split: train, valid, test or all; None: test of its own table, all of another.
        by: a column whose values are also judged apart.
        kinds: column: kind, where the guess is wrong.

    Raises:
        RebusError: the model or the table cannot be read, or the two do not fit.
    """
    predictor = Predictor.open(run if isinstance(run, str | Path) else run.folder)
    check_space(predictor.model)
    table, settings = labelled_table(predictor, data, "--zero-shot", kinds)
    if "image" not in settings.columns:
        do = "name it: --kind COLUMN=image"
        raise DataError(f"{table.name}, --zero-shot", "a column of images", ", ".join(table.columns), do)
    task = Named(settings)
    values = task.values({name: table.column(name) for name in settings.columns.values()})
    seen = sorted({as_text(value) for value in values["label"] if not missing(value)})
    spelt = {name.strip().casefold(): name for name in seen}
    names = [spelt.get(name.strip().casefold(), name.strip()) for name in labels] if labels else seen
    source = NamedRows(task, values, predictor.inputs_of(task, table), class_vectors(predictor, names, lang))
    task.restore({"labels": names})
    evaluation = Evaluation(column=by or "")
    unknown = sorted(set(seen) - set(names))
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        evaluation.notes.append(f"labels of the table that were not named, so that their rows count as wrong: {shown}")
    evaluation.notes.append(f"{len(names)} classes by name, each in {len(sentences(names[0], lang))} sentences")
    split = split or ("test" if data is None else "all")
    rows = chosen_rows(table, predictor.recipe, split)
    usable, _ = judge(evaluation, predictor, source, rows, values, rows, table, by)
    if not usable:
        raise nothing_to_judge(evaluation, table, task.name, split)
    return evaluation


def judge_frozen(
    run: Run | str | Path,
    data: str | Path | None,
    *,
    probe: str | None,
    labels: Sequence[str] | None,
    lang: str | None,
    task: str | Sequence[str] | None,
    **options: Any,
) -> Evaluation:
    """Classes told by a model that was not trained to tell them: by a probe, or (``probe`` None) by their names.

    Raises:
        RecipeError: options that do not go together. Else as ``probe_run`` and ``zero_shot_run``.
    """
    flag = "--zero-shot" if probe is None else "--probe"
    if task:
        raise RecipeError("--task", f"none beside {flag}, which tells classes", str(task), "leave one of the two out")
    if probe is None:
        if lang not in (None, *TEMPLATES):
            raise RecipeError("--lang", " or ".join(TEMPLATES), f"'{lang}'", "choose one")
        return zero_shot_run(run, data, labels=labels, lang=cast("Language | None", lang), **options)
    if probe not in ("linear", "knn"):
        raise RecipeError("--probe", "linear or knn", f"'{probe}'", nearest(probe, ["linear", "knn"]))
    if labels is not None or lang is not None:
        expected = "none beside --probe, which learns the table's labels"
        raise RecipeError("--labels" if labels is not None else "--lang", expected, "one", "use --zero-shot instead")
    return probe_run(run, data, cast("Kind", probe), **options)
