"""How much a frozen tower knows: a linear classifier, or the nearest neighbours, on its features.

Letters: N rows, D numbers of a feature vector, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError, RebusError
from rebus.evaluation.evaluate import Evaluation, judge, nothing_to_judge
from rebus.evaluation.rows import Rows
from rebus.inference.predictor import Predictor
from rebus.tasks import Classify, Prediction
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics.neighbours import vote

if TYPE_CHECKING:
    from rebus.checkpoints.run_folder import Run

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int64]
Kind = Literal["linear", "knn"]
DECAYS = tuple(10.0**power for power in range(1, -6, -1))  # strong to weak: each fit starts from the one before
FOLDS = 5  # where there are no valid rows to choose the decay by
NEIGHBOURS = 20
_STEPS, _STEPS_TO_CHOOSE = 200, 40


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on features at mean 0 and deviation 1.

    Attributes:
        mean: (D,) of the training features.
        spread: (D,) their deviation.
        weight: (C, D).
        bias: (C,).
        decay: chosen strength of the penalty.
    """

    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor
    decay: float

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """(N, D) -> (N, C)."""
        x = (torch.from_numpy(vectors).to(self.mean.dtype) - self.mean) / self.spread
        result: NDArray[np.float64] = (x @ self.weight.T + self.bias).softmax(-1).double().numpy()
        return result


@dataclass(frozen=True)
class NeighbourProbe:
    """The vote of the nearest training vectors by cosine.

    Attributes:
        vectors: (N, D) of length one.
        labels: (N,) class numbers.
        classes: C.
        k: neighbours.
    """

    vectors: Vectors
    labels: Numbers
    classes: int
    k: int = NEIGHBOURS

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """(N, D) -> (N, C)."""
        return vote(unit(vectors), self.vectors, self.labels, self.classes, k=self.k)


Probe = LinearProbe | NeighbourProbe


def fit_probe(
    kind: Kind,
    vectors: Vectors,
    labels: Numbers,
    classes: int,
    *,
    valid: tuple[Vectors, Numbers] | None = None,
) -> Probe:
    """A probe of features.

    Args:
        kind: ``linear`` or ``knn``.
        vectors: (N, D) of the training rows.
        labels: (N,) class numbers.
        classes: C.
        valid: features and labels that the linear probe's decay is chosen by, and which a probe then knows too;
            None: five parts of the training rows take turns.
    """
    if kind == "knn":
        both = [(vectors, labels), *([valid] if valid is not None else [])]
        return NeighbourProbe(unit(np.concatenate([v for v, _ in both])), np.concatenate([n for _, n in both]), classes)
    x, y = torch.from_numpy(vectors).double(), torch.from_numpy(labels)
    if valid is None:
        decay = _by_turns(x, y, classes)
        return fit_linear(x, y, classes, decay)
    vx, vy = torch.from_numpy(valid[0]).double(), torch.from_numpy(valid[1])
    costs = _costs(x, y, vx, vy, classes)
    decay = DECAYS[int(np.argmin(costs))]
    return fit_linear(torch.cat([x, vx]), torch.cat([y, vy]), classes, decay)


def fit_linear(
    x: Tensor, y: Tensor, classes: int, decay: float, start: LinearProbe | None = None, steps: int = _STEPS
) -> LinearProbe:
    """The weights that make mean cross-entropy + decay / 2 x |weights|^2 smallest, by L-BFGS. The bias is not held.

    With N rows this is scikit-learn's ``LogisticRegression(C=1 / (decay * N))`` on standardised features.
    """
    mean, spread = x.mean(0), x.std(0, correction=0)
    spread = torch.where(spread > 1e-12, spread, torch.ones_like(spread))
    z = (x - mean) / spread
    weight = torch.zeros(classes, x.shape[1], dtype=x.dtype) if start is None else start.weight.clone()
    bias = torch.zeros(classes, dtype=x.dtype) if start is None else start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=steps, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def cost() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = functional.cross_entropy(z @ weight.T + bias, y) + decay / 2 * weight.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(cost)  # type: ignore[no-untyped-call]
    return LinearProbe(mean, spread, weight.detach(), bias.detach(), decay)


