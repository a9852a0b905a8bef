"""The generation engine: ids in, ids out; texts come and go while it runs. It knows no tokenizer and no images.

Each step reads one token of every text that is being written and a part of each prompt that is not read yet, so that
nobody waits for somebody else's long prompt, and chooses the next token of every text that is read to its end. After
Yu et al. (2022), "Orca: A Distributed Serving System for Transformer-Based Generative Models", and Agrawal et al.
(2024), "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve". A text's rng is its own, and what it
reads does not depend on the others (beyond rounding, where the decoder's products depend on how many rows they have).

Whoever has all prompts at hand calls ``write`` or ``steps``; a server submits requests as they come, and lets a thread
(``rebus.generation.thread``) run the steps.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict

import torch

from rebus.errors import DataError, EngineClosedError, QueueFullError
from rebus.generation.beams import search
from rebus.generation.conditioning import Conditioning, ConditioningCache
from rebus.generation.decoders import DecoderBackend
from rebus.generation.paging import Blocks, Pool
from rebus.generation.requests import (
    Constraint,
    Counts,
    End,
    EngineStats,
    Event,
    Listener,
    Reason,
    Request,
    Source,
    Step,
    Ticket,
    Token,
    Written,
)
from rebus.generation.runner import Chunk, Runner
from rebus.generation.sampling import Sampling
from rebus.generation.scheduler import Scheduler
from rebus.generation.sequence import SequenceGroup, TextSequence, choose

KEPT = 256 * 2**20  # bytes of keys and values that an engine whose cache grows holds on to between calls


class Engine:
    """Writes texts. May be used from any thread, but ``run_once`` and ``abandon`` by one at a time.

    Args:
        backend: runs the decoder.
        eos_ids: tokens that end a text.
        vocab_size: ids there are text for; None: all the decoder has. Some decoders have more rows than ids.
        blocks: how many blocks the cache has; no text may be longer than all of them. None: as many as are needed.
        block_size: tokens of one.
        max_running: most texts read and written at once.
        chunk: most tokens of prompts that are read in one step beside texts that are being written.
        max_queue: most texts that wait; None: any number.
        image_bytes: most memory for what was made of images and may be asked about again.
    """

    def __init__(
        self,
        backend: DecoderBackend,
        eos_ids: Sequence[int],
        *,
        vocab_size: int | None = None,
        blocks: int | None = None,
        block_size: int = 32,
        max_running: int = 64,
        chunk: int = 1024,
        max_queue: int | None = None,
        image_bytes: int = 256 * 2**20,
    ) -> None:
        self.backend, self.eos_ids = backend, frozenset(eos_ids)
        self.vocab_size = min(vocab_size or backend.vocab_size, backend.vocab_size)
        self.max_running, self.max_queue = max_running, max_queue
        self._blocks = Blocks(blocks, block_size)
        self._pool = Pool(self._blocks)
        self._runner = Runner(backend, self._pool)
        self._counts = Counts()
        self._scheduler = Scheduler(
            self._blocks,
            ConditioningCache(image_bytes),
            self._counts,
            max_running=max_running,
            chunk=chunk,
            longest=backend.max_length if backend.bounded else None,
        )
        self._lock, self._inbox, self._closed = threading.Lock(), deque[SequenceGroup](), False
        self._turn = threading.Lock()  # whose callers run the steps themselves
        self._coming = 0  # texts in the inbox
        self._ends: deque[float] = deque(maxlen=64)  # when texts ended, for an estimate

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        sources: Sequence[Source] | None = None,
        constraint: Constraint | None = None,
    ) -> list[Written]:
        """Continue prompts: ``n`` texts each, those of the first prompt first. Arguments and errors as ``steps``."""
        if sampling.beams > 1:
            return self._search(prompts, sampling, sources, constraint)
        count = len(prompts) * sampling.n
        tokens: list[list[Token]] = [[] for _ in range(count)]
        scores: list[list[float]] = [[] for _ in range(count)]
        ends: dict[int, End] = {}
        for step in self.steps(prompts, sampling, sources=sources, constraint=constraint):
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
        sources: Sequence[Source] | None = None,
        constraint: Constraint | None = None,
        ended: Collection[int] = (),
    ) -> Iterator[Step]:
        """Continue prompts, giving each step of each text as it is made; the caller's thread makes the steps.

        Args:
            prompts: ids, of unequal length.
            sampling: how; the text of prompt p and sample s has number p times n plus s, and draws by it.
            sources: what the texts are written from beside their prompts, one a prompt.
            constraint: what each text must be like.
            ended: numbers of texts that need not go on; looked at after each step, for the caller to add to.

        Raises:
            DataError: a prompt is empty or too long; beam search has no steps. Whatever a source or constraint raises.
        """
        requests = [
            Request(prompt, sampling, None if sources is None else sources[place], constraint, first=place * sampling.n)
            for place, prompt in enumerate(prompts)
        ]
        for request in requests:
            self._check(request)
        waiting, events = deque(requests), deque[Event]()
        running: list[Ticket] = []
        try:
            while waiting or running:
                while waiting and (not running or (len(running) + 1) * sampling.n <= self.max_running):
                    running.append(self.submit(waiting.popleft(), events.append))
                    running[-1].ended = ended
                with self._turn:
                    self.run_once()
                while events:
                    event = events.popleft()
                    if isinstance(event, Step):
                        yield event
                    elif event.error is not None:
                        raise event.error
                running = [ticket for ticket in running if ticket.done is None]
        finally:
            for ticket in running:
                ticket.cancel()
            with self._turn:
                self._take_in()
                self._let_go()
                self._trim()

    @torch.inference_mode()
    def _search(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        sources: Sequence[Source] | None,
        constraint: Constraint | None,
    ) -> list[Written]:
        if constraint is not None:
            raise DataError("beam search", "texts without a constraint", "a constraint", "set beams to 1")
        if not self._blocks.grows:
            raise DataError("beam search", "an engine whose cache grows", "one of a fixed size", "set beams to 1")
        sequences: list[TextSequence] = []
        for place, prompt in enumerate(prompts):
            request = Request(prompt, sampling)
            group = SequenceGroup(request, Ticket(place, request))
            group.conditioning = None if sources is None else Conditioning(sources[place])
            sequences.append(TextSequence(group, place, self._pool.size, self.vocab_size))
            self._scheduler.check(len(prompt), sequences[-1].prefix)
        texts: list[Written] = []
        most = max(self.max_running // sampling.beams, 1)
        for start in range(0, len(sequences), most):
            some = sequences[start : start + most]
            limits = [self._scheduler.limit(sequence.prefix) for sequence in some]
            with self._turn:
                best = search(
                    self._runner,
                    self._blocks,
                    some,
                    sampling,
                    eos_ids=self.eos_ids,
                    vocab_size=self.vocab_size,
                    limits=limits,
                )
                self._trim()
            texts += [text for group in best for text in group]
        return texts

    def _trim(self) -> None:
        """Give back a cache that has grown large, once nobody uses it."""
        if self._blocks.grows and self._scheduler.idle and self._pool.bytes > KEPT:
            self._scheduler.forget()
            self._blocks.clear()
            self._pool.clear()

    def submit(self, request: Request, listener: Listener | None = None) -> Ticket:
        """Take a request.

        Args:
            request: it.
            listener: is given each event in the engine's thread, and must be quick; None: the ticket keeps them.

        Raises:
            DataError: the prompt is empty or too long, or beams are asked for. QueueFullError: too many wait already.
            EngineClosedError: no more are taken.
        """
        self._check(request)
        texts = request.sampling.n
        with self._lock:
            if self._closed:
                raise EngineClosedError.of("problem.engine_stopping")
            queued = self._coming + len(self._scheduler.waiting)
            if self.max_queue is not None and queued + texts > self.max_queue:
                self._counts.refused += 1
                after = self._seconds(queued)
                facts = {"most": self.max_queue, "queued": queued, "seconds": round(after)}
                raise QueueFullError.of("problem.engine_full", after, **facts)
            ticket = Ticket(self._counts.requests, request, listener)
            self._counts.requests += 1
            self._coming += texts
            self._inbox.append(SequenceGroup(request, ticket))
        return ticket

    def _check(self, request: Request) -> None:
        """Raises DataError where a request can never be fulfilled."""
        if request.sampling.beams > 1:
            raise DataError("beam search", "texts that are asked for whole", "a stream of tokens", "set beams to 1")
        if self.max_queue is not None and request.sampling.n > self.max_queue:
            most, count = f"at most {self.max_queue} texts", str(request.sampling.n)
            raise DataError("'n' of the request", most, count, "ask for fewer")
        self._scheduler.check(len(request.ids), 0)
        unknown = next((token for token in request.ids if not 0 <= token < self.backend.vocab_size), None)
        if unknown is not None:
            what = f"ids from 0 to {self.backend.vocab_size - 1}, as the model has"
            raise DataError("the prompt", what, str(unknown), "use the model's own tokenizer")

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._lock:
            return not self._coming and self._scheduler.idle

    def close(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._closed = True

    def abandon(self, error: Exception | None = None) -> None:
        """Fail whatever is not finished; not while ``run_once`` runs.

        Args:
            error: why; None: the engine is being stopped.
        """
        error = error or EngineClosedError("the engine", "that it runs", "that it was stopped", "ask again later")
        self._take_in()
        for group in {id(text.group): text.group for text in self._scheduler.all_texts()}.values():
            self._end(group, "failed", error)
        self._scheduler.forget()

    def stats(self) -> EngineStats:
        """Figures of this moment."""
        queued = self._coming + len(self._scheduler.waiting)
        return EngineStats(**asdict(self._counts), queued=queued, **self._scheduler.figures())

    @torch.inference_mode()
    def run_once(self) -> bool:
        """One step: texts join and leave, a part of what is unread is read, tokens are chosen and handed out.

        Returns:
            Whether there was anything to do.
        """
        self._take_in()
        self._let_go()
        failed = self._scheduler.plan()
        for group, error in failed:
            self._end(group, "failed", error)
        chunks = self._scheduler.chunks()
        if chunks:
            self._read(chunks)
        return bool(chunks or failed)

    def _take_in(self) -> None:
        """What was submitted becomes texts."""
        with self._lock:
            groups = list(self._inbox)
            self._inbox.clear()
        for group in groups:
            try:
                texts = [
                    TextSequence(group, group.request.first + sample, self._pool.size, self.vocab_size)
                    for sample in range(group.left)
                ]
                for text in texts:
                    self._scheduler.add(text)
            except Exception as error:  # a constraint that cannot be forked fails its own request
                self._end(group, "failed", error)
            with self._lock:  # only now: at no moment is it nowhere
                self._coming -= group.request.sampling.n

    def _let_go(self) -> None:
        """Texts that nobody wants any more leave."""
        texts = list(self._scheduler.all_texts())
        for group in {id(text.group): text.group for text in texts if text.group.ticket.cancelled}.values():
            self._end(group, "cancelled")
        for text in texts:
            if text.number in text.group.ticket.ended and text.group.ticket.done is None:
                self._leave(text)

    def _read(self, chunks: Sequence[Chunk]) -> None:
        """Read chunks, and go on with the texts that are read to their end. What fails takes no other text with it."""
        try:
            logits = self._runner.read(chunks, self.vocab_size)
        except Exception as error:
            if len(chunks) == 1:
                self._end(chunks[0].sequence.group, "failed", error)
                return
            for chunk in chunks:
                if chunk.sequence.table:  # not gone with another text of its request
                    self._read([chunk])
            return
        self._counts.steps += 1
        for chunk in chunks:
            self._counts.prompt_tokens += chunk.count if chunk.sequence.unread > 1 or not chunk.sequence.written else 0
        whole = [chunk.sequence for chunk in chunks if chunk.whole]
        self._scheduler.were_read(chunks)
        if whole:
            for text, token in zip(whole, choose(whole, logits), strict=True):
                self._go_on(text, token)

    def _go_on(self, text: TextSequence, token: Token | Exception) -> None:
        """A text's next token."""
        group = text.group
        if group.ticket.done is not None:  # another text of its request has failed
            return
        try:
            if isinstance(token, Exception):
                raise token
            step = text.take(token, self.eos_ids, self._scheduler.limit(text.prefix))
        except Exception as error:
            self._end(group, "failed", error)
            return
        group.new_tokens += 1
        self._counts.new_tokens += 1
        group.ticket.push(step)
        if step.end is not None:
            self._leave(text)

    def _leave(self, text: TextSequence) -> None:
        """A text has its end."""
        self._scheduler.remove(text)
        self._ends.append(time.monotonic())
        text.group.left -= 1
        if not text.group.left:
            self._end(text.group, "written")

    def _end(self, group: SequenceGroup, reason: Reason, error: Exception | None = None) -> None:
        """A request has its end."""
        for text in [text for text in self._scheduler.all_texts() if text.group is group]:
            self._scheduler.remove(text)
        name = "finished" if reason == "written" else reason
        setattr(self._counts, name, getattr(self._counts, name) + 1)
        group.ticket.push(group.done(reason, error))

    def _seconds(self, queued: int) -> float:
        """After how long those that wait now have had their turn, by how fast texts ended of late: 1 to 60."""
        if len(self._ends) < 2:
            return 1.0
        each = (time.monotonic() - self._ends[0]) / len(self._ends)
        return min(max(each * queued, 1.0), 60.0)
