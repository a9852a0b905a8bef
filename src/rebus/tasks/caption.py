"""``caption``: an image in, a sentence out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import SHORT, Columns, Role
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.baselines import most_frequent_caption
from rebus.tasks.cells import as_texts
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.text_generation import caption_statistics
from rebus.tasks.writing import WritingTask

NAMED = ("caption", "captions", "description", "描述", "标题", "说明", "图说")  # that hold nothing else


@TASKS.register("caption")
class Caption(WritingTask):
    """Columns: ``image``, ``caption`` (one text or several)."""

    name = "caption"
    pipelines = ("image-to-text", "text-generation")
    roles: ClassVar[dict[str, Role]] = {
        "image": Role(("image",)),
        "caption": Role(SHORT, names=names.CAPTION, several=True, learned=True),
    }
    target_role = "caption"
    question_role = None
    asked_with = "image"
    watch = "cider_d"

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Images and what describes them."""
        if columns.image and columns.named(NAMED, "text"):
            return 120, Note("reason.images_and_a_column")
        return (150, Note("reason.images_and_free_text")) if columns.image and columns.caption else None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """The image, and the text that describes it."""
        return {"image": columns.image, "caption": columns.caption}

    def prompt(self, values: Values, row: int) -> str:
        """Nothing: the image is the prompt."""
        return ""

    def targets(self, values: Values, row: int) -> list[str]:
        """Every caption of the row."""
        return as_texts(values["caption"][row]) if "caption" in values else []

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """BLEU, ROUGE-L, CIDEr-D and exact match."""
        return caption_statistics(*self.texts_and_truths(values, rows, predictions))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The most frequent training caption."""
        seen = [text for row in train_rows for text in self.targets(known, row)]
        return [Prediction(text) for text in most_frequent_caption(seen, len(rows))], "most frequent caption"

    def texts_and_truths(
        self, values: Values, rows: Sequence[int], predictions: list[Prediction]
    ) -> tuple[list[str], list[list[str]]]:
        """Rows that share an image share their references."""
        images = [values["image"][row] for row in rows]
        shared: dict[object, list[str]] = {}
        for image, row in zip(images, rows, strict=True):
            shared.setdefault(image, []).extend(self.targets(values, row))
        return [str(prediction.value) for prediction in predictions], [shared[image] for image in images]