def _costs(x: Tensor, y: Tensor, vx: Tensor, vy: Tensor, classes: int) -> NDArray[np.float64]:
    """Cross-entropy of the valid rows for each decay."""
    result, fitted = [], None
    for decay in DECAYS:
        fitted = fit_linear(x, y, classes, decay, fitted, _STEPS_TO_CHOOSE)
        logits = (vx - fitted.mean) / fitted.spread @ fitted.weight.T + fitted.bias
        result.append(float(functional.cross_entropy(logits, vy)))
    return np.asarray(result)


def _by_turns(x: Tensor, y: Tensor, classes: int) -> float:
    """The decay that does best over five parts, dealt so that each class is in all of them as far as it goes."""
    if len(y) < 2 * FOLDS:
        return DECAYS[2]
    part = torch.empty(len(y), dtype=torch.long)
    part[torch.argsort(y, stable=True)] = torch.arange(len(y)) % FOLDS
    costs = sum(_costs(x[part != n], y[part != n], x[part == n], y[part == n], classes) for n in range(FOLDS))
    return DECAYS[int(np.argmin(costs))]


def unit(vectors: Vectors) -> Vectors:
    """(N, D) -> the same at length one."""
    result: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return result


@torch.inference_mode()
def tower_vectors(predictor: Predictor, source: Rows, rows: Sequence[int]) -> Vectors:
    """(N, D) pooled features of the rows' images, or of their texts where the task has no image column.

    Of the image tower itself, before any projection into a shared space. Raises ImageError.
    """
    if not source.sees:
        return predictor.embed([as_text(source.values["text"][row]) for row in rows])
    model, result = predictor.model, []
    was_training = model.training
    model.eval()
    for start in range(0, len(rows), predictor.batch_size):
        shown = [source.inputs.items("image", row)[:1] for row in rows[start : start + predictor.batch_size]]
        image = source.inputs.modalities["image"].inputs(shown).tensors["pixels"].to(model.device)
        result.append(model.image.encode(image).pooled.float().cpu().numpy())
    model.train(was_training)
    table: Vectors = np.concatenate(result) if result else np.zeros((0, 0), dtype=np.float32)
    return table


class LinearProbed(Classify):
    """Labels told by a linear probe."""

    name: ClassVar[str] = "linear probe"


class NeighbourProbed(Classify):
    """Labels told by the nearest neighbours."""

    name: ClassVar[str] = "k-NN"


@dataclass
class ProbedRows(Rows):
    """A table whose labels a probe tells from frozen features.

    Attributes:
        probe: fitted on the training rows.
    """

    probe: Any = None

    def predict(self, predictor: Predictor, rows: Sequence[int]) -> list[Prediction]:
        """The likeliest label of each row."""
        return told_labels(self.task.known_labels(), self.probe.probabilities(tower_vectors(predictor, self, rows)))


def told_labels(labels: Sequence[str], chances: NDArray[np.float64]) -> list[Prediction]:
    """(N, C) probabilities as predictions, likeliest label first."""
    lines = []
    for row in chances:
        order = np.argsort(-row, kind="stable")
        scores = {labels[i]: float(row[i]) for i in order}
        lines.append(Prediction(labels[order[0]], float(row[order[0]]), scores))
    return lines


