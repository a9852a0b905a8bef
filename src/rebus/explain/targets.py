"""Which number is explained, for tasks that give numbers: a label's, a tag's, a likeness, a number itself.

For tasks that write see ``rebus.explain.written``. Letters: N rows, C classes, L tokens, P image tokens, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebus.catalogue import Note
from rebus.data.tagging import parts_of, units_of
from rebus.errors import DataError, nearest
from rebus.explain.pieces import Places, located
from rebus.explain.subject import Goal, Subject, log_odds
from rebus.tasks import Classify, Match, Ner, PatchClassify, Regress, Retrieve, Similar, Tag
from rebus.tasks.base import VectorTask
from rebus.tasks.cells import answer_text, as_text, as_texts, missing
from rebus.tasks.extract import Extract
from rebus.tasks.labels import Labels
from rebus.tasks.match import NO, YES
from rebus.tasks.reading import pieces_of

Target = str | int | None


def aim(subject: Subject, target: Target) -> None:
    """Fill in what is asked of a task that gives numbers.

    Raises:
        DataError: the target is none of the task's.
    """
    task = subject.task
    if isinstance(task, VectorTask):
        _vector(subject, task, target)
    elif isinstance(task, Ner):
        _spans(subject, task, target)
    elif isinstance(task, Extract):
        _extract(subject, task, target)
    elif isinstance(task, Similar):
        _similar(subject, target)
    elif isinstance(task, Retrieve):
        _retrieve(subject, target)
    elif isinstance(task, Match):
        _match(subject, target)
    elif isinstance(task, PatchClassify):
        _patches(subject, task, target)
    else:
        raise DataError("the explanation", "a task whose outputs are known", f"'{task.name}'", "name another task")


def read_places(subject: Subject, text: str, shift: int = 0) -> tuple[list[int], Places]:
    """The text tower's ids of a text, and where each stands in it."""
    processor = subject.predictor.processor
    reader = processor.reader or processor.tokenizer
    ids = processor.read(text)
    wanted, offsets = reader.encode_with_offsets(text)
    return ids, located(ids, wanted, offsets, shift)


def give_text(subject: Subject, text: str, *, there: bool = True) -> None:
    """Put a text into the part as what the text tower reads."""
    ids, places = read_places(subject, text)
    device = subject.model.device
    subject.part["text_ids"] = torch.tensor([ids], device=device)
    subject.part["text_mask"] = torch.full((1, len(ids)), there, dtype=torch.bool, device=device)
    nowhere: Places = [None] * len(ids)
    subject.text, subject.places["text_ids"] = (text, places) if there else ("", nowhere)


def _begin(subject: Subject, text: str | None) -> None:
    subject.part["owner"] = torch.zeros(1, dtype=torch.long, device=subject.model.device)
    if text is not None:
        give_text(subject, text, there=not missing(text))


def _vector(subject: Subject, task: VectorTask, target: Target) -> None:
    _begin(subject, as_text(subject.values.get("text", [""])[0]) if "text" in task.settings.columns else None)
    logits = subject.run().float()[0]  # (C,)
    subject.answer = answer_text(task.decode(logits[None])[0].value)
    if isinstance(task, Regress):
        if target is not None:
            do = "leave the target out"
            raise DataError("the target", "none: a regression gives one number", f"'{target}'", do)
        subject.goals = [Goal(Note("target.number"), float(logits[0]) * task.spread + task.mean)]
        subject.measure = lambda outputs: outputs.float() * task.spread + task.mean
        return
    if not isinstance(task, Classify | Tag):
        _output(subject, task, target, logits)
        return
    number = _label(task, target, int(logits.argmax()))
    chance = logits.softmax(-1) if isinstance(task, Classify) else logits.sigmoid()
    what = "target.label" if isinstance(task, Classify) else "target.tag"
    subject.goals = [Goal(Note(what, name=task.labels[number]), float(chance[number]))]
    if isinstance(task, Classify):
        subject.measure = lambda outputs: log_odds(outputs, torch.full_like(outputs[:, 0], number).long())[:, None]
    else:
        subject.measure = lambda outputs: outputs.float()[:, number : number + 1]


def _output(subject: Subject, task: VectorTask, target: Target, logits: Tensor) -> None:
    """One of the numbers that a plug-in's head gives: the named one, else the largest."""
    known = task.output_names() or [str(number + 1) for number in range(len(logits))]
    if target is not None and str(target) not in known:
        do = nearest(str(target), known)
        raise DataError("the target", f"an output of task '{task.name}'", f"'{target}'", do)
    number = int(logits.argmax()) if target is None else known.index(str(target))
    subject.goals = [Goal(Note("target.output", name=known[number], task=task.name), float(logits[number]))]
    subject.measure = lambda outputs: outputs.float()[:, number : number + 1]


