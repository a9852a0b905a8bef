"""What chats and completions share: a request's fields as a ``Sampling``, texts gathered, tokens counted."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from rebus.errors import RebusError, TextLengthError
from rebus.generation.requests import End, Token
from rebus.generation.sampling import Sampling
from rebus.generation.texts import Piece, Text
from rebus.serve.context import Context
from rebus.serve.errors import invalid, of_rebus
from rebus.serve.schemas import Written
from rebus.serve.writer import Stream, StreamingWriter
from rebus.tasks.cuts import refusing
from rebus.text.tokenizer import Tokenizer

Json = dict[str, Any]


def identifier(kind: str) -> str:
    """A name for an answer, such as ``chatcmpl-5f3a...``."""
    return f"{kind}-{secrets.token_hex(12)}"


def listed(value: Any) -> list[Any]:
    """A text, or the ids of one, as a list of one; a list as it is."""
    return [value] if isinstance(value, str) or isinstance(value[0], int) else value


def stops_of(body: Written, context: Context) -> tuple[str, ...]:
    """The stop strings. Raises ApiError where there are too many, or one is empty or too long."""
    limits = context.limits
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stops) > limits.stops:
        raise invalid(f"at most {limits.stops} stop strings may be given; there are {len(stops)}", "stop")
    if any(not stop or len(stop) > limits.stop_length for stop in stops):
        raise invalid(f"a stop string has 1 to {limits.stop_length} characters", "stop")
    return stops


def sampling_of(
    body: Written, context: Context, *, tokens: int | None, default: int, alternatives: int, param: str
) -> Sampling:
    """How the texts are written.

    Args:
        body: the request.
        context: whose limits hold.
        tokens: most tokens of a text, as asked for; None: not said.
        default: what that means.
        alternatives: likeliest tokens to tell.
        param: the field that ``tokens`` came from.

    Raises:
        ApiError: something is out of range.
    """
    limits, settings = context.limits, context.settings
    if tokens is not None and tokens > limits.max_tokens:
        raise invalid(f"at most {limits.max_tokens} tokens may be asked for; {param} is {tokens}", param)
    count = body.n or 1
    if count > limits.n:
        raise invalid(f"at most {limits.n} texts may be asked for; n is {count}", "n")
    if alternatives > limits.logprobs:
        raise invalid(f"at most {limits.logprobs} alternatives a token may be asked for", "logprobs")
    try:
        return Sampling(
            max_new_tokens=min(tokens or default, limits.max_tokens),
            temperature=settings.temperature if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            top_k=body.top_k or 0,
            min_p=body.min_p or 0.0,
            repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            frequency_penalty=body.frequency_penalty or 0.0,
            presence_penalty=body.presence_penalty or 0.0,
            seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
            n=count,
            alternatives=alternatives,
        )
    except RebusError as error:
        raise of_rebus(error) from error


def fits(ids: Sequence[int], writer: StreamingWriter, context: Context, param: str, beside: int = 0) -> None:
    """Raises ApiError where a prompt is longer than the model reads."""
    most = context.limits.prompt_tokens or writer.context
    if len(ids) + beside > most:
        message = f"the prompt has {len(ids) + beside} tokens; the model reads at most {most}"
        raise invalid(message, param, "context_length_exceeded")


@contextmanager
def uncut(param: str, find: Callable[[str], str] | None = None) -> Iterator[None]:
    """A text with more tokens than the model reads raises ApiError in this block.

    Args:
        param: the field that holds the text.
        find: gives the field, where there are several.
    """
    try:
        with refusing():
            yield
    except TextLengthError as error:
        where = param if find is None else find(error.text)
        message = f"{where}: the text has {error.tokens:,} tokens; the model reads at most {error.most:,}"
        raise invalid(message, where, "context_length_exceeded") from None


def reason(end: End) -> str:
    """Why a text ended, in the protocol's words."""
    return "length" if end == "length" else "stop"


async def gather(stream: Stream, meter: Meter) -> list[Text]:
    """All texts of a stream, whole. Raises ApiError as ``Stream.pieces``."""
    texts = [Text() for _ in range(stream.count)]
    async for piece in meter.watched(stream):
        texts[piece.number].add(piece)
    return texts


class Meter:
    """Counts one request's tokens, and when the first came.

    Args:
        context: where it is counted.
        prompts: tokens of the prompts as far as they are known before they are read.
    """

    def __init__(self, context: Context, prompts: int) -> None:
        self._metrics, self._start, self._first = context.metrics, time.perf_counter(), True
        self.prompt, self.reused, self.written = prompts, 0, 0

    async def watched(self, stream: Stream) -> AsyncIterator[Piece]:
        """The stream's pieces; afterwards its tokens are counted."""
        try:
            async with aclosing(stream.pieces()) as pieces:
                async for piece in pieces:
                    if self._first:
                        self._first = False
                        self._metrics.first.observe(time.perf_counter() - self._start)
                    yield piece
        finally:
            self.written += stream.new_tokens
            self._metrics.written.inc(stream.new_tokens)
            self._metrics.read.inc(len(stream.ids))
            if stream.done is not None:
                self.prompt += max(stream.done.prompt_tokens - len(stream.ids), 0)  # an image's stand before it
                self.reused += stream.done.reused_tokens

    def usage(self) -> Json:
        """The protocol's object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.written,
            "total_tokens": self.prompt + self.written,
            "prompt_tokens_details": {"cached_tokens": min(self.reused, self.prompt)},
        }


def token_names(tokenizer: Tokenizer, tokens: Sequence[Token], most: int) -> list[Json]:
    """Tokens with their log-probabilities, as chats tell them."""
    return [
        {
            **_named(tokenizer, token.id, token.logprob),
            "top_logprobs": [_named(tokenizer, other, value) for other, value in token.alternatives[:most]],
        }
        for token in tokens
    ]


def _named(tokenizer: Tokenizer, token: int, logprob: float) -> Json:
    text = tokenizer.piece(token)
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}
