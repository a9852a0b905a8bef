"""How likely a decoder finds texts that others wrote: ids in, log-probabilities out. It knows no tokenizer and no task.

Several continuations of one prompt stand in one row, prompt first; each sees the prompt and itself. So the prompt is
read once, and each sum is what it would be alone.
Letters: R prompts, P prefix tokens, L tokens, N scored tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rebus.errors import DataError
from rebus.generation.write import decoder_of
from rebus.models.fusion import Condition
from rebus.models.layout import after_prefix
from rebus.models.towers.decoder import Decoder
from rebus.models.vlm import VisionLanguageModel

Ids = Sequence[int]

_LOGITS = 64_000_000  # numbers of one piece of logits: 256 MB


@dataclass(frozen=True)
class Scored:
    """One continuation.

    Attributes:
        logprob: the sum of its tokens' log-probabilities (natural logarithm).
        tokens: how many there are.
        greedy: whether each of them is the likeliest there.
    """

    logprob: float
    tokens: int
    greedy: bool


@torch.inference_mode()
def score(
    model: VisionLanguageModel,
    prompts: Sequence[Ids],
    continuations: Sequence[Sequence[Ids]],
    *,
    condition: Condition | None = None,
    most: int | None = None,
    vocab_size: int | None = None,
    budget: int = 8192,
) -> list[list[Scored]]:
    """The log-probability of each continuation after its prompt.

    Args:
        model: one with a decoder.
        prompts: (R,) ids; at least one each.
        continuations: (R,) one or more a prompt, at least one token each.
        condition: what each of the R prompts is written from; None: nothing.
        most: most tokens of a prompt with a continuation; the beginning of longer prompts is left out. None: what the
            model has positions for, where it has an end of them.
        vocab_size: ids beyond are not there; None: all rows of the embeddings.
        budget: most tokens read at a time.

    Raises:
        DataError: a prompt or a continuation is empty, or a continuation alone is longer than ``most``.
    """
    decoder = decoder_of(model)
    if most is None and decoder.embed_positions is not None:
        most = decoder.max_length
    pairs = zip(prompts, continuations, strict=True)
    rows = [_Row.of(prompt, texts, most, place) for place, (prompt, texts) in enumerate(pairs)]
    scores: list[list[Scored]] = [[] for _ in rows]
    was_training = model.training
    model.eval()
    try:
        for part in _portions(rows, budget):
            for row, row_scores in zip(part, _score(model, part, condition, vocab_size), strict=True):
                scores[row.place] = row_scores
    finally:
        model.train(was_training)
    return scores


@dataclass(frozen=True)
class _Row:
    """A prompt with its continuations in one row.

    Attributes:
        place: its number in the call.
        ids, positions, branches: (L,) tokens, where in its text each stands, and the continuation it is of (0: prompt).
        targets: the tokens to be scored, and at which of the L places each is predicted.
        lengths: tokens of each continuation.
    """

    place: int
    ids: list[int]
    positions: list[int]
    branches: list[int]
    targets: list[tuple[int, int]]
    lengths: list[int]

    @classmethod
    def of(cls, prompt: Ids, continuations: Sequence[Ids], most: int | None, place: int) -> _Row:
        """Lay out; the last token of a continuation is only predicted, never read."""
        where = f"prompt {place + 1}"
        if not len(prompt):
            raise DataError(where, "at least one token", "none", "begin it with the token that begins texts")
        if not len(continuations) or not all(map(len, continuations)):
            raise DataError(where, "continuations of at least one token", "an empty one", "leave it out")
        longest = max(map(len, continuations))
        if most is not None and len(prompt) + longest - 1 > most:
            if longest > most:
                do = "shorten it"
                raise DataError(where, f"a continuation of at most {most} tokens", str(longest), do)
            prompt = prompt[len(prompt) + longest - 1 - most :]
        ids, positions, branches = list(prompt), list(range(len(prompt))), [0] * len(prompt)
        targets: list[tuple[int, int]] = []
        for number, text in enumerate(continuations, 1):
            start = len(ids)
            targets += [(len(prompt) - 1 if at == 0 else start + at - 1, token) for at, token in enumerate(text)]
            ids += text[:-1]
            positions += range(len(prompt), len(prompt) + len(text) - 1)
            branches += [number] * (len(text) - 1)
        return cls(place, ids, positions, branches, targets, list(map(len, continuations)))


def _portions(rows: list[_Row], budget: int) -> Iterator[list[_Row]]:
    """Rows of like length together, at most ``budget`` tokens with their padding."""
    portion: list[_Row] = []
    for row in sorted(rows, key=lambda row: (len(row.ids), row.place)):
        if portion and (len(portion) + 1) * len(row.ids) > budget:
            yield portion
            portion = []
        portion.append(row)
    if portion:
        yield portion


def _score(
    model: VisionLanguageModel, rows: list[_Row], condition: Condition | None, vocab_size: int | None
) -> list[list[Scored]]:
    decoder = decoder_of(model)
    device = decoder.embed_tokens.weight.device
    ids, positions = _padded([row.ids for row in rows], 0, device), _padded([row.positions for row in rows], 0, device)
    branches = _padded([row.branches for row in rows], -1, device)
    mask, real = branch_mask(branches), branches >= 0
    row_condition = (
        Condition() if condition is None else condition.select(torch.tensor([row.place for row in rows], device=device))
    )
    x, skip = model.embed(row_condition, ids), 0
    if row_condition.prefix is not None:
        skip = row_condition.prefix.tokens.shape[1]
        x, positions, mask = after_prefix(row_condition.prefix, x, positions, mask, real)
    hidden = decoder.forward_embeds(x, positions, mask=mask[:, None], memory=row_condition.memory)[:, skip:]
    owner = torch.tensor([at for at, row in enumerate(rows) for _ in row.targets], device=device)
    where = torch.tensor([place for row in rows for place, _ in row.targets], device=device)
    targets = torch.tensor([token for row in rows for _, token in row.targets], device=device)
    logprobs, best = _logprobs(decoder, hidden[owner, where], targets, vocab_size)
    scores, start = [], 0
    for row in rows:
        row_scores = []
        for length in row.lengths:
            part = slice(start, start + length)
            row_scores.append(Scored(float(logprobs[part].sum()), length, bool(best[part].all())))
            start += length
        scores.append(row_scores)
    return scores


def _logprobs(decoder: Decoder, hidden: Tensor, targets: Tensor, vocab_size: int | None) -> tuple[Tensor, Tensor]:
    """(N, D), (N,) -> the log-probability of each target (N,) float64, and whether it is the likeliest (N,)."""
    step = max(1, _LOGITS // decoder.vocab_size)
    logprobs, best = [], []
    for start in range(0, len(targets), step):
        logits = decoder.logits(hidden[start : start + step])[:, :vocab_size].float()
        token = targets[start : start + step, None]
        logprobs.append((logits.gather(1, token)[:, 0] - logits.logsumexp(-1)).double().cpu())
        best.append((logits.argmax(-1) == token[:, 0]).cpu())
    return torch.cat(logprobs), torch.cat(best)


def branch_mask(branches: Tensor) -> Tensor:
    """Who may attend to whom: (R, L) -> (R, L, L) bool.

    A token sees earlier tokens of its own branch and of branch 0, which all share; padding (negative) is not seen.
    """
    length = branches.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    mine, theirs = branches[:, :, None], branches[:, None, :]
    return causal & ((mine == theirs) | (theirs == 0)) & (theirs >= 0)


def _padded(rows: list[list[int]], fill: int, device: torch.device) -> Tensor:
    """Lists of unequal length -> (R, L), filled on the right."""
    out = torch.full((len(rows), max(map(len, rows))), fill, dtype=torch.long)
    for at, row in enumerate(rows):
        out[at, : len(row)] = torch.tensor(row, dtype=torch.long)
    return out.to(device)
