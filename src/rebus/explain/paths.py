"""How relevance flows from an output back to patches and words, through every tower, fusion and head there is.

A stream of tokens is a matrix: one row a token, one column for each token of the towers or of the decoder's text, that
says how much of the one is in the other. Attentions change it, by the rules of ``rollout`` or ``relevance``; what an
output reads of it is a row, which then goes back through the towers. All else keeps tokens in their places.
Letters: P image tokens after averaging, G the tower's grid, T tokens of the text tower, L tokens of the decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from rebus.explain.registry import Scores
from rebus.explain.subject import Subject
from rebus.explain.trace import Seen, Trace, trace
from rebus.models.features import Features
from rebus.models.heads import Head
from rebus.models.image_tokens import pixel_shuffle
from rebus.models.towers.base import averaged
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.explanation import Goal


class Rules(ABC):
    """What an attention does to relevance. ``gate``: what its result is multiplied with before it is added."""

    @abstractmethod
    def heads(self, seen: Seen) -> Tensor:
        """The weights of all heads as one matrix, (Lq, Lk)."""

    @abstractmethod
    def among(self, rows: Tensor, weights: Tensor, gate: float) -> Tensor:
        """Tokens (L, N) that attend to one another."""

    @abstractmethod
    def toward(self, rows: Tensor, memory: Tensor, weights: Tensor, gate: float, own: slice, other: slice) -> Tensor:
        """Tokens (Lq, N) that attend to a memory (Lk, N); ``own`` and ``other`` are the columns of the two."""

    @abstractmethod
    def pooled(self, tokens: Tensor, index: int | None, share: Tensor) -> Tensor:
        """(L,) how much each of the tokens (L, D) is in what was pooled of them, ``share`` (L,) of each."""

    @abstractmethod
    def from_tower(self, rows: Tensor) -> Tensor:
        """A tower's rows (L, L) as they count where another stream attends to them."""

    @abstractmethod
    def read(self, rows: Tensor, place: int, column: int) -> Tensor:
        """(N,) what an output reads that is made of one token: of ``rows`` (L, N) the one at ``place``.

        ``column`` is the token's own.
        """

    blends = False  # whether a joint fusion's shares divide what is there, as weights do


@dataclass
class Tower:
    """One modality: ``tokens`` (L, N), its tokens, and ``pooled`` (N,), its vector, in terms of its inputs."""

    tokens: Tensor
    pooled: Tensor | None


def found_in(trace: Trace, rules: Rules, goal: Goal) -> dict[str, Tensor]:
    """How much each image cell and each token counts: ``image`` (G^2,), ``text_ids`` (T,), ``input_ids`` (L,)."""
    subject, model = trace.subject, trace.subject.model
    head, towers = subject.head, dict[str, Tower]()
    sees = "image" in head.spec.reads if head.writes else subject.outputs is None
    if sees and "image" in trace.parts:
        towers["image"] = _image(trace, rules)
    if "text_ids" in subject.part:
        towers["text"] = _text(trace, rules)
    if head.writes:
        return _written(trace, rules, towers, goal)
    if head.per == "item":
        return {"image": towers["image"].tokens[list(goal.at)].sum(0)}
    fusion = model.fusion if head.fuses and subject.outputs is None else None
    if fusion is not None and fusion.mixes_tokens:
        entries = _fused(trace, rules, towers, goal)
    else:
        entries = {name: tower.pooled for name, tower in towers.items() if tower.pooled is not None}
        if head.per == "text":
            rows = towers["text"].tokens
            entries["text"] = torch.stack([rules.read(rows, place, place) for place in goal.at]).mean(0)
        if rules.blends and "fusion.blend" in trace.blends:
            entries = _shared(trace, entries)
    names = {"image": "image", "text": "text_ids"}
    return {names[name]: row for name, row in entries.items()}


