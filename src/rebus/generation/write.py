"""Write with a decoder: ids in, ids out. It knows no tokenizer, no tables and no tasks.

Letters: R texts, P prefix tokens, L prompt tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rebus.models.fusion import Condition
from rebus.models.vlm import VisionLanguageModel, after_prefix


@dataclass(frozen=True)
class Written:
    """One text.

    Attributes:
        ids: token ids, the end-of-text id left out.
        logprob: mean log-probability of the tokens, the end included.
        finished: whether it ended by itself, rather than at ``max_new_tokens``.
    """

    ids: list[int]
    logprob: float
    finished: bool


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: longest text.
        temperature: 0 takes the likeliest token each time; above 0, tokens are drawn.
        top_p: draw among the likeliest tokens that together have this probability.
        seed: of the draw; text number i of a call draws from (seed, i), whatever else is in the batch.
    """

    max_new_tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@torch.inference_mode()
def write(
    model: VisionLanguageModel, condition: Condition, prompts: list[list[int]], sampling: Sampling, *, eos_id: int
) -> list[Written]:
    """Continue R prompts of unequal length, each given its own item of ``condition``.

    Prompts are padded on the left, so that every row's next token is in the last column; padding is masked and
    positions count real tokens only, so a text does not depend on what it is batched with beyond rounding.
    """
    decoder = model.decoder
    if decoder is None:
        raise TypeError("this model has no decoder: none of its tasks writes text")
    device = decoder.embed_tokens.weight.device
    real, ids = _left_padded(prompts, device)
    prefix, rows = condition.prefix, len(prompts)
    x = model.embed(condition, ids)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    mask = real[:, None, :] & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=device).tril()
    seen = real
    if prefix is not None:
        x, positions, mask = after_prefix(prefix, x, positions, mask, real)
        seen = torch.cat([prefix.mask, real], dim=1)
    cache = decoder.new_cache(seen.shape[1] + sampling.max_new_tokens)
    hidden = decoder.forward_embeds(x, positions, mask=mask[:, None], memory=condition.memory, cache=cache)
    at = positions[:, -1]
    dice = [torch.Generator().manual_seed(_mixed(sampling.seed, row)) for row in range(rows)]
    found: list[list[int]] = [[] for _ in range(rows)]
    logprob, ended = torch.zeros(rows), torch.zeros(rows, dtype=torch.bool)
    steps = torch.zeros(rows)
    for _ in range(sampling.max_new_tokens):
        scores = decoder.logits(hidden[:, -1]).float().log_softmax(-1).cpu()
        chosen = _choose(scores, sampling, dice)
        logprob += torch.where(ended, 0.0, scores.gather(1, chosen[:, None])[:, 0])
        steps += (~ended).float()
        ended = ended | (chosen == eos_id)
        for row in torch.nonzero(~ended)[:, 0].tolist():
            found[row].append(int(chosen[row]))
        if bool(ended.all()):
            break
        at = at + 1
        seen = torch.cat([seen, torch.ones(rows, 1, dtype=torch.bool, device=device)], dim=1)
        x = model.embed(condition, chosen[:, None].to(device))
        hidden = decoder.forward_embeds(
            x, at[:, None], mask=seen[:, None, None, :], memory=condition.memory, cache=cache
        )
    mean = logprob / steps.clamp(min=1.0)
    return [Written(found[row], float(mean[row]), bool(ended[row])) for row in range(rows)]


def _left_padded(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    real = torch.zeros(len(prompts), length, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        real[row, length - len(prompt) :] = True
    return real.to(device), ids.to(device)


def _choose(scores: Tensor, sampling: Sampling, dice: list[torch.Generator]) -> Tensor:
    """(R, V) log-probabilities -> (R,) ids."""
    if sampling.temperature <= 0:
        return scores.argmax(-1)
    chance = (scores / sampling.temperature).softmax(-1)
    order = chance.argsort(dim=-1, descending=True, stable=True)
    ordered = chance.gather(1, order)
    ordered = torch.where(ordered.cumsum(-1) - ordered < sampling.top_p, ordered, 0.0)
    drawn = [int(torch.multinomial(row, 1, generator=die)) for row, die in zip(ordered, dice, strict=True)]
    return order.gather(1, torch.tensor(drawn)[:, None])[:, 0]


def _mixed(seed: int, row: int) -> int:
    return (seed * 1_000_003 + row) % (2**63)
