"""``/v1/chat/completions``: a conversation, perhaps with an image, and its next turn.

A model that converses is given the conversation by its template. One that answers or captions is given the last text of
the user's. Either sees the one image of the request, as ``rebus chat`` and ``rebus ask`` do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from rebus.generation import requests
from rebus.generation.texts import Text
from rebus.inference.generate import shown_turns
from rebus.inference.session import asked_task
from rebus.model import SILENCE
from rebus.serve import grammars, images
from rebus.serve.answers import answer, encoded
from rebus.serve.bodies import BodyRoute
from rebus.serve.context import Context, unless_gone, user_of
from rebus.serve.errors import invalid
from rebus.serve.loading import Served
from rebus.serve.schemas import ChatReply, ChatRequest, ImagePart, Message
from rebus.serve.sse import Events
from rebus.serve.texts import (
    Json,
    Meter,
    fits,
    gather,
    identifier,
    reason,
    sampling_of,
    stops_of,
    token_names,
    uncut,
)
from rebus.serve.turns import Portions, once
from rebus.serve.writer import Order, Stream, StreamingWriter
from rebus.tasks.base import Values
from rebus.tasks.writing import WritingTask, writing_task

ROUTE = "/v1/chat/completions"


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=BodyRoute)

    @routes.post(
        ROUTE,
        tags=["OpenAI"],
        response_model=ChatReply,
        responses={200: {"description": "The next turn.", "content": {"text/event-stream": {}}}},
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Go on with a conversation."""
        served, writer = context.writing(body.model)
        context.note(ROUTE, body)
        user = user_of(request, body.user)
        order = await context.by_aide(plan(body, context, served, writer, user), request, body.user)
        stream, meter = context.begin(writer, order), Meter(context, len(order.request.ids))
        head = {"id": identifier("chatcmpl"), "created": int(time.time()), "model": served.name}
        if body.stream:
            return _with_unread(Events(_chunks(body, head, writer, stream, meter), stream.close), order)
        try:
            texts = await unless_gone(request, gather(stream, meter))
            encode = once(_whole, body, head, writer, texts, meter)
            return _with_unread(answer(await context.in_turn(context.readers, encode, request, body.user)), order)
        finally:
            stream.close()

    return routes


def _with_unread(response: Response, order: Order) -> Response:
    """An answer whose header says how many messages the model did not read, where there are any."""
    if order.unread:
        response.headers["X-Rebus-Unread-Messages"] = str(order.unread)
    return response


def plan(body: ChatRequest, context: Context, served: Served, writer: StreamingWriter, user: str) -> Portions[Order]:
    """A request as an order to the engine. Raises ApiError where it asks for what cannot be."""
    limits = context.limits
    tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    field = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs needs logprobs to be true", "top_logprobs")
    stops = stops_of(body, context)
    turns, last = _turns(body.messages, context)
    if writer.has_persona and turns[0]["role"] != "system":
        turns = [*SILENCE, *turns]
    task = _task_of(served, turns)
    default = task.settings.max_new_tokens
    if (least := task.question_sampling()) is not None:
        default = max(default, least.max_new_tokens)
    sampling = sampling_of(
        body, context, tokens=tokens, default=default, alternatives=body.top_logprobs or 0, param=field
    )
    values = _values(task, turns)
    image = None
    if last is not None:
        if not task.uses_image:
            raise invalid("the model sees no images; send text", "messages", "no_images")
        yield
        image = images.opened(served.predictor, *last, limits)
        yield
    if task.uses_image:
        values["image"] = [None if image is None else image.content]
    with uncut("messages"):
        ids = task.ask(values, 0, served.predictor.processor)
        if served.predictor.processor.text_tower:
            served.predictor.processor.read(task.prompt(values, 0))
    fits(ids, writer, context, "messages")
    source = writer.source(task, values, image)
    constraint = None
    if body.response_format is not None and body.response_format.type != "text":
        schema: Json = {"type": "object"}
        if body.response_format.type == "json_schema":
            schema = dict(body.response_format.json_schema.schema_ or schema)
            grammars.check_schema(schema, limits)
        constraint = writer.constraint(schema)
    request = requests.Request(ids, sampling, source, constraint, user)
    unread = 0 if task.converses else _unread(turns)
    return Order(request, stops, "line" if task.settings.layout == "plain" else "strip", unread)


