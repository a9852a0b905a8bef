"""One text on its way through the engine, and the request that it is of.

It knows no decoder: what is to be read, where what was read lies, and what was chosen. Letters: P prefix tokens, S
tokens of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from rebus.generation.batching.images import Given
from rebus.generation.batching.requests import Done, Reason, Request, Ticket
from rebus.generation.engine import Constraint, Holding
from rebus.generation.sampling import Chooser


class Job:
    """A request while it is worked on.

    Attributes:
        given: what its texts are written from; None: nothing, or not made yet.
        left: texts that have no end yet.
    """

    def __init__(self, request: Request, ticket: Ticket) -> None:
        self.request, self.ticket = request, ticket
        self.ids = list(request.ids)
        self.given: Given | None = None
        self.left = request.sampling.n
        self.reused: int | None = None
        self.new_tokens = 0

    def done(self, reason: Reason, error: Exception | None = None) -> Done:
        """What is told last."""
        prefix = 0 if self.given is None else self.given.length
        return Done(reason, prefix + len(self.ids), self.reused or 0, self.new_tokens, error)


class Text:
    """One text.

    Attributes:
        ids: the prompt and what was written.
        manner: texts of one manner are chosen for together.
        read: places that are filled in its blocks: P prefix tokens, then ids.
        table: its blocks.
        named: how many of them were given names.
        order: of its first turn; those that came later are put off first.
        passed: how often others had their turn before it for want of room.
    """

    def __init__(self, job: Job, number: int, size: int, vocab_size: int) -> None:
        sampling = job.request.sampling
        constraint: Constraint | None = job.request.constraint
        self.job, self.number, self._size = job, number, size
        self.ids = list(job.ids)
        self.held = Holding(number, sampling, constraint.fork() if constraint is not None else None)
        self.chooser = Chooser(sampling, [job.ids], [number], vocab_size)
        # settings without what does not bear on which token is chosen from given logits by given rng
        self.manner = replace(sampling, max_new_tokens=1, seed=0, stop=(), n=1, length_penalty=1.0)
        self.read, self.named, self.order, self.passed = 0, 0, -1, 0
        self.table: list[int] = []
        self._names: list[bytes] = []

    @property
    def given(self) -> Given | None:
        """What it is written from."""
        return self.job.given

    @property
    def prefix(self) -> int:
        """P."""
        return 0 if self.job.given is None else self.job.given.length

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
        return len(self.ids) - len(self.job.ids)

    @property
    def user(self) -> str:
        """Whose."""
        return self.job.request.user

    def names(self, count: int) -> Sequence[bytes]:
        """Of its first ``count`` blocks: digests of all that their content depends on."""
        given, size, prefix = self.given, self._size, self.prefix
        while len(self._names) < count:
            first = len(self._names) * size
            ids = self.ids[max(first - prefix, 0) : max(first + size - prefix, 0)]
            before = self._names[-1] if self._names else b""
            made = blake2b(before, digest_size=32)
            if given is not None and (not given.inside or given.marks(ids)):
                key = given.key.encode()
                made.update(len(key).to_bytes(4, "big") + key)
            else:
                made.update(b"none")
            made.update(np.array([min(max(prefix - first, 0), size), *ids], dtype=np.int64).tobytes())
            self._names.append(made.digest())
        return self._names[:count]
