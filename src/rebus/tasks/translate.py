"""``translate``: a text in one language in, the same in another out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import SHORT, Columns, Role
from rebus.data.names import tidy
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.cells import as_text
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.overlap import translation_statistics
from rebus.tasks.metrics.words import cjk_share
from rebus.tasks.writing import WritingTask

_NAMES = {
    **{"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese"},
    **{"nl": "Dutch", "pl": "Polish", "cs": "Czech", "fi": "Finnish", "tr": "Turkish", "vi": "Vietnamese"},
    **{"ru": "Russian", "ar": "Arabic", "hi": "Hindi", "ko": "Korean", "ja": "Japanese"},
}


@TASKS.register("translate")
class Translate(WritingTask):
    """Columns: ``source``, ``target`` (one text, or several right ones), perhaps ``direction``: ``en-zh`` and so on.

    With a direction column a model can learn several: the direction is said before the source.
    """

    name = "translate"
    pipelines = ("translation", "translation")
    untrained = True
    lays_prompts = True
    roles: ClassVar[dict[str, Role]] = {
        "direction": Role(("category", "text", "ignore"), required=False, names=names.DIRECTION, reads="text"),
        "source": Role(SHORT, names=names.SOURCE),
        "target": Role(SHORT, names=names.TRANSLATED, learned=True),
    }
    target_role = "target"
    question_role = "source"
    watch = "chrf"
    has_plain = True
    blind_baseline = True
    inputs: ClassVar[tuple[str, ...]] = ("direction", "source")

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Two texts and no images."""
        if columns.image is not None or columns.named(names.LABEL, "category") or not cls.find_columns(columns):
            return None
        return 70, Note("reason.the_same_text_in")

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Source and target: by their names, or two columns named by languages, the first one the source."""
        source, target = columns.named(names.SOURCE, *SHORT), columns.named(names.TRANSLATED, *SHORT)
        if not (source and target and source != target):
            languages = [name for name in columns.of(*SHORT) if names.named(name, names.LANGUAGES)]
            if len(languages) < 2:
                return {}
            source, target = languages[:2]
        return {"source": source, "target": target, "direction": columns.named(names.DIRECTION)}

    def prompt(self, values: Values, row: int) -> str:
        """The settings' instruction, the direction where there is one, and the source."""
        direction = as_text(values["direction"][row]).strip() if "direction" in values else ""
        text = f"{direction}: {as_text(values['source'][row])}" if direction else as_text(values["source"][row])
        return f"{self.settings.instruction}\n{text}" if self.settings.instruction else text

    def request(self, values: Values, rows: Sequence[int]) -> str:
        """A request to translate, in the language of what is to be translated."""
        asked = " ".join(as_text(values["source"][row]) for row in rows)
        wanted = " ".join(as_text(values["target"][row]) for row in rows)
        if cjk_share(asked) > 0.5:
            return "把下面的文字翻译成英文：" if cjk_share(wanted) <= 0.5 else "翻译下面的文字："
        if cjk_share(wanted) > 0.5:
            return "Translate into Chinese:"
        language = _NAMES.get(tidy(self.settings.columns["target"])[:2], "English")
        return f"Translate into {language}:"

    def types(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """The direction of each row, where there is such a column."""
        return [as_text(values["direction"][row]).strip() for row in rows] if "direction" in values else None

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """BLEU (Chinese cut into characters where the targets are Chinese), chrF and exact match."""
        return translation_statistics(*self.texts_and_truths(values, rows, predictions))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The source as it is, which is right where names and numbers stay."""
        return [Prediction(as_text(values["source"][row])) for row in rows], "the source, copied"
