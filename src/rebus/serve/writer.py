"""Texts written for many clients at once: the engine with the model's tokenizer, asked from an event loop.

It knows no protocol: prompts go in, pieces of text come out, each as soon as it is certain.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch

from rebus.errors import RebusError
from rebus.generation.constraint import Guide, Guided
from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.engine import Engine
from rebus.generation.requests import Done, End, EngineStats, Event, Request, Source, Step
from rebus.generation.texts import Piece, TextDecoder
from rebus.generation.thread import EngineThread
from rebus.generation.write import decoder_of
from rebus.model import SILENCE
from rebus.models.batch import Batch, Inputs
from rebus.models.features import Features
from rebus.models.fusion import Condition
from rebus.serve.errors import ApiError, NotReadyError, late, of_rebus
from rebus.serve.images import Image
from rebus.serve.settings import ServeSettings
from rebus.tasks.base import Values
from rebus.tasks.session import Portion
from rebus.tasks.writing import WritingTask

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor

Tidy = Literal["whole", "strip", "line"]
BLOCK = 16  # tokens of a cache block
FEATURES = 64  # images whose Features are kept for the next question


@dataclass(frozen=True)
class Order:
    """Texts that are wanted.

    Attributes:
        request: for the engine.
        stop: strings before which a text ends.
        tidy: ``whole``: as written; ``strip``: without the space around it; ``line``: its first line only.
        unread: messages with text that the task does not read.
    """

    request: Request
    stop: tuple[str, ...] = ()
    tidy: Tidy = "whole"
    unread: int = 0


class StreamingWriter:
    """A model's writing.

    Args:
        predictor: with a task that writes.
        engine: a thread that writes tokens.
        seconds: after which a text is given up.
    """

    def __init__(self, predictor: Predictor, engine: EngineThread, seconds: float) -> None:
        self.predictor, self.engine, self.seconds = predictor, engine, seconds
        self.context = decoder_of(predictor.model).max_length
        self.active: set[Stream] = set()  # of the event loop's thread
        self._features: OrderedDict[str, Features] = OrderedDict()  # of the engine's thread
        self._guiding = threading.Lock()

    @classmethod
    def of(cls, predictor: Predictor, settings: ServeSettings) -> StreamingWriter | None:
        """What writes with a model; None where it writes nothing."""
        model, tokenizer = predictor.model, predictor.processor.tokenizer
        if model.decoder is None or not any(task.writes for task in predictor.tasks.values()):
            return None
        decoder = decoder_of(model)
        engine = Engine(
            EagerDecoder(decoder) if decoder.memory_norm is not None else fast(decoder),
            tokenizer.eos_ids,
            vocab_size=min(tokenizer.vocab_size, decoder.vocab_size),
            blocks=blocks_for(predictor, settings.cache_mb),
            block_size=BLOCK,
            max_running=settings.running,
            chunk=settings.chunk,
            max_queue=settings.limits.queue,
        )
        return cls(predictor, EngineThread(engine), settings.limits.seconds)

    def start(self) -> None:
        """Begin to write."""
        self.engine.start()

    def stop(self) -> None:
        """End whatever is being written."""
        self.engine.stop()

    def stats(self) -> EngineStats:
        """The engine's figures."""
        return self.engine.engine.stats()

    def begin(self, order: Order) -> Stream:
        """Hand an order to the engine; from an event loop.

        Raises:
            DataError: the prompt is empty or too long. QueueFullError: too many wait. ApiError: the server is stopping.
        """
        return Stream(self, order)

    @cached_property
    def _guide(self) -> Guide:
        tokenizer = self.predictor.processor.tokenizer
        size = min(tokenizer.vocab_size, decoder_of(self.predictor.model).vocab_size)
        return Guide(tokenizer.to_json(), tokenizer.eos_ids, size)

    def constraint(self, schema: Mapping[str, Any]) -> Guided:
        """JSON of a schema. Raises RecipeError, MissingPackageError; from any thread."""
        with self._guiding:  # the library's tokenizer is made once
            guide = self._guide
        return guide.json_schema(schema)

    @cached_property
    def has_persona(self) -> bool:
        """Whether the chat template puts words of its makers before the user's, which ``rebus chat`` leaves out too."""
        chat, question = self.predictor.processor.tokenizer.chat, [{"role": "user", "content": "?"}]
        if not self.predictor.processor.tokenizer.is_foreign or not any(
            task.converses for task in self.predictor.tasks.values()
        ):
            return False
        try:
            return len(chat(question)) > len(chat([*SILENCE, *question]))
        except RebusError:  # a template without a place for system texts
            return False

    def source(self, task: WritingTask, values: Values, image: Image | None) -> Source | None:
        """What the text of row 0 is written from beside its prompt; None: nothing.

        Args:
            task: which writes it.
            values: one row.
            image: that is shown; None: none is.
        """
        model, processor = self.predictor.model, self.predictor.processor
        if (model.fusion is None and model.inline is None) or not (task.uses_image or processor.text_tower):
            return None
        if image is None and model.inline is not None and not processor.text_tower:
            return None
        question = task.prompt(values, 0) if processor.text_tower else ""
        key = f"{task.name} {image.digest if image else ''} {question}"

        def make() -> Condition:
            batch = self._look(image)
            owner = torch.zeros(1, dtype=torch.long, device=model.device)
            return task.condition(self.predictor, values, Portion([0], batch, owner))

        return Source(key, model, make)

    def _look(self, image: Image | None) -> Batch:
        """A batch of one image, which the tower saw, once for all questions about it."""
        model = self.predictor.model
        if model.image is None:
            return Batch(1)
        device = model.device
        if image is None:
            side = self.predictor.recipe.image.size
            none = torch.zeros(0, 3, side, side, dtype=torch.uint8, device=device)
            return Batch(1, {"image": Inputs.one_each(pixels=none)})
        features = self._features.get(image.digest)
        if features is None:
            pixels = torch.from_numpy(image.pixels.copy()).permute(2, 0, 1)[None].to(device)
            output = model.see(Batch(1, {"image": Inputs.one_each(pixels=pixels)}))
            features = self._features[image.digest] = output["image"]
            while len(self._features) > FEATURES:
                self._features.popitem(last=False)
        else:
            self._features.move_to_end(image.digest)
        return Batch(1, {"image": Inputs.one_each(tokens=features.tokens, pooled=features.pooled)})


