"""An answer while it is being written, about an image or not. It knows no page and no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.generation.write import sources_of
from rebus.inference.generate import last_image, shown_turns
from rebus.inference.predictor import Predictor
from rebus.models.modalities.rows import RowInputs
from rebus.tasks.base import Values
from rebus.tasks.converse import LONG
from rebus.tasks.writing import WritingTask, writing_task


def streams(predictor: Predictor, name: str) -> bool:
    """Whether a task's answer is written token by token."""
    return name in predictor.tasks and predictor.tasks[name].streams


def stream_answer(
    predictor: Predictor,
    image: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    task: str,
    sampling: Sampling | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """The answer to the last question, as far as it is written: each text begins with the one before it.

    The last one is what ``Predictor.ask`` says to the same.

    Args:
        predictor: the model.
        image: a path, the bytes of an image file, an array (H, W, 3) of uint8, or None; it is what the question is
            about, unless the task converses and a message shows another.
        messages: ``{"role", "content"}``; tasks that do not converse read the last of the user's.
        task: one that ``streams``.
        sampling: how; None: the likeliest words, as many as the task's settings say.
        enough: asked after every token; True ends the text there.

    Raises:
        DataError: the task does not write, or there is no question. ImageError: the image cannot be read.
    """
    if not streams(predictor, task):
        able = ", ".join(name for name in predictor.tasks if streams(predictor, name)) or "none"
        raise DataError.of("problem.not_writing", task=task, tasks=able)
    chosen = predictor.tasks[task]
    asked = [turn for turn in messages if turn.get("role") == "user"]
    if not asked:
        raise DataError.of("problem.no_question")
    question = str(shown_turns(asked[-1:])[0]["content"])
    if chosen.continues:
        text = ""
        for piece in predictor.writing.stream(predictor.writing.prompt(question), sampling or Sampling(LONG)):
            text += piece
            yield text.strip()
            if enough():
                return
        return
    values = chosen.question_values(question)
    if chosen.converses:
        values["messages"], image = [shown_turns(messages)], last_image(messages) or image
    given = {}
    if chosen.uses_image:
        values["image"] = given[chosen.settings.columns["image"]] = [image]
    sampling = sampling or chosen.question_sampling() or Sampling(max_new_tokens=chosen.settings.max_new_tokens)
    inputs = predictor.inputs_of(chosen, given, where=lambda _: "the image")
    yield from _written(predictor, writing_task(chosen), values, inputs, sampling, enough)


def _written(
    predictor: Predictor,
    task: WritingTask,
    values: Values,
    inputs: RowInputs,
    sampling: Sampling,
    enough: Callable[[], bool],
) -> Iterator[str]:
    model, tokenizer = predictor.model, predictor.processor.tokenizer
    model.eval()
    with torch.inference_mode():
        condition = task.condition(predictor, values, predictor.portion([[0]], inputs))
    prompt = task.ask(values, 0, predictor.processor)
    engine = predictor.engine_for(condition)
    decoder, text, answer = tokenizer.stream(), "", ""
    for step in engine.steps([prompt], sampling, sources=sources_of(model, condition, 1)):
        text += "".join(decoder.push(token.id) for token in step.tokens)
        if (longer := task.said(text)) != answer:
            answer = longer
            yield answer
        if enough():
            return
    whole = task.said(text + decoder.finish())
    if whole != answer or not whole:
        yield whole
