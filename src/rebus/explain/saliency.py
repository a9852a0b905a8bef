"""Saliency: how strongly the explained number would answer to a small change of each image token and each word.

The length of its gradient. Source: Simonyan, Vedaldi and Zisserman (2013), "Deep Inside Convolutional Networks:
Visualising Image Classification Models and Saliency Maps"; there with respect to pixels, here with respect to what the
image tower gives, as Grad-CAM looks at the last feature maps: pixels answer to edges, tokens to what is shown.
It has no sign. Letters: G side of the tower's grid, L tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rebus.explain.paths import attends_tokens
from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject, quiet
from rebus.explain.trace import embeddings_of, hooked
from rebus.models.features import Features
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel

IMAGE = "image"


class Saliency(Method):
    """``saliency``."""

    remark = "remark.saliency"

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where what is read of an image comes from its tokens, or where no image is read."""
        if head.consumes == "inputs":
            return False
        whole = model.image is not None and model.image.pooling == "first"
        reads = "image" in head.spec.reads and model.image is not None
        return not reads or not whole or head.per == "item" or attends_tokens(model, head)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals, and one back for each."""
        model, kept = subject.model, dict[str, Tensor]()

        def looked(module: nn.Module, given: Any, out: Features) -> None:
            kept[IMAGE] = out.tokens

        def read(name: str) -> Any:
            def keep(module: nn.Module, given: Any, out: Tensor) -> Tensor:
                kept[name] = out if out.requires_grad else out.detach().requires_grad_()  # frozen: begins here
                return kept[name]

            return keep

        hooks: list[Any] = [(module, read(name)) for name, module in embeddings_of(subject).items()]
        if subject.shown is not None and model.image is not None:
            hooks.append((model.image, looked))
        with quiet(model, grad=True), hooked(hooks):
            values = subject.scores(subject.pixels().requires_grad_())[0]  # (W,)
            names, tensors = list(kept), list(kept.values())
            return [self._scores(subject, value, names, tensors) for value in values]

    def _scores(self, subject: Subject, value: Tensor, names: list[str], tensors: list[Tensor]) -> Scores:
        result = torch.autograd.grad(value, tensors, retain_graph=True, allow_unused=True) if tensors else ()
        sizes = {
            name: (torch.zeros_like(tensor) if grad is None else grad)[0].float().norm(dim=-1).cpu().numpy()
            for name, tensor, grad in zip(names, tensors, result, strict=True)
        }
        cells = sizes.pop(IMAGE, None)
        side = int(subject.model.image.grid) if cells is not None else 0
        return Scores(None if cells is None else cells.reshape(side, side), sizes)


METHODS.register("saliency")(Saliency())
