"""The attention itself, as it was: the mean over heads and layers of what a written word, or a head, attended to.

For a task that names patches: how likely each patch shows the label. Nothing is followed through layers, so that it
says where a model looked and not what it made of it (Jain and Wallace 2019, "Attention is not Explanation").
Letters: P image tokens, T tokens of the text tower, L tokens of the decoder.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from torch import Tensor

from rebus.explain.paths import attends_tokens, others_read
from rebus.explain.registry import METHODS, Floats, Method, Scores
from rebus.explain.subject import Subject, quiet
from rebus.explain.trace import Trace, trace
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.explanation import Goal


class Attention(Method):
    """``attention``."""

    remark = "remark.attention"

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where a fusion or a decoder attends to single tokens of all that is read."""
        if head.per == "item":
            return model.image is not None
        if others_read(head):
            return False
        alone = head.writes and "image" not in head.spec.reads and model.text is None
        return alone or attends_tokens(model, head)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals."""
        if subject.head.per == "item":
            return [_named(subject, goal) for goal in subject.goals]
        result = trace(subject)
        item = _written if subject.head.writes else _fused
        return [item(result, goal) for goal in subject.goals]


def _named(subject: Subject, goal: Goal) -> Scores:
    with quiet(subject.model):
        chances = subject.run().float()[0].softmax(-1)  # (P, 1 + C)
    return Scores(_grid(chances[:, goal.label]))


def _written(result: Trace, goal: Goal) -> Scores:
    subject, model = result.subject, result.subject.model
    ids = subject.part["input_ids"]
    length, at = ids.shape[1], torch.tensor(goal.at)
    selves = [
        seen.weights.float().mean(0) for seen in result.under("decoder.layers.") if seen.name.endswith("self_attn")
    ]
    across = [
        seen.weights.float().mean(0) for seen in result.under("decoder.layers.") if seen.name.endswith("cross_attn")
    ]
    own = torch.stack(selves).mean(0)  # (prefix + L, prefix + L)
    before = len(own) - length
    row = own[before + at].mean(0)
    memory = torch.stack(across).mean(0)[at].mean(0) if across else row[:before]
    streams = {"input_ids": row[before:].cpu().numpy()}
    read = subject.part["text_ids"].shape[1] if "text_ids" in subject.part else 0
    if read:
        streams["text_ids"] = memory[len(memory) - read :].cpu().numpy()
    cells = memory[: len(memory) - read]
    if model.inline is not None:
        cells = row[before:][model.marks(ids)[0]]
    return Scores(_grid(cells) if subject.shown is not None and len(cells) else None, streams)


def _fused(result: Trace, goal: Goal) -> Scores:
    subject = result.subject
    fusion: Any = subject.model.fusion
    real = result.parts["fusion"].mask[0].float()
    read = subject.part["text_ids"].shape[1] if "text_ids" in subject.part else 0
    count = len(real) - read
    if not fusion.by_modality:
        weights = torch.stack([seen.weights.float().mean(0) for seen in result.under("fusion.layers.")]).mean(0)
        asked = weights[[count + place for place in goal.at]].mean(0) if goal.at else real / real.sum() @ weights
        cells, words = asked[:count], asked[count:]
    else:
        each = {
            name: [
                seen.weights.float().mean(0)
                for seen in result.attended
                if f".{name}.attention" in seen.name and seen.name.startswith("fusion.layers.")
            ]
            for name in ("image", "text")
        }
        rows = list(goal.at) or real[count:].nonzero()[:, 0].tolist()
        cells = _mean_row(each["text"], rows, count, real.device)
        words = _mean_row(each["image"], None, read, real.device)
    streams = {"text_ids": words.cpu().numpy()} if read else {}
    return Scores(_grid(cells) if subject.shown is not None else None, streams)


def _mean_row(weights: list[Tensor], rows: list[int] | None, count: int, device: torch.device) -> Tensor:
    """The mean over layers and over the asking rows, (count,); zeros where nothing was attended to."""
    if not weights:
        return torch.zeros(count, device=device)
    mean = torch.stack(weights).mean(0)
    return (mean if rows is None else mean[rows]).mean(0)


def _grid(cells: Tensor) -> Floats:
    side = isqrt(len(cells))
    result: Floats = cells.detach().float().cpu().numpy().reshape(side, side)
    return result


METHODS.register("attention")(Attention())