def probe_run(
    run: Run | str | Path,
    data: str | Path | None,
    kind: Kind,
    *,
    split: str | None = None,
    by: str | None = None,
    kinds: Mapping[str, recipe.Kind] | None = None,
) -> Evaluation:
    """Judge a model's frozen features by a probe that learns from the table's training rows.

    Args:
        run: a Run, or a checkpoint of another project.
        data: a table with labels; None: the one the Run was trained from.
        kind: ``linear`` or ``knn``.
        split: the rows that are judged, ``test`` or ``valid``; None: test, or valid where there is no test.
        by: a column whose values are also judged apart.
        kinds: column: kind, where the guess is wrong.

    Raises:
        RebusError: the model or the table cannot be read, has no labels, or nothing to learn or judge on.
    """
    predictor = Predictor.open(run if isinstance(run, str | Path) else run.folder)
    table, settings = labelled_table(predictor, data, "--probe", kinds)
    task: Classify = (LinearProbed if kind == "linear" else NeighbourProbed)(settings)
    columns = {name: table.column(name) for name in settings.columns.values()}
    source = ProbedRows(task, task.values(columns), predictor.inputs_of(task, table))
    evaluation = Evaluation(column=by or "")
    dealt = _dealt(predictor, table, source.values, task)
    judged = split or ("test" if dealt["test"] else "valid")
    if judged not in ("test", "valid"):
        do = "choose test or valid: the others are learned from"
        raise DataError(f"--split {judged}", "rows that a probe does not learn from", f"'{judged}'", do)
    train, valid = (_readable(evaluation, source, dealt[name]) for name in ("train", "valid"))
    if judged == "valid":
        valid = []
    task.fit(source.values, train)
    vectors = {name: tower_vectors(predictor, source, rows) for name, rows in (("train", train), ("valid", valid))}
    numbers = {
        name: np.asarray([task.index.get(as_text(source.values["label"][row]), -1) for row in rows], dtype=np.int64)
        for name, rows in (("train", train), ("valid", valid))
    }
    known = numbers["valid"] >= 0
    chooses = (vectors["valid"][known], numbers["valid"][known]) if known.any() else None
    probe = fit_probe(kind, vectors["train"], numbers["train"], len(task.labels), valid=chooses)
    source.probe = probe
    count = len(train) + int(known.sum())
    if isinstance(probe, LinearProbe):
        chosen = f"{int(known.sum())} of them" if chooses else "five parts of them in turn"
        evaluation.notes.append(f"{task.name}: learned from {count} rows; decay {probe.decay:g}, chosen on {chosen}")
    else:
        evaluation.notes.append(f"{task.name}: {probe.k} neighbours among {count} rows")
    usable, _ = judge(evaluation, predictor, source, dealt[judged], source.values, train, table, by)
    if not usable:
        raise nothing_to_judge(evaluation, table, task.name, judged)
    return evaluation


def labelled_table(
    predictor: Predictor, data: str | Path | None, flag: str, kinds: Mapping[str, recipe.Kind] | None = None
) -> tuple[Table, recipe.TaskSettings]:
    """A table with a label column, and the columns that a frozen tower is judged by.

    Raises:
        DataError: no table is named, it has no label column, or nothing that the model reads.
    """
    settings = predictor.recipe.data
    if data is None and not settings.path:
        raise DataError(flag, "a table with labels", "none", "name one: rebus evaluate MODEL DATA " + flag)
    table = read_table(settings if data is None else settings.model_copy(update={"path": str(data)}))
    entries = {column: kind for column, kind in (kinds or {}).items() if column in table.columns}
    columns = infer(table, entries, ["classify"]).tasks[0].columns
    model = predictor.model
    sees, reads = model.image is not None, model.text is not None or model.decoder is not None
    if "label" not in columns:
        do = "name it: --kind COLUMN=category"
        raise DataError(f"{table.name}, {flag}", "a column of labels", f"the columns {', '.join(table.columns)}", do)
    role = "image" if sees and "image" in columns else "text" if reads and "text" in columns else None
    if role is None:
        wanted = " or ".join(name for name, able in (("images", sees), ("texts", reads)) if able)
        received = ", ".join(f"{name} '{column}'" for name, column in columns.items())
        do = "name a column: --kind COLUMN=image or COLUMN=text"
        raise DataError(f"{table.name}, {flag}", f"a column of {wanted}, which the model reads", received, do)
    kept = {"label": columns["label"], role: columns[role]}
    return table, recipe.TaskSettings(name="classify", columns=kept)


def _dealt(predictor: Predictor, table: Table, values: Values, task: Classify) -> dict[str, list[int]]:
    """Rows that have what the probe needs, by split, as training would deal them."""
    settings = predictor.recipe.data.split
    gone = {name: None for name in ("column", "group") if getattr(settings, name) not in (None, *table.columns)}
    images = [task.settings.columns["image"]] if "image" in task.settings.columns else []
    splits = assign_splits(table, settings.model_copy(update=gone), images, seed=0)
    role = "image" if images else "text"
    good = [row for row in range(len(table)) if not missing(values["label"][row]) and not missing(values[role][row])]
    return {name: [row for row in good if splits[row] == name] for name in ("train", "valid", "test")}


def _readable(evaluation: Evaluation, source: Rows, rows: Sequence[int]) -> list[int]:
    """Rows whose image can be read; the others are counted."""
    good = []
    for row in rows:
        try:
            source.image(row)
        except RebusError as error:
            evaluation.skipped.append(str(error))
            continue
        good.append(row)
    return good