def _image(trace: Trace, rules: Rules) -> Tower:
    model = trace.subject.model
    tower, features = model.image, trace.parts["image"]
    first, count = tower.before, tower.num_tokens
    rows = torch.eye(first + count, device=features.tokens.device)
    seen = trace.under("image.")
    for item in seen:
        if item.weights.shape[1] == len(rows):  # a probe's are not
            layer = model.get_submodule(item.name.rpartition(".")[0])
            rows = rules.among(rows, rules.heads(item), _scale(getattr(layer, "scale1", None)))
    tokens = rows[first:, first:]
    if tower.pooling == "first":
        pooled = rows[0, first:]
    elif tower.pooling == "probe":
        pooled = rules.heads(seen[-1])[0] @ tokens
    else:
        pooled = _mean(trace, rules, features, torch.ones(count, device=rows.device)) @ tokens
    if model.plan.side is not None:
        tokens = averaged(tokens[None], model.plan.side)[0]  # (P, N): rows are averaged as tokens are
    return Tower(tokens, pooled)


def _text(trace: Trace, rules: Rules) -> Tower:
    subject, model = trace.subject, trace.subject.model
    tower = model.reader
    features = trace.parts["text" if model.text is not None else "decoder"]
    mask = subject.part["text_mask"][0]
    length, real = len(mask), mask.float()
    share = tower.shares(subject.part["text_ids"], subject.part["text_mask"])
    if share is not None:
        pooled = rules.pooled(*_indexed(trace, features.tokens), share[0].detach())
        return Tower(torch.eye(length, device=mask.device), pooled)
    if not tower.follows:
        return Tower(torch.eye(length, device=mask.device), None)
    seen = trace.under("text." if model.text is not None else "decoder.")
    rows = torch.eye(seen[0].weights.shape[-1] if seen else length, device=mask.device)
    for item in seen:
        rows = rules.among(rows, rules.heads(item), 1.0)
    last = int((torch.arange(length, device=mask.device) * mask).max())
    if tower.pooling == "mean":
        pooled = _mean(trace, rules, features, real) @ rows[:length]
    elif tower.pooling == "first":
        pooled = rows[0]
    else:
        place = len(rows) - 1 if tower.pooling == "end" else last
        pooled = rules.read(rows, place, place)
    return Tower(rows[:length, :length], pooled[:length])


def _indexed(trace: Trace, tokens: Tensor) -> tuple[Tensor, int | None]:
    """Tokens (1, L, D) as (L, D), and their place among the gradients."""
    return tokens[0].detach(), trace.index(tokens) if tokens.requires_grad else None


def _mean(trace: Trace, rules: Rules, features: Features, real: Tensor) -> Tensor:
    return rules.pooled(*_indexed(trace, features.tokens), real / real.sum().clamp(min=1.0))


def _fused(trace: Trace, rules: Rules, towers: dict[str, Tower], goal: Goal) -> dict[str, Tensor]:
    """Rows of an output of a fusion of tokens: ``unified`` or ``cross``."""
    fusion: Any = trace.subject.model.fusion
    fused: Features = trace.parts["fusion"]
    real = fused.mask[0].float()
    text = trace.subject.part["text_ids"].shape[1] if "text" in towers else 0
    count = len(real) - text  # image tokens stand first
    spans = {"image": slice(0, count), "text": slice(count, count + text)}
    rows = torch.eye(len(real), device=real.device)
    if not fusion.by_modality:
        for seen in trace.under("fusion.layers."):
            layer = fusion.layers[int(seen.name.split(".")[2])]
            rows = rules.among(rows, rules.heads(seen), _scale(layer.attention_gate))
    else:
        rows = _crossed(trace, rules, rows, spans)
    if trace.subject.head.per == "text":
        out = torch.stack([rules.read(rows, count + place, count + place) for place in goal.at]).mean(0)
    elif not fusion.by_modality:
        out = _mean(trace, rules, fused, real) @ rows
    else:
        there = [(name, span) for name, span in spans.items() if bool(real[span].any())]
        means = [_cross_mean(trace, rules, name, fused.tokens[:, span], real[span]) for name, span in there]
        each = [mean @ rows[span] for mean, (_, span) in zip(means, there, strict=True)]
        out = torch.stack(each).sum(0) * (1 / len(there) if rules.blends else 1)  # as many means as modalities
    return {name: out[spans[name]] @ tower.tokens for name, tower in towers.items()}


