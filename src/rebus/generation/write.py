"""Write with a model that was given an image or a text of its own to write from: ids in, ids out.

It knows no tokenizer, no tables and no tasks. Letters: R texts.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import fields
from functools import partial

import torch

from rebus.generation.decoders import EagerDecoder
from rebus.generation.engine import Engine
from rebus.generation.requests import Constraint, Source, Written
from rebus.generation.sampling import Sampling
from rebus.models.fusion import Condition
from rebus.models.towers.decoder import Decoder
from rebus.models.vlm import VisionLanguageModel

_calls = itertools.count()


def write(
    model: VisionLanguageModel,
    condition: Condition,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    eos_id: int | Sequence[int],
    vocab_size: int | None = None,
    constraint: Constraint | None = None,
) -> list[Written]:
    """Continue R prompts of unequal length, each given its own item of ``condition``.

    Args:
        model: asked as it is at this moment: it may be in the middle of training.
        condition: of R items, or an empty one.
        prompts: ids.
        sampling: how.
        eos_id: the tokens that end a text.
        vocab_size: ids there are text for; None: all.
        constraint: what each text must be like.
    """
    ends = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    rows = max(len(prompts) * sampling.n * sampling.beams, 1)
    engine = Engine(EagerDecoder(decoder_of(model)), ends, vocab_size=vocab_size, max_running=rows)
    return engine.write(prompts, sampling, sources=sources_of(model, condition, len(prompts)), constraint=constraint)


def sources_of(model: VisionLanguageModel, condition: Condition, count: int) -> list[Source] | None:
    """A condition of ``count`` items as sources that each hand out one; None: there is nothing beside the prompts."""
    if all(getattr(condition, part.name) is None for part in fields(condition)):
        return None
    call, rows = next(_calls), torch.arange(count, device=decoder_of(model).embed_tokens.weight.device)
    return [
        Source(f"call {call}, row {row}", model, partial(condition.select, rows[row : row + 1]), ready=True)
        for row in range(count)
    ]


def decoder_of(model: VisionLanguageModel) -> Decoder:
    """The model's decoder."""
    if model.decoder is None:
        raise TypeError("this model has no decoder: none of its tasks writes text")
    return model.decoder
