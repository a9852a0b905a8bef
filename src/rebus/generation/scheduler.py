"""Who is read next, and where: turns, blocks, and who is put off when there are none left.

It knows no decoder and no sampling. Rules, the most important first:

- Texts that run go on; where the cache is full, the one that began last is put off: its blocks are free, and it is read
  again later, first of all that wait. The one that began first always goes on, so that something always ends.
- Users take turns. A text that finds no room lets others pass, but only so often; then they wait for it.
- A text whose beginning is being read by another waits for that, to share it.
- Tokens of prompts are dealt out evenly, so that a short prompt is read while a long one still is.

Letters: P prefix tokens.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from typing import Literal

from rebus.errors import DataError
from rebus.generation.conditioning import Conditioning, ConditioningCache
from rebus.generation.paging import Blocks
from rebus.generation.requests import Counts
from rebus.generation.runner import Chunk
from rebus.generation.sequence import SequenceGroup, TextSequence

UNBOUNDED = 2**62
PATIENCE = 16  # texts that may pass one that finds no room
ALONE = 4  # times as much is read of prompts in a step where no text is being written
Verdict = Literal["begins", "later", "nobody", "failed"]


class WaitingQueue:
    """Texts that wait: users take turns, each one's texts keep their order, and preempted texts go first."""

    def __init__(self) -> None:
        self._back: list[TextSequence] = []  # put off, the first to have had a turn first
        self._users: OrderedDict[str, deque[TextSequence]] = OrderedDict()  # the one whose turn it is first
        self._count = 0  # asked for from other threads

    def __len__(self) -> int:
        return self._count

    def add(self, text: TextSequence) -> None:
        """The last of its user's."""
        self._users.setdefault(text.group.request.user, deque()).append(text)
        self._count += 1

    def put_back(self, text: TextSequence) -> None:
        """It had its turn already."""
        self._back.append(text)
        self._back.sort(key=lambda sequence: sequence.order)
        self._count += 1

    def candidates(self) -> Iterator[TextSequence]:
        """Who may be next, in order: those put off, then the first text of each user."""
        yield from list(self._back)
        yield from [texts[0] for texts in self._users.values()]

    def take(self, text: TextSequence) -> None:
        """Its turn has come: its user is now the last."""
        if text not in self._back:
            self._users.move_to_end(text.group.request.user)
        self.remove(text)

    def remove(self, text: TextSequence) -> None:
        """It wants no turn any more: its user's is still to come."""
        self._count -= 1
        if text in self._back:
            self._back.remove(text)
            return
        self._users[text.group.request.user].remove(text)
        if not self._users[text.group.request.user]:
            del self._users[text.group.request.user]

    def __iter__(self) -> Iterator[TextSequence]:
        yield from list(self._back)
        for texts in list(self._users.values()):
            yield from list(texts)


