"""``/v1/embeddings``: texts and images as vectors of length one."""

from __future__ import annotations

import base64

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from rebus.inference.predictor import Predictor
from rebus.serve import images
from rebus.serve.answers import answer, encoded
from rebus.serve.bodies import BodyRoute
from rebus.serve.context import Context
from rebus.serve.errors import invalid
from rebus.serve.loading import Served
from rebus.serve.schemas import EmbeddingReply, EmbeddingRequest, ImagePart, TextPart
from rebus.serve.texts import listed, uncut
from rebus.serve.turns import Portions

ROUTE = "/v1/embeddings"
TOKENS = 2048  # of the texts that are embedded in one portion, one text at least
Read = dict[int, tuple[str, int]]  # place: a text and its tokens
Pixels = dict[int, NDArray[np.uint8]]  # place: an image as the model sees it


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=BodyRoute)

    @routes.post(ROUTE, tags=["OpenAI"], response_model=EmbeddingReply)
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        """Vectors of texts, and of images given as ``{"type": "image_url", "image_url": {"url": "data:..."}}``."""
        served = context.model(body.model)
        context.note(ROUTE, body)
        texts, arrays = await context.by_aide(read(body, context, served.predictor), request, body.user)
        vectors = await context.at_desk(embed(served.predictor, texts, arrays), request, body.user)
        context.metrics.read.inc(sum(count for _, count in texts.values()))
        data = encoded_reply(body, served, vectors, texts)
        return answer(await context.in_turn(context.readers, data, request, body.user))

    return routes


def read(body: EmbeddingRequest, context: Context, predictor: Predictor) -> Portions[tuple[Read, Pixels]]:
    """The inputs as texts with their numbers of tokens, and as pixels. Raises ApiError."""
    limits, tokenizer = context.limits, predictor.processor.tokenizer
    inputs = listed(body.input)
    if len(inputs) > limits.inputs:
        raise invalid(f"at most {limits.inputs} inputs may be sent; there are {len(inputs)}", "input")
    if sum(isinstance(item, ImagePart) for item in inputs) > limits.images:
        raise invalid(f"at most {limits.images} images may be sent", "input")
    texts: Read = {}
    pixels: Pixels = {}
    for place, item in enumerate(inputs):
        where = "input" if inputs is not body.input else f"input[{place}]"
        if isinstance(item, ImagePart):
            pixels[place] = images.opened(predictor, item.url, f"{where}.image_url", limits).pixels
            yield
            continue
        if isinstance(item, list):
            if max(item) >= tokenizer.vocab_size:
                raise invalid(f"token ids are below {tokenizer.vocab_size}", where)
            text = tokenizer.decode(item)
        else:
            text = item.text if isinstance(item, TextPart) else item
        if not text or len(text) > limits.text_length:
            raise invalid(f"a text has 1 to {limits.text_length:,} characters", where)
        with uncut(where):
            texts[place] = text, len(predictor.processor.read(text))
        if len(text) > TOKENS:
            yield
    return texts, pixels


def embed(predictor: Predictor, texts: Read, arrays: Pixels) -> Portions[NDArray[np.float32]]:
    """(N, D) vectors. Raises ApiError, DataError."""
    vectors: dict[int, NDArray[np.float32]] = {}
    order = sorted(texts, key=lambda place: texts[place][1])  # texts of like length together
    while order:
        count = max(1, sum(1 for number, place in enumerate(order, 1) if texts[place][1] * number <= TOKENS))
        portion, order = order[:count], order[count:]
        vectors.update(zip(portion, predictor.embed_texts([texts[place][0] for place in portion]), strict=True))
        yield
    for place, pixels in arrays.items():
        vectors[place] = predictor.embed_images([pixels])[0]
        yield
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise invalid("the model's texts and images share no space: send them in two requests", "input")
    return np.stack([vectors[place] for place in sorted(vectors)]).astype(np.float32)


def encoded_reply(body: EmbeddingRequest, served: Served, vectors: NDArray[np.float32], texts: Read) -> Portions[bytes]:
    """The answer. Raises ApiError where another number of dimensions is wanted."""
    if body.dimensions not in (None, vectors.shape[1]):
        raise invalid(f"the model's vectors have {vectors.shape[1]} dimensions and are not cut", "dimensions")
    packed = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    yield
    count = sum(count for _, count in texts.values())
    usage = {"prompt_tokens": count, "total_tokens": count}
    return encoded({"object": "list", "model": served.name, "data": data, "usage": usage})


def _packed(vector: NDArray[np.float32]) -> str:
    """Little-endian float32 numbers as base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
