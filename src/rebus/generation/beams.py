"""Beam search: the texts whose tokens together are likeliest, as far as a few beams can see.

The same rules as transformers' (with ``early_stopping=False``): from all continuations of the beams of a prompt the
likeliest are ranked; those that end a text and stand among the first ``beams`` are kept, by log-probability over
length to the power of ``length_penalty``; the first ``beams`` of the others go on. A prompt is done when its best beam
could not better the worst of the texts kept. Letters: R prompts, W beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rebus.generation.reading import Reading
from rebus.generation.sampling import Chooser, Sampling

_NO_BEAM = -1e9  # the score of beams that do not exist yet, so that the first step has one


@dataclass(frozen=True)
class Found:
    """One text that beam search found.

    Attributes:
        ids: without the id that ended it, or the stop sequence.
        score: log-probability over length to the power of the penalty; what texts are ranked by.
        logprob: log-probability over length.
        finished: whether it ended by itself.
    """

    ids: list[int]
    score: float
    logprob: float
    finished: bool


@dataclass
class _Prompt:
    """One prompt's beams and the texts found so far."""

    scores: list[float]
    beams: list[list[int]]
    found: list[Found] = field(default_factory=list)


def search(
    reading: Reading, prompts: Sequence[Sequence[int]], sampling: Sampling, eos_ids: Collection[int], vocab_size: int
) -> list[list[Found]]:
    """The best ``sampling.n`` texts for each prompt, the best first.

    Args:
        reading: R prompts, read.
        prompts: their ids, for the repetition penalty.
        sampling: ``beams``, ``n``, ``length_penalty``, ``max_new_tokens``, ``stop`` and penalties.
        eos_ids: tokens that end a text.
        vocab_size: V.
    """
    width = sampling.beams
    live = [_Prompt([0.0] + [_NO_BEAM] * (width - 1), [[] for _ in range(width)]) for _ in prompts]
    all_of_them = list(live)
    reading.select([row for row in range(len(live)) for _ in range(width)])
    chooser = Chooser(
        sampling, [prompt for prompt in prompts for _ in range(width)], range(len(live) * width), vocab_size
    )
    for made in range(1, sampling.max_new_tokens + 1):
        scores = chooser.scores(reading.logits(vocab_size).log_softmax(-1))
        scores = scores + torch.tensor([score for prompt in live for score in prompt.scores])[:, None]
        ranked = _ranked(scores.view(len(live), -1), max(2, 1 + len(eos_ids)) * width, vocab_size)
        going: list[_Prompt] = []
        rows: list[int] = []
        chosen: list[int] = []
        for place, (prompt, candidates) in enumerate(zip(live, ranked, strict=True)):
            parents, tokens = _advance(prompt, candidates, sampling, eos_ids, made)
            if parents:
                going.append(prompt)
                rows += [place * width + parent for parent in parents]
                chosen += tokens
        live = going
        if not live:
            break
        reading.select(rows)
        chooser.select(rows)
        picked = torch.tensor(chosen)
        chooser.note(picked)
        reading.go_on(picked)
    return [prompt.found[: sampling.n] for prompt in all_of_them]


def _ranked(scores: Tensor, count: int, vocab_size: int) -> list[list[tuple[float, int, int]]]:
    """(R, W x V) -> for each prompt (score, beam, token), the likeliest first."""
    best = scores.topk(min(count, scores.shape[1]), dim=-1)
    return [
        [(score, index // vocab_size, index % vocab_size) for score, index in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _advance(
    prompt: _Prompt,
    candidates: list[tuple[float, int, int]],
    sampling: Sampling,
    eos_ids: Collection[int],
    made: int,
) -> tuple[list[int], list[int]]:
    """Keep what ended, go on with the rest; gives each new beam's parent and token, none where the prompt is done."""
    width, power = sampling.beams, made**sampling.length_penalty
    last = made == sampling.max_new_tokens
    going: list[tuple[float, int, list[int], int]] = []
    for rank, (score, beam, token) in enumerate(candidates):
        ids = [*prompt.beams[beam], token]
        stopped = next((len(stop) for stop in sampling.stop if tuple(ids[-len(stop) :]) == stop), 0)
        ended = token in eos_ids or stopped > 0
        if not ended:
            going.append((score, beam, ids, token))
        if (ended or last) and rank < width:
            kept = ids[: len(ids) - (stopped or 1)] if ended else ids
            prompt.found.append(Found(kept, score / power, score / made, ended))
    prompt.found = sorted(prompt.found, key=lambda one: -one.score)[:width]
    going = going[:width]
    best = going[0][0] / power if going else _NO_BEAM
    if last or (len(prompt.found) == width and best <= prompt.found[-1].score):
        return [], []
    prompt.scores, prompt.beams = [one[0] for one in going], [one[2] for one in going]
    return [one[1] for one in going], [one[3] for one in going]
