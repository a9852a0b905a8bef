"""The last stations: the head's numbers, and the answer with what else was likely.

Letters: R texts, N read positions, V vocabulary, P image tokens, D width.
"""

from __future__ import annotations

import numpy as np
import torch

from rebus.report.flow.capture import Captured
from rebus.report.flow.drawing import over
from rebus.report.flow.inputs import asked_of, piece_of, shape
from rebus.report.flow.result import Bars, Image, Station, Strip, Token

TOP = 5  # answers shown
STEPS = 24  # written tokens that are shown with their alternatives


def answer_stations(captured: Captured) -> list[Station]:
    """The head and the answer."""
    subject = captured.subject
    if subject.head.writes:
        return [_written(captured)]
    view = subject.task.answer_view(subject, captured.outputs, captured.seen)
    images: list[Image] = []
    if subject.shown is not None and captured.grid is not None:
        fields = {label: each.cpu().numpy().reshape(captured.grid) for label, each in view.maps.items()}
        images = [Image("shows", over(field, subject.shown), {"label": label}) for label, field in fields.items()]
    ids = [int(text_id) for text_id in subject.part["text_ids"][0]] if view.tokens else []
    notes = zip(ids, view.tokens, strict=True)
    steps = (
        []
        if view.chances is None
        else [
            Bars("hidden", _likeliest(captured, chances), {"number": str(place + 1)})
            for place, chances in enumerate(view.chances)
        ]
    )
    return [
        Station(
            "answer",
            view.kind,
            tuple(shape(name, letters, tensor) for name, (letters, tensor) in view.outputs.items()),
            view.facts,
            tuple(images),
            tokens=tuple(Token(piece_of(captured, item, "text_ids"), item, *note) for item, note in notes),
            bars=(Bars("answers", view.likeliest),) if view.likeliest else (),
            strips=tuple(Strip(caption, _first(vector)) for caption, vector in view.vectors.items()),
            steps=tuple(steps),
        )
    ]


def _written(captured: Captured) -> Station:
    outputs, subject = captured.outputs, captured.subject
    size = subject.session.processor.tokenizer.vocab_size
    chances = outputs.detach().float()[:, :size].softmax(-1)  # (N, V)
    items = [int(label) for label in subject.part["labels"][0][asked_of(captured) - 1 :]]
    steps = []
    for place, token in enumerate(items[:STEPS]):
        names = {
            "number": str(place + 1),
            "token": piece_of(captured, token),
            "share": f"{float(chances[place, token]):.1%}",
        }
        steps.append(Bars("step", _likeliest(captured, chances[place]), names))
    facts = {"answer": subject.answer, "count": len(items), "shown": len(steps), "vocabulary": size}
    kind = "writes" if subject.task.streams else "choose"
    return Station("answer", kind, (shape("logits", "(N, V)", outputs),), facts, steps=tuple(steps))


def _likeliest(captured: Captured, chances: torch.Tensor) -> list[tuple[str, float]]:
    """The likeliest of (V,) tokens."""
    top = chances.topk(min(TOP, len(chances)))
    return [(piece_of(captured, int(value)), float(x)) for x, value in zip(top.values, top.indices, strict=True)]


def _first(vector: torch.Tensor, most: int = 96) -> list[float]:
    return [float(item) for item in np.asarray(vector.detach().float().cpu())[:most]]
