"""Beam search: the texts whose tokens together are likeliest, as far as a few beams can see.

The same rules as transformers' (with ``early_stopping=False``): from all continuations of the beams of a prompt the
likeliest are ranked; those that end a text and stand among the first ``beams`` are kept, by log-probability over
length to the power of ``length_penalty``; the first ``beams`` of the others go on. A prompt is done when its best beam
could not better the worst of the texts kept. Beams share the cache blocks of what they have in common. Letters: R
prompts, W beams, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rebus.generation.paging import Blocks
from rebus.generation.requests import Written
from rebus.generation.runner import Chunk, Runner
from rebus.generation.sampling import Chooser, Sampling
from rebus.generation.sequence import TextSequence

_NO_BEAM = -1e9  # the score of beams that do not exist yet, so that the first step has one


@dataclass
class _Prompt:
    """One prompt's beams.

    Attributes:
        room: most tokens of a text.
        scores: (W,) log-probability of each beam.
        beams: (W,) ids of each.
        texts: those that ended, and their log-probability over length to the power of the penalty.
    """

    room: int
    scores: list[float]
    beams: list[list[int]]
    texts: list[tuple[float, Written]] = field(default_factory=list)


def search(
    runner: Runner,
    blocks: Blocks,
    sequences: Sequence[TextSequence],
    sampling: Sampling,
    *,
    eos_ids: Collection[int],
    vocab_size: int,
    limits: Sequence[int],
) -> list[list[Written]]:
    """The best ``sampling.n`` texts for each prompt, the best first.

    Args:
        runner: reads.
        blocks: of the runner's pool; as many as are needed.
        sequences: R prompts, nothing of which is read.
        sampling: ``beams``, ``n``, ``length_penalty``, ``max_new_tokens``, ``stop`` and penalties.
        eos_ids: tokens that end a text.
        vocab_size: V.
        limits: most ids of each text that may be read.
    """
    width, rows = sampling.beams, list(sequences)
    prompts = [
        _Prompt(
            min(sampling.max_new_tokens, limit - len(sequence.ids) + 1),
            [0.0] + [_NO_BEAM] * (width - 1),
            [[] for _ in range(width)],
        )
        for sequence, limit in zip(sequences, limits, strict=True)
    ]
    live = list(prompts)
    repeated = [sequence.ids for sequence in sequences for _ in range(width)]
    chooser = Chooser(sampling, repeated, range(len(repeated)), vocab_size)
    try:
        logits = _read(runner, blocks, rows, vocab_size)
        rows = _forked(runner, blocks, rows, [row for row in range(len(rows)) for _ in range(width)])
        logits = logits.repeat_interleave(width, dim=0)
        for length in range(1, sampling.max_new_tokens + 1):
            scores = chooser.scores(logits.log_softmax(-1))
            scores = scores + torch.tensor([score for prompt in live for score in prompt.scores])[:, None]
            ranked = _ranked(scores.view(len(live), -1), max(2, 1 + len(eos_ids)) * width, vocab_size)
            going: list[_Prompt] = []
            parents: list[int] = []
            tokens: list[int] = []
            for place, (prompt, candidates) in enumerate(zip(live, ranked, strict=True)):
                if best := _advance(prompt, candidates, sampling, eos_ids, length):
                    going.append(prompt)
                    parents += [place * width + parent for parent, _ in best]
                    tokens += [token for _, token in best]
            live = going
            rows = _forked(runner, blocks, rows, parents)
            if not live:
                break
            chooser.select(parents)
            chooser.note(torch.tensor(tokens))
            for row, token in zip(rows, tokens, strict=True):
                row.ids.append(token)
            logits = _read(runner, blocks, rows, vocab_size)
    finally:
        _forked(runner, blocks, rows, [])
    return [[text for _, text in prompt.texts[: sampling.n]] for prompt in prompts]


def _read(runner: Runner, blocks: Blocks, rows: Sequence[TextSequence], vocab_size: int) -> Tensor:
    """What is unread of each text -> (rows, V)."""
    for row in rows:
        while len(row.table) * blocks.size < row.places:
            row.table.append(_block(blocks))
    chunks = [Chunk(row, row.unread) for row in rows]
    logits = runner.read(chunks, vocab_size)
    for chunk in chunks:
        chunk.sequence.read += chunk.count
    return logits


def _forked(runner: Runner, blocks: Blocks, rows: Sequence[TextSequence], parents: Sequence[int]) -> list[TextSequence]:
    """Texts that go on from ``rows[parents]``: full blocks are shared, the last one is copied for all but one child."""
    copies: list[tuple[int, int]] = []
    children: list[TextSequence] = []
    heirs: set[int] = set()
    for parent in parents:
        row, full = rows[parent], rows[parent].read // blocks.size
        child = copy.copy(row)
        child.ids, child.table = list(row.ids), row.table[:full]
        for block in child.table:
            blocks.share(block)
        for block in row.table[full:]:
            if parent in heirs:
                copies.append((block, new := _block(blocks)))
                child.table.append(new)
            else:
                blocks.share(block)
                child.table.append(block)
        heirs.add(parent)
        children.append(child)
    if copies:
        runner.pool.copy(copies)
    for row in rows:
        for block in row.table:
            blocks.release(block)
        row.table = []
    return children


def _block(blocks: Blocks) -> int:
    block = blocks.take()
    assert block is not None  # noqa: S101 - there are as many as are needed
    return block


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
    length: int,
) -> list[tuple[int, int]]:
    """Keep what ended, go on with the rest; gives each new beam's parent and token, none where the prompt is done."""
    width, power = sampling.beams, length**sampling.length_penalty
    last = length >= prompt.room
    going: list[tuple[float, int, list[int], int]] = []
    for rank, (score, beam, token) in enumerate(candidates):
        ids = [*prompt.beams[beam], token]
        stop = next((len(stop) for stop in sampling.stop if tuple(ids[-len(stop) :]) == stop), 0)
        ends = token in eos_ids or stop > 0
        if not ends:
            going.append((score, beam, ids, token))
        if (ends or last) and rank < width:
            ids = ids[: len(ids) - (stop or 1)] if ends else ids
            text = Written(ids, score / length, ends, [], "eos" if ends else "length")
            prompt.texts.append((score / power, text))
    prompt.texts = sorted(prompt.texts, key=lambda pair: -pair[0])[:width]
    going = going[:width]
    best = going[0][0] / power if going else _NO_BEAM
    if last or (len(prompt.texts) == width and best <= prompt.texts[-1][0]):
        return []
    prompt.scores, prompt.beams = [score for score, *_ in going], [ids for _, _, ids, _ in going]
    return [(parent, token) for _, parent, _, token in going]