class Stream:
    """The texts of one order as they come; made by ``StreamingWriter.begin``.

    Attributes:
        count: texts.
        ids: the prompt's.
        done: figures, once all is told; None before.
        new_tokens: written so far, of all texts.
    """

    def __init__(self, writer: StreamingWriter, order: Order) -> None:
        self._writer, self._order = writer, order
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._come = asyncio.Event()
        self._called = False  # whether the loop was asked already to look at what came
        self._failed: ApiError | None = None
        self._deadline = self._loop.time() + writer.seconds
        self.done: Done | None = None
        self.count, self.ids, processor = order.request.sampling.n, order.request.ids, writer.predictor.processor
        self._texts = [
            _Text(TextDecoder(processor.tokenizer.stream(), order.stop), order.tidy) for _ in range(self.count)
        ]
        self._open = self.count
        self.new_tokens = 0
        writer.active.add(self)
        try:
            self.ticket = writer.engine.submit(order.request, self._tell)
        except BaseException:
            writer.active.discard(self)
            raise

    def _tell(self, event: Event) -> None:
        """Take an event in the engine's thread; raises once the event loop is gone."""
        self._events.append(event)
        if not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._called = False
        self._come.set()

    def fail(self, error: ApiError) -> None:
        """End it with an error; from the event loop."""
        self._failed = error
        self._come.set()

    def close(self) -> None:
        """Nobody reads on: what is not written yet will not be."""
        self._writer.active.discard(self)
        if self.done is None:
            self.ticket.cancel()

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Each piece as it comes; must be read to its end, or closed.

        Raises:
            ApiError: the request failed, or the server stops.
        """
        try:
            while True:
                try:
                    async with asyncio.timeout_at(self._deadline):
                        await self._come.wait()
                except TimeoutError:
                    raise late() from None
                self._come.clear()
                while self._events:
                    event = self._events.popleft()
                    if isinstance(event, Done):
                        self.done = event
                        self._check(event)
                        return
                    piece = self._take(event)
                    if piece is not None:
                        yield piece
                        await asyncio.sleep(0)  # others have their turn, however much is there to be told
                if self._failed is not None:
                    raise self._failed
        finally:
            self.close()

    def _take(self, step: Step) -> Piece | None:
        text = self._texts[step.text]
        if text.ended:
            return None
        self.new_tokens += len(step.tokens)
        fresh, end = text.take(step)
        if end is not None:
            self._open -= 1
            if step.end is None:  # at a string that the engine does not know
                self.ticket.cancel(step.text)
        return Piece(step.text, fresh, step.tokens, end)

    def _check(self, done: Done) -> None:
        """Raises where a request ended before its texts."""
        if isinstance(done.error, ApiError):
            raise done.error
        if isinstance(done.error, RebusError):
            raise of_rebus(done.error)
        if done.error is not None:
            raise done.error
        if self._open:
            raise NotReadyError("draining")


class _Text:
    """One text: its characters, where it stops, and what of it counts."""

    def __init__(self, decoder: TextDecoder, tidy: Tidy) -> None:
        self._decoder, self._tidy = decoder, tidy
        self._started, self._space = False, ""  # whether anything but space was said, and space that may end the text
        self.ended = False

    def take(self, step: Step) -> tuple[str, End | None]:
        """What a step adds, and why the text ends."""
        text, end = self._decoder.take(step)
        if self._tidy != "whole":
            text, cut = self._tidied(text)
            end = "stop" if cut else end
        self.ended = end is not None
        return text, end

    def _tidied(self, text: str) -> tuple[str, bool]:
        """Text without space at the start, space at the end held back; and whether its first line is whole."""
        if not self._started:
            text = text.lstrip()
            self._started = bool(text)
        cut = False
        if self._tidy == "line" and "\n" in text:
            text, cut = text.split("\n", 1)[0], True
        solid = text.rstrip()
        if not solid:
            self._space += text
            return "", cut
        whole, self._space = self._space + solid, text[len(solid) :]
        return whole, cut


def blocks_for(predictor: Predictor, cache_mb: int) -> int:
    """How many cache blocks of ``BLOCK`` tokens fit into so many MiB, at least enough for one whole text."""
    decoder = decoder_of(predictor.model)
    shape = decoder.settings
    head = shape.head_dim or shape.width // shape.heads
    size = torch.tensor([], dtype=decoder.embed_tokens.weight.dtype).element_size()
    token = 2 * shape.depth * (shape.kv_heads or shape.heads) * head * size
    return max(cache_mb * 2**20 // (token * BLOCK), -(-2 * decoder.max_length // BLOCK) + 2)
