"""The stations before anything meets: the image decoded, transformed and cut up, the text's tokens, both towers.

Letters: B images, R texts, L text tokens, P image tokens, D width, S side of the square image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebus.data.images import decode_image
from rebus.models.features import Features
from rebus.models.layout import IGNORED
from rebus.report.flow.capture import Captured
from rebus.report.flow.drawing import SIDE, anchors, enlarged, heat, over
from rebus.report.flow.result import Image, Shape, Station, Strip, Token

ANCHORS = 3  # image tokens whose likeness to the others is shown
TOKENS = 160  # of a text that are shown


def input_stations(captured: Captured, original: Any) -> list[Station]:
    """Every station up to the towers; those that the model does not have are left out."""
    stations: list[Station] = []
    if captured.subject.model.image is not None:
        stations += _image_stations(captured, original)
    ids = stream_of(captured)
    if ids is not None:
        stations += _text_stations(captured, ids)
    return stations


def stream_of(captured: Captured) -> Tensor | None:
    """(R, L) ids of the text as the model's text part gets them; None where no text is read."""
    return next(
        (captured.subject.part[name] for name in ("input_ids", "text_ids") if name in captured.subject.part), None
    )


def shape(name: str, letters: str, tensor: Any) -> Shape:
    """A tensor's shape."""
    return Shape(name, letters, tuple(int(size) for size in tensor.shape))


def features_shapes(features: Features, letters: str) -> tuple[Shape, ...]:
    """Of ``tokens``, ``mask`` and ``pooled``; ``letters`` are items and tokens, as ``B, P``."""
    first = letters.split(", ", maxsplit=1)[0]
    return (
        shape("tokens", f"({letters}, D)", features.tokens),
        shape("mask", f"({letters})", features.mask),
        shape("pooled", f"({first}, D)", features.pooled),
    )


def piece_of(captured: Captured, token: int, stream: str = "input_ids") -> str:
    """A token as people read it; of a part of a letter, a dot."""
    processor = captured.subject.session.processor
    if stream == "text_ids" and processor.reader is not None:
        words = list(processor.reader.words)
        return str(words[token]) if token < len(words) else "·"
    tokenizer = processor.tokenizer
    if token >= tokenizer.vocab_size:
        return "·"
    return tokenizer.decode([token], skip_special=False).replace("\ufffd", "·") or tokenizer.piece(token)


def norms(vectors: Tensor) -> list[float]:
    """(L, D) -> the length of each vector."""
    return [float(item) for item in vectors.detach().float().norm(dim=-1)]


