"""``match``: does this text belong to this image?

The fusion reads both together, which tells more than two vectors can; so it is learned best beside ``retrieve``, whose
space then says which wrong pairs look right (Li et al. 2021, "Align before Fuse: Vision and Language Representation
Learning with Momentum Distillation"). Without a column of labels every pair of the table is right, and wrong ones are
drawn within the batch: for each text one wrong image, and for its image one wrong text.

Letters: I images that have texts, R texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import Columns, Role
from rebus.data.measures import as_yes
from rebus.errors import DataError, nearest
from rebus.generation.sampling import Sampling
from rebus.models.features import Features
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.models.negatives import can_draw
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Values, cut_notes
from rebus.tasks.cells import as_texts, missing, pad_texts
from rebus.tasks.contrast import PairScoring, belonging, caption_key, gumbel, image_key
from rebus.tasks.explanation import Example, Goal, Target, begin_example
from rebus.tasks.metrics.classification import auroc, average_precision
from rebus.tasks.metrics.intervals import Floats, Statistic
from rebus.tasks.retrieve import PairTask
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

YES, NO = "yes", "no"
_TEXTS, _IMAGES, _JUDGED = 1, 2, 3  # what rng are thrown for


@TASKS.register("match")
class Match(PairScoring, PairTask):
    """Columns: ``image``, ``text``; perhaps ``label`` (yes or no) and ``type``."""

    name = "match"
    pipelines = ("image-text-to-text", "text-ranking")
    roles: ClassVar[dict[str, Role]] = {
        **PairTask.roles,
        "label": Role(("category", "number", "text"), required=False, names=names.BELONGS, reads="yes"),
    }
    target_role = "label"
    watch = "auroc"

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Image and text, and whether they belong together."""
        label = columns.named((*names.BELONGS, *names.LABEL), "category", "number")
        roles = super().find_columns(columns)
        return {**roles, "text": columns.text(label) if roles["text"] == label else roles["text"], "label": label}

    @property
    def draws_negatives(self) -> bool:  # type: ignore[override]
        """Where the table has right pairs only."""
        return not self.labelled

    @property
    def labelled(self) -> bool:
        """Whether the table says which pairs are right."""
        return "label" in self.settings.columns

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """There must be right and wrong pairs, or what to make wrong ones of."""
        if not self.labelled:
            super().fit(values, rows)
            return
        text = {as_yes(values["label"][row]) for row in rows if self.usable(values, row)}
        if len(text) < 2:
            raise DataError(
                f"column '{self.settings.columns['label']}'",
                "pairs that belong together (yes) and pairs that do not (no) among the training rows",
                "only " + " and ".join(YES if item else NO for item in text) if text else "none",
                "add rows of the other kind; or leave the column out, and wrong pairs are drawn from the table",
            )

    def judgeable(self, values: Values, row: int) -> bool:
        """An image and a text; where the table has labels, a label that says yes or no."""
        if not super().judgeable(values, row):
            return False
        return not self.labelled or ("label" in values and as_yes(values["label"][row]) is not None)

    def head(self, processor: TextProcessor) -> HeadSpec:
        """One number a pair, by a head that can tell what the two say of each other whatever the fusion is."""
        return HeadSpec("vector", 1, ("image", "text"), options={"hidden": 2})

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """One item a text; with labels each row's own texts, right or wrong."""
        if self.labelled:
            return self._labelled(values, rows, processor, key)
        items = super().items(values, rows, processor, key)
        for number, item in enumerate(items):
            item["rng"] = np.random.SeedSequence([*(key or (0, 0, 0)), number]).generate_state(1, np.uint64)
        return items

    def _labelled(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        pairs = [(row, text) for row in rows if self.usable(values, row) for text in as_texts(values["text"][row])]
        if key is not None and len(pairs) > self.settings.per_image:
            chosen = np.random.default_rng(key).permutation(len(pairs))[: self.settings.per_image]
            pairs = [pairs[place] for place in chosen]
        return [
            {
                "text_ids": np.asarray(processor.read(text), dtype=np.int64),
                "text_key": caption_key(text),
                "image_key": image_key(values["image"][row]),
                "target": np.asarray(bool(as_yes(values["label"][row])), dtype=np.float32),
            }
            for row, text in pairs
        ]

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """With labels: ``target`` (R,). Without: what the model draws wrong pairs by, see ``models.negatives``."""
        part = super().collate(items, owner)
        if "target" in items[0]:
            part["target"] = torch.tensor([float(item["target"]) for item in items])
            return part
        part["belongs"] = belonging(part["pair"], part["image_keys"], part["text_keys"])
        rng = np.concatenate([item["rng"] for item in items])
        texts, images = part["text_keys"].numpy(), part["image_keys"].numpy()
        part["text_noise"] = torch.from_numpy(gumbel(rng + np.uint64(_TEXTS), texts))
        part["image_noise"] = torch.from_numpy(gumbel(rng + np.uint64(_IMAGES), images))
        return part

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy; right and drawn wrong pairs count alike, so that a chance of a half means "not known".

        Outputs are (R, 1), or (3R, 1) where wrong pairs were drawn.
        """
        logits = outputs.float().squeeze(1)
        if "target" in part:
            return functional.binary_cross_entropy_with_logits(logits, part["target"])
        real, count = can_draw(part), len(part["pair"])
        right, wrong = logits[:count], logits[count:][real[count:]]
        loss = functional.binary_cross_entropy_with_logits(right, torch.ones_like(right))
        if not len(wrong):
            return loss
        return (loss + functional.binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong))) / 2

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """Whether each row's texts belong to its image; texts under ``wrong`` are tried with it as well."""
        seen = session.model.see(portion.batch)
        rows = portion.rows
        there = portion.batch.present("image").tolist()
        own, wrong = (
            {row: as_texts(values[role][row]) if role in values else [] for row in rows} for role in ("text", "wrong")
        )
        places = dict(zip(rows, portion.owner.tolist(), strict=True))
        asked = [(row, text) for row in rows if there[places[row]] for text in (*own[row], *wrong[row])]
        scores = iter(self.chances(session, seen, [places[row] for row, _ in asked], [text for _, text in asked]))
        lines = []
        for row in rows:
            count = (len(own[row]), len(wrong[row])) if there[places[row]] else (0, 0)
            mine, others = (np.array([next(scores) for _ in range(many)]) for many in count)
            lines.append(self.predicted(mine, others))
        return lines

    def chances(
        self, session: Session, seen: Mapping[str, Features], owner: Sequence[int], texts: Sequence[str]
    ) -> NDArray[np.float64]:
        """(N,) the chance that each text belongs to its image; see ``PairScoring``."""
        model, processor = session.model, session.processor
        read = [np.asarray(processor.read(text), dtype=np.int64) for text in texts]
        array = np.zeros(len(texts))
        for start in range(0, len(texts), session.batch_size):
            end = min(start + session.batch_size, len(texts))
            ids, mask = pad_texts(read[start:end])
            part = {"owner": torch.tensor(owner[start:end]), "text_ids": ids, "text_mask": mask}
            part = {name: tensor.to(model.device) for name, tensor in part.items()}
            logits = model.output(self.name, seen, part)  # (N, 1)
            array[start:end] = logits.float().sigmoid().squeeze(1).cpu().numpy()
        return array

    def explanation_targets(self, example: Example, target: Target) -> None:
        """That the two belong together, or that they do not."""
        begin_example(example, (as_texts(example.values["text"][0]) or [""])[0])
        chance = float(example.run().float().sigmoid())
        example.answer = YES if chance >= 0.5 else NO
        wanted = example.answer if target is None else str(target)
        if wanted not in (YES, NO):
            raise DataError("the target", f"{YES} or {NO}", f"'{target}'", nearest(wanted, (YES, NO)))
        sign = 1.0 if wanted == YES else -1.0
        example.goals = [Goal(Note("target.match", answer=wanted), chance if sign > 0 else 1 - chance)]
        example.measure = lambda outputs: sign * outputs.float()

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """How likely yes and no are."""
        chance = float(outputs.detach().float()[0].sigmoid()[0])
        bars = [(YES, chance), (NO, 1 - chance)]
        return AnswerView("match", {"answer": example.answer}, {"logits": ("(R, C)", outputs)}, bars)

    def tried(self, values: Values, rows: Sequence[int]) -> Values:
        """The columns and, where the table has right pairs only, what each row's image is tried with as well."""
        if self.labelled:
            return values
        wrong = self.wrong_texts(values, rows)
        return values | {"wrong": [wrong.get(row, []) for row in range(max(rows, default=-1) + 1)]}

    def wrong_texts(self, values: Values, rows: Sequence[int]) -> dict[int, list[str]]:
        """For each row as many texts of other rows as it has itself, none of which belongs to its image.

        Which, a hash of the image and the text decides: neither the order of the rows nor a seed.
        """
        text_of: dict[int, str] = {}
        pairs: list[tuple[int, int]] = []
        for row in rows:
            image = int(image_key(values["image"][row]))
            for text in as_texts(values["text"][row]):
                key = int(caption_key(text))
                text_of[key] = min(text, text_of.get(key, text))
                pairs.append((image, key))
        keys = np.array(sorted(text_of), dtype=np.int64)
        own: dict[int, set[int]] = {}
        for image, key in pairs:
            own.setdefault(image, set()).add(key)
        result: dict[int, list[str]] = {}
        for row in rows:
            image, many = int(image_key(values["image"][row])), len(as_texts(values["text"][row]))
            drawn = gumbel(np.array([image + _JUDGED], dtype=np.int64), keys)[0]
            order = np.argpartition(drawn, min(len(keys) - 1, many + len(own[image]) - 1))
            order = order[: many + len(own[image])]
            free = [int(keys[at]) for at in order[np.argsort(drawn[order])] if int(keys[at]) not in own[image]]
            result[row] = [text_of[key] for key in free[:many]]
        return result

    def predicted(self, own: Floats, wrong: Floats) -> Prediction:
        """A row's answer: whether its texts belong to its image.

        Args:
            own: (k,) chances of its own texts; none: an image or a text is missing.
            wrong: chances of texts it was tried with as well.
        """
        if not len(own):
            return Prediction(None)
        chance = float(own.mean())
        scores = {YES: chance, NO: 1 - chance}
        return Prediction(chance >= 0.5, max(scores.values()), scores, extra={"own": own, "wrong": wrong})

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Accuracy at a half, area under the ROC curve and average precision, over right and wrong pairs."""
        chance, truth, row_of = self._judged(values, rows, predictions)
        hits = np.bincount(row_of, (chance >= 0.5) == truth, len(rows))
        asked = np.bincount(row_of, None, len(rows)).astype(np.float64)
        area, precision = auroc(chance, truth), average_precision(chance, truth)
        return {
            "accuracy": lambda weights: np.asarray(weights @ hits / (weights @ asked)),
            "auroc": lambda weights: area(weights[:, row_of]),
            "average_precision": lambda weights: precision(weights[:, row_of]),
        }

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The share of a row's pairs that are judged right."""
        chance, truth, row_of = self._judged(values, rows, predictions)
        hits = np.bincount(row_of, (chance >= 0.5) == truth, len(rows))
        return np.asarray(hits / np.maximum(np.bincount(row_of, None, len(rows)), 1))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The same for all: what most training pairs are, or yes."""
        text = [as_yes(known["label"][row]) for row in train_rows] if self.labelled else []
        share = sum(map(bool, text)) / len(text) if text else 0.5
        others = self.wrong_texts(values, rows) if not self.labelled else {row: [] for row in rows}
        lines = []
        for row in rows:
            own = np.full(len(as_texts(values["text"][row])), share)
            lines.append(self.predicted(own, np.full(len(others[row]), share)))
        return lines, "the same for all"

    def truth(self, values: Values, row: int) -> Any:
        """Whether the two belong together."""
        return as_yes(values["label"][row]) if "label" in values and not missing(values["label"][row]) else True

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many texts are another image's as well, where wrong pairs are drawn; none where the table has them."""
        return cut_notes(self, values, rows, processor) if self.labelled else super().notes(values, rows, processor)

    def _judged(
        self, values: Values, rows: Sequence[int], predictions: list[Prediction]
    ) -> tuple[Floats, NDArray[np.bool_], NDArray[np.intp]]:
        """(Q,) chances, truths and places of rows, of all pairs that were judged."""
        chance: list[float] = []
        truth: list[bool] = []
        row_of: list[int] = []
        for place, (row, item) in enumerate(zip(rows, predictions, strict=True)):
            for scores, right in ((item.extra["own"], bool(self.truth(values, row))), (item.extra["wrong"], False)):
                chance += [float(score) for score in scores]
                truth += [right] * len(scores)
                row_of += [place] * len(scores)
        return np.asarray(chance), np.asarray(truth, dtype=bool), np.asarray(row_of, dtype=np.intp)
