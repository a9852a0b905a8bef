"""What goes into the engine and what comes out of it: requests, tokens, steps, texts, figures.

It knows no tokenizer, no images and no connections: ids in, steps out, a source that is computed when it is needed.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import Tensor

from rebus.generation.sampling import Sampling
from rebus.models.fusion import Condition
from rebus.models.vlm import VisionLanguageModel

End = Literal["eos", "stop", "length"]
Reason = Literal["written", "cancelled", "failed"]


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
        text: the text's number: ``Request.first`` and up; in a call with several prompts, prompt times n, plus sample.
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


@dataclass(frozen=True)
class Source:
    """What a text is written from beside its prompt: what a fusion makes of an image, or of an image and a text.

    Attributes:
        key: a digest of all that ``compute`` depends on: sources with one key are one, and computed once.
        model: embeds ids on their way into the decoder.
        compute: gives the condition, of one item; called in the engine's own thread, in inference mode.
        ready: ``compute`` only hands out what is there: it costs nothing, and is not kept for later requests.
    """

    key: str
    model: VisionLanguageModel
    compute: Callable[[], Condition]
    ready: bool = False


@dataclass(frozen=True)
class Request:
    """A prompt to go on from.

    Attributes:
        ids: the prompt, at least one.
        sampling: how; ``sampling.n`` texts, which share the reading of the prompt; no beams.
        source: what is beside the prompt; None: nothing.
        constraint: what each text must be like.
        user: whom it is for: users take turns, and each one's requests keep their order.
        first: number of its first text, from which with the seed it draws.
    """

    ids: Sequence[int]
    sampling: Sampling
    source: Source | None = None
    constraint: Constraint | None = None
    user: str = ""
    first: int = 0


@dataclass(frozen=True)
class Done:
    """The last event of a request.

    Attributes:
        reason: ``written``: every text has its end; ``cancelled``: nobody wanted the rest; ``failed``: see ``error``.
        prompt_tokens: of the prompt, with the image's tokens that stand before it.
        reused_tokens: how many of them were not read again, because an earlier request had begun in the same way.
        new_tokens: of all texts, those that ended a text among them.
        error: what went wrong.
    """

    reason: Reason
    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    error: Exception | None = None


Event = Step | Done
Listener = Callable[[Event], None]


class Ticket:
    """A request on its way; made by ``Engine.submit``. May be used from any thread.

    Iterating gives each ``Step`` as it is made, waits for the next, ends with the last, and raises what went wrong.
    With a ``listener``, events go there instead and nothing is kept.

    Attributes:
        number: of the request, counted from 0.
        request: it.
        done: the last event; None: it goes on.
        cancelled: whether nobody wants it any more.
        ended: numbers of texts that nobody wants any more.
    """

    def __init__(self, number: int, request: Request, listener: Listener | None = None) -> None:
        self.number, self.request = number, request
        self.done: Done | None = None
        self.cancelled = False
        self.ended: Collection[int] = set()
        self._listener = listener
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def cancel(self, text: int | None = None) -> None:
        """Nobody wants the rest: at the next step its place and its memory are free. Harmless when it is done.

        Args:
            text: only this text of it has its end, as where a stop string was met; None: all.
        """
        if text is None:
            self.cancelled = True
        else:
            self.ended = {*self.ended, text}

    def get(self, timeout: float | None = None) -> Event:
        """The next event; waits for it at most ``timeout`` seconds. Raises ``queue.Empty``."""
        return self._events.get(timeout=timeout)

    def __iter__(self) -> Iterator[Step]:
        while isinstance(event := self.get(), Step):
            yield event
        if event.error is not None:
            raise event.error

    def push(self, event: Event) -> None:
        """For the engine: hand on an event. A listener that raises has gone: the request is cancelled."""
        if isinstance(event, Done):
            self.done = event
        if self._listener is None:
            self._events.put(event)
            return
        try:
            self._listener(event)
        except Exception:
            self.cancelled = True


@dataclass
class Counts:
    """What an engine counts; these figures only grow.

    Attributes:
        prompt_tokens: tokens of prompts that were read, those read again after a preemption among them.
        reused_tokens: tokens of prompts that were found in the cache.
        new_tokens: tokens written.
        preemptions: how often a text was put off because the cache was full.
        images_made: how often a source was computed.
        images_reused: how often one that was kept was used again.
        requests: taken.
        finished, cancelled, failed, refused: how requests ended; refused: the queue was full.
        steps: passes through the decoder.
    """

    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    preemptions: int = 0
    images_made: int = 0
    images_reused: int = 0
    requests: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    steps: int = 0


@dataclass
class EngineStats(Counts):
    """Figures of an engine at one moment.

    Attributes:
        queued: texts that wait for their turn, preempted ones among them.
        running: texts that are being read or written.
        blocks: places for ``block_size`` tokens that there are.
        blocks_used: how many of them texts hold now.
        blocks_cached: how many no text holds, but whose tokens may be found again.
    """

    queued: int = 0
    running: int = 0
    blocks: int = 0
    blocks_used: int = 0
    blocks_cached: int = 0
