"""``patch_classify``: the image tower alone names what each of its patches shows, from boxes.

A few minutes of it before a task that writes gives the tower eyes of its own; see docs/LOG.md for the gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.cells import label
from rebus.data.declared import Columns, Role
from rebus.data.frame import Frame
from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.models.layout import IGNORED
from rebus.tasks.answer_view import AnswerView, likeliest
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Task, Values
from rebus.tasks.cells import as_labels, missing
from rebus.tasks.explanation import Example, Goal, Target, begin_example, label_number, log_odds
from rebus.tasks.labels import Labels
from rebus.tasks.metrics.intervals import Statistic, mean_of
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

UNSEEN = -1  # a thing whose label training never saw: whatever is said of it is wrong
GRID = 24  # boxes are drawn on a grid this fine, then read at the centres of the tower's patches


@TASKS.register("patch_classify")
class PatchClassify(Labels, Task):
    """Columns: ``image``, ``boxes``: a list of ``{"label": name, "box": [x0, y0, x1, y1]}``, fractions of the side.

    A label may hold several names, in several languages, separated by ``|``: ``dog|狗``.
    """

    name = "patch_classify"
    pipelines = ("image-segmentation", "image-segmentation")
    roles: ClassVar[dict[str, Role]] = {"image": Role(("image",)), "boxes": Role(("boxes",), names=names.BOXES)}
    target_role = "boxes"
    watch = "accuracy"
    predicts = False
    says_confidence = False
    has_places = True
    first = 1  # number 0 is the background

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Images with boxes."""
        return (170, Note("reason.images_and_boxes_around")) if columns.image and columns.of("boxes") else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The image and its boxes."""
        boxes = columns.named(names.BOXES, "boxes") or next(iter(columns.of("boxes")), None)
        return {"image": columns.image, "boxes": boxes}

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """Learn the labels; number 0 is the background."""
        result = sorted({name for row in rows for name in self.labels_of(values, row)})
        if not result:
            raise DataError(
                f"column '{self.settings.columns['boxes']}'",
                "boxes in the training rows",
                "none",
                'write them as [{"label": "cat", "box": [x0, y0, x1, y1]}] in fractions of the image',
            )
        self.restore({"labels": result})

    def head(self, processor: TextProcessor) -> HeadSpec:
        """A number a label and one for the background, for each image token; labels are compared as words."""
        names = tuple(
            tuple(tuple(processor.tokenizer.encode_inside(name)) for name in as_labels(item)) for item in self.labels
        )
        return HeadSpec("tokens", len(self.labels) + 1, options={"names": names})

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """The labels' names, for a tokenizer that knows them."""
        return self.words()

    def words(self) -> list[str]:
        """The labels' names."""
        return [name for item in self.labels for name in as_labels(item)]

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """One map an image, from the first of its rows that has boxes."""
        for row in rows:
            if not missing(values["boxes"][row]):
                return [{"map": self.draw(values["boxes"][row])}]
        return []

    def moved(self, items: list[Item], values: Values, rows: Sequence[int], frame: Frame) -> list[Item]:
        """The map of the boxes at their new places."""
        boxes = next(values["boxes"][row] for row in rows if not missing(values["boxes"][row]))
        return [{"map": self.draw(frame.boxes(boxes))}]

    def labels_of(self, values: Values, row: int) -> list[str]:
        """The labels of a row's boxes."""
        return [label(box["label"]) for box in values["boxes"][row] or []]

    def draw(self, boxes: list[dict[str, Any]]) -> NDArray[Any]:
        """Boxes as a (24, 24) map of label numbers."""
        drawn = np.zeros((GRID, GRID), dtype=np.int64)
        for box in boxes:
            x0, y0, x1, y1 = (round(float(side) * GRID) for side in box["box"])
            number = self.index.get(label(box["label"]), UNSEEN)
            drawn[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)] = number
        return drawn

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """(R, 24, 24) maps."""
        maps = torch.from_numpy(np.stack([item["map"] for item in items]))
        return {"map": maps, "owner": torch.tensor(owner, dtype=torch.long)}

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of each patch's centre; things weigh as much as the background around them."""
        logits, target = self._aligned(outputs, part)
        target = torch.where(target == UNSEEN, IGNORED, target)
        every = functional.cross_entropy(
            logits, target, ignore_index=IGNORED, reduction="none", label_smoothing=self.settings.label_smoothing
        )
        weight = torch.where(target > 0, 1.0, 0.25) * (target != IGNORED)
        return (every * weight).sum() / weight.sum().clamp(min=1.0)

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """For each row with boxes, the share of its image's patches that are named right."""
        maps = [{"map": self.draw(values["boxes"][row])} for row in portion.rows]
        part = self.collate(maps, portion.owner.tolist())
        outputs = session.outputs(self.name, part, portion.batch)
        return self.shares(outputs, {name: value.to(outputs.device) for name, value in part.items()})

    def explanation_targets(self, example: Example, target: Target) -> None:
        """What the patch shows that shows it most plainly."""
        begin_example(example, None)
        chances = example.run().float()[0].softmax(-1)  # (P, 1 + C)
        best = chances[:, 1:].amax(0)
        number = label_number(self.index, target, int(best.argmax()) + self.first)
        place = int(chances[:, number].argmax())
        label = self.labels[number - self.first]
        example.answer = self.labels[int(best.argmax())]
        what = Note("target.patch", number=place + 1, label=label)
        example.goals = [Goal(what, float(chances[place, number]), (place,), label=number)]

        def measure(outputs: Tensor) -> Tensor:
            here = outputs[:, place]
            return log_odds(here, torch.full_like(here[:, 0], number).long())[:, None]

        example.measure = measure

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The likeliest labels, and where each is seen."""
        chances = outputs.detach().float()[0].softmax(-1)[:, self.first :]  # (P, C)
        best = likeliest(self.labels, chances.amax(0))
        maps = {label: chances[:, self.index[label] - self.first] for label, _ in best[:3]}
        facts = {"answer": example.answer, "count": len(self.labels)}
        return AnswerView("patches", facts, {"logits": ("(B, P, C)", outputs)}, best, maps)

    def _aligned(self, outputs: Tensor, part: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        side = round(outputs.shape[1] ** 0.5)
        centres = ((torch.arange(side) + 0.5) * GRID / side).long()
        maps = part["map"][:, centres[:, None], centres[None, :]]
        return outputs[part["owner"]].float().flatten(0, 1), maps.flatten()

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Share of patches on things that are named right; each row's ``value`` is its own share."""
        return {"accuracy": mean_of(self.right(values, rows, predictions))}

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The share of the row's patches that are named right."""
        return np.asarray([float(p.value) for p in predictions])

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The label that covers most patches, everywhere."""
        drawn = np.concatenate([self.draw(known["boxes"][row]).ravel() for row in train_rows])
        usual = np.bincount(drawn[drawn > 0]).argmax()
        maps = [self.draw(values["boxes"][row]) for row in rows]
        return [
            Prediction(float((m[m != 0] == usual).mean()) if (m != 0).any() else 0.0) for m in maps
        ], "commonest label"

    def shares(self, outputs: Tensor, part: dict[str, Tensor]) -> list[Prediction]:
        """(B, P, C) and the maps -> for each row, the share of patches on things that are named right."""
        logits, target = self._aligned(outputs, part)
        count = len(part["owner"])
        hit, thing = (logits.argmax(-1) == target).view(count, -1), (target != 0).view(count, -1)
        share = (hit & thing).sum(1) / thing.sum(1).clamp(min=1)
        return [Prediction(float(value)) for value in share]
