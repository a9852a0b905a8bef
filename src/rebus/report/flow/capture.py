"""One pass of a model over one example, with what each of its parts gave.

It knows no page. Letters: H heads, Lq tokens asking, Lk answering, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from rebus.explain.subject import Subject, quiet
from rebus.explain.trace import blend_shares, hooked
from rebus.models.features import Features
from rebus.models.fusion.joint import Blend
from rebus.nn.attention import recording


@dataclass
class Captured:
    """What a pass left.

    Attributes:
        subject: what was run.
        outputs: of the task's head.
        parts: module's name: what it gave, Features or a tensor.
        attended: (module's name, weights (H, Lq, Lk)) of each attention, in the order they ran.
        shares: module's name: (L, M) shares of what a joint fusion blended.
        seen: the image tower's Features as the rest of the model gets them; None without an image tower.
    """

    subject: Subject
    outputs: Any = None
    parts: dict[str, Any] = field(default_factory=dict)
    attended: list[tuple[str, Tensor]] = field(default_factory=list)
    shares: dict[str, Tensor] = field(default_factory=dict)
    seen: Features | None = None

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the image tokens; None where they are no square, or there are none."""
        if self.seen is None:
            return None
        side = isqrt(self.seen.tokens.shape[1])
        return (side, side) if side * side == self.seen.tokens.shape[1] else None

    def under(self, prefix: str, ends: str = "") -> list[Tensor]:
        """Weights (H, Lq, Lk) of the attentions of a part of the model."""
        return [weights for name, weights in self.attended if name.startswith(prefix) and name.endswith(ends)]

    def features(self, name: str) -> Features | None:
        """What a module gave, where that is Features."""
        result = self.parts.get(name)
        return result if isinstance(result, Features) else None


def capture(subject: Subject) -> Captured:
    """Run a subject once, as prediction runs it, and keep what happened."""
    model, result = subject.model, Captured(subject)
    names = {id(module): name for name, module in model.named_modules()}

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        result.parts.setdefault(names[id(module)], out)  # of a module that runs again, the first time

    def blend(module: nn.Module, given: Any, out: Any) -> None:
        result.shares.setdefault(names[id(module)], blend_shares(module, *given))

    watched = [model.image, model.text, model.decoder, model.fusion, model.inline, *model.heads.values()]
    if model.decoder is not None:
        watched += [model.decoder.embed_tokens, model.decoder.norm]
    hooks: list[Any] = [(module, keep) for module in watched if module is not None]
    hooks += [(module, blend) for module in model.modules() if isinstance(module, Blend)]
    with quiet(model), hooked(hooks), recording() as seen:
        if not subject.task.explains:
            result.outputs = model.see(subject.batch())
        else:
            result.outputs = subject.run()
        result.attended = [(names[id(item.module)], item.weights[0].detach().float()) for item in seen]
    tower = result.features("image")
    if tower is not None:
        pooled = model.image.reduced(tower)
        there = torch.full_like(pooled.mask, subject.shown is not None)
        result.seen = Features(pooled.tokens, pooled.mask & there, pooled.pooled)
    return result