def _label(task: Labels, target: Target, default: int) -> int:
    """The place of a label in the model's outputs."""
    if target is None:
        return default
    if str(target) not in task.index:
        raise DataError("the target", "a label that the model knows", f"'{target}'", nearest(str(target), task.index))
    return task.index[str(target)]


def _match(subject: Subject, target: Target) -> None:
    _begin(subject, (as_texts(subject.values["text"][0]) or [""])[0])
    chance = float(subject.run().float().sigmoid())
    subject.answer = YES if chance >= 0.5 else NO
    wanted = subject.answer if target is None else str(target)
    if wanted not in (YES, NO):
        raise DataError("the target", f"{YES} or {NO}", f"'{target}'", nearest(wanted, (YES, NO)))
    sign = 1.0 if wanted == YES else -1.0
    subject.goals = [Goal(Note("target.match", answer=wanted), chance if sign > 0 else 1 - chance)]
    subject.measure = lambda outputs: sign * outputs.float()


def _retrieve(subject: Subject, target: Target) -> None:
    _no_target(target)
    if subject.shown is None:
        raise DataError("task 'retrieve'", "an image and a text to compare", "no image", "give one")
    _begin(subject, (as_texts(subject.values["text"][0]) or [""])[0])
    subject.part["images"] = subject.part["owner"]
    subject.measure = lambda outputs: (outputs.images * outputs.texts).sum(-1, keepdim=True)
    cosine = float(subject.scores())
    subject.answer, subject.goals = f"{cosine:.4f}", [Goal(Note("target.likeness"), cosine)]


def _no_target(target: Target) -> None:
    if target is not None:
        do = "leave the target out"
        raise DataError("the target", "none: the task gives one number", f"'{target}'", do)


def _similar(subject: Subject, target: Target) -> None:
    other = as_text(target if target is not None else subject.values.get("positive", [""])[0])
    if not other.strip():
        do = "give the other text as the target, or as the column 'positive'"
        raise DataError("task 'similar'", "two texts to compare", "one", do)
    _begin(subject, as_text(subject.values["anchor"][0]))
    model, name = subject.model, subject.task.name
    device = model.device
    fixed = torch.from_numpy(subject.predictor.embed([other])).to(device)  # (1, D)
    subject.outputs = lambda batch: model.text_vectors(batch.targets[name])
    subject.measure = lambda outputs: (outputs * fixed).sum(-1, keepdim=True)
    cosine = float(subject.scores())
    subject.answer, subject.goals = f"{cosine:.4f}", [Goal(Note("target.likeness_to", text=other), cosine)]


def _patches(subject: Subject, task: PatchClassify, target: Target) -> None:
    _begin(subject, None)
    chances = subject.run().float()[0].softmax(-1)  # (P, 1 + C)
    best = chances[:, 1:].amax(0)
    number = _label(task, target, int(best.argmax()) + task.first)
    place = int(chances[:, number].argmax())
    label = task.labels[number - task.first]
    subject.answer = task.labels[int(best.argmax())]
    what = Note("target.patch", number=place + 1, label=label)
    subject.goals = [Goal(what, float(chances[place, number]), (place,), label=number)]

    def measure(outputs: Tensor) -> Tensor:
        here = outputs[:, place]
        return log_odds(here, torch.full_like(here[:, 0], number).long())[:, None]

    subject.measure = measure


def _window(subject: Subject, windows: list[dict[str, np.ndarray]], unit: int) -> dict[str, np.ndarray]:
    """The window of a long text in which most stands around a unit."""
    held = [window for window in windows if unit in window["units"]]

    def around(window: dict[str, np.ndarray]) -> int:
        at = int(window["at"][list(window["units"]).index(unit)])
        return min(at, len(window["text_ids"]) - 1 - at)

    return max(held or windows[:1], key=around if held else (lambda window: 0))


def _give_window(subject: Subject, window: dict[str, np.ndarray]) -> None:
    device = subject.model.device
    subject.part["owner"] = torch.zeros(1, dtype=torch.long, device=device)
    ids = torch.from_numpy(np.asarray(window["text_ids"]))[None].to(device)
    subject.part |= {"text_ids": ids, "text_mask": torch.ones_like(ids, dtype=torch.bool)}
    if "segment_ids" in window:
        subject.part["segment_ids"] = torch.from_numpy(np.asarray(window["segment_ids"]))[None].to(device)


