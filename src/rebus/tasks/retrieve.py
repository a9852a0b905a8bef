"""``retrieve``: images and texts as vectors of one space, in which each finds the others that belong to it.

Learned from images with texts by telling what belongs together from the rest of the batch: with a softmax over all
partners (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision") or pair by pair
(Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training").

Letters: I images that have texts, R texts (several may belong to one image), D numbers of a vector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import SHORT, TYPE, Columns, Role
from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.models.heads.pairs import Pairs
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Task, TaskScore, Values, cut_notes
from rebus.tasks.cells import as_text, as_texts, pad_texts
from rebus.tasks.contrast import Comparing, belonging, caption_key, image_key, spared_cross_entropy
from rebus.tasks.explanation import Example, Goal, Target, begin_example, refuse_target
from rebus.tasks.linear import TEXT, Features, numbers_of, word_space
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.retrieval import (
    Asked,
    best_places,
    chance_places,
    numbered,
    retrieval_statistics,
)
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

MANY = 0.2  # share of texts that are another image's too, beyond which people are told what to do


class PairTask(Task):
    """What tasks on images with their texts share: columns ``image``, ``text`` (one or several a row), ``type``."""

    roles: ClassVar[dict[str, Role]] = {
        "image": Role(("image",)),
        "text": Role(SHORT, names=names.CAPTION, several=True),
        "type": TYPE,
    }
    inputs = ("image", "text")
    packs = True

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The image, and the text that describes it."""
        return {"image": columns.image, "text": columns.caption, "type": columns.named(names.TYPE)}

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """There must be several images and several texts: one alone has nothing to be told from."""
        known = [row for row in rows if self.usable(values, row)]
        texts = {int(caption_key(text)) for row in known for text in as_texts(values["text"][row])}
        for role, many in (("image", {as_text(values["image"][row]) for row in known}), ("text", texts)):
            if len(many) < 2:
                raise DataError(
                    f"column '{self.settings.columns[role]}'",
                    f"at least two different {role}s among the training rows",
                    "one" if many else "none",
                    f"add rows, or name another column with --set tasks.0.columns.{role}=COLUMN",
                )

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """All texts."""
        return [text for row in rows for text in as_texts(values["text"][row])] if "text" in values else []

    def pairs(self, values: Values, rows: Sequence[int]) -> list[tuple[int, str]]:
        """(row, text) of the rows of one image, each text once."""
        entries = {
            int(caption_key(text)): (row, text)
            for row in reversed(rows)
            if self.usable(values, row)
            for text in reversed(as_texts(values["text"][row]))
        }
        return list(entries.values())[::-1]

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """One item a text, at most ``per_image`` of them; equal texts and equal images have equal keys."""
        pairs = self.pairs(values, rows)
        if key is not None and len(pairs) > self.settings.per_image:
            chosen = np.random.default_rng(key).permutation(len(pairs))[: self.settings.per_image]
            pairs = [pairs[place] for place in chosen]
        return [
            {
                "text_ids": np.asarray(processor.read(text), dtype=np.int64),
                "text_key": caption_key(text),
                "image_key": image_key(values["image"][row]),
            }
            for row, text in pairs
        ]

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """``owner`` (R,) and ``images`` (I,) are places in the batch; ``pair`` (R,) says which of the I is a text's.

        ``image_keys`` (I,) and ``text_keys`` (R,) are equal where images or texts are.
        """
        places = list(dict.fromkeys(owner))
        images = {place: number for number, place in enumerate(places)}
        keys = dict(zip(owner, (int(item["image_key"]) for item in items), strict=True))
        part = {
            "owner": torch.tensor(owner, dtype=torch.long),
            "images": torch.tensor(places, dtype=torch.long),
            "pair": torch.tensor([images[place] for place in owner], dtype=torch.long),
            "image_keys": torch.tensor([keys[place] for place in places], dtype=torch.long),
            "text_keys": torch.tensor([int(item["text_key"]) for item in items], dtype=torch.long),
        }
        part["text_ids"], part["text_mask"] = pad_texts([item["text_ids"] for item in items])
        return part

    def types(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """The type of each row, where there is such a column."""
        return [as_text(values["type"][row]) for row in rows] if "type" in values else None

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many texts are another image's as well: told apart from it, they would teach what is not so."""
        images_of: dict[int, set[str]] = defaultdict(set)
        items = [
            (as_text(values["image"][row])[:512], int(caption_key(text)))
            for row in rows
            for text in as_texts(values["text"][row])
        ]
        for image, key in items:
            images_of[key].add(image)
        twice = sum(len(images_of[key]) > 1 for _, key in items)
        long = cut_notes(self, values, rows, processor)
        if not twice:
            return long
        message = (
            f"task {self.name}: {twice} of {len(items)} training texts are also a text of another image; "
            "such pairs are never taken for wrong ones"
        )
        if twice > MANY * len(items):
            message += ", but they teach little: write texts that tell images apart, or take them as labels"
            message += " (--task classify)"
        return [message, *long]


@TASKS.register("retrieve")
class Retrieve(Comparing, PairTask):
    """Columns: ``image``, ``text`` (one or several; rows may share an image), perhaps ``type``."""

    name = "retrieve"
    pipelines = ("zero-shot-image-classification", "sentence-similarity")
    watch = "mean_recall"
    either = ("image", "text")
    joins = False
    says_confidence = False
    answers = "likeness"
    has_plain = True

    def head(self, processor: TextProcessor) -> HeadSpec:
        """Vectors of both towers in one space."""
        return HeadSpec("pairs", reads=("image", "text"), options={"loss": self.settings.loss})

    def merged(self, outputs: list[Pairs], parts: list[dict[str, Tensor]]) -> tuple[Pairs, dict[str, Tensor]]:
        """Images and texts end to end, numbered on."""
        counts = [len(part["image_keys"]) for part in parts]
        starts = [sum(counts[:place]) for place in range(len(parts))]
        whole = {name: torch.cat([part[name] for part in parts]) for name in ("image_keys", "text_keys")}
        whole["pair"] = torch.cat([part["pair"] + start for part, start in zip(parts, starts, strict=True)])
        images, texts = (torch.cat(some) for some in zip(*(output[:2] for output in outputs), strict=True))
        scale, bias = (torch.stack(some).mean() for some in zip(*(output[2:] for output in outputs), strict=True))
        return Pairs(images, texts, scale, bias), whole

    def loss(self, outputs: Pairs, part: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Of images (I, D) and texts (R, D). What equals a partner is never taken for a wrong one."""
        belongs = belonging(part["pair"], part["image_keys"], part["text_keys"])
        with torch.autocast(outputs.images.device.type, enabled=False):  # a scale of 100 leaves bf16 few places
            logits = outputs.scale * outputs.images.float() @ outputs.texts.float().T + outputs.bias  # (I, R)
            return (softmax_loss if self.settings.loss == "softmax" else sigmoid_loss)(logits, belongs, part["pair"])

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """How alike each row's image and texts are, with their vectors."""
        model = session.model
        rows = portion.rows
        seen, head = model.see(portion.batch), model.pairs
        assert head is not None  # noqa: S101 - the task asked for one
        images = head.embed("image", seen["image"].pooled).cpu().numpy() if seen else None
        there = portion.batch.present("image").tolist()
        keys = [0] * portion.batch.size
        given = portion.batch.inputs.get("image")
        if given is not None and len(given.owner):
            for place, pixels in zip(given.owner.tolist(), given.tensors["pixels"].cpu().numpy(), strict=True):
                keys[place] = int(image_key(pixels))
        entries = {row: as_texts(values["text"][row]) if "text" in values else [] for row in rows}
        texts = list(dict.fromkeys(text for several in entries.values() for text in several))
        vector = dict(zip(texts, session.embed_texts(texts), strict=True))
        lines = []
        for row, place in zip(rows, portion.owner.tolist(), strict=True):
            read = (
                np.stack([vector[text] for text in entries[row]])
                if entries[row]
                else np.zeros((0, head.size), np.float32)
            )
            image = images[place] if images is not None and there[place] else None
            lines.append(self.predicted(image, keys[place], read))
        return lines

    def explanation_targets(self, example: Example, target: Target) -> None:
        """The cosine of image and text."""
        refuse_target(target)
        if example.shown is None:
            raise DataError(f"task '{self.name}'", "an image and a text to compare", "no image", "give one")
        begin_example(example, (as_texts(example.values["text"][0]) or [""])[0])
        example.part["images"] = example.part["owner"]
        example.measure = lambda outputs: (outputs.images * outputs.texts).sum(-1, keepdim=True)
        cosine = float(example.scores())
        example.answer, example.goals = f"{cosine:.4f}", [Goal(Note("target.likeness"), cosine, unit=1.0)]

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The two vectors."""
        image, text = outputs.images, outputs.texts
        facts = {"cosine": f"{float((image[0] * text[0]).sum()):.3f}", "scale": f"{float(outputs.scale):.1f}"}
        given = {"images": ("(B, D)", image), "texts": ("(R, D)", text)}
        return AnswerView("pair", facts, given, vectors={"vector_image": image[0], "vector_text": text[0]})

    def asked_text(self, values: Values, row: int) -> str:
        """Nothing: its text is what is to be found."""
        return ""

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Recall at 1, 5 and 10 and the median place, both ways, and the mean of all recalls."""
        return retrieval_statistics(*self._found(values, rows, predictions), len(rows))

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """The share of a row's texts that find one of their images at the first place."""
        if predictions and "first" in predictions[0].extra:
            return np.asarray([prediction.extra["first"] for prediction in predictions])
        return self._found(values, rows, predictions)[1].first(len(rows))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """A random order; its figures are computed, not drawn."""
        return [
            Prediction(0.0, extra={"image_key": int(image_key(values["image"][row]))}) for row in rows
        ], "random order"

    def plain(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int], features: Features
    ) -> tuple[list[Prediction], str] | None:
        """Ridge regression from an image's features to where its text is among mixtures of words."""
        first = [as_texts(known["text"][row])[0] for row in train_rows]
        asked = [as_texts(values["text"][row]) for row in rows]
        places, texts = word_space(first, [text for item in asked for text in item])
        seen = numbers_of(features, places)
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-9)
        starts = np.cumsum([0, *(len(item) for item in asked)])
        lines = [
            self.predicted(image.astype(np.float32), 0, texts[start:stop].astype(np.float32))
            for image, start, stop in zip(seen, starts, starts[1:], strict=False)
        ]
        return lines, f"linear map from {features.name} to {TEXT}"

    def compared(
        self,
        values: Values,
        rows: Sequence[int],
        predictions: list[Prediction],
        naive: list[Prediction],
        name: str,
        *,
        n: int = 1000,
    ) -> TaskScore:
        """As every task's; the random order is of the same different images as the model's."""
        if naive and "texts" in naive[0].extra:
            naive = [
                Prediction(prediction.value, extra=prediction.extra | {"image_key": other.extra["image_key"]})
                for prediction, other in zip(naive, predictions, strict=True)
            ]
        elif naive:
            alike = [Prediction(0.0, extra={"image_key": prediction.extra["image_key"]}) for prediction in predictions]
            first = self._found(values, rows, alike)[1].first(len(rows))
            naive = [
                Prediction(0.0, extra=prediction.extra | {"first": share})
                for prediction, share in zip(alike, first, strict=True)
            ]
        return super().compared(values, rows, predictions, naive, name, n=n)

    def shown(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> list[tuple[Any, Any, float]]:
        """The text of these rows that is nearest to each row's image, the image's own, and whether they are one."""
        wording = [(place, text) for place, row in enumerate(rows) for text in as_texts(values["text"][row])]
        keys = [prediction.extra["image_key"] for prediction in predictions]
        own = defaultdict(set)
        for place, text in wording:
            own[keys[place]].add(int(caption_key(text)))
        vectors = np.concatenate([prediction.extra["texts"] for prediction in predictions])
        items = []
        for row, prediction, key in zip(rows, predictions, keys, strict=True):
            first = as_texts(values["text"][row])[0]
            image = prediction.extra["image"]
            text = first if image is None else wording[int((vectors @ image).argmax())][1]
            items.append((text, first, float(int(caption_key(text)) in own[key])))
        return items

    def truth(self, values: Values, row: int) -> Any:
        """That the two belong together."""
        return 1.0

    def predicted(self, image: NDArray[np.float32] | None, key: int, texts: NDArray[np.float32]) -> Prediction:
        """The mean cosine of a row's image and texts; where there is one of the two only, its vector.

        Args:
            image: (D,); None: there is none.
            key: of its pixels.
            texts: (k, D), one for each of the row's texts.
        """
        extra = {"image": image, "image_key": key, "texts": texts}
        if image is not None and len(texts):
            return Prediction(round(float((texts @ image).mean()), 6), extra=extra)
        alone = image if image is not None else texts.mean(0) if len(texts) else None
        return Prediction(None if alone is None else [round(float(x), 6) for x in alone], extra=extra)

    def _found(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> tuple[Asked, Asked]:
        """Where each image's best text and each text's best image stand; predictions without vectors: by chance."""
        images, of_images = numbered([prediction.extra["image_key"] for prediction in predictions])
        items = [(place, text) for place, row in enumerate(rows) for text in as_texts(values["text"][row])]
        texts, of_texts = numbered([int(caption_key(text)) for _, text in items])
        row_of = np.array([place for place, _ in items], dtype=np.intp)
        pairs = np.unique(np.stack([images[row_of], texts], axis=1), axis=0)
        if "texts" not in predictions[0].extra:
            result = chance_places(np.bincount(pairs[:, 0]), len(of_texts))
            back = chance_places(np.bincount(pairs[:, 1]), len(of_images))
        else:
            seen = np.stack([predictions[place].extra["image"] for place in of_images])
            read = np.concatenate([prediction.extra["texts"] for prediction in predictions])[of_texts]
            result, back = best_places(seen, read, pairs), best_places(read, seen, pairs[:, ::-1])
        shares = 1.0 / np.bincount(images)[images]  # an image of several rows is one question
        return Asked(result, images, np.arange(len(rows)), shares), Asked(back, texts, row_of, np.ones(len(texts)))


def softmax_loss(logits: Tensor, belongs: Tensor, pair: Tensor) -> Tensor:
    """CLIP's loss, a scalar: the mean of finding the text among all texts, and the image among all images.

    Each text is one question both ways. What else belongs to it is left out of its softmax, so that with one different
    text an image this is the published loss.

    Args:
        logits: (I, R).
        belongs: (I, R) bool.
        pair: (R,) which image each text was given with.
    """
    texts = spared_cross_entropy(logits[pair], torch.arange(len(pair), device=pair.device), belongs[pair])
    return (texts + spared_cross_entropy(logits.T, pair, belongs.T)) / 2


def sigmoid_loss(logits: Tensor, belongs: Tensor, pair: Tensor) -> Tensor:
    """SigLIP's loss, a scalar: every pair is right or wrong by itself; summed over pairs, divided by the R texts.

    Pairs that belong together in whatever way count as right. Arguments as those of ``softmax_loss``.
    """
    signs = torch.where(belongs, 1.0, -1.0)
    return -functional.logsigmoid(signs * logits).sum() / len(pair)
