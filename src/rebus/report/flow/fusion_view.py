"""The station where image and text meet: shares of a joint fusion, what attends to what in the others.

Letters: R texts, L text tokens, P image tokens, T tokens of a text tower, H heads, D width, M modalities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebus.report.flow.capture import Captured
from rebus.report.flow.drawing import over
from rebus.report.flow.inputs import asked_of, features_shapes, piece_of, shape, stream_of
from rebus.report.flow.result import Bars, Image, Shape, Station, Token

MAPS = 12  # tokens whose look at the image is shown
TOKENS = 80  # of what was asked, the last ones, whose weights are shown


def fusion_station(captured: Captured) -> list[Station]:
    """One station, or none for a head that reads one tower alone."""
    model, head = captured.subject.model, captured.subject.head
    if not (head.writes or head.fuses) or captured.subject.outputs is not None:
        return []
    if head.writes:
        return [_written(captured)]
    if model.fusion is None:
        return []
    if model.fusion.blends:
        return [_joint(captured)]
    return [_fused(captured)]


def _joint(captured: Captured) -> Station:
    """The fused vector, and how much of it is each modality's."""
    fusion: Any = captured.subject.model.fusion
    fused = captured.features("fusion")
    shapes = features_shapes(fused, "R, L") if fused is not None else ()
    facts = {"how": fusion.how}
    return Station("fusion", "joint", shapes, facts, bars=tuple(_shares(captured)))


def _shares(captured: Captured) -> list[Bars]:
    fusion: Any = captured.subject.model.fusion
    result = captured.shares.get("fusion.blend")
    if result is None:
        return []
    shares = [float(item) for item in result[0]]
    bars = [Bars("shares", list(zip(fusion.modalities, shares, strict=True)))]
    entered = captured.shares.get("fusion.enter_blend")
    if entered is not None:
        at = max(asked_of(captured) - 1, 0)
        vector, own = (float(item) for item in entered[min(at, len(entered) - 1)])
        bars.append(Bars("entered", [("vector", vector), ("own", own)]))
    return bars


def _fused(captured: Captured) -> Station:
    """Tokens of both modalities after they met, and where the text's tokens looked in the image."""
    fusion: Any = captured.subject.model.fusion
    fused = captured.features("fusion")
    assert fused is not None  # noqa: S101 - the fusion ran
    cross = fusion.by_modality
    count = captured.seen.tokens.shape[1] if captured.seen is not None else 0
    if cross:
        looks = captured.under("fusion.layers.", "text.attention")  # (H, T, P)
    else:
        looks = [item[:, count:, :count] for item in captured.under("fusion.layers.")]
    shapes = list(features_shapes(fused, "R, L"))
    attended = captured.under("fusion.layers.", "text.attention" if cross else "")
    if attended:
        shapes.append(Shape("attention", "(H, T, P)" if cross else "(H, L, L)", tuple(attended[0].shape)))
    ids = stream_of(captured)
    images: list[Image] = []
    if looks and ids is not None and count and looks[0].shape[1] == ids.shape[1]:
        mean = torch.stack([look.mean(0) for look in looks]).mean(0)  # (T, P)
        names = [piece_of(captured, int(item), "text_ids") for item in ids[0]]
        images = _maps(captured, mean, names, range(len(names)))
    facts = {"layers": len(attended), "heads": attended[0].shape[0] if attended else 0}
    return Station("fusion", "cross" if cross else "unified", tuple(shapes), facts, tuple(images))


def _written(captured: Captured) -> Station:
    """What the decoder wrote from, and where each written token looked."""
    subject, model = captured.subject, captured.subject.model
    ids = subject.part["input_ids"][0]
    length, asked = len(ids), asked_of(captured)
    hidden = captured.parts.get("decoder.norm")
    shapes = (
        []
        if hidden is None
        else [shape("decoder", "(R, P + L, D)" if hidden.shape[1] > length else "(R, L, D)", hidden)]
    )
    own = captured.under("decoder.layers.", "self_attn")
    across = captured.under("decoder.layers.", "cross_attn")
    count = captured.seen.tokens.shape[1] if captured.seen is not None else 0
    places = range(asked - 1, length)  # the position that says the next token looks for it
    text = _said(captured)
    kind, looks = _looks(captured, own, across, length, count)
    images: list[Image] = []
    if looks is not None:
        images = _maps(captured, looks[list(places)], text, range(len(text)))
    tokens: tuple[Token, ...] = ()
    if own:
        mean = torch.stack([item.mean(0) for item in own]).mean(0)  # (prefix + L, prefix + L)
        before = mean.shape[1] - length
        row = [float(item) for item in mean[before + asked - 1, before : before + asked]]
        most = max(row) or 1.0
        tokens = tuple(
            Token(piece_of(captured, int(item)), strength=weight / most)
            for item, weight in list(zip(ids[:asked], row, strict=True))[-TOKENS:]
        )
        name = "(H, P + L, P + L)" if before else "(H, L, L)"
        shapes.append(Shape("attention", name, tuple(own[0].shape)))
    if across:
        shapes.append(Shape("cross-attention", "(H, L, P)", tuple(across[0].shape)))
    facts = {"layers": len(own), "heads": own[0].shape[0] if own else 0, "how": getattr(model.fusion, "how", "")}
    return Station(
        "fusion",
        f"writes_{kind}",
        tuple(shapes),
        facts,
        tuple(images),
        tokens=tokens,
        bars=tuple(_shares(captured)),
        over=("read_text", {"token": text[0].strip() if text else ""}),
    )


def _looks(
    captured: Captured, own: list[Tensor], across: list[Tensor], length: int, count: int
) -> tuple[str, Tensor | None]:
    """How the decoder sees the image, and (L, P) how much each position attended to each image token."""
    model, seen = captured.subject.model, captured.seen is not None and captured.subject.shown is not None
    if model.fusion is not None and model.fusion.blends:
        return "joint", None
    if across:
        return "cross", torch.stack([item.mean(0) for item in across]).mean(0)[:, :count] if seen else None
    if model.fusion is None and model.inline is None:
        return "alone", None
    if not own:
        return "unified", None
    mean = torch.stack([item.mean(0) for item in own]).mean(0)
    if model.inline is not None:
        marks = model.marks(captured.subject.part["input_ids"])[0].nonzero().flatten()
        return "inline", mean[:, marks] if seen and len(marks) else None
    before = mean.shape[1] - length
    return "unified", mean[before:, :count] if seen and before >= count else None


def _said(captured: Captured) -> list[str]:
    """The written tokens, the one that ends the text among them."""
    labels = captured.subject.part["labels"][0]
    return [piece_of(captured, int(label)) for label in labels[asked_of(captured) - 1 :]]


def _maps(captured: Captured, looks: Tensor, names: list[str], places: range) -> list[Image]:
    """Heat over the image for each of some tokens, spread over all where they are many."""
    shown = captured.subject.shown
    count = looks.shape[1]
    side = round(count**0.5)
    if shown is None or side * side != count:
        return []
    chosen = list(places)
    if len(chosen) > MAPS:
        chosen = sorted({int(item) for item in np.linspace(0, len(chosen) - 1, MAPS).round()})
    return [
        Image(
            "looked",
            over(looks[place].cpu().numpy().reshape(side, side), shown),
            {"token": names[place].strip() or "␣"},
        )
        for place in chosen
        if place < len(looks)
    ]