def _turns(messages: list[Message], context: Context) -> tuple[list[Json], tuple[str, str] | None]:
    """The messages as the toolkit writes them, and the image's address and place. Raises ApiError."""
    limits = context.limits
    if len(messages) > limits.messages:
        raise invalid(f"a conversation has at most {limits.messages} messages", "messages")
    turns: list[Json] = []
    addresses: list[tuple[str, str]] = []
    for number, message in enumerate(messages):
        role = "system" if message.role == "developer" else message.role
        if message.content is None and role != "assistant":
            raise invalid("a message needs a content", f"messages[{number}].content")
        parts: list[Json] = []
        if isinstance(message.content, str) or message.content is None:
            content: Any = message.content or ""
            size = len(content)
        else:
            for place, part in enumerate(message.content):
                if isinstance(part, ImagePart):
                    addresses.append((part.url, f"messages[{number}].content[{place}].image_url"))
                    parts.append({"type": "image"})
                else:
                    parts.append({"type": "text", "text": part.text})
            content, size = parts, sum(len(part.get("text", "")) for part in parts)
        if size > limits.text_length:
            raise invalid(f"a text has at most {limits.text_length:,} characters", f"messages[{number}].content")
        turns.append({"role": role, "content": content})
    for address, where in addresses:
        images.check_address(address, where)
    if len(addresses) > 1:
        places = ", ".join(where for _, where in addresses[:4]) + ("" if len(addresses) <= 4 else ", ...")
        words = f"the model sees one image in a request; {len(addresses)} were sent ({places}): send the one to look at"
        raise invalid(words, addresses[1][1], "too_many_images")
    return turns, addresses[0] if addresses else None


def _task_of(served: Served, turns: list[Json]) -> WritingTask:
    """The task that goes on with a conversation. Raises ApiError where the model has none."""
    tasks = served.predictor.tasks
    question = _question(turns)
    converser = next((task for task in tasks.values() if task.converses), None)
    name = asked_task(tasks, bool(question))
    if converser is None and name is None:
        text = ", ".join(tasks)
        do = "/v1/completions goes on from a prompt" if served.predictor.model.decoder else "use /v1/predict"
        raise invalid(f"the model holds no conversations, it has the tasks {text}; {do}", "model", "no_chat")
    if converser is not None:
        return writing_task(converser)
    if question is None:
        raise invalid("a conversation needs a message of the user's", "messages")
    task = tasks[str(name)]
    if task.asked_with == "image" and question:
        raise invalid("the model captions images and reads no question: send the image alone", "messages")
    return writing_task(task)


def _values(task: WritingTask, turns: list[Json]) -> Values:
    """The columns of one row that the task reads."""
    if task.converses:
        return {"messages": [shown_turns(turns)]}
    return {} if task.question_role is None else {task.question_role: [_question(turns) or ""]}


def _question(turns: list[Json]) -> str | None:
    """The last text of the user's; None: the user said nothing."""
    contents = [turn["content"] for turn in turns if turn["role"] == "user"]
    if not contents:
        return None
    last = contents[-1]
    return last if isinstance(last, str) else "\n".join(part["text"] for part in last if part["type"] == "text")


def _unread(turns: list[Json]) -> int:
    """Messages with text beside the last one of the user's."""
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    return sum(_question([{**turn, "role": "user"}]) not in (None, "") for turn in turns[:last] + turns[last + 1 :])


def _whole(body: ChatRequest, head: Json, writer: StreamingWriter, texts: list[Text], meter: Meter) -> bytes:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": text.text, "refusal": None},
            "logprobs": _logprobs(body, writer, text.tokens),
            "finish_reason": reason(text.end),
        }
        for index, text in enumerate(texts)
    ]
    return encoded({**head, "object": "chat.completion", "choices": choices, "usage": meter.usage()})


async def _chunks(
    body: ChatRequest, head: Json, writer: StreamingWriter, stream: Stream, meter: Meter
) -> AsyncIterator[Json]:
    counted = bool(body.stream_options and body.stream_options.include_usage)
    head = {**head, "object": "chat.completion.chunk"}
    more: Json = {"usage": None} if counted else {}

    def chunk(index: int, delta: Json, logprobs: Json | None = None, end: str | None = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end}
        return {**head, "choices": [choice], **more}

    for index in range(stream.count):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for piece in meter.watched(stream):
        details = _logprobs(body, writer, piece.tokens)
        if piece.text or (details and details["content"]):
            yield chunk(piece.number, {"content": piece.text}, details)
        if piece.end is not None:
            yield chunk(piece.number, {}, None, reason(piece.end))
    if counted:
        yield {**head, "choices": [], "usage": meter.usage()}


def _logprobs(body: ChatRequest, writer: StreamingWriter, tokens: Any) -> Json | None:
    if not body.logprobs:
        return None
    names = token_names(writer.predictor.processor.tokenizer, tokens, body.top_logprobs or 0)
    return {"content": names, "refusal": None}
