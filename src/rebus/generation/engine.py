"""The generation engine: ids in, ids out. It knows no tokenizer, no images and no tasks.

Prompts are read at once (``Reading``), then all texts go on together, a token a step; a text that has ended leaves the
batch. Letters: R texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from rebus.errors import DataError
from rebus.generation.beams import search
from rebus.generation.reading import Prefix, Reading, Source, Writer
from rebus.generation.sampling import Chooser, Sampling

End = Literal["eos", "stop", "length"]


class Constraint(Protocol):
    """Says which tokens may come next in one text; see ``rebus.generation.constraint``."""

    def allowed(self) -> Tensor:
        """(V,) bool, where at least one is True: those of a text that may only end are the ends of texts."""
        ...

    def advance(self, token: int) -> None:
        """The text goes on with this token, one of those that were allowed."""
        ...

    def fork(self) -> Constraint:
        """The same, for another text with the same beginning."""
        ...


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        id: which.
        logprob: its log-probability by the model itself, before penalties, temperature and filters.
        alternatives: (id, log-probability) of the likeliest tokens at its place, where they were asked for.
    """

    id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Step:
    """What one step adds to one text.

    Attributes:
        text: the text's number in its call: prompt times n, plus sample.
        tokens: those that are now certain to be part of it: none while they may be the start of a stop sequence.
        end: why the text ends here; None: it goes on. ``length``: it is cut.
        logprob: log-probability of the token chosen in this step, part of the text or not.
    """

    text: int
    tokens: tuple[Token, ...]
    end: End | None
    logprob: float


@dataclass(frozen=True)
class Written:
    """One text.

    Attributes:
        ids: token ids; neither the end-of-text id nor a stop sequence is among them.
        logprob: mean log-probability of the tokens, the end included.
        finished: whether it ended by itself, rather than at ``max_new_tokens``.
        tokens: the same ids with the log-probability of each (none after beam search).
        end: why it ended.
    """

    ids: list[int]
    logprob: float
    finished: bool
    tokens: list[Token] = field(default_factory=list)
    end: End = "eos"