class Scheduler:
    """Keeps the turns.

    Args:
        blocks: whose block is whose.
        sources: what they gave.
        counts: are counted on.
        max_running: most texts at once.
        chunk: most tokens of prompts a step.
        longest: tokens the decoder has places for; None: no bound.
    """

    def __init__(
        self,
        blocks: Blocks,
        sources: ConditioningCache,
        counts: Counts,
        *,
        max_running: int,
        chunk: int,
        longest: int | None,
    ) -> None:
        self.blocks, self.sources, self.max_running, self.chunk = blocks, sources, max_running, chunk
        self.waiting, self._running, self._counts, self._longest = WaitingQueue(), list[TextSequence](), counts, longest
        self._pending: dict[bytes, TextSequence] = {}  # names of blocks that are being filled, and by whom
        self._order = 0

    @property
    def idle(self) -> bool:
        """Whether there are no texts."""
        return not self._running and not len(self.waiting)

    def limit(self, prefix: int) -> int:
        """Most ids of a text that may be read, given its P."""
        room = UNBOUNDED if self.blocks.grows else self.blocks.count * self.blocks.size - prefix
        return room if self._longest is None else min(room, self._longest - bool(prefix))

    def check(self, length: int, prefix: int) -> None:
        """Raises DataError: a prompt is empty or too long."""
        if not length:
            do = "begin it with at least one token, such as the one that begins texts"
            raise DataError("the prompt", "at least one token", "none", do)
        if length > self.limit(prefix):
            what = f"at most {self.limit(prefix)} tokens, as the model or its cache has places"
            raise DataError("the prompt", what, str(length), "shorten it")

    def add(self, text: TextSequence) -> None:
        """A new text, the last of its user's."""
        self.waiting.add(text)

    def all_texts(self) -> Iterator[TextSequence]:
        """Those that run and those that wait."""
        yield from self._running
        yield from self.waiting

    def remove(self, text: TextSequence) -> None:
        """It is done with: its blocks are free."""
        if text in self._running:
            self._running.remove(text)
            self._release(text)
        else:
            self.waiting.remove(text)

    def forget(self) -> None:
        """What was read cannot be relied on any more."""
        self.blocks.forget()
        self._pending.clear()

    def figures(self) -> dict[str, int]:
        """Those of ``EngineStats`` that are known here."""
        used = self.blocks.count - self.blocks.available
        return {
            "running": len(self._running),
            "blocks": self.blocks.count,
            "blocks_used": used,
            "blocks_cached": self.blocks.cached,
        }

    def plan(self) -> list[tuple[SequenceGroup, Exception]]:
        """Make room for the next token of texts that run, and let others begin. Gives requests that cannot."""
        for text in sorted(self._running, key=lambda sequence: sequence.order):
            self._grow(text)
        failed: list[tuple[SequenceGroup, Exception]] = []
        computed = self._counts.images_made
        verdict: Verdict = "begins"
        while verdict == "begins" and len(self._running) < self.max_running:
            verdict = "nobody"
            for text in self.waiting.candidates():
                if any(group is text.group for group, _ in failed):
                    continue
                try:
                    verdict = self._try(text, may_compute=self._counts.images_made == computed)
                except Exception as error:
                    failed.append((text.group, error))
                    continue
                if verdict != "later":
                    break
        return failed

    def chunks(self) -> list[Chunk]:
        """What is read in this step."""
        chunks = [Chunk(text, 1) for text in self._running if text.unread == 1]
        reading = sorted((text for text in self._running if text.unread > 1), key=lambda sequence: sequence.unread)
        budget = self.chunk if chunks else ALONE * self.chunk
        for place, text in enumerate(reading):  # the shortest first: what it leaves of its share is the others'
            count = min(text.unread, max(budget // (len(reading) - place), 1))
            if text.read < text.prefix:  # a prefix is read whole, since its tokens see each other
                count = max(count, text.prefix - text.read)
            if budget <= 0 and chunks:
                break
            chunks.append(Chunk(text, count))
            budget -= count
        return chunks

    def were_read(self, chunks: Sequence[Chunk]) -> None:
        """Chunks were read: blocks that are full now may be found."""
        for chunk in chunks:
            text = chunk.sequence
            text.read += chunk.count
            full = text.read // self.blocks.size
            if full > text.named:
                for block, name in zip(text.table[text.named : full], text.names(full)[text.named :], strict=True):
                    self.blocks.name(block, name)
                    self._pending.pop(name, None)
                text.named = full

    def _grow(self, text: TextSequence) -> None:
        """Blocks for all of a text that runs; puts off others, or itself, where there are none."""
        while text in self._running and len(text.table) * self.blocks.size < text.places:
            block = self.blocks.take()
            if block is not None:
                text.table.append(block)
                continue
            last = max(self._running, key=lambda sequence: sequence.order)
            self.waiting.put_back(last)  # first: at no moment is it nowhere
            self._running.remove(last)
            self._release(last)
            self._counts.preemptions += 1

    def _release(self, text: TextSequence) -> None:
        for block in reversed(text.table):  # the end of a text is the first to be forgotten
            self.blocks.release(block)
        for name in [name for name, owner in self._pending.items() if owner is text]:
            del self._pending[name]
        text.table, text.read, text.named = [], 0, 0

    def _try(self, text: TextSequence, *, may_compute: bool) -> Verdict:
        """Let a text begin if it can. Raises whatever its source raises, and DataError: it is too long."""
        if not self._give(text, may_compute=may_compute):
            return "later"
        self.check(len(text.group.ids), text.prefix)
        blocks, size = self.blocks, self.blocks.size
        names = text.names((text.places - 1) // size)  # the last token's vector is wanted: it is always read
        shared: list[int] = []
        for name in names:
            block = blocks.find(name)
            if block is None:
                break
            shared.append(block)
        if len(shared) < len(names) and names[len(shared)] in self._pending:
            return "later"
        need = -(-text.places // size) - len(shared)
        free = sum(blocks.is_free(block) for block in shared)
        blocks.reserve(free + need + len(self._running))
        spare = blocks.available - free - need
        # Room for the others to grow into, or it would be preempted again at once.
        if spare < (len(self._running) if self._running else 0):
            text.passed += 1
            return "nobody" if text.passed > PATIENCE or text.order >= 0 else "later"
        for block in shared:
            blocks.share(block)
        text.table = [*shared, *(block for _ in range(need) if (block := blocks.take()) is not None)]
        text.read, text.named = len(shared) * size, len(shared)
        self._pending.update((name, text) for name in names[len(shared) :])
        self._begin(text)
        return "begins"

    def _begin(self, text: TextSequence) -> None:
        self._running.append(text)  # first: at no moment is it nowhere
        self.waiting.take(text)
        if text.order < 0:
            text.order, self._order = self._order, self._order + 1
        if text.group.reused is None:
            text.group.reused = text.read
        self._counts.reused_tokens += text.read

    def _give(self, text: TextSequence, *, may_compute: bool) -> bool:
        """See to what it is written from; one source at most is computed in a step. Gives whether it is there."""
        source = text.group.request.source
        if source is None or text.group.conditioning is not None:
            return True
        conditioning = Conditioning(source) if source.ready else self.sources.find(source.key)
        if conditioning is None and not may_compute:
            return False
        if conditioning is None:
            self._counts.images_made += 1
            conditioning = self.sources.compute(source)
        elif not source.ready:
            self._counts.images_reused += 1
        text.group.conditioning = conditioning
        return True
