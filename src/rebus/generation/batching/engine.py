"""The engine that writes many texts at once, which come and go while it runs. It knows no tokenizer and no images.

Each step reads one token of every text that is being written and a part of each prompt that is not read yet, so that
nobody waits for somebody else's long prompt, and chooses the next token of every text that is read to its end. After
Yu et al. (2022), "Orca: A Distributed Serving System for Transformer-Based Generative Models", and Agrawal et al.
(2024), "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve". A text's tokens are those that
``Engine`` would write for its request alone: its rng are its own, and what it reads does not depend on the others
(beyond rounding, where the decoder's products depend on how many rows they have).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict

import torch

from rebus.errors import DataError, EngineClosedError, QueueFullError
from rebus.generation.batching.choosing import choose
from rebus.generation.batching.images import Images
from rebus.generation.batching.reading import Passes, Span
from rebus.generation.batching.requests import Counts, EngineStats, Log, Reason, Request, Ticket
from rebus.generation.batching.scheduling import Scheduler
from rebus.generation.batching.text import Job, Text
from rebus.generation.engine import Token
from rebus.generation.paging import Blocks, Pool
from rebus.generation.reading import Writer
from rebus.models.towers.decoder import Decoder


class ContinuousEngine:
    """Writes texts.

    ``submit``, ``close``, ``stats`` and the tickets may be used from any thread; ``run_once`` by one at a time.

    Args:
        writer: a decoder, or what writes with it. A memory (cross-attention) needs the decoder, or ``Plain``.
        eos_ids: tokens that end a text.
        vocab_size: ids there are text for; None: all the decoder has.
        blocks: how many blocks the cache has; no text may be longer than all of them.
        block_size: tokens of one.
        max_running: most texts read and written at once.
        chunk: most tokens of prompts that are read in one step beside texts that are being written.
        max_queue: most texts that wait.
        image_bytes: most memory for what was made of images and may be asked about again.
    """

    def __init__(
        self,
        writer: Writer | Decoder,
        eos_ids: Sequence[int],
        *,
        vocab_size: int | None = None,
        blocks: int = 1024,
        block_size: int = 16,
        max_running: int = 64,
        chunk: int = 128,
        max_queue: int = 256,
        image_bytes: int = 256 * 2**20,
    ) -> None:
        self._pool = Pool(blocks, block_size)
        self._passes = Passes(writer, self._pool)
        self.writer, self.eos_ids = self._passes.writer, frozenset(eos_ids)
        self.vocab_size = min(vocab_size or writer.vocab_size, writer.vocab_size)
        self.max_queue = max_queue
        self._counts = Counts()
        self._scheduler = Scheduler(
            Blocks(blocks, block_size),
            Images(image_bytes),
            self._counts,
            max_running=max_running,
            chunk=chunk,
            longest=writer.max_length if self.writer.bounded else None,
        )
        self._lock, self._inbox, self._closed = threading.Lock(), deque[Job](), False
        self._coming = 0  # texts in the inbox
        self._ends: deque[float] = deque(maxlen=64)  # when texts ended, for an estimate

    def submit(self, request: Request, log: Log | None = None) -> Ticket:
        """Take a request.

        Args:
            request: it.
            log: is told each event in the engine's thread, and must be quick; None: the ticket keeps them.

        Raises:
            DataError: the prompt is empty or too long, or beams are asked for. QueueFullError: too many wait already.
            EngineClosedError: no more are taken.
        """
        texts = request.sampling.n
        if request.sampling.beams > 1:
            raise DataError("beam search", "texts that are asked for whole", "a stream of tokens", "set beams to 1")
        if texts > self.max_queue:
            raise DataError("'n' of the request", f"at most {self.max_queue} texts", str(texts), "ask for fewer")
        self._scheduler.check(len(request.ids), 0)
        unknown = next((token for token in request.ids if not 0 <= token < self.writer.vocab_size), None)
        if unknown is not None:
            what = f"ids from 0 to {self.writer.vocab_size - 1}, as the model has"
            raise DataError("the prompt", what, str(unknown), "use the model's own tokenizer")
        with self._lock:
            if self._closed:
                raise EngineClosedError("the engine", "that it runs", "that it is being stopped", "ask again later")
            queued = self._coming + len(self._scheduler.waiting)
            if queued + texts > self.max_queue:
                self._counts.refused += 1
                after = self._seconds(queued)
                do = f"ask again in {after:.0f} seconds"
                most = f"at most {self.max_queue} texts in the queue"
                raise QueueFullError("the engine", most, str(queued), do, after)
            ticket = Ticket(self._counts.requests, request, log)
            self._counts.requests += 1
            self._coming += texts
            self._inbox.append(Job(request, ticket))
        return ticket

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
        told = error or EngineClosedError("the engine", "that it runs", "that it was stopped", "ask again later")
        self._take_in()
        for job in {id(text.job): text.job for text in self._scheduler.all_texts()}.values():
            self._end(job, "failed", told)
        self._scheduler.forget()

    def stats(self) -> EngineStats:
        """Figures of this moment."""
        queued = self._coming + len(self._scheduler.waiting)
        return EngineStats(queued=queued, **self._scheduler.figures(), **asdict(self._counts))

    @torch.inference_mode()
    def run_once(self) -> bool:
        """One step: texts join and leave, a part of what is unread is read, tokens are chosen and told.

        Returns:
            Whether there was anything to do.
        """
        self._take_in()
        self._let_go()
        failed = self._scheduler.plan()
        for job, error in failed:
            self._end(job, "failed", error)
        spans = self._scheduler.spans()
        if spans:
            self._read(spans)
        return bool(spans or failed)

    def _take_in(self) -> None:
        """What was submitted becomes texts."""
        with self._lock:
            jobs = list(self._inbox)
            self._inbox.clear()
        for job in jobs:
            try:
                texts = [Text(job, number, self._pool.size, self.vocab_size) for number in range(job.left)]
                for text in texts:
                    self._scheduler.add(text)
            except Exception as error:  # a constraint that cannot be forked fails its own request
                self._end(job, "failed", error)
            with self._lock:  # only now: at no moment is it nowhere
                self._coming -= job.request.sampling.n

    def _let_go(self) -> None:
        """Texts that nobody wants any more leave."""
        texts = list(self._scheduler.all_texts())
        for job in {id(text.job): text.job for text in texts if text.job.ticket.cancelled}.values():
            self._end(job, "cancelled")
        for text in texts:
            if text.number in text.job.ticket.ended and text.job.ticket.done is None:
                self._leave(text)

    def _read(self, spans: Sequence[Span]) -> None:
        """Read spans, and go on with the texts that are read to their end. What fails takes no other text with it."""
        try:
            logits = self._passes.read(spans, self.vocab_size)
        except Exception as error:
            if len(spans) == 1:
                self._end(spans[0].text.job, "failed", error)
                return
            for span in spans:
                if span.text.table:  # not gone with another text of its request
                    self._read([span])
            return
        self._counts.steps += 1
        for span in spans:
            self._counts.prompt_tokens += span.count if span.text.unread > 1 or not span.text.written else 0
        whole = [span.text for span in spans if span.whole]
        self._scheduler.were_read(spans)
        if whole:
            for text, token in zip(whole, choose(whole, logits), strict=True):
                self._go_on(text, token)

    def _go_on(self, text: Text, token: Token | Exception) -> None:
        """A text's next token."""
        job = text.job
        if job.ticket.done is not None:  # another text of its request has failed
            return
        try:
            if isinstance(token, Exception):
                raise token
            text.ids.append(token.id)
            full = text.written == job.request.sampling.max_new_tokens
            cut = full or len(text.ids) > self._scheduler.limit(text.prefix)
            step = text.held.take(token, self.eos_ids, cut)
        except Exception as error:
            self._end(job, "failed", error)
            return
        job.new_tokens += 1
        self._counts.new_tokens += 1
        job.ticket.push(step)
        if step.end is not None:
            self._leave(text)

    def _leave(self, text: Text) -> None:
        """A text has its end."""
        self._scheduler.remove(text)
        self._ends.append(time.monotonic())
        text.job.left -= 1
        if not text.job.left:
            self._end(text.job, "written")

    def _end(self, job: Job, reason: Reason, error: Exception | None = None) -> None:
        """A request has its end."""
        for text in [text for text in self._scheduler.all_texts() if text.job is job]:
            self._scheduler.remove(text)
        name = "finished" if reason == "written" else reason
        setattr(self._counts, name, getattr(self._counts, name) + 1)
        job.ticket.push(job.done(reason, error))

    def _seconds(self, queued: int) -> float:
        """After how long those that wait now have had their turn, by how fast texts ended of late: 1 to 60."""
        if len(self._ends) < 2:
            return 1.0
        each = (time.monotonic() - self._ends[0]) / len(self._ends)
        return min(max(each * queued, 1.0), 60.0)