def _spans(subject: Subject, task: Ner, target: Target) -> None:
    units = task.marks.units(subject.values["tokens"][0])
    if not units.offsets:
        raise DataError("task 'ner'", "a text of at least one word", "an empty one", "give a text")
    processor = subject.predictor.processor
    spans = subject.predicted().value
    subject.text, subject.answer = units.text, answer_text(spans)
    words = [units.text[start:end] for start, end in units.offsets]
    chosen, label = _chosen_units(words, units.offsets, spans, target)
    window = _window(subject, task.windows(subject.values, 0, processor, learn=False), chosen[0])
    _give_window(subject, window)
    pieces = pieces_of(processor, units)
    subject.places["text_ids"] = located(window["text_ids"].tolist(), pieces.ids, pieces.offsets)
    held = [unit for unit in chosen if unit in window["units"]]
    at = torch.tensor([int(window["at"][list(window["units"]).index(unit)]) for unit in held])
    logits = subject.run().float()[0][at.to(subject.model.device)]  # (U, T)
    allowed = torch.tensor([label is None or parts_of(tag)[1] == label for tag in task.tags], device=logits.device)
    tags = logits.masked_fill(~allowed, float("-inf")).argmax(-1)
    chance = logits.softmax(-1).gather(-1, tags[:, None])
    names = ", ".join(dict.fromkeys(task.tags[int(tag)] for tag in tags))
    said = units.text[units.offsets[held[0]][0] : units.offsets[held[-1]][1]]
    goal = Goal(
        Note("target.span", text=said, tags=names), float(chance.log().mean().exp()), tuple(int(one) for one in at)
    )
    subject.goals = [goal]
    subject.measure = lambda outputs: log_odds(outputs[:, at], tags.expand(len(outputs), -1)).mean(1, keepdim=True)


def _chosen_units(
    words: list[str], offsets: list[tuple[int, int]], spans: list[dict[str, Any]], target: Target
) -> tuple[list[int], str | None]:
    """The units that a target of ``ner`` names, and the label that is explained; None: the likeliest tag of each."""
    wanted = None if target is None else str(target)
    for span in spans:
        if wanted is None or wanted in (span["text"], span["label"]):
            inside = [n for n, (start, end) in enumerate(offsets) if start < span["end"] and end > span["start"]]
            return inside, str(span["label"])
    if wanted is None:
        return [0], None
    if wanted in words:
        return [words.index(wanted)], None
    known = [*words, *(str(span["label"]) for span in spans)]
    raise DataError(
        "the target", "a word of the text, or a span or a label that was found", f"'{wanted}'", nearest(wanted, known)
    )


def _extract(subject: Subject, task: Extract, target: Target) -> None:
    processor = subject.predictor.processor
    question, passage = (as_text(subject.values[role][0]) for role in ("question", "passage"))
    units = units_of(passage)
    told = subject.predicted()
    subject.answer = str(told.value)
    span = (told.extra["start"], told.extra["end"]) if told.value else None
    if target is not None:
        start = passage.find(str(target))
        if start < 0 or not str(target).strip():
            known = [passage[a:b] for a, b in units.offsets]
            raise DataError("the target", "words of the passage", f"'{target}'", nearest(str(target), known))
        span = (start, start + len(str(target)))
    inside = [n for n, (a, b) in enumerate(units.offsets) if span is not None and a < span[1] and b > span[0]]
    window = _window(subject, task.windows(subject.values, 0, processor, learn=False), inside[0] if inside else -1)
    _give_window(subject, window)
    reader = processor.reader or processor.tokenizer
    shift = len(question) + 1
    subject.text = f"{question}\n{passage}"
    ids = window["text_ids"].tolist()
    begin = int(window["segment_ids"].sum() * -1) + len(ids)  # where the passage begins
    asked = located(ids[:begin], *reader.encode_with_offsets(question))
    pieces = pieces_of(processor, units)
    subject.places["text_ids"] = asked + located(ids[begin:], pieces.ids, pieces.offsets, shift)
    order = list(window["units"])
    held = [unit for unit in inside if unit in order]
    ends = [int(window["at"][order.index(unit)]) for unit in (held[0], held[-1])] if held else [0, 0]
    at = torch.tensor(ends, device=subject.model.device)
    allowed = torch.from_numpy(np.asarray(window["allowed"])).to(at.device)

    def places(outputs: Tensor) -> Tensor:
        return outputs.float().masked_fill(~allowed[:, None], -1e9).mT  # (N, 2, L)

    chance = places(subject.run())[0].softmax(-1).gather(-1, at[:, None])
    said = passage[slice(*span)] if span is not None and held else ""
    named = Note("target.answer", text=said) if said else Note("target.no_answer")
    subject.goals = [Goal(named, float(chance.prod()), tuple(dict.fromkeys(ends)))]
    subject.measure = lambda outputs: log_odds(places(outputs), at.expand(len(outputs), -1)).sum(1, keepdim=True)
