"""``generate``: a prompt in, a text out; trained on the texts alone, never on the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, SHORT, TYPE, Columns, Role
from rebus.data.messages import Message, without_marks
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.baselines import most_frequent_answer
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.overlap import writing_statistics
from rebus.tasks.writing import WritingTask

SYSTEM = Role(("text", "category", "ignore"), required=False, names=names.SYSTEM)


@TASKS.register("generate")
class Generate(WritingTask):
    """Columns: ``prompt``, ``output`` (one text, or several right ones), perhaps ``input``, ``system``, ``image``."""

    name = "generate"
    pipelines = ("image-text-to-text", "text-generation")
    untrained = True
    lays_prompts = True
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "system": SYSTEM,
        "prompt": Role(SHORT, names=names.INSTRUCTION),
        "input": Role(SHORT, required=False, names=names.INPUT),
        "output": Role(("text", "category", "number", "labels"), names=names.OUTPUT, learned=True),
        "type": TYPE,
    }
    target_role = "output"
    question_role = "prompt"
    watch = "chrf"
    has_plain = True
    inputs: ClassVar[tuple[str, ...]] = ("image", "system", "prompt", "input")

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Answers about a passage in words of their own, or a prompt with what is to be written."""
        roles = columns.about_passage() if columns.image is None else {}
        if roles and not columns.inside(roles["answer"], roles["passage"]):
            return 30, Note("reason.answers_about_a_passage")
        if columns.named(names.INSTRUCTION, *SHORT) and columns.output():
            return 60, Note("reason.a_prompt_and_what")
        return None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Prompt, perhaps input and system, and output."""
        given = columns.named(names.INPUT, *SHORT)
        prompt = columns.named((*names.INSTRUCTION, *names.QUESTION), *SHORT) or given
        output = columns.output(prompt)
        prompt = prompt or next((name for name in columns.of("text") if name != output), None)
        others = [name for name in columns.of(*SHORT) if name != prompt and not names.named(name, names.REJECTED)]
        output = output or next(reversed(others), None)
        return {
            "image": columns.image,
            "prompt": prompt,
            "input": given if given not in (prompt, output) else None,
            "output": output,
            "system": columns.named(names.SYSTEM),
            "type": columns.named(names.TYPE),
        }

    def prompt(self, values: Values, row: int) -> str:
        """The settings' instruction, the prompt, and below it the input where there is one."""
        parts = [as_text(values[role][row]) for role in ("prompt", "input") if role in values]
        parts = [without_marks(part) for part in parts] if "image" in values else parts
        return "\n".join(part for part in (self.settings.instruction, *parts) if part.strip())

    def messages(self, values: Values, row: int) -> list[Message]:
        """The system text, where there is one, and the prompt."""
        system = as_text(values["system"][row]) if "system" in values else ""
        before: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
        return [*before, {"role": "user", "content": self.prompt(values, row)}]

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Exact match, BLEU, chrF, ROUGE-L and F1 of words."""
        return writing_statistics(*self.texts_and_truths(values, rows, predictions))

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The most frequent training text for the same prompt."""
        train_rows = [row for row in train_rows if self.targets(known, row)]
        message = most_frequent_answer(
            [self.prompt(known, row) for row in train_rows],
            [self.targets(known, row)[0] for row in train_rows],
            [self.prompt(values, row) for row in rows],
            types=self.types(values, rows),
            train_types=self.types(known, train_rows),
        )
        return [Prediction(text) for text in message], "most frequent text"

    def judgeable(self, values: Values, row: int) -> bool:
        """A prompt and a text to compare with."""
        return not missing(values["prompt"][row]) and "output" in values and bool(self.right_texts(values, row))
