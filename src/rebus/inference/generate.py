"""What a model writes by itself: prompts gone on from, conversations answered, a token at a time if wanted.

It joins the tokenizer to the generation engine, which knows none. Images come in through
``rebus.inference.predictor``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from rebus.errors import DataError, RecipeError
from rebus.generation.constraint import Guide, Guided
from rebus.generation.decoders import fast
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.generation.texts import Text, TextWriter
from rebus.generation.write import decoder_of
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import Task, TextProcessor
from rebus.tasks.base import Values
from rebus.tasks.cuts import cut, refusing, warning
from rebus.tasks.layout import opened
from rebus.tasks.writing import writing_task


class Writing:
    """A model whose weights no longer change, as a writer of texts.

    Args:
        model: with a decoder.
        tasks: what it learned.
        processor: text to ids.

    Raises:
        DataError: the model does not write.
    """

    def __init__(self, model: VisionLanguageModel, tasks: Mapping[str, Task], processor: TextProcessor) -> None:
        if not any(head.writes for head in model.heads.values()):
            raise DataError("the model", "a model that writes text", ", ".join(tasks), "use a task that it has")
        self.model, self.tasks, self.processor = model, tasks, processor

    @cached_property
    def engine(self) -> Engine:
        """The fast path over the model's decoder."""
        tokenizer = self.processor.tokenizer
        return Engine(fast(decoder_of(self.model)), tokenizer.eos_ids, vocab_size=tokenizer.vocab_size)

    @cached_property
    def texts(self) -> TextWriter:
        """The engine with the tokenizer's decoder."""
        return TextWriter(self.engine, self.processor.tokenizer.stream)

    def prompt(self, text: str) -> list[int]:
        """The ids to go on from: as in training for ``generate`` and ``translate``, else the text as it stands."""
        for task in self.tasks.values():
            if task.lays_prompts and task.question_role is not None:
                values: Values = {task.question_role: [text]}
                with refusing("the prompt"):
                    return writing_task(task).ask(values, 0, self.processor)
        return opened(self.processor.tokenizer.encode(text), self.processor)

    @property
    def converses(self) -> bool:
        """Whether it was made for conversations."""
        return any(task.converses for task in self.tasks.values())

    def turns(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The ids from which a conversation's next answer goes on; images are left out.

        Where all of it has more tokens than the model reads, the oldest turns are left out, with a CutWarning.

        Raises:
            DataError: a message cannot be read, or the model does not converse.
            TextLengthError: the last message alone is longer than that.
        """
        task = next((item for item in self.tasks.values() if item.converses), None)
        if task is None:
            do = "ask it single questions, or train it on conversations"
            raise DataError("chat", "a model that converses", ", ".join(self.tasks), do)
        turns = [plain_turn(message) for message in messages]
        refuse_long(turns, self.processor)
        with warning():
            return writing_task(task).ask({"messages": [turns]}, 0, self.processor)

    def constraint(self, json_schema: str | Mapping[str, Any] | None, regex: str | None) -> Guided | None:
        """What the texts must be like.

        Raises:
            RecipeError: both are given, or one is not understood. MissingPackageError: llguidance is not installed.
        """
        if json_schema is not None and regex is not None:
            raise RecipeError("the constraint", "a JSON schema or an expression", "both", "leave one out")
        if json_schema is not None:
            return self._guide.json_schema(json_schema)
        return self._guide.regex(regex) if regex is not None else None

    @cached_property
    def _guide(self) -> Guide:
        tokenizer = self.processor.tokenizer
        return Guide(tokenizer.to_json(), tokenizer.eos_ids, self.engine.vocab_size)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        constraint: Guided | None = None,
    ) -> list[Text]:
        """Whole texts, ``n`` a prompt. Raises as ``TextWriter.write``."""
        return self.texts.write(prompts, sampling, stop=stop, constraint=constraint)

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        constraint: Guided | None = None,
    ) -> Iterator[str]:
        """One text as it is written; what was read before, such as a conversation's earlier turns, is not read again.

        Args:
            prompt: ids.
            sampling: how; one text.
            stop: strings that end it.
            constraint: what it must be like.

        Raises:
            RecipeError: more than one text is asked for.
        """
        if sampling.n > 1 or sampling.beams > 1:
            raise RecipeError("a stream", "one text: n and beams of 1", "several", "ask for whole texts")
        for piece in self.texts.pieces([prompt], sampling, stop=stop, constraint=constraint):
            if piece.text:
                yield piece.text


def refuse_long(turns: Sequence[Mapping[str, Any]], processor: TextProcessor) -> None:
    """Raise TextLengthError where the last message alone has more tokens than the model reads."""
    with refusing("the last message"):
        for turn in turns[-1:]:
            cut(processor.tokenizer.encode(turn["content"]), processor.max_length, turn["content"], "end")


def plain_turn(message: Mapping[str, Any]) -> dict[str, str]:
    """A message whose content is one text: the texts of its parts, one below the other.

    Raises:
        DataError: it has no role, or a part that is neither text nor image.
    """
    content, role = message.get("content", ""), message.get("role")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    known = isinstance(parts, list | tuple) and all(
        isinstance(part, Mapping)
        and (part.get("type") == "image" or (part.get("type") == "text" and isinstance(part.get("text"), str)))
        for part in parts
    )
    if not isinstance(role, str) or not known:
        do = 'write it as {"role": "user", "content": "..."}, or with a list of text and image parts'
        raise DataError("chat", "messages with a role and a content", repr(message)[:80], do)
    return {"role": role, "content": "\n".join(part["text"] for part in parts if part["type"] == "text")}


def shown_turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as plain turns; the one that shows the image which was shown last says so. Raises DataError."""
    turns: list[dict[str, Any]] = [dict(plain_turn(message)) for message in messages]
    holds = [
        place
        for place, message in enumerate(messages)
        if not isinstance(message.get("content", ""), str)
        and any(part["type"] == "image" for part in message["content"])
    ]
    if holds:
        turns[holds[-1]]["shown"] = True
    return turns


def last_image(messages: Sequence[Mapping[str, Any]]) -> Any:
    """The image that was shown last; None where there is none."""
    shown = [
        part.get("path")
        for message in messages
        if not isinstance(message.get("content", ""), str)
        for part in message["content"]
        if isinstance(part, Mapping) and part.get("type") == "image"
    ]
    return shown[-1] if shown else None
