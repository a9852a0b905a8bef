"""How the next token is chosen from logits: penalties, filters, the draw. It knows no model and no text.

Every filter takes logits (R, V) float32 and changes them in place; what may not be chosen becomes minus infinity.
They are applied in the order of transformers: penalties, temperature, top-k, top-p, min-p.
Letters: R texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor
from torch.nn import functional

from rebus.errors import RecipeError

NEVER = float("-inf")
_BLOCK = 256  # ids whose probabilities are summed up together before one is looked for among them
_FEW = 1024  # a nucleus is looked for among so many likeliest tokens before all are sorted


@dataclass(frozen=True)
class Sampling:
    """What is written, and how each token is chosen.

    Attributes:
        max_new_tokens: longest text, in tokens.
        temperature: 0 takes the likeliest token each time; above 0, tokens are drawn.
        top_p: draw among the likeliest tokens that together have this probability (Holtzman et al. 2020, "The Curious
            Case of Neural Text Degeneration").
        seed: of the draw; text number i of a call draws from (seed, i), whatever else is in the batch.
        top_k: draw among this many likeliest tokens; 0: all.
        min_p: draw among tokens at least this share as likely as the likeliest (Nguyen et al. 2024, "Turning Up the
            Heat: Min-p Sampling for Creative and Coherent LLM Outputs").
        repetition_penalty: above 1 makes tokens of the prompt and of the text so far less likely (Keskar et al. 2019,
            "CTRL").
        frequency_penalty: taken from a token's logit for each time it was written.
        presence_penalty: taken from a token's logit once it was written.
        stop: sequences of ids that end a text; they are not part of it.
        n: texts a prompt; they share the reading of it.
        beams: above 1: beam search over this many beams, which draws nothing; gives the ``n`` best.
        length_penalty: beam search: a text's log-probability is divided by its length to this power.
        alternatives: how many of the likeliest tokens to tell beside each chosen one.

    Raises:
        RecipeError: a number is out of its range.
    """

    max_new_tokens: int = 48
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[tuple[int, ...], ...] = ()
    n: int = 1
    beams: int = 1
    length_penalty: float = 1.0
    alternatives: int = 0

    def __post_init__(self) -> None:
        _demand("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "1 or more")
        _demand("temperature", self.temperature, self.temperature >= 0, "0 or more")
        _demand("top_p", self.top_p, 0 < self.top_p <= 1, "more than 0, at most 1")
        _demand("top_k", self.top_k, self.top_k >= 0, "0 (all) or more")
        _demand("min_p", self.min_p, 0 <= self.min_p <= 1, "0 to 1")
        _demand("repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "more than 0")
        _demand("stop", self.stop, all(self.stop), "sequences of at least one token")
        _demand("n", self.n, self.n >= 1, "1 or more")
        _demand("beams", self.beams, self.beams >= 1, "1 or more")
        _demand("alternatives", self.alternatives, self.alternatives >= 0, "0 or more")
        _demand("n", self.n, self.beams == 1 or self.n <= self.beams, f"at most the {self.beams} beams")


class SamplingOptions(TypedDict, total=False):
    """The attributes of ``Sampling`` that a caller may set, as keyword arguments."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    top_k: int
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    n: int
    beams: int
    length_penalty: float


def _demand(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise RecipeError(f"'{name}' of the text to be written", expected, str(value), "change it")


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> None:
    """Divide positive and multiply negative logits of the tokens ``seen`` (R, V) bool by the penalty."""
    weaker = torch.where(logits < 0, logits * penalty, logits / penalty)
    logits.copy_(torch.where(seen, weaker, logits))


def penalise_written(logits: Tensor, counts: Tensor, frequency: float, presence: float) -> None:
    """Take ``frequency`` a time and ``presence`` once from tokens that were written ``counts`` (R, V) times."""
    logits -= counts * frequency + (counts > 0) * presence


def keep_top_k(logits: Tensor, k: int) -> None:
    """Keep the k likeliest, and what is as likely as the last of them."""
    least = logits.topk(min(k, logits.shape[-1]), dim=-1).values[:, -1:]
    logits.masked_fill_(logits < least, NEVER)


def keep_top_p(logits: Tensor, p: float) -> None:
    """Keep the likeliest that together have probability ``p``, at least one, and what is as likely as the last."""
    chance = logits.softmax(-1)
    best = chance.topk(min(_FEW, chance.shape[-1]), dim=-1).values
    if best.shape[-1] < chance.shape[-1] and bool((best.sum(-1) < p).any()):
        best = chance.sort(dim=-1, descending=True).values
    outside = best.cumsum(-1) - best >= p  # what comes before has that much already
    least = best.masked_fill(outside, 2.0).amin(-1, keepdim=True)
    logits.masked_fill_(chance < least, NEVER)


def keep_min_p(logits: Tensor, share: float) -> None:
    """Keep what is at least this share as likely as the likeliest."""
    chance = logits.softmax(-1)
    logits.masked_fill_(chance < share * chance.amax(-1, keepdim=True), NEVER)


def draw(logits: Tensor, rng: Sequence[torch.Generator]) -> Tensor:
    """(R, V) -> (R,) ids: one uniform number a text, looked up in the cumulative probabilities in the ids' order.

    That order, unlike one by probability, does not change where rounding does. Sums of blocks of ids are looked up
    first, then the ids of one block.
    """
    chance = logits.softmax(-1)
    parts = functional.pad(chance, (0, -chance.shape[-1] % _BLOCK)).view(len(logits), -1, _BLOCK)
    sums = parts.sum(-1, dtype=torch.float64)
    reached = sums.cumsum(-1)
    thrown = torch.stack([torch.rand(1, generator=generator, dtype=torch.float64) for generator in rng])
    aim = thrown * reached[:, -1:]
    # the first that reaches further, hence holds something; the bound is for a model that gives no numbers
    block = torch.searchsorted(reached, aim, right=True).clamp(max=reached.shape[-1] - 1)
    inside = parts.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0].double().cumsum(-1)
    rest = aim - (reached.gather(1, block) - sums.gather(1, block))
    rest = torch.minimum(rest, torch.nextafter(inside[:, -1:], inside.new_zeros(()))).clamp(min=0.0)
    return (block * _BLOCK + torch.searchsorted(inside, rest, right=True)).clamp(max=logits.shape[-1] - 1)[:, 0]


class Chooser:
    """Chooses one token a text and step, and keeps what that depends on: rng, and the tokens so far.

    Args:
        sampling: the settings.
        prompts: the ids each of the R texts goes on from.
        numbers: the number of each text in its call, from which it draws.
        vocab_size: V.
    """

    def __init__(
        self, sampling: Sampling, prompts: Sequence[Sequence[int]], numbers: Sequence[int], vocab_size: int
    ) -> None:
        self.sampling = sampling
        self.rng = [torch.Generator().manual_seed(_mixed(sampling.seed, number)) for number in numbers]
        self._present: Tensor | None = None  # (R, V) bool, in the prompt or written
        self._counts: Tensor | None = None  # (R, V), times written
        if sampling.repetition_penalty != 1.0:
            self._present = torch.zeros(len(prompts), vocab_size, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                self._present[row, list(prompt)] = True
        if sampling.frequency_penalty or sampling.presence_penalty:
            self._counts = torch.zeros(len(prompts), vocab_size)

    @classmethod
    def joined(cls, parts: Sequence[Chooser]) -> Chooser:
        """One for the texts of all, whose settings differ at most in seeds. It throws their own rng; what it notes is
        lost on them.
        """
        if len(parts) == 1:
            return parts[0]
        joint = cls(parts[0].sampling, [], [], 0)
        joint.rng = [generator for part in parts for generator in part.rng]
        joint._present = _stacked([part._present for part in parts])
        joint._counts = _stacked([part._counts for part in parts])
        return joint

    def scores(self, logits: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Logits after penalties, (R, V); minus infinity where ``allowed`` is False."""
        s = self.sampling
        if self._present is None and self._counts is None and allowed is None:
            return logits
        logits = logits.clone()
        if self._present is not None:
            penalise_repetition(logits, self._present, s.repetition_penalty)
        if self._counts is not None:
            penalise_written(logits, self._counts, s.frequency_penalty, s.presence_penalty)
        return logits if allowed is None else logits.masked_fill_(~allowed, NEVER)

    def choose(self, logits: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(R, V) float32 -> (R,) ids."""
        s, scores = self.sampling, self.scores(logits, allowed)
        if s.temperature <= 0:
            return scores.argmax(-1)
        scores = scores / s.temperature
        if s.top_k:
            keep_top_k(scores, s.top_k)
        if s.top_p < 1:
            keep_top_p(scores, s.top_p)
        if s.min_p > 0:
            keep_min_p(scores, s.min_p)
        return draw(scores, self.rng)

    def note(self, chosen: Tensor) -> None:
        """Remember the tokens (R,) that the texts went on with."""
        rows = torch.arange(len(chosen))
        if self._present is not None:
            self._present[rows, chosen] = True
        if self._counts is not None:
            self._counts[rows, chosen] += 1

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts, in this order."""
        self.rng = [self.rng[row] for row in rows]
        if self._present is not None:
            self._present = self._present[list(rows)]
        if self._counts is not None:
            self._counts = self._counts[list(rows)]


def _stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _mixed(seed: int, number: int) -> int:
    return (seed * 1_000_003 + number) % (2**63)