def _cross_mean(trace: Trace, rules: Rules, name: str, tokens: Tensor, real: Tensor) -> Tensor:
    """How much each token of a modality is in the vector of ``cross``, which is made of what its last layer gave."""
    fusion: Any = trace.subject.model.fusion
    last = trace.parts.get(f"fusion.layers.{len(fusion.layers) - 1}.{name}")
    share = real / real.sum().clamp(min=1.0)
    return rules.pooled(*((tokens[0].detach(), None) if last is None else _indexed(trace, last)), share)


def _crossed(trace: Trace, rules: Rules, rows: Tensor, spans: dict[str, slice]) -> Tensor:
    """Rows of all tokens after the layers of ``cross``, in which both modalities attend at the same time."""
    fusion: Any = trace.subject.model.fusion
    for number, layer in enumerate(fusion.layers):
        after = rows.clone()
        for name, span in spans.items():
            for seen in trace.under(f"fusion.layers.{number}.{name}."):
                other = spans["text" if name == "image" else "image"]
                gate = _scale(layer[name].attention_gate)
                after[span] = rules.toward(rows[span], rows[other], rules.heads(seen), gate, span, other)
        rows = after
    return rows


def _shared(trace: Trace, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rows of a joint fusion, each weighed with its modality's share."""
    fusion: Any = trace.subject.model.fusion
    shares = trace.blends["fusion.blend"][0]
    return {name: row * shares[fusion.modalities.index(name)] for name, row in tensors.items()}


def _written(trace: Trace, rules: Rules, towers: dict[str, Tower], goal: Goal) -> dict[str, Tensor]:
    """Rows of written tokens, at the places from which they were foreseen."""
    subject, model = trace.subject, trace.subject.model
    ids = subject.part["input_ids"]
    length, device = ids.shape[1], ids.device
    counts = {name: len(tower.tokens) for name, tower in towers.items()}
    if "image" in towers and model.inline is not None:
        towers["image"] = Tower(_placed(towers["image"].tokens, model.plan.factor), towers["image"].pooled)
        counts["image"] = len(towers["image"].tokens)
    spans, start = {}, 0
    for name, count in counts.items():
        spans[name] = slice(start, start + count)
        start += count
    own = slice(start, start + length)
    columns = torch.eye(start + length, device=device)
    selves = trace.under("decoder.layers.0.self_attn")
    before = selves[0].weights.shape[-1] - length if selves else 0  # tokens of a prefix
    prefix = columns[start - before : start] if before else columns[:0]
    rows = columns[own].clone()
    if "image" in towers and model.inline is not None:
        marks = model.marks(ids)[0].nonzero()[:, 0][: counts["image"]]
        rows[marks] = columns[spans["image"]][: len(marks)]
    for seen in trace.under("heads."):  # words that were looked up among patches
        if seen.weights.shape[1] == length and "image" in spans:
            memory = columns[spans["image"]]
            rows = rules.toward(rows, memory, rules.heads(seen), 1.0, own, spans["image"])
    rows = _entered(trace, rules, rows, spans)
    rows = torch.cat([prefix, rows])
    memory = columns[:start]
    for seen in trace.under("decoder.layers."):
        layer = model.decoder.layers[int(seen.name.split(".")[2])]  # type: ignore[union-attr]
        if seen.name.endswith("self_attn"):
            rows = rules.among(rows, rules.heads(seen), 1.0)
        else:
            gate = _scale(layer.cross_gate)  # type: ignore[arg-type]
            rows[before:] = rules.toward(rows[before:], memory, rules.heads(seen), gate, own, slice(0, start))
    out = torch.stack([rules.read(rows, before + place, start + place) for place in goal.at]).mean(0)
    crossed = any(seen.name.endswith("cross_attn") for seen in trace.attended)
    read = {
        name: out[spans[name]] @ (rules.from_tower(tower.tokens) if crossed else tower.tokens)
        for name, tower in towers.items()
    }
    if model.fusion is not None and model.fusion.blends and not rules.blends:
        read = {name: row + towers[name].pooled for name, row in read.items()}  # type: ignore[operator]
    names = {"image": "image", "text": "text_ids"}
    return {"input_ids": out[own], **{names[name]: row for name, row in read.items()}}


def _entered(trace: Trace, rules: Rules, rows: Tensor, spans: dict[str, slice]) -> Tensor:
    """Rows after a joint fusion put its vector into every position, by its shares."""
    fusion: Any = trace.subject.model.fusion
    if fusion is None or not fusion.blends or not rules.blends or "fusion.enter_blend" not in trace.blends:
        return rows
    vector = trace.blends["fusion.enter_blend"][:, :1]  # (L, 1)
    shares = trace.blends["fusion.blend"][0]
    mixed = rows * (1 - vector)
    for name, span in spans.items():
        count = span.stop - span.start
        mixed[:, span] += vector * shares[fusion.modalities.index(name)] / count
    return mixed


def _placed(tokens: Tensor, factor: int) -> Tensor:
    """(G^2, N) rows of a tower's tokens -> (P, N) of those that stand in a text: the mean of the laid together ones."""
    if factor == 1:
        return tokens
    laid = pixel_shuffle(tokens[None], factor)[0]  # (P, F^2 N)
    return laid.view(len(laid), factor * factor, -1).mean(1)


def _scale(gate: Tensor | None) -> float:
    """How much of an attention's result is added: all, where there is no gate; at most all."""
    if gate is None:
        return 1.0
    with torch.no_grad():
        size = gate.tanh().abs() if gate.numel() == 1 else gate.abs()
        return min(float(size.mean()), 1.0)


def flows(model: VisionLanguageModel, head: Head) -> bool:
    """Whether attentions, or poolings with weights of their own, lie on every way from an input to the head."""
    if head.consumes == "inputs" or others_read(head):
        return False
    sees = model.image is not None and (not head.writes or "image" in head.spec.reads)
    reads = model.text is not None if head.writes else "text" in head.spec.reads
    attends = attends_tokens(model, head)
    image = not sees or attends or model.image.follows
    if head.per == "item":
        return model.image is not None and model.image.follows
    tower = model.reader
    text = not reads or attends or (tower is not None and tower.follows)
    return image and text


def others_read(head: Head) -> bool:
    """Whether a head reads tokens of other modalities, which these rules do not follow."""
    return bool(set(head.spec.reads) - {"image", "text"})


def attends_tokens(model: VisionLanguageModel, head: Head) -> bool:
    """Whether a fusion, or a decoder beneath it, attends to the towers' tokens one by one."""
    if head.writes:
        tokenwise = model.fusion is not None and model.fusion.tokenwise
        return tokenwise or (model.inline is not None and model.text is None)
    return head.fuses and model.fusion is not None and model.fusion.mixes_tokens


def followed(subject: Subject, rules_for: Callable[[Trace, int], Rules]) -> list[Scores]:
    """What the rules say of each goal of a subject, after one pass.

    Args:
        subject: what is explained.
        rules_for: the trace and a goal's number -> the rules.
    """
    built, message = trace(subject), []
    for number, goal in enumerate(subject.goals):
        result = found_in(built, rules_for(built, number), goal)
        streams = {name: row.detach().float().cpu().numpy() for name, row in result.items()}
        cells = streams.pop("image", None)
        side = isqrt(len(cells)) if cells is not None else 0
        message.append(Scores(None if cells is None or subject.shown is None else cells.reshape(side, side), streams))
    return message
