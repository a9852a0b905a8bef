"""Integrated gradients: what each pixel and each word adds on the straight way from nothing to the input, by Captum.

The parts add up to the explained number less its value for a grey image and padding for words.
Source: Sundararajan, Taly and Yan (2017), "Axiomatic Attribution for Deep Networks".
Letters: N points of the way, S side of the image, G cells a side, L tokens, D width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from rebus.catalogue import Note
from rebus.errors import MissingPackageError
from rebus.explain.occlusion import BUDGET, fillers, grid_of, neutral
from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject, quiet
from rebus.explain.trace import embeddings_of, hooked
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel

STEPS, MORE = 32, 128  # points of the way; and where these miss the sum by more than ``CLOSE``
CLOSE = 0.05  # of what the parts add up to


class IntegratedGradients(Method):
    """``gradients``."""

    signed = True
    adds_up = True

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Any model."""
        return head.consumes != "inputs"

    def __call__(self, subject: Subject) -> list[Scores]:
        """As many passes as the way has points, for each goal. Raises MissingPackageError without Captum."""
        try:
            import captum.attr  # noqa: F401 - asked for before any work
        except ImportError as error:
            raise MissingPackageError("captum", "explain", "integrated gradients") from error
        way = _Way(subject)
        message, missed = [], 0.0
        with quiet(subject.model, grad=True):
            for goal in range(len(subject.goals)):
                parts, miss = way.parts(goal, STEPS)
                if miss > CLOSE:
                    parts, miss = way.parts(goal, MORE)
                missed = max(missed, miss)
                message.append(way.scores(parts))
        if missed > CLOSE:
            subject.remarks.append(Note("remark.sum_misses", share=missed))
        return message


class _Way:
    """From nothing to a subject's inputs: its pixels, where it has an image, and the vectors of its ids."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.modules = embeddings_of(subject)
        self.sees = subject.shown is not None
        with quiet(subject.model):
            inputs, nothing = [], []
            if self.sees:
                inputs.append(subject.pixels())
                nothing.append(neutral(subject.model).expand_as(inputs[0]).contiguous())
            for name, module in self.modules.items():
                plain = self._vectors(module)
                blank = plain.clone()
                places = [place for place, item in enumerate(subject.places[name]) if item is not None]
                filler = torch.tensor([[fillers(subject.session)[name]]], device=plain.device)
                blank[:, places] = module(filler)
                inputs.append(plain)
                nothing.append(blank)
        self.inputs, self.nothing = tuple(inputs), tuple(nothing)

    def _vectors(self, module: nn.Module) -> Tensor:
        """(1, L, D) what the ids become, as the model asks for it."""
        kept: list[Tensor] = []
        with hooked([(module, lambda module, given, out: kept.append(out))]):
            self.subject.scores()
        return kept[0]

    def value(self, goal: int) -> Any:
        """(N, ...) inputs -> (N,) the explained number."""

        def scores(*inputs: Tensor) -> Tensor:
            rest = list(inputs)
            count = len(rest[0])
            pixels = rest.pop(0) if self.sees else self.subject.pixels().expand(count, -1, -1, -1)
            hooks = [
                (module, lambda module, given, out, given_vectors=vectors: given_vectors)
                for module, vectors in zip(self.modules.values(), rest, strict=True)
            ]
            with hooked(hooks):
                return self.subject.scores(pixels)[:, goal]

        return scores

    def parts(self, goal: int, steps: int) -> tuple[tuple[Tensor, ...], float]:
        """What each input adds, in the inputs' shapes; and by which share the sum misses what it should be."""
        from captum.attr import IntegratedGradients as Captum

        if not self.inputs:
            return (), 0.0
        size = self.inputs[0].shape[-1] if self.sees else 1
        portion = max(1, BUDGET // size**2) if self.sees else 32
        result, error = Captum(self.value(goal), multiply_by_inputs=True).attribute(
            self.inputs,
            baselines=self.nothing,
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=min(portion, steps),
            return_convergence_delta=True,
        )
        total = sum(float(part.abs().sum()) for part in result)
        return result, abs(float(error.sum())) / max(total, 1e-9)

    def scores(self, parts: tuple[Tensor, ...]) -> Scores:
        """The parts of the image by cells, those of the words by ids."""
        rest = [part.detach().float() for part in parts]
        image = None
        if self.sees:
            image = in_cells(rest.pop(0).sum(1)[0], grid_of(self.subject.model))
        streams = {}
        for name, part in zip(self.modules, rest, strict=True):
            streams[name] = part.sum(-1)[0][: len(self.subject.places[name])].cpu().numpy()
        return Scores(image, streams)


def in_cells(pixels: Tensor, grid: int) -> NDArray[np.float32]:
    """(S, S) -> (G, G): sums, which add up to the same; where G does not divide S, pixels belong to one cell."""
    size = pixels.shape[-1]
    cell = torch.arange(size, device=pixels.device) * grid // size
    member = functional.one_hot(cell, grid).to(pixels.dtype)  # (S, G)
    result: NDArray[np.float32] = (member.T @ pixels @ member).cpu().numpy()
    return result


METHODS.register("gradients")(IntegratedGradients())
