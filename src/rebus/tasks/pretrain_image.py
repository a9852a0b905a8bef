"""``pretrain_image``: an image tower learns from images alone, by one of two methods; other tasks then take it over.

``simclr``: tell two views of an image from all other images of the batch (Chen et al. 2020, "A Simple Framework for
Contrastive Learning of Visual Representations"). ``masked``: guess hidden patches (He et al. 2022; Xie et al. 2022; see
``rebus.models.heads.pretext``). A label column, where there is one, is only judged by, never learned from.

Letters: R items (one an image), N rows, D numbers of a vector, E of a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import Columns, Role
from rebus.data.transforms import augment
from rebus.generation.sampling import Sampling
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Task, Values
from rebus.tasks.baselines import majority_class
from rebus.tasks.cells import as_text, missing
from rebus.tasks.contrast import Comparing
from rebus.tasks.explanation import Example
from rebus.tasks.metrics.intervals import Floats, Statistic, mean_of
from rebus.tasks.metrics.neighbours import vote
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

NEIGHBOURS = 10  # of a held-out image, among the other held-out ones
MOST_PAIRS = 1500  # images that uniformity is measured on: it compares each with each
ALIKE = 0.999  # mean cosine from which vectors count as all alike


@TASKS.register("pretrain_image")
class PretrainImage(Comparing, Task):
    """Columns: ``image``; perhaps ``label``, to judge by."""

    name = "pretrain_image"
    pipelines = ("image-feature-extraction", "image-feature-extraction")
    roles: ClassVar[dict[str, Role]] = {
        "image": Role(("image",)),
        "label": Role(("category", "text", "number"), required=False, names=names.LABEL),
    }
    last_resort = True
    says_confidence = False
    answers = "vector"
    explains = False

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A table of nothing but images."""
        alone = len(columns.learnable) == 1 and columns.of("image") == columns.learnable
        return (180, Note("reason.images_and_nothing_that")) if alone else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The image, and classes for which its vectors are tried."""
        return {"image": columns.image, "label": columns.target(Role(("category",), names=names.LABEL))}

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)
        self.contrasts = settings.method == "simclr"
        self.views = 2 if self.contrasts else 1
        unlabelled = "view_recall" if self.contrasts else "hidden_explained"
        self.watch = "knn_accuracy" if "label" in settings.columns else unlabelled

    def head(self, processor: TextProcessor) -> HeadSpec:
        """The method's own."""
        return HeadSpec("simclr") if self.contrasts else HeadSpec("masked", options={"hide": self.settings.hide or 0.0})

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """None."""
        return []

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """One item for the rows of one image: which it is, and a number that decides what is hidden."""
        row = next((row for row in rows if self.usable(values, row)), None)
        return [] if row is None else [self.item(row, key)]

    def item(self, row: int, key: ExampleKey | None) -> Item:
        """An item; without a key, what is hidden depends on the row alone."""
        rng = np.random.default_rng(key or (0, 0, row)).integers(2**63)
        return {"row": np.asarray(row, dtype=np.int64), "rng": np.asarray(rng, dtype=np.int64)}

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """``row`` (R,), ``rng`` (R,) and ``owner`` (R,)."""
        part = {name: torch.tensor([int(item[name]) for item in items]) for name in ("row", "rng")}
        return {**part, "owner": torch.tensor(owner, dtype=torch.long)}

    def merged(self, outputs: list[Tensor], parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Portions of a batch as one."""
        return torch.cat(outputs, dim=1 if self.contrasts else 0), {"row": torch.cat([part["row"] for part in parts])}

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Of projections (2, R, E), or of errors (R, 2)."""
        if self.contrasts:
            return nt_xent(outputs, part["row"], self.settings.view_temperature)
        return outputs[:, 0].mean()

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """What the model knows of the rows' images, (B, 3, S, S) in the batch."""
        rows, batch, owner = portion.rows, portion.batch, portion.owner
        model, name = session.model, self.name
        images = batch.inputs["image"]
        pixels, of_row = images.tensors["pixels"], images.first(owner)
        if self.contrasts:
            plain = pixels.permute(0, 2, 3, 1).cpu().numpy()
            first = [rows[int((of_row == place).nonzero()[0])] for place in range(len(plain))]
            for view, given in enumerate((batch.inputs, batch.views)):
                changed = augment(plain, session.recipe.image.augment, 0, 0, first, view)
                shown = torch.from_numpy(changed).permute(0, 3, 1, 2).to(pixels.device)
                given["image"] = replace(images, tensors={"pixels": shown})
        part = self.collate([self.item(row, None) for row in rows], owner.tolist())
        batch.targets[name] = {key: tensor.to(pixels.device) for key, tensor in part.items()}
        outputs = model(batch, [name])[name]
        pooled = model.image.encode(pixels).pooled.float()
        return self.predictions(outputs, functional.normalize(pooled, dim=-1)[of_row])

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The image tower's vector."""
        pooled = seen.pooled if seen is not None else outputs.pooled
        return AnswerView("vector", outputs={"pooled": ("(B, D)", pooled)}, vectors={"vector": pooled[0]})

    def predictions(self, outputs: Tensor, vectors: Tensor) -> list[Prediction]:
        """What is known of R images: the value is the tower's vector.

        Args:
            outputs: (2, R, E) or (R, 2), the head's.
            vectors: (R, D) of length one, the tower's.
        """
        result, message = outputs.float().cpu().numpy(), vectors.float().cpu().numpy()
        extras: list[dict[str, Any]] = (
            [{"views": result[:, place]} for place in range(len(message))]
            if self.contrasts
            else [{"error": float(error), "power": float(power)} for error, power in result]
        )
        return [
            Prediction([round(float(x), 5) for x in vector], extra={"vector": vector, **extra})
            for vector, extra in zip(message, extras, strict=True)
        ]

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """With labels the accuracy of nearest neighbours; how well the method's own game is played; uniformity."""
        result: dict[str, Statistic] = {}
        labels = self._labels(values, rows)
        if labels is not None:
            there = np.asarray([bool(label) for label in labels])
            right = self._neighbours_right(labels, predictions)
            result["knn_accuracy"] = lambda weights: weights[:, there] @ right[there] / weights[:, there].sum(1)
        if self.contrasts:
            result["view_recall"] = mean_of(self._found(predictions))
            if predictions and "views" in predictions[0].extra:
                views = np.stack([p.extra["views"] for p in predictions])  # (N, 2, E)
                result["alignment"] = mean_of(np.square(views[:, 0] - views[:, 1]).sum(-1))
                result["uniformity"] = uniformity(views[:, 0])
        else:
            error = np.asarray([p.extra.get("error", 1.0) for p in predictions])
            power = np.asarray([p.extra.get("power", 1.0) for p in predictions])
            result["hidden_explained"] = lambda weights: 1 - (weights @ error) / (weights @ power)
            if predictions and "vector" in predictions[0].extra:
                result["uniformity"] = uniformity(np.stack([p.extra["vector"] for p in predictions]))
        return result

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the neighbours' label is right; without labels, the other view found, or the share explained."""
        labels = self._labels(values, rows)
        if labels is not None:
            return self._neighbours_right(labels, predictions)
        if self.contrasts:
            return self._found(predictions)
        return np.asarray([1 - p.extra.get("error", 1.0) / max(p.extra.get("power", 1.0), 1e-9) for p in predictions])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """One who does not look: the commonest label, any image for the other view, nothing for what is hidden."""
        labels = (
            [as_text(known["label"][row]) for row in train_rows if not missing(known["label"][row])]
            if ("label" in known)
            else []
        )
        usual = majority_class(labels) if labels else None
        return [Prediction(usual, extra={"chance": 1 / len(rows)})] * len(rows), "a blind guess"

    def remarks(self, predictions: Sequence[Prediction]) -> list[str]:
        """What is wrong with the vectors of held-out images, with advice."""
        key = "views" if self.contrasts else "vector"
        known = [p.extra[key] for p in predictions if key in p.extra]
        if len(known) < 8:
            return []
        likeness = mean_cosine(np.stack(known)[:, 0] if self.contrasts else np.stack(known))
        if likeness < ALIKE:
            return []
        do = Note("watch.vectors_views" if self.contrasts else "watch.vectors_hidden")
        return [Note("watch.vectors", count=len(known), likeness=float(likeness), do=do)]

    def truth(self, values: Values, row: int) -> Any:
        """The label, where there is one."""
        return as_text(values["label"][row]) if "label" in values else ""

    def _labels(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """(N,) labels, blank where a row has none; None where fewer than two rows have one."""
        if "label" not in values:
            return None
        labels = [as_text(values["label"][row]).strip() for row in rows]
        return labels if sum(map(bool, labels)) > 1 else None

    def _neighbours_right(self, labels: list[str], predictions: list[Prediction]) -> NDArray[np.float64]:
        """(N,) whether the other labelled images nearest to each one have its label; 0 for one without a label."""
        if not all("vector" in p.extra for p in predictions):
            return np.asarray([float(p.value == label) for p, label in zip(predictions, labels, strict=True)])
        places = [place for place, label in enumerate(labels) if label]
        names = sorted({labels[place] for place in places})
        numbers = np.asarray([names.index(labels[place]) for place in places])
        vectors = np.stack([predictions[place].extra["vector"] for place in places])
        chosen = vote(vectors, vectors, numbers, len(names), k=NEIGHBOURS, others=True).argmax(1)
        right = np.zeros(len(labels))
        right[places] = chosen == numbers
        return right

    def _found(self, predictions: list[Prediction]) -> NDArray[np.float64]:
        """(N,) whether an image's second view is nearer to its first than any other image's; ties share."""
        if not predictions or "views" not in predictions[0].extra:
            return np.asarray([p.extra.get("chance", 0.0) for p in predictions])
        views = np.stack([p.extra["views"] for p in predictions])
        likeness = views[:, 0] @ views[:, 1].T  # (N, N)
        own = np.diagonal(likeness)[:, None]
        equal = (likeness == own).sum(1)  # itself among them
        return np.where((likeness > own).any(1), 0.0, 1.0 / equal)


def nt_xent(projections: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each view's other view among all views of the batch: (2, R, E) -> a scalar.

    Views of the same image that stands in the batch twice, equal in ``rows`` (R,), are no negatives.
    """
    flat = projections.flatten(0, 1)
    count = len(rows)
    scores = flat @ flat.T / temperature
    same = rows.repeat(2)[:, None] == rows.repeat(2)[None]
    other = torch.arange(2 * count, device=flat.device).roll(count)
    partner = torch.zeros_like(same).scatter(1, other[:, None], True)
    return functional.cross_entropy(scores.masked_fill(same & ~partner, float("-inf")), other)


def uniformity(vectors: NDArray[np.float32]) -> Statistic:
    """How evenly (N, D) vectors of length one lie on the sphere: 0 all in one point, lower is better.

    The logarithm of the mean of exp(-2 |x - y|^2) over pairs. Source: Wang and Isola 2020, "Understanding Contrastive
    Representation Learning through Alignment and Uniformity on the Hypersphere". Measured on at most 1,500 vectors.
    """
    step = -(-len(vectors) // MOST_PAIRS)
    some = vectors[::step].astype(np.float64)
    near = np.exp(-4 * (1 - np.clip(some @ some.T, -1, 1)))
    np.fill_diagonal(near, 0.0)

    def of(weights: Floats) -> Floats:
        drawn = weights[:, ::step]
        total = drawn.sum(1)
        pairs = np.square(total) - np.square(drawn).sum(1)
        return np.asarray(np.log(np.einsum("rn,rn->r", drawn @ near, drawn) / pairs))

    return of


def mean_cosine(vectors: NDArray[np.float32]) -> float:
    """The mean cosine of all pairs of (N, D) vectors of length one."""
    count = len(vectors)
    total = np.square(vectors.astype(np.float64).sum(0)).sum()
    return float((total - np.square(vectors.astype(np.float64)).sum()) / (count * (count - 1)))