class Engine:
    """Writes texts with one model.

    Args:
        writer: the decoder, plain or prepared (``rebus.generation.writers``).
        eos_ids: tokens that end a text.
        vocab_size: ids there are text for; None: all the decoder has. Some decoders have more rows than ids.
        rows: most texts written at once.
        chunk: most tokens of a prompt read at once.
    """

    def __init__(
        self,
        writer: Writer,
        eos_ids: Sequence[int],
        *,
        vocab_size: int | None = None,
        rows: int = 64,
        chunk: int = 1024,
    ) -> None:
        self.writer, self.eos_ids, self.rows, self.chunk = writer, frozenset(eos_ids), rows, chunk
        self.vocab_size = min(vocab_size or writer.vocab_size, writer.vocab_size)

    @torch.inference_mode()
    def prefix(self, ids: Sequence[int], *, grows: bool = False) -> Prefix:
        """Read ids once that many prompts begin with; to be handed to ``steps`` and ``write``.

        Raises:
            DataError: there are more than the model has places for.
        """
        if not ids:
            return Prefix(grows=grows)
        reading = self.read([ids], Source(self.writer), room=1)
        return Prefix(ids, reading.cache, grows=grows)

    def read(
        self, prompts: Sequence[Sequence[int]], source: Source, *, room: int, prefix: Prefix | None = None
    ) -> Reading:
        """Read prompts, to be gone on from by up to ``room`` tokens."""
        return Reading(self.writer, source, prompts, room=room, chunk=self.chunk, prefix=prefix)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        source: Source | None = None,
        constraint: Constraint | None = None,
        prefix: Prefix | None = None,
    ) -> list[Written]:
        """Continue prompts: ``n`` texts each, those of the first prompt first. Arguments and errors as ``steps``."""
        if sampling.beams > 1:
            return self._search(prompts, sampling, source, constraint)
        count = len(prompts) * sampling.n
        tokens: list[list[Token]] = [[] for _ in range(count)]
        scores: list[list[float]] = [[] for _ in range(count)]
        ends: dict[int, End] = {}
        for step in self.steps(prompts, sampling, source=source, constraint=constraint, prefix=prefix):
            tokens[step.text] += step.tokens
            scores[step.text].append(step.logprob)
            if step.end is not None:
                ends[step.text] = step.end
        return [
            Written(
                [token.id for token in tokens[text]],
                sum(scores[text]) / len(scores[text]),
                ends[text] != "length",
                tokens[text],
                ends[text],
            )
            for text in range(count)
        ]

    def steps(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        source: Source | None = None,
        constraint: Constraint | None = None,
        ended: Collection[int] = (),
        prefix: Prefix | None = None,
    ) -> Iterator[Step]:
        """Continue prompts, telling each step of each text as it is made.

        Args:
            prompts: ids, of unequal length.
            sampling: how.
            source: what the texts are written from beside their prompts, one item a prompt.
            constraint: what each text must be like.
            ended: numbers of texts that need not go on; looked at after each step, for the caller to add to.
            prefix: ids that were read before; what the prompts have in common with them is not read again.

        Raises:
            DataError: a prompt is empty or too long. RecipeError: beam search is not told step by step.
        """
        if sampling.beams > 1:
            raise DataError("beam search", "texts that are asked for whole", "a stream of tokens", "set beams to 1")
        if source is not None and len(prompts) > self.rows:
            raise DataError("a call with images", f"at most {self.rows} texts", str(len(prompts)), "ask for fewer")
        # Texts of similar length together: less padding. Each keeps its number, hence its rng.
        order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
        if len(prompts) <= self.rows:
            order = list(range(len(prompts)))
        most = max(self.rows // sampling.n, 1)
        for start in range(0, len(order), most):
            numbers = order[start : start + most]
            given = source or Source(self.writer)
            yield from self._together(
                [prompts[number] for number in numbers], numbers, sampling, given, constraint, ended, prefix
            )

    @torch.inference_mode()
    def _together(
        self,
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[int],
        sampling: Sampling,
        source: Source,
        constraint: Constraint | None,
        ended: Collection[int],
        prefix: Prefix | None,
    ) -> Iterator[Step]:
        """``steps`` for one batch; ``numbers`` are the prompts' places in the call."""
        each = sampling.n
        reading = self.read(prompts, source, room=sampling.max_new_tokens, prefix=prefix)
        reading.select([row for row in range(len(prompts)) for _ in range(each)])
        texts = [
            Holding(number * each + sample, sampling, constraint.fork() if constraint is not None else None)
            for number in numbers
            for sample in range(each)
        ]
        repeated = [prompt for prompt in prompts for _ in range(each)]
        chooser = Chooser(sampling, repeated, [text.number for text in texts], self.vocab_size)
        written: list[int] = []  # by the one text there is, where a prefix grows
        try:
            for made in range(1, sampling.max_new_tokens + 1):
                logits = reading.logits(self.vocab_size)
                chosen = chooser.choose(logits, _allowed(texts))
                chooser.note(chosen)
                full = made == sampling.max_new_tokens
                alive = []
                for row, (text, token) in enumerate(zip(texts, tokens_of(logits, chosen, sampling), strict=True)):
                    cut = full or len(repeated[row]) + made > reading.limit
                    step = text.take(token, self.eos_ids, cut)
                    if step.end is None:
                        alive.append(row)
                    yield step
                alive = [row for row in alive if texts[row].number not in ended]
                if not alive:
                    return
                written.append(int(chosen[0]))
                texts = [texts[row] for row in alive]
                repeated = [repeated[row] for row in alive]
                chooser.select(alive)
                reading.select(alive)
                reading.go_on(chosen[alive])
        finally:
            if prefix is not None and prefix.grows and len(prompts) * each == 1:
                prefix.cache, whole = reading.cache, [*prompts[0], *written]
                prefix.ids = whole[: reading.cache.length]

    @torch.inference_mode()
    def _search(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, source: Source | None, constraint: Constraint | None
    ) -> list[Written]:
        if constraint is not None:
            raise DataError("beam search", "texts without a constraint", "a constraint", "set beams to 1")
        if len(prompts) > 1 and len(prompts) * sampling.beams > self.rows and source is None:
            return [text for prompt in prompts for text in self._search([prompt], sampling, None, None)]
        reading = self.read(prompts, source or Source(self.writer), room=sampling.max_new_tokens)
        found = search(reading, prompts, sampling, self.eos_ids, self.vocab_size)
        return [
            Written(one.ids, one.logprob, one.finished, [], "eos" if one.finished else "length")
            for kept in found
            for one in kept
        ]


class Holding:
    """One text while it is being written: the tokens that may yet turn out to be a stop sequence are held back.

    Args:
        number: of the text in its call.
        sampling: says which sequences stop it.
        constraint: its own, or none.
    """

    def __init__(self, number: int, sampling: Sampling, constraint: Constraint | None) -> None:
        self.number, self.stop, self.constraint = number, sampling.stop, constraint
        self.held: list[Token] = []

    def take(self, token: Token, eos_ids: frozenset[int], cut: bool) -> Step:
        """Go on with a token; ``cut``: there is no room for another."""
        if token.id in eos_ids:
            return self._step(self.held, "eos", token)
        if self.constraint is not None:
            self.constraint.advance(token.id)
        self.held.append(token)
        ids = tuple(one.id for one in self.held)
        if any(ids[-len(stop) :] == stop for stop in self.stop):
            longest = max(len(stop) for stop in self.stop if ids[-len(stop) :] == stop)
            return self._step(self.held[: len(ids) - longest], "stop", token)
        if cut:
            return self._step(self.held, "length", token)
        begun = max((_begun(ids, stop) for stop in self.stop), default=0)
        certain, self.held = self.held[: len(ids) - begun], self.held[len(ids) - begun :]
        return self._step(certain, None, token)

    def _step(self, tokens: Sequence[Token], end: End | None, chosen: Token) -> Step:
        return Step(self.number, tuple(tokens), end, chosen.logprob)


def _begun(ids: tuple[int, ...], stop: tuple[int, ...]) -> int:
    """How many of the last ids are the start of a stop sequence, the longest such start."""
    longest = min(len(ids), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if ids[-size:] == stop[:size]), 0)


def _allowed(texts: Sequence[Holding]) -> Tensor | None:
    """(R, V) bool; None where nothing is constrained."""
    masks = [text.constraint.allowed() for text in texts if text.constraint is not None]
    return torch.stack(masks) if masks else None


def tokens_of(logits: Tensor, chosen: Tensor, sampling: Sampling) -> list[Token]:
    """The chosen tokens with their log-probabilities."""
    total = logits.logsumexp(-1, keepdim=True)
    scores = (logits.gather(1, chosen[:, None]) - total)[:, 0].tolist()
    others: list[tuple[tuple[int, float], ...]] = [()] * len(scores)
    if sampling.alternatives:
        best = (logits - total).topk(min(sampling.alternatives, logits.shape[-1]), dim=-1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        others = [tuple(zip(ids, values, strict=True)) for ids, values in pairs]
    return [Token(*one) for one in zip(chosen.tolist(), scores, others, strict=True)]
