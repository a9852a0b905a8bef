"""The texts in the engine, and the request that each belongs to.

They know no decoder: what is to be read, where what was read lies, and what was chosen. Letters: P prefix tokens, S
tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from rebus.generation.conditioning import Conditioning
from rebus.generation.requests import Done, End, Reason, Request, Step, Ticket, Token
from rebus.generation.sampling import Chooser, Sampling


class SequenceGroup:
    """A request while it is worked on.

    Attributes:
        conditioning: what its texts are written from; None: nothing, or not computed yet.
        left: texts that have no end yet.
    """

    def __init__(self, request: Request, ticket: Ticket) -> None:
        self.request, self.ticket = request, ticket
        self.ids = list(request.ids)
        self.conditioning: Conditioning | None = None
        self.left = request.sampling.n
        self.reused: int | None = None
        self.new_tokens = 0

    def done(self, reason: Reason, error: Exception | None = None) -> Done:
        """Its last event."""
        prefix = 0 if self.conditioning is None else self.conditioning.length
        return Done(reason, prefix + len(self.ids), self.reused or 0, self.new_tokens, error)


class TextSequence:
    """One text.

    Attributes:
        ids: the prompt and what was written.
        manner: texts of one manner are chosen for together.
        read: places that are filled in its blocks: P prefix tokens, then ids.
        table: its blocks.
        named: how many of them were given names.
        order: of its first turn; those that came later are preempted first.
        passed: how often others had their turn before it for want of room.
    """

    def __init__(self, group: SequenceGroup, number: int, block_size: int, vocab_size: int) -> None:
        sampling, constraint = group.request.sampling, group.request.constraint
        self.group, self.number, self._size = group, number, block_size
        self.ids = list(group.ids)
        self.constraint = None if constraint is None else constraint.fork()
        self.chooser = Chooser(sampling, [group.ids], [number], vocab_size)
        # settings without what does not bear on which token is chosen from given logits by given rng
        self.manner = replace(sampling, max_new_tokens=1, seed=0, stop=(), n=1, length_penalty=1.0)
        self.read, self.named, self.order, self.passed = 0, 0, -1, 0
        self.table: list[int] = []
        self._names: list[bytes] = []
        self._pending: list[Token] = []  # may yet turn out to be a stop sequence

    @property
    def conditioning(self) -> Conditioning | None:
        """What it is written from."""
        return self.group.conditioning

    @property
    def prefix(self) -> int:
        """P."""
        return 0 if self.group.conditioning is None else self.group.conditioning.length

    @property
    def places(self) -> int:
        """Of all its tokens, read or not."""
        return self.prefix + len(self.ids)

    @property
    def unread(self) -> int:
        """Tokens that are not read yet: one while it is being written."""
        return self.places - self.read

    @property
    def written(self) -> int:
        """Tokens chosen so far."""
        return len(self.ids) - len(self.group.ids)

    def take(self, token: Token, eos_ids: frozenset[int], limit: int) -> Step:
        """Go on with a token; ``limit``: most ids that may be read."""
        self.ids.append(token.id)
        if token.id in eos_ids:
            return self._step(len(self._pending), "eos", token)
        if self.constraint is not None:
            self.constraint.advance(token.id)
        self._pending.append(token)
        stops, ids = self.group.request.sampling.stop, tuple(pending.id for pending in self._pending)
        longest = max((len(stop) for stop in stops if ids[-len(stop) :] == stop), default=0)
        if longest:
            return self._step(len(ids) - longest, "stop", token)
        if self.written == self.group.request.sampling.max_new_tokens or len(self.ids) > limit:
            return self._step(len(ids), "length", token)
        return self._step(len(ids) - max((_start_of(ids, stop) for stop in stops), default=0), None, token)

    def _step(self, certain: int, end: End | None, token: Token) -> Step:
        tokens, self._pending = self._pending[:certain], self._pending[certain:]
        return Step(self.number, tuple(tokens), end, token.logprob)

    def names(self, count: int) -> Sequence[bytes]:
        """Of its first ``count`` blocks: digests of all that their content depends on."""
        conditioning, size, prefix = self.conditioning, self._size, self.prefix
        while len(self._names) < count:
            first = len(self._names) * size
            ids = self.ids[max(first - prefix, 0) : max(first + size - prefix, 0)]
            digest = blake2b(self._names[-1] if self._names else b"", digest_size=32)
            if conditioning is not None and (not conditioning.inside or conditioning.marks(ids)):
                key = conditioning.key.encode()
                digest.update(len(key).to_bytes(4, "big") + key)
            else:
                digest.update(b"none")
            digest.update(np.array([min(max(prefix - first, 0), size), *ids], dtype=np.int64).tobytes())
            self._names.append(digest.digest())
        return self._names[:count]


def _start_of(ids: tuple[int, ...], stop: tuple[int, ...]) -> int:
    """How many of the last ids are the start of a stop sequence, the longest such start."""
    longest = min(len(ids), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if ids[-size:] == stop[:size]), 0)


def choose(texts: Sequence[TextSequence], logits: Tensor) -> list[Token | Exception]:
    """One token a text from logits (R, V), by its own settings and rng; an exception where its constraint failed."""
    results: list[Token | Exception | None] = [None] * len(texts)
    groups: dict[tuple[Sampling, bool], list[int]] = {}
    masks: dict[int, Tensor] = {}
    for row, text in enumerate(texts):
        try:
            if text.constraint is not None:
                masks[row] = text.constraint.allowed()
        except Exception as error:
            results[row] = error
            continue
        groups.setdefault((text.manner, text.constraint is not None), []).append(row)
    for (sampling, constrained), rows in groups.items():
        part = logits if len(rows) == len(texts) else logits[rows]
        allowed = torch.stack([masks[row] for row in rows]) if constrained else None
        ids = Chooser.joined([texts[row].chooser for row in rows]).choose(part, allowed)
        for place, (row, token) in enumerate(zip(rows, _tokens(part, ids, sampling), strict=True)):
            texts[row].chooser.note(ids[place : place + 1])
            results[row] = token
    return [token for token in results if token is not None]


def _tokens(logits: Tensor, ids: Tensor, sampling: Sampling) -> list[Token]:
    """The chosen ids (R,) with their log-probabilities."""
    total = logits.logsumexp(-1, keepdim=True)
    logprobs = (logits.gather(1, ids[:, None]) - total)[:, 0].tolist()
    others: list[tuple[tuple[int, float], ...]] = [()] * len(logprobs)
    if sampling.alternatives:
        best = (logits - total).topk(min(sampling.alternatives, logits.shape[-1]), dim=-1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        others = [tuple(zip(ids, values, strict=True)) for ids, values in pairs]
    return [Token(*parts) for parts in zip(ids.tolist(), logprobs, others, strict=True)]