def _image_stations(captured: Captured, original: Any) -> list[Station]:
    subject, seen = captured.subject, captured.seen
    recipe = subject.session.recipe
    shown, side = subject.shown, recipe.image.size
    if shown is None:
        stations = [Station("image", "none")]
    else:
        pixels = _decoded(subject, original)
        high, wide = pixels.shape[:2]
        share = min(1.0, 2 * SIDE / max(high, wide))
        small = enlarged_to(pixels, max(1, round(wide * share)), max(1, round(high * share)))
        stations = [
            Station(
                "image",
                shapes=(shape("pixels", "(H, W, 3)", pixels),),
                facts={"wide": wide, "high": high},
                images=(Image("decoded", small),),
            )
        ]
        normal = subject.model.image.normalise(subject.pixels())
        facts = {
            "side": side,
            "fit": recipe.image.fit,
            "low": round(float(normal.min()), 2),
            "high": round(float(normal.max()), 2),
            "mean": ", ".join(f"{item:g}" for item in recipe.image.mean),
            "std": ", ".join(f"{item:g}" for item in recipe.image.std),
        }
        stations.append(
            Station(
                "transformed",
                shapes=(shape("image", "(B, 3, S, S)", normal),),
                facts=facts,
                images=(Image("transformed", enlarged(shown)),),
            )
        )
    if seen is None:
        return stations
    count, grid = seen.tokens.shape[1], captured.grid
    facts = {"count": count, "rows": grid[0] if grid else 0, "cell": side // grid[0] if grid else 0}
    tokens = shape("image tokens", "(B, P, D)", seen.tokens)
    images = () if shown is None or grid is None else (Image("patches", enlarged(shown, 2 * SIDE), grid=grid),)
    kind = "patches" if subject.model.image.drops_patches else "cells"
    stations.append(Station("patches", kind if grid else "uneven", shapes=(tokens,), facts=facts, images=images))
    stations.append(_image_tower(captured, seen))
    return stations


def _image_tower(captured: Captured, seen: Features) -> Station:
    subject, grid = captured.subject, captured.grid
    vectors = seen.tokens[0].detach().float()
    lengths = norms(vectors)
    images: list[Image] = []
    shown = subject.shown
    if shown is not None and grid is not None:
        field = np.asarray(lengths, dtype=np.float32).reshape(grid)
        images.append(Image("norms", over(field, shown)))
        unit = torch.nn.functional.normalize(vectors, dim=-1)
        alike = (unit @ unit.T).cpu().numpy().astype(np.float32)  # (P, P)
        for place in anchors(alike, int(np.argmax(lengths)), ANCHORS):
            drawn = over(alike[place].reshape(grid), shown)
            images.append(Image("similar", drawn, {"number": str(place + 1)}, grid, mark=place))
    return Station(
        "image_tower",
        "absent" if shown is None else "",
        shapes=features_shapes(seen, "B, P"),
        facts={"kind": subject.session.recipe.model.image.kind, "width": seen.tokens.shape[2]},
        images=tuple(images),
        strips=(Strip("norms_strip", lengths),) if shown is not None else (),
    )


def _text_stations(captured: Captured, ids: Tensor) -> list[Station]:
    subject, model = captured.subject, captured.subject.model
    writes = "input_ids" in subject.part
    stream = "input_ids" if writes else "text_ids"
    listed = [int(item) for item in ids[0]]
    prompt = asked_of(captured)
    vectors, station = _text_tower(captured, writes)
    lengths = norms(vectors[0]) if vectors is not None and vectors.shape[1] == len(listed) else []
    most = max(lengths, default=0.0) or 1.0
    marks = set(torch.nonzero(model.marks(ids)[0]).flatten().tolist()) if writes and model.inline is not None else set()
    tokens = []
    for place, item in enumerate(listed[:TOKENS]):
        strength = lengths[place] / most if lengths else None
        note = "image" if place in marks else "written" if writes and place >= prompt else ""
        tokens.append(Token(piece_of(captured, item, stream), item, strength, note))
    facts = {
        "count": len(listed),
        "vocabulary": subject.session.processor.tokenizer.vocab_size,
        "prompt": prompt,
        "written": len(listed) - prompt,
        "shown": min(len(listed), TOKENS),
    }
    kind = "inline" if marks else "writes" if writes else "hidden" if "labels" in subject.part else ""
    result = [Station("tokens", kind, (shape("ids", "(R, L)", ids),), facts, tokens=tuple(tokens))]
    return [*result, *station]


def asked_of(captured: Captured) -> int:
    """How many of a written row's tokens were given and not written."""
    labels = captured.subject.part.get("labels")
    if labels is None or "input_ids" not in captured.subject.part:
        return 0
    learned = torch.nonzero(labels[0] != IGNORED).flatten()
    return int(learned[0]) + 1 if len(learned) else labels.shape[1]


def _text_tower(captured: Captured, writes: bool) -> tuple[Tensor | None, list[Station]]:
    """The vectors that stand for the tokens shown, and the station."""
    subject, model = captured.subject, captured.subject.model
    kind = subject.session.recipe.model.text.kind
    read = captured.features("text") if model.text is not None else captured.features("decoder")
    stations = []
    if read is not None:
        facts = {"kind": kind, "width": read.tokens.shape[2], "count": read.tokens.shape[1]}
        strips = (Strip("norms_strip", norms(read.tokens[0][read.mask[0]])),)
        stations.append(Station("text_tower", "", features_shapes(read, "R, L"), facts, strips=strips))
    embedded = captured.parts.get("decoder.embed_tokens")
    if not writes or embedded is None:
        return (read.tokens if read is not None else None), stations
    facts = {"kind": kind, "width": embedded.shape[2], "count": embedded.shape[1]}
    strips = (Strip("norms_strip", norms(embedded[0])),)
    shapes = (shape("embedded text", "(R, L, D)", embedded),)
    stations.append(Station("text_tower", "embedded", shapes, facts, strips=strips))
    return embedded, stations


def _decoded(subject: Any, original: Any) -> Any:
    """The image as its file holds it, (H, W, 3)."""
    if isinstance(original, np.ndarray):
        return original
    data = subject.session.recipe.data
    value = str(original) if isinstance(original, Path) else original
    return decode_image(
        value,
        Path(),
        background=data.background,
        pixel_budget=data.pixel_budget,
        where="the image",
        levels=data.levels,
    )


def enlarged_to(pixels: Any, wide: int, high: int) -> Any:
    """Pixels at another size, smoothly."""
    from PIL import Image as Pillow

    image = Pillow.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((wide, high), Pillow.Resampling.LANCZOS), dtype=np.uint8)


__all__ = ["asked_of", "features_shapes", "heat", "input_stations", "norms", "piece_of", "shape", "stream_of"]
