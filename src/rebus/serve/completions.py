"""``/v1/completions``: prompts, gone on from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from rebus.errors import DataError
from rebus.generation import requests
from rebus.generation.requests import Token
from rebus.generation.texts import Piece, Text
from rebus.inference.generate import Writing
from rebus.serve.answers import answer, encoded
from rebus.serve.bodies import BodyRoute
from rebus.serve.context import Context, unless_gone, user_of
from rebus.serve.errors import invalid
from rebus.serve.schemas import CompletionReply, CompletionRequest
from rebus.serve.sse import Events
from rebus.serve.texts import Json, Meter, fits, gather, identifier, listed, reason, sampling_of, stops_of, uncut
from rebus.serve.turns import Portions, once
from rebus.serve.writer import Order, Stream, StreamingWriter
from rebus.text.tokenizer import Tokenizer

ROUTE = "/v1/completions"
SHORT = 16  # tokens of a text where nobody says, as the protocol has it


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=BodyRoute)

    @routes.post(
        ROUTE,
        tags=["OpenAI"],
        response_model=CompletionReply,
        responses={200: {"description": "The texts.", "content": {"text/event-stream": {}}}},
    )
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on from one prompt or several."""
        served, writer = context.writing(body.model)
        context.note(ROUTE, body)
        user = user_of(request, body.user)
        orders = await context.by_aide(plan(body, context, writer, user), request, body.user)
        streams: list[Stream] = []

        def close() -> None:
            for stream in streams:
                stream.close()

        try:
            for order, _ in orders:
                streams.append(context.begin(writer, order))
        except BaseException:
            close()
            raise
        reply = _Reply(body, writer, streams, [before for _, before in orders], Meter(context, _length(streams)))
        head = {
            "id": identifier("cmpl"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
        }
        if body.stream:
            return Events(reply.chunks(head), close)
        try:
            texts = await unless_gone(request, reply.texts())
            return answer(await context.in_turn(context.readers, once(reply.whole, head, texts), request, body.user))
        finally:
            close()

    return routes


def plan(
    body: CompletionRequest, context: Context, writer: StreamingWriter, user: str
) -> Portions[list[tuple[Order, str]]]:
    """A request as orders to the engine, each with what stands before its text. Raises ApiError."""
    limits, predictor = context.limits, writer.predictor
    tokenizer = predictor.processor.tokenizer
    count = body.n or 1
    if body.best_of is not None and body.best_of != count:
        raise invalid("best_of is not supported beyond n; ask for n texts with logprobs and choose", "best_of")
    if body.echo and body.logprobs is not None:
        raise invalid("echo together with logprobs is not supported", "echo")
    prompts = listed(body.prompt)
    if len(prompts) > limits.prompts:
        raise invalid(f"at most {limits.prompts} prompts may be sent; there are {len(prompts)}", "prompt")
    if len(prompts) * count > limits.prompts * limits.n:
        raise invalid("too many texts are asked for: prompts times n", "n")
    stops = stops_of(body, context)
    sampling = sampling_of(
        body, context, tokens=body.max_tokens, default=SHORT, alternatives=body.logprobs or 0, param="max_tokens"
    )
    try:
        writing = Writing(predictor.model, predictor.tasks, predictor.processor)
    except DataError as error:
        raise invalid(str(error), "model", "no_text") from None
    orders = []
    for prompt in prompts:
        ids = _ids(prompt, writing, tokenizer, limits.text_length)
        fits(ids, writer, context, "prompt")
        before = "" if not body.echo else prompt if isinstance(prompt, str) else tokenizer.decode(ids)
        orders.append((Order(requests.Request(ids, sampling, user=user), stops), before))
        yield
    return orders


def _ids(prompt: str | list[int], writing: Writing, tokenizer: Tokenizer, longest: int) -> list[int]:
    if isinstance(prompt, str):
        if len(prompt) > longest:
            raise invalid(f"a prompt has at most {longest:,} characters", "prompt")
        with uncut("prompt"):
            return writing.prompt(prompt)
    if max(prompt) >= tokenizer.vocab_size:
        raise invalid(f"token ids are below {tokenizer.vocab_size}", "prompt")
    return list(prompt)


def _length(streams: Sequence[Stream]) -> int:
    return sum(len(stream.ids) for stream in streams)


class _Reply:
    """The answer to one request, whole or in pieces.

    Args:
        body: the request.
        writer: what writes.
        streams: one a prompt.
        before: what stands before the texts of each.
        meter: counts.
    """

    def __init__(
        self, body: CompletionRequest, writer: StreamingWriter, streams: list[Stream], before: list[str], meter: Meter
    ) -> None:
        self.body, self.writer, self.streams, self.before, self.meter = body, writer, streams, before, meter
        self.each = streams[0].count
        self._lengths = [len(before[number // self.each]) for number in range(len(streams) * self.each)]

    async def texts(self) -> list[tuple[int, Text]]:
        """(number of its prompt, text) of all texts, once they are whole."""
        groups = await asyncio.gather(*(gather(stream, self.meter) for stream in self.streams))
        return [(place, text) for place, several in enumerate(groups) for text in several]

    def whole(self, head: Json, texts: list[tuple[int, Text]]) -> bytes:
        """Everything at once."""
        choices = [self._choice(index, self.before[place], text) for index, (place, text) in enumerate(texts)]
        return encoded({**head, "choices": choices, "usage": self.meter.usage()})

    async def chunks(self, head: Json) -> AsyncIterator[Json]:
        """As it is written; the texts of all prompts side by side."""
        counted = bool(self.body.stream_options and self.body.stream_options.include_usage)
        more: Json = {"usage": None} if counted else {}
        for number in range(len(self.streams) * self.each):
            if self.before[number // self.each]:
                start = {"index": number, "text": self.before[number // self.each], "logprobs": None}
                yield {**head, "choices": [{**start, "finish_reason": None}], **more}
        async for number, piece in self._side_by_side():
            if piece.text or piece.end is not None or self.body.logprobs is not None:
                logprobs = self._logprobs(piece.tokens, number)
                end = None if piece.end is None else reason(piece.end)
                choice = {"index": number, "text": piece.text, "logprobs": logprobs, "finish_reason": end}
                yield {**head, "choices": [choice], **more}
        if counted:
            yield {**head, "choices": [], "usage": self.meter.usage()}

    async def _side_by_side(self) -> AsyncIterator[tuple[int, Piece]]:
        """(number of the text, piece) of all streams, in the order in which they come."""
        come: asyncio.Queue[tuple[int, Piece] | BaseException | None] = asyncio.Queue()

        async def follow(place: int, stream: Stream) -> None:
            try:
                async for piece in self.meter.watched(stream):
                    come.put_nowait((place * self.each + piece.number, piece))
                come.put_nowait(None)
            except Exception as error:
                come.put_nowait(error)

        tasks = [asyncio.create_task(follow(place, stream)) for place, stream in enumerate(self.streams)]
        try:
            remaining = len(tasks)
            while remaining:
                item = await come.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    remaining -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _choice(self, index: int, before: str, text: Text) -> Json:
        logprobs = self._logprobs(text.tokens, index)
        return {"index": index, "text": before + text.text, "logprobs": logprobs, "finish_reason": reason(text.end)}

    def _logprobs(self, tokens: Sequence[Token], number: int) -> Json | None:
        if self.body.logprobs is None:
            return None
        tokenizer, offsets = self.writer.predictor.processor.tokenizer, []
        pieces = [tokenizer.piece(token.id) for token in tokens]
        for piece in pieces:
            offsets.append(self._lengths[number])
            self._lengths[number] += len(piece)
        return {
            "tokens": pieces,
            "token_logprobs": [max(token.logprob, -9999.0) for token in tokens],
            "top_logprobs": [
                {tokenizer.piece(other): max(value, -9999.0) for other, value in token.alternatives} for token in tokens
            ],
            "text_offset": offsets,
        }
