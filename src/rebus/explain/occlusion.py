"""Occlusion: what the explained number loses when a part of the image is grey, or a word is another.

Positive: the part speaks for the output. Source: Zeiler and Fergus (2014), "Visualizing and Understanding
Convolutional Networks"; for words: Li, Monroe and Jurafsky (2016), "Understanding Neural Networks through
Representation Erasure". Letters: N variants, S side of the image, G cells a side, W goals, L tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject, quiet
from rebus.inference.session import Session
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks.pieces import units_of_text

CELLS = 12  # a side, at most
FINE = 8  # cells a side from which windows are two cells wide: one alone hides little
BUDGET = 32 * 128 * 128  # pixels of the variants that go through the model together


class Occlusion(Method):
    """``occlusion``."""

    signed = True
    adds_up = True

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Any model."""
        return head.consumes != "inputs"

    def __call__(self, subject: Subject) -> list[Scores]:
        """A pass for each part and each word, many at a time."""
        with quiet(subject.model):
            plain = subject.scores()[0]  # (W,)
            cells = self._image(subject, plain) if subject.shown is not None else None
            words = self._words(subject, plain)
        lines = []
        for goal in range(len(subject.goals)):
            streams = {name: rows[:, goal] for name, rows in words.items()}
            lines.append(Scores(None if cells is None else cells[..., goal], streams))
        return lines

    def _image(self, subject: Subject, plain: Tensor) -> NDArray[np.float32]:
        """(G, G, W): each cell has the mean of what the windows over it cost."""
        pixels = subject.pixels()
        windows, side = windows_over(pixels.shape[-1], grid_of(subject.model))
        grey = neutral(subject.model)  # (1, 3, 1, 1)
        costs: list[Tensor] = []
        step = max(1, BUDGET // pixels.shape[-1] ** 2)
        for start in range(0, len(windows), step):
            portion = windows[start : start + step]
            changed = pixels.repeat(len(portion), 1, 1, 1)
            for row, (top, bottom, left, right) in enumerate(portion):
                changed[row, :, top:bottom, left:right] = grey[0]
            costs.append((plain - subject.scores(changed)).float().cpu())
        cost = torch.cat(costs).numpy()  # (N, W)
        return spread(windows, cost, pixels.shape[-1], side)

    def _words(self, subject: Subject, plain: Tensor) -> dict[str, NDArray[np.float32]]:
        """Stream: (L, W); what a word costs stands at the first of its ids, which share it."""
        units = units_of_text(subject.text, subject.places)
        entries = {name: np.zeros((len(places), len(plain)), np.float32) for name, places in subject.places.items()}
        if not units:
            return entries
        filler = fillers(subject.session)
        rows = {name: subject.part[name].repeat(len(units), 1) for name in subject.places}
        for row, unit in enumerate(units):
            for name, members in unit.members.items():
                rows[name][row, list(members)] = filler[name]
        cost = (plain - self._scores(subject, rows)).float().cpu().numpy()  # (U, W)
        for row, unit in enumerate(units):
            name, members = next(iter(unit.members.items()))
            entries[name][members[0]] = cost[row]
        return entries

    def _scores(self, subject: Subject, rows: dict[str, Tensor]) -> Tensor:
        count = len(next(iter(rows.values())))
        step = 32
        return torch.cat(
            [
                subject.scores(ids={name: ids[start : start + step] for name, ids in rows.items()})
                for start in range(0, count, step)
            ]
        )


def grid_of(model: VisionLanguageModel) -> int:
    """Cells a side that an image is cut into: the tower's, or fewer."""
    grid = int(model.image.grid)
    return grid if grid <= CELLS else next((n for n in range(CELLS, 0, -1) if grid % n == 0), CELLS)


def windows_over(size: int, grid: int) -> tuple[list[tuple[int, int, int, int]], int]:
    """Windows (top, bottom, left, right) in pixels that cover an image of ``size``, and the cells a side."""
    wide = 2 if grid >= FINE else 1
    edges = [round(size * n / grid) for n in range(grid + 1)]
    starts = range(grid - wide + 1)
    return [(edges[y], edges[y + wide], edges[x], edges[x + wide]) for y in starts for x in starts], grid


def spread(
    windows: list[tuple[int, int, int, int]], cost: NDArray[np.float32], size: int, grid: int
) -> NDArray[np.float32]:
    """(N, W) costs of windows -> (G, G, W): the mean over the windows that hide each cell's centre."""
    total = np.zeros((grid, grid, cost.shape[1]))
    count = np.zeros((grid, grid, 1))
    centres = (np.arange(grid) + 0.5) * size / grid
    for (top, bottom, left, right), item in zip(windows, cost, strict=True):
        inside = np.outer((centres >= top) & (centres < bottom), (centres >= left) & (centres < right))
        total[inside] += item
        count[inside] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def neutral(model: VisionLanguageModel) -> Tensor:
    """(1, 3, 1, 1) the mean colour, 0 to 255: zero once it is normalised."""
    mean: Tensor = model.image.mean.float() * 255
    return mean


def fillers(predictor: Session) -> dict[str, int]:
    """For each stream, the id that says nothing: a hidden or unknown word, else padding."""
    processor = predictor.processor
    plain = processor.tokenizer.pad_id if processor.tokenizer.mask_id is None else processor.tokenizer.mask_id
    return {"input_ids": plain, "text_ids": plain if processor.reader is None else int(processor.reader.unknown_id)}


METHODS.register("occlusion")(Occlusion())
