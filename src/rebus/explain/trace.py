"""What happened inside a model while it said something: every attention's weights, and what its parts gave, with the
gradients of the explained numbers with respect to all of these.

Hooks stand for one call, in one thread, and are taken away whatever happens.
Letters: H heads, Lq tokens asking, Lk answering, D width, W goals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rebus.explain.subject import Subject, quiet
from rebus.models.features import Features
from rebus.models.fusion.joint import Blend
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.attention import recording

Hook = Callable[[nn.Module, Any, Any], Any]


@dataclass(frozen=True)
class Seen:
    """One attention of one pass.

    Attributes:
        name: of its module.
        weights: (H, Lq, Lk).
        index: its place in ``Trace.tensors``.
    """

    name: str
    weights: Tensor
    index: int


@dataclass
class Trace:
    """One pass over one row.

    Attributes:
        subject: what was run.
        attended: every attention, in the order they ran.
        parts: module's name: what it gave: Features or a tensor.
        blends: module's name: the shares (L, M) of what a joint fusion blended, at each place.
        values: (W,) the explained numbers.
        tensors: what gradients are taken with respect to.
    """

    subject: Subject
    attended: list[Seen] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    blends: dict[str, Tensor] = field(default_factory=dict)
    values: Tensor = field(default_factory=lambda: torch.zeros(0))
    tensors: list[Tensor] = field(default_factory=list)

    def under(self, prefix: str) -> list[Seen]:
        """The attentions of a part of the model."""
        return [item for item in self.attended if item.name.startswith(prefix)]

    def gradients(self, goal: int) -> list[Tensor]:
        """Of one explained number with respect to each of ``tensors``; zeros where it does not depend on one."""
        if not self.tensors:
            return []
        with torch.inference_mode(False), torch.enable_grad():
            value = self.values[goal]
            if not value.requires_grad:
                return [torch.zeros_like(tensor) for tensor in self.tensors]
            result = torch.autograd.grad(value, self.tensors, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(tensor) if grad is None else grad
            for tensor, grad in zip(self.tensors, result, strict=True)
        ]

    def index(self, tensor: Tensor) -> int:
        """The place of a tensor among those with gradients; it is added where it is not there."""
        for place, item in enumerate(self.tensors):
            if item is tensor:
                return place
        self.tensors.append(tensor)
        return len(self.tensors) - 1


@contextmanager
def hooked(hooks: Sequence[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Forward hooks that act in this thread alone: another that uses the same model meets nothing of them."""
    own = threading.get_ident()

    def here(hook: Hook) -> Hook:
        return lambda module, given, out: hook(module, given, out) if threading.get_ident() == own else None

    handles = [module.register_forward_hook(here(hook)) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def embeddings_of(subject: Subject) -> dict[str, nn.Module]:
    """For each stream of ids, the module that turns it into vectors."""
    model, part = subject.model, subject.part
    result: dict[str, nn.Module] = {}
    if "text_ids" in part:
        result["text_ids"] = embedding_of_text(model)
    if "input_ids" in part:
        assert model.decoder is not None  # noqa: S101 - the task writes
        result["input_ids"] = model.decoder.embed_tokens
    return result


def embedding_of_text(model: VisionLanguageModel) -> nn.Module:
    """What embeds the text tower's ids."""
    embedding: nn.Module = model.reader.embedding
    return embedding


def trace(subject: Subject, *, extra: Sequence[nn.Module] = ()) -> Trace:
    """Run a subject once, with its own inputs, and keep what happened.

    Args:
        subject: what is run.
        extra: more modules whose outputs are kept.
    """
    model, result = subject.model, Trace(subject)
    names = {id(module): name for name, module in model.named_modules()}

    def keep(module: nn.Module, given: Any, out: Any) -> None:
        result.parts[names[id(module)]] = out

    def grow(module: nn.Module, given: Any, out: Tensor) -> Tensor | None:
        return None if out.requires_grad else out.detach().requires_grad_()  # frozen weights: gradients begin here

    def blend(module: nn.Module, given: Any, out: Any) -> None:
        result.blends[names[id(module)]] = blend_shares(module, *given)

    watched = [module for module in (*model.towers.values(), model.decoder, model.fusion, *extra) if module]
    if model.fusion is not None:
        layers = [name.split(".") for name, _ in model.fusion.named_modules() if name.startswith("layers.")]
        own = [".".join(parts) for parts in layers if len(parts) == 3 and parts[2] in model.fusion.modalities]
        watched += [model.fusion.get_submodule(name) for name in own]  # a layer of one modality: layers.0.image
    hooks: list[tuple[nn.Module, Hook]] = [(module, keep) for module in watched]
    hooks += [(module, grow) for module in embeddings_of(subject).values()]
    hooks += [(module, blend) for module in model.modules() if isinstance(module, Blend)]
    with quiet(model, grad=True), hooked(hooks), recording() as seen:
        pixels = subject.pixels().requires_grad_()
        result.values = subject.scores(pixels)[0]
    for item in seen:
        index = result.index(item.weights)
        result.attended.append(Seen(names[id(item.module)], item.weights[0].detach(), index))
    for part in result.parts.values():
        for tensor in (part.tokens, part.pooled) if isinstance(part, Features) else (part,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                result.index(tensor)
    return result


def blend_shares(module: nn.Module, parts: Tensor, present: Tensor) -> Tensor:
    """How much of what a joint fusion gave is each modality's, (L, M), adding up to 1 where anything is there.

    Where it learned to weigh them, these weights; else each one's share of the fused vector's length, before they are
    added.
    """
    assert isinstance(module, Blend)  # noqa: S101 - hooked as such
    with torch.no_grad():
        if module.gate is not None:
            shares = module.shares(parts, present)
        else:
            parts = torch.where(present.unsqueeze(-1), parts, module.absent.to(parts.dtype))
            weight = module.mix.weight
            each = (
                torch.einsum("...md,emd->...me", parts, weight.view(weight.shape[0], *parts.shape[-2:]))
                if module.how == "concat"
                else parts @ weight.T
            )
            sizes = each.float().norm(dim=-1) * present
            shares = sizes / sizes.sum(-1, keepdim=True).clamp(min=1e-12)
    return shares[0].float().reshape(-1, shares.shape[-1])
