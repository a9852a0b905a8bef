"""The score of what a model said, read again with parts of the image or of the text taken away.

The score is the probability of what was said: of its label or its tag; of a text, the geometric mean over its words.
For a number (a regression's, a likeness) it is how near the number stays: exp(-|difference|), in standard deviations of
the training targets. It knows no method of explaining.
Letters: N variants, S side of the image, T pieces of the text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.explain.subject import Subject, quiet
from rebus.tasks.pieces import units_of_text

PORTION = 64  # variants a pass
UNKNOWN = ("[UNK]", "<unk>", "<|unk|>")
Pixels = NDArray[np.uint8]
Kept = NDArray[np.bool_]


class Asked:
    """A subject whose score can be read again.

    Args:
        subject: one example, and what was said of it.

    Attributes:
        spans: (T,) where each piece of the text stands in it, in characters: the pieces of an ``Explanation``.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        units = units_of_text(subject.text, subject.places)
        self.spans = [(unit.start, unit.end) for unit in units]
        self.members = [unit.members for unit in units]
        self.first: NDArray[np.float64] | None = None  # a number as it is with nothing taken away

    @property
    def image(self) -> Pixels | None:
        """(S, S, 3) as the model sees it."""
        return self.subject.shown

    def score(self, pixels: Pixels | None = None, kept: Kept | None = None) -> NDArray[np.float64]:
        """The score of N variants.

        Args:
            pixels: (N, S, S, 3) other images; None: the image as it is.
            kept: (N, T) which pieces of the text are there; None: all. The tokens of one that is not are replaced by
                the tokenizer's unknown token, or else by its mask, or else by its padding.

        Returns:
            (N,) from 0 to 1.
        """
        many = len(pixels) if pixels is not None else len(kept) if kept is not None else 1
        array = np.zeros(many)
        with quiet(self.subject.model):
            for start in range(0, many, PORTION):
                part = slice(start, min(start + PORTION, many))
                shown = None if pixels is None else self._pixels(pixels[part])
                ids = None if kept is None else self._ids(kept[part])
                array[part] = self._of(self.subject.scores(shown, ids))
        return array

    def _pixels(self, pixels: Pixels) -> Tensor:
        result = torch.tensor(pixels).permute(0, 3, 1, 2)
        return result.to(self.subject.model.device, torch.float32)

    def _ids(self, kept: Kept) -> dict[str, Tensor]:
        """Each stream of ids for N variants: (N, L)."""
        result: dict[str, Tensor] = {}
        processor = self.subject.session.processor
        for name in self.subject.places:
            reads = name == "text_ids" and processor.reader is not None
            filler = filler_of(processor.reader if reads else processor.tokenizer)
            ids = self.subject.part[name].expand(len(kept), -1).clone()
            for piece, members in enumerate(self.members):
                gone = torch.from_numpy(~kept[:, piece]).to(ids.device)
                for at in members.get(name, ()):
                    ids[gone, at] = filler
            result[name] = ids
        return result

    def _of(self, scores: Tensor) -> NDArray[np.float64]:
        """(N, W) log-odds or numbers -> (N,)."""
        wide, unit = scores.double().cpu(), self.subject.goals[0].unit
        if not unit:
            return np.asarray(functional.logsigmoid(wide).mean(1).exp())
        if self.first is None:
            self.first = np.asarray(self.subject.scores().double().cpu())[:, 0]
        return np.exp(-np.abs(np.asarray(wide[:, 0]) - self.first) / unit)


def filler_of(tokenizer: Any) -> int:
    """The id that stands for a token that was taken away: the unknown one, or the mask, or padding."""
    unknown = getattr(tokenizer, "unknown_id", None)
    if unknown is None:
        unknown = next((tokenizer.specials[name] for name in UNKNOWN if name in tokenizer.specials), None)
    if unknown is None:
        unknown = tokenizer.mask_id
    return int(tokenizer.pad_id if unknown is None else unknown)
