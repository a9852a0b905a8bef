"""What a head is: it says what it consumes, so that the model builds it, and gives a task's outputs from that.

A third party adds one as a class under the entry-point group ``rebus.heads``; a task asks for it by name.
Letters: B examples, R rows of a task, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from rebus.models.batch import Batch
from rebus.models.features import Features
from rebus.models.fusion import Condition
from rebus.models.parts import TEXT, Parts
from rebus.registry import Registry


@dataclass(frozen=True)
class HeadSpec:
    """What a task wants of the model.

    Attributes:
        kind: a registered head's name.
        outputs: C, numbers a row or a token, where the head asks for it.
        reads: the modalities the task has columns for.
        options: what is the head's own; see its class.
    """

    kind: str
    outputs: int = 0
    reads: tuple[str, ...] = ("image",)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def item(self) -> str:
        """The first modality but text that it reads."""
        return next(name for name in self.reads if name != TEXT)


@dataclass
class HeadContext:
    """What a head may ask for in one pass.

    Attributes:
        parts: the model.
        batch: all that was given.
        part: the task's own tensors.
        features: Features of B examples by modality, of those that the task reads.
    """

    parts: Parts
    batch: Batch
    part: dict[str, Tensor]
    features: dict[str, Features]

    @cached_property
    def text(self) -> Features:
        """The text tower's Features of R texts."""
        features = self.parts.read(self.part)
        assert features is not None  # noqa: S101 - the task reads text
        return features

    def fused(self) -> Features:
        """The fusion's Features of R rows; without a fusion, those of the one tower there is."""
        return self.parts.fused(self.features, self.part)

    def text_tokens(self) -> Tensor:
        """(R, L, D): each text token after it has met the other modalities."""
        return self.parts.text_tokens(self.features, self.part)

    def condition(self) -> Condition:
        """What the decoder writes from, for R texts."""
        return self.parts.condition(self.features, self.part)


class Head(nn.Module):
    """The base of all heads.

    Args:
        spec: what the task wants.
        parts: the model's towers, fusion and decoder, all built.

    Attributes:
        consumes: ``fused``: what the fusion gives; ``decoder``: what a decoder writes; ``tower``: what towers say;
            ``inputs``: a batch's inputs as they are. A model has a fusion and a decoder where a head consumes them.
        defaults: the options it knows, with their values where a task says nothing.
        per: ``row``, ``text`` or ``item``: what its numbers are about: a row as a whole, each text token, or each
            token of an item's tower.
        shares_vectors: whether it puts items and texts into one space, through ``embed(modality, pooled)``.

    Raises:
        TypeError: a task gives an option that the head does not know.
    """

    consumes: ClassVar[str] = "fused"
    defaults: ClassVar[Mapping[str, Any]] = {}
    per: ClassVar[str] = "row"
    shares_vectors: ClassVar[bool] = False

    def __init__(self, spec: HeadSpec, parts: Parts) -> None:
        super().__init__()
        unknown = sorted(set(spec.options) - set(self.defaults))
        if unknown:
            raise TypeError(f"head '{spec.kind}': expected options {sorted(self.defaults)}, received {unknown}")
        self.spec, self.options = spec, {**self.defaults, **spec.options}

    @property
    def writes(self) -> bool:
        """Whether a decoder's text is what it gives."""
        return self.consumes == "decoder"

    @property
    def fuses(self) -> bool:
        """Whether it reads what the fusion gives."""
        return self.consumes == "fused"

    def forward(self, context: HeadContext) -> Any:
        """The task's outputs; None where the batch has nothing to give them for."""
        raise NotImplementedError

    def conditioned(self, condition: Condition, parts: Parts, features: dict[str, Features]) -> Condition:
        """What a decoder of the same model writes from, after what this head adds to it."""
        return condition

    def entered(self, condition: Condition, embedded: Tensor) -> Tensor:
        """A text's vectors (R, L, D) on their way into that decoder, after what this head adds to them."""
        return embedded


HEADS: Registry[type[Head]] = Registry("head", ("consumes",))
