"""``converse``: a conversation in, the next answer out; trained on every answer of the assistant's and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from rebus.catalogue import Note
from rebus.data import names
from rebus.data.declared import IMAGE, SHORT, Checker, Columns, Role, RowCells
from rebus.data.messages import Message, answered, history_of, is_learned, turns_of
from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.tasks import layout
from rebus.tasks.base import TASKS, Prediction, Values
from rebus.tasks.baselines import most_frequent_answer
from rebus.tasks.cells import as_text, missing
from rebus.tasks.generate import SYSTEM, Generate
from rebus.tasks.metrics.intervals import Statistic
from rebus.tasks.metrics.likelihood import perplexity
from rebus.tasks.metrics.overlap import writing_statistics
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.writing import WritingTask

LONG = 256  # tokens of an answer in a conversation, where the settings do not say more


@TASKS.register("converse")
class Converse(WritingTask):
    """Columns: ``messages``, or ``prompt`` and ``output`` with perhaps ``input`` and ``system``; perhaps ``image``.

    ``messages`` holds turns in OpenAI's or ShareGPT's layout; ``prompt`` and ``output`` hold texts (Alpaca) or turns;
    ``history`` holds pairs of turns before the prompt; ``system`` stands before turns that have no such turn.
    What is predicted, and judged, is the last answer.
    """

    name = "converse"
    pipelines = ("image-text-to-text", "text-generation")
    untrained = True
    roles: ClassVar[dict[str, Role]] = {
        "image": IMAGE,
        "messages": Role(("messages",), required=False, names=names.MESSAGES, learned=True),
        "system": SYSTEM,
        "prompt": Role(("text", "category", "messages"), required=False, names=names.INSTRUCTION),
        "input": Role(SHORT, required=False, names=names.INPUT),
        "output": Role(("text", "category", "number", "messages"), required=False, names=names.OUTPUT, learned=True),
        "history": Role(("messages",), required=False, names=names.HISTORY, reads="text"),
    }
    target_role = "output"
    row_content = "a conversation"
    question_role = "messages"
    converses = True
    watch = "perplexity"
    higher_is_better = False
    inputs: ClassVar[tuple[str, ...]] = ("image", "messages", "system", "history", "prompt", "input")
    judges_likelihood = True

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """A column of conversations."""
        roles = cls.find_columns(columns) if columns.of("messages") else {}
        if "messages" in roles or (roles and (columns.named(names.OUTPUT, "messages") or columns.output())):
            return 10, Note("reason.a_column_of_conversations")
        return None

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """One column of conversations, or a prompt and its completion."""
        history = columns.named(names.HISTORY, "messages")
        several = [name for name in columns.of("messages") if name != history]
        prompt, completion = columns.named(names.INSTRUCTION, "messages"), columns.named(names.OUTPUT, "messages")
        system = columns.named(names.SYSTEM)
        if prompt and completion:
            return {"image": columns.image, "prompt": prompt, "output": completion, "system": system}
        if several:
            messages = columns.named(names.MESSAGES, "messages") or several[0]
            return {"image": columns.image, "messages": messages, "system": system}
        roles = {role: column for role, column in Generate.find_columns(columns).items() if role != "type"}
        return {**roles, "history": history} if roles.get("prompt") and roles.get("output") else {}

    @classmethod
    def needed_roles(cls, columns: Collection[str]) -> tuple[str, ...]:
        """Conversations, or prompts with what follows them."""
        ways = (("messages",), ("prompt", "output"))
        return next((roles for roles in ways if set(roles) <= set(columns)), ())

    @classmethod
    def lacking(cls, columns: Collection[str]) -> str | None:
        """Neither way of writing conversations."""
        return None if cls.needed_roles(columns) else "a column of conversations ('messages'), or 'prompt' and 'output'"

    @classmethod
    def checker(cls, cells: RowCells) -> Checker:
        """Conversations that cannot be read, or in which nobody answers."""
        return lambda row: (
            _wrong_history(cells, row)
            or next(
                (error for role in ("messages", "prompt", "output") if (error := _wrong_turns(cells, row, role))), None
            )
        )

    def values(self, columns: Mapping[str, Sequence[Any]]) -> Values:
        """The task's own columns, by role.

        Raises:
            DataError: neither conversations nor prompts with what follows them.
        """
        result = super().values(columns)
        if "messages" not in result and not {"prompt", "output"} <= set(result):
            raise DataError(
                where=f"task '{self.name}'",
                expected="a column of conversations for 'messages', or columns for 'prompt' and 'output'",
                found=", ".join(columns) or "no column",
                do="name them with --set tasks.0.columns.messages=COLUMN",
            )
        return result

    def question_values(self, text: str, system: str | None = None) -> Values:
        """A conversation of one turn."""
        before = [] if system is None else [{"role": "system", "content": system}]
        return {"messages": [[*before, {"role": "user", "content": text}]]}

    def question_sampling(self) -> Sampling:
        """At least so many tokens that a conversation is not cut short."""
        return Sampling(max(self.settings.max_new_tokens, LONG))

    def turns(self, values: Values, row: int) -> list[Message]:
        """The whole conversation of a row; none where the row holds nothing.

        Raises:
            DataError: it cannot be read as one.
        """
        where = f"task '{self.name}', row {row + 1}"
        system = as_text(values["system"][row]) if "system" in values else ""
        result: list[Message] = [{"role": "system", "content": system}] if system.strip() else []
        if "messages" in values:
            cell = values["messages"][row]
            turns = [] if missing(cell) else turns_of(cell, where)
            return turns if not turns or turns[0]["role"] == "system" else [*result, *turns]
        if "prompt" not in values:
            do = "give the messages so far, or a prompt"
            raise DataError(where, f"a column {list(self.settings.columns.values())}", "none of them", do)
        if "history" in values and not missing(values["history"][row]):
            result += history_of(values["history"][row], where)
        prompt, output = values["prompt"][row], values["output"][row] if "output" in values else None
        if isinstance(prompt, list):
            result += turns_of(prompt, where)
        elif not missing(prompt):
            given = as_text(values["input"][row]) if "input" in values else ""
            asked = "\n".join(part for part in (as_text(prompt), given) if part.strip())
            result.append({"role": "user", "content": asked})
        if isinstance(output, list):
            result += turns_of(output, where)
        elif not missing(output):
            result.append({"role": "assistant", "content": as_text(output)})
        return result

    def messages(self, values: Values, row: int) -> list[Message]:
        """The turns before the last answer; all of them where the last turn is not an answer."""
        turns = self.turns(values, row)
        return turns[:-1] if turns and turns[-1]["role"] == "assistant" else turns

    def prompt(self, values: Values, row: int) -> str:
        """What was said before the last answer, a line a turn."""
        return "\n".join(turn["content"] for turn in self.messages(values, row))

    def right_texts(self, values: Values, row: int) -> list[str]:
        """The last answer that is to be learned."""
        turns = self.turns(values, row)
        last = answered(turns)
        return [] if last is None else [turns[last]["content"]]

    def usable(self, values: Values, row: int) -> bool:
        """An answer to learn."""
        return answered(self.turns(values, row)) is not None

    def judgeable(self, values: Values, row: int) -> bool:
        """A conversation that ends with an answer to compare with."""
        turns = self.turns(values, row)
        return len(turns) > 1 and is_learned(turns[-1])

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """Every turn."""
        return [turn["content"] for row in rows for turn in self.turns(values, row)]

    def ask(self, values: Values, row: int, processor: TextProcessor) -> list[int]:
        """The ids that the last answer goes on from; a long conversation loses its oldest turns."""
        room = min(self.settings.max_new_tokens, processor.max_length)
        kept = layout.newest(self.messages(values, row), processor, layout.longest(processor) - room)
        return layout.prompt_ids(
            layout.shown(kept, processor, self.shows(values, row)), processor, self.settings.layout
        )

    def reply(self, values: Values, row: int, text: str, processor: TextProcessor) -> list[int]:
        """The ids of a text as the last answer, its end included."""
        return layout.answer_ids(self.messages(values, row)[-1:], text, processor, self.settings.layout)

    def lay(self, values: Values, row: int, target: str, processor: TextProcessor) -> layout.Laid:
        """The whole conversation; every answer that is to be learned is, and nothing else."""
        if self.settings.layout == "plain":
            turns = self.turns(values, row)
            before = layout.shown(turns[: answered(turns)], processor, self.shows(values, row))
            prompt = layout.prompt_ids(before, processor, "plain")
            answer = layout.answer_ids(before, target, processor, "plain")
            return layout.Laid(prompt + answer, [False] * len(prompt) + [True] * len(answer))
        return layout.conversation(self.turns(values, row), processor, image=self.shows(values, row))

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many conversations are too long, and what they lose."""
        shorter = dropped = cut = 0
        for row in rows:
            turns = self.turns(values, row)
            if sum(len(turn["content"].encode()) + 2 for turn in turns) > processor.max_length:
                gone = len(turns) - len(layout.newest(turns, processor, layout.longest(processor)))
                shorter, dropped = shorter + bool(gone), dropped + gone
                cut += any(len(processor.tokenizer.encode(turn["content"])) > processor.max_length for turn in turns)
        message = self.unwritable(values, rows, processor)
        if shorter:
            most = layout.longest(processor)
            message.append(
                f"task {self.name}: {shorter} of {len(rows)} conversations are longer than {most} tokens and lose "
                f"their oldest turns, {dropped} in all; otherwise: --set text.max_length=TOKENS"
            )
        if cut:
            message.append(
                f"task {self.name}: {cut} rows hold a turn of more than {processor.max_length} tokens, which is cut"
            )
        return message

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Perplexity of the true last answers; exact match, BLEU, chrF, ROUGE-L and F1 of words of what was said."""
        result = writing_statistics(*self.texts_and_truths(values, rows, predictions))
        if not all("logprob" in prediction.extra for prediction in predictions):
            return result
        logprobs, tokens = ([p.extra[name] for p in predictions] for name in ("logprob", "tokens"))
        return {"perplexity": perplexity(logprobs, tokens), **result}

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """The most frequent last answer of training to the same words."""
        train_rows = [row for row in train_rows if self.judgeable(known, row)]
        message = most_frequent_answer(
            [self._asked(known, row) for row in train_rows],
            [self.targets(known, row)[0] for row in train_rows],
            [self._asked(values, row) for row in rows],
        )
        return [Prediction(text) for text in message], "most frequent answer"

    def _asked(self, values: Values, row: int) -> str:
        """The last words before the answer."""
        return str((self.messages(values, row) or [{"content": ""}])[-1]["content"])


def _wrong_history(cells: RowCells, row: int) -> DataError | None:
    if "history" not in cells.values or missing(earlier := cells.values["history"][row]):
        return None
    try:
        history_of(earlier, cells.where(row, "history"))
    except DataError as error:
        return error
    return None


def _wrong_turns(cells: RowCells, row: int, role: str) -> DataError | None:
    """What is wrong with a conversation: its layout, or that nobody answers in it."""
    value = cells.values[role][row] if role in cells.values else None
    if value is None or (isinstance(value, str) and (role != "messages" or not value.strip())):
        return None
    images: list[Any] = []
    try:
        turns = turns_of(value, cells.where(row, role), images)
    except DataError as error:
        return error
    if images and "image" not in cells.values:
        do = "write them to a column 'images'"
        return cells.error(row, role, "images in a column of their own", f"{len(images)} inside the turns", do)
    if role != "prompt" and answered(turns) is None:
        do = "correct that row, or leave it out with --set data.on_bad=skip"
        return cells.error(row, role, "at least one turn of the assistant's, to learn", "none", do)
    return None
