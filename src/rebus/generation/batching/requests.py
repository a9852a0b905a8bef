"""What goes into the engine that writes for many, and what comes out of it: requests, tickets, figures.

It knows no tokenizer, no images and no connections: ids in, steps out, a source that makes itself when it is asked.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rebus.generation.engine import Constraint, Step
from rebus.generation.sampling import Sampling
from rebus.models.fusion import Condition
from rebus.models.vlm import VisionLanguageModel

Reason = Literal["written", "cancelled", "failed"]


@dataclass(frozen=True)
class ImageSource:
    """What a text is written from beside its prompt: what a fusion makes of an image, or of an image and a text.

    Attributes:
        key: a digest of all that ``make`` looks at: sources with one key are one, and made once.
        model: embeds ids on their way into the decoder.
        make: gives the condition, of one item; called in the engine's own thread, in inference mode.
    """

    key: str
    model: VisionLanguageModel
    make: Callable[[], Condition]


@dataclass(frozen=True)
class Request:
    """A prompt to go on from.

    Attributes:
        ids: the prompt, at least one.
        sampling: how; ``sampling.n`` texts, which share the reading of the prompt; no beams.
        source: what is beside the prompt; None: nothing.
        constraint: what each text must be like.
        user: whom it is for: users take turns, and each one's requests keep their order.
    """

    ids: Sequence[int]
    sampling: Sampling
    source: ImageSource | None = None
    constraint: Constraint | None = None
    user: str = ""


@dataclass(frozen=True)
class Done:
    """The last that is told of a request.

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
Log = Callable[[Event], None]


class Ticket:
    """A request on its way; made by ``ContinuousEngine.submit``. May be used from any thread.

    Iterating gives each ``Step`` as it is made (``Step.text`` is the number of the text, 0 to n - 1), waits for the
    next, ends with the last, and raises what went wrong. With ``log``, events go there instead and nothing is kept.

    Attributes:
        number: of the request, counted from 0.
        request: it.
        done: what was told last; None: it goes on.
        cancelled: whether nobody wants it any more.
        ended: numbers of its texts that nobody wants any more.
    """

    def __init__(self, number: int, request: Request, log: Log | None = None) -> None:
        self.number, self.request, self.done = number, request, None
        self.cancelled = False
        self.ended: set[int] = set()
        self._tell = log
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    done: Done | None

    def cancel(self, text: int | None = None) -> None:
        """Nobody wants the rest: at the next step its place and its memory are free. Harmless when it is done.

        Args:
            text: only this text of it has its end, as where a stop string was met; None: all.
        """
        if text is None:
            self.cancelled = True
        else:
            self.ended.add(text)

    def get(self, timeout: float | None = None) -> Event:
        """The next event; waits for it at most ``timeout`` seconds. Raises ``queue.Empty``."""
        return self._events.get(timeout=timeout)

    def __iter__(self) -> Iterator[Step]:
        while isinstance(event := self.get(), Step):
            yield event
        if event.error is not None:
            raise event.error

    def push(self, event: Event) -> None:
        """For the engine: tell an event. A listener that raises has gone: the request is cancelled."""
        if isinstance(event, Done):
            self.done = event
        if self._tell is None:
            self._events.put(event)
            return
        try:
            self._tell(event)
        except Exception:
            self.cancelled = True


@dataclass(frozen=True)
class EngineStats:
    """Figures of an engine at one moment; those that count only grow.

    Attributes:
        queued: texts that wait for their turn, those that were put off among them.
        running: texts that are being read or written.
        blocks: places for ``block_size`` tokens that there are.
        blocks_used: how many of them texts hold now.
        blocks_cached: how many no text holds, but whose tokens may be found again.
        prompt_tokens: tokens of prompts that were read, those read again after being put off among them.
        reused_tokens: tokens of prompts that were found in the cache.
        new_tokens: tokens written.
        preemptions: how often a text was put off because the cache was full.
        images_made: how often a source was made.
        images_reused: how often one that was kept was used again.
        requests: taken.
        finished, cancelled, failed, refused: how requests ended; refused: the queue was full.
        steps: passes through the decoder.
    """

    queued: int = 0
    running: int = 0
    blocks: int = 0
    blocks_used: int = 0
    blocks_cached: int = 0
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
class Counts:
    """The counting part of ``EngineStats`` while it is counted."""

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
