"""The last stations: the head's numbers, and the answer with what else was likely.

Letters: R texts, N read positions, V vocabulary, C classes, P image tokens, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rebus.models.heads.pairs import Pairs
from rebus.report.flow.capture import Captured
from rebus.report.flow.drawing import over
from rebus.report.flow.inputs import asked_of, norms, piece_of, shape
from rebus.report.flow.result import Bars, Image, Shape, Station, Strip, Token
from rebus.tasks import (
    Classify,
    Extract,
    Match,
    Mlm,
    Ner,
    PatchClassify,
    PretrainImage,
    Regress,
    Retrieve,
    Similar,
    Tag,
)

TOP = 5  # answers shown
STEPS = 24  # written tokens that are shown with their alternatives


def answer_stations(captured: Captured) -> list[Station]:
    """The head and the answer."""
    subject, outputs = captured.subject, captured.outputs
    task = subject.task
    if subject.head.writes:
        return [_written(captured)]
    if isinstance(task, Mlm):
        return [_masked(captured)]
    if isinstance(task, PatchClassify):
        return [_patches(captured)]
    if isinstance(task, PretrainImage | Retrieve | Similar):
        return [_vectors(captured)]
    if isinstance(task, Ner | Extract):
        return [_words(captured)]
    logits = outputs.detach().float()[0]  # (C,)
    shapes = (shape("logits", "(R, C)", outputs),)
    if isinstance(task, Regress):
        value = float(logits[0]) * task.spread + task.mean
        facts = {"raw": f"{float(logits[0]):.4g}", "value": f"{value:.4g}", "mean": task.mean, "spread": task.spread}
        return [Station("answer", "number", shapes, facts)]
    if isinstance(task, Match):
        chance = float(logits.sigmoid()[0])
        bars = Bars("answers", [("yes", chance), ("no", 1 - chance)])
        return [Station("answer", "match", shapes, {"answer": subject.answer}, bars=(bars,))]
    assert isinstance(task, Classify | Tag)  # noqa: S101 - all others were told above
    chance = logits.sigmoid() if isinstance(task, Tag) else logits.softmax(-1)
    top = chance.argsort(descending=True)[:TOP].tolist()
    bars = Bars("answers", [(task.labels[place], float(chance[place])) for place in top])
    kind = "labels" if isinstance(task, Classify) else "tags"
    facts = {"count": len(task.labels), "answer": subject.answer}
    return [Station("answer", kind, shapes, facts, bars=(bars,))]


def _written(captured: Captured) -> Station:
    outputs, subject = captured.outputs, captured.subject
    size = subject.session.processor.tokenizer.vocab_size
    chances = outputs.detach().float()[:, :size].softmax(-1)  # (N, V)
    said = [int(one) for one in subject.part["labels"][0][asked_of(captured) - 1 :]]
    steps = []
    for place, token in enumerate(said[:STEPS]):
        top = chances[place].topk(min(TOP, size))
        values = [(piece_of(captured, int(one)), float(x)) for x, one in zip(top.values, top.indices, strict=True)]
        names = {
            "number": str(place + 1),
            "token": piece_of(captured, token),
            "share": f"{float(chances[place, token]):.1%}",
        }
        steps.append(Bars("step", values, names))
    facts = {"answer": subject.answer, "count": len(said), "shown": len(steps), "vocabulary": size}
    kind = "choose" if subject.task.name == "choose" else "writes"
    return Station("answer", kind, (shape("logits", "(N, V)", outputs),), facts, steps=tuple(steps))


def _masked(captured: Captured) -> Station:
    outputs, subject = captured.outputs, captured.subject
    size = subject.session.processor.tokenizer.vocab_size
    chances = outputs.detach().float()[:, :size].softmax(-1)
    steps = []
    for place in range(len(chances)):
        top = chances[place].topk(min(TOP, size))
        values = [(piece_of(captured, int(one)), float(x)) for x, one in zip(top.values, top.indices, strict=True)]
        steps.append(Bars("hidden", values, {"number": str(place + 1)}))
    facts = {"answer": subject.answer, "count": len(chances)}
    return Station("answer", "masked", (shape("logits", "(N, V)", outputs),), facts, steps=tuple(steps))


def _patches(captured: Captured) -> Station:
    subject, outputs, task = captured.subject, captured.outputs, captured.subject.task
    assert isinstance(task, PatchClassify)  # noqa: S101 - as the caller looked
    chances = outputs.detach().float()[0].softmax(-1)  # (P, first + C)
    best = chances[:, task.first :].amax(0)
    top = best.argsort(descending=True)[:TOP].tolist()
    bars = Bars("answers", [(task.labels[place], float(best[place])) for place in top])
    images = []
    if subject.shown is not None and captured.grid is not None:
        for place in top[:3]:
            field = chances[:, task.first + place].cpu().numpy().reshape(captured.grid)
            images.append(Image("shows", over(field, subject.shown), {"label": task.labels[place]}))
    facts = {"answer": subject.answer, "count": len(task.labels)}
    return Station("answer", "patches", (shape("logits", "(B, P, C)", outputs),), facts, tuple(images), bars=(bars,))


def _vectors(captured: Captured) -> Station:
    subject, outputs = captured.subject, captured.outputs
    if isinstance(subject.task, PretrainImage):
        pooled = captured.seen.pooled if captured.seen is not None else outputs.pooled
        strip = Strip("vector", _first(pooled[0]))
        return Station("answer", "vector", (shape("pooled", "(B, D)", pooled),), strips=(strip,))
    if isinstance(outputs, Pairs):
        pair = (shape("images", "(B, D)", outputs.images), shape("texts", "(R, D)", outputs.texts))
        cosine = float((outputs.images[0] * outputs.texts[0]).sum())
        strips = (Strip("vector_image", _first(outputs.images[0])), Strip("vector_text", _first(outputs.texts[0])))
        facts: dict[str, Any] = {"cosine": f"{cosine:.3f}", "scale": f"{float(outputs.scale):.1f}"}
        return Station("answer", "pair", pair, facts, strips=strips)
    shapes = (Shape("vector", "(R, D)", tuple(outputs.shape)),)
    facts = {"cosine": subject.answer, "length": f"{norms(outputs)[0]:.2f}"}
    return Station("answer", "likeness", shapes, facts, strips=(Strip("vector", _first(outputs[0])),))


def _words(captured: Captured) -> Station:
    """Each token with its likeliest tag, or with how likely the answer begins or ends there."""
    subject, outputs, task = captured.subject, captured.outputs, captured.subject.task
    chances = outputs.detach().float()[0]  # (L, C)
    tokens = []
    ids = [int(one) for one in subject.part["text_ids"][0]]
    if isinstance(task, Ner):
        share = chances.softmax(-1)
        for place, one in enumerate(ids):
            best = int(share[place].argmax())
            note = f"{task.tags[best]} {float(share[place, best]):.0%}"
            tokens.append(Token(piece_of(captured, one, "text_ids"), one, float(share[place, best]), note))
        kind = "tagged"
    else:
        begins = chances.softmax(0).cpu().numpy()  # over the text's tokens
        for place, one in enumerate(ids):
            first, last = (float(x) for x in begins[place][:2])
            tokens.append(
                Token(piece_of(captured, one, "text_ids"), one, max(first, last), f"{first:.0%} · {last:.0%}")
            )
        kind = "span"
    facts = {"answer": subject.answer}
    return Station("answer", kind, (shape("logits", "(R, L, C)", outputs),), facts, tokens=tuple(tokens))


def _first(vector: torch.Tensor, most: int = 96) -> list[float]:
    return [float(one) for one in np.asarray(vector.detach().float().cpu())[:most]]
