"""``/v1/embeddings``: texts and pictures as vectors of length one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from rebus.run.embedding import embed_pictures, embed_texts
from rebus.run.predictor import Predictor
from rebus.serve import pictures
from rebus.serve.context import Context, unless_gone
from rebus.serve.errors import invalid
from rebus.serve.schemas import EmbeddingReply, EmbeddingRequest, PicturePart, TextPart

ROUTE = "/v1/embeddings"
Inputs = list[tuple[str, Any]]  # ("text", text) or ("picture", address)


def router(context: Context) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post(ROUTE, tags=["OpenAI"], response_model=EmbeddingReply)
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        """Vectors of texts, and of pictures given as ``{"type": "image_url", "image_url": {"url": "data:..."}}``."""
        served = context.model(body.model)
        context.note(ROUTE, body)
        inputs = _inputs(body, context, served.predictor)
        vectors, read = await unless_gone(request, context.at_desk(embed, served.predictor, inputs, context))
        if body.dimensions not in (None, vectors.shape[1]):
            raise invalid(f"the model's vectors have {vectors.shape[1]} dimensions and are not cut", "dimensions")
        packed = body.encoding_format == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(one) if packed else one.tolist()}
            for index, one in enumerate(vectors)
        ]
        context.metrics.read.inc(read)
        usage = {"prompt_tokens": read, "total_tokens": read}
        return JSONResponse({"object": "list", "model": served.name, "data": data, "usage": usage})

    return routes


def embed(predictor: Predictor, inputs: Inputs, context: Context) -> tuple[NDArray[np.float32], int]:
    """(N, D) vectors, and how many tokens were read. Raises ApiError, DataError."""
    kinds = [kind for kind, _ in inputs]
    texts = [value for kind, value in inputs if kind == "text"]
    shown = [
        pictures.opened(predictor, value, context.limits, "input").pixels for kind, value in inputs if kind == "picture"
    ]
    of_texts = embed_texts(predictor, texts) if texts else None
    of_pictures = embed_pictures(predictor, shown) if shown else None
    if of_texts is not None and of_pictures is not None and of_texts.shape[1] != of_pictures.shape[1]:
        raise invalid("the model's texts and pictures share no space: send them in two requests", "input")
    found = {"text": iter(of_texts if of_texts is not None else ()), "picture": iter(of_pictures if shown else ())}  # type: ignore[arg-type]
    read = sum(len(predictor.codec.read(text)) for text in texts)
    return np.stack([next(found[kind]) for kind in kinds]).astype(np.float32), read


def _inputs(body: EmbeddingRequest, context: Context, predictor: Predictor) -> Inputs:
    limits = context.limits
    given: Sequence[Any] = [body.input] if isinstance(body.input, str) or isinstance(body.input[0], int) else body.input
    if len(given) > limits.inputs:
        raise invalid(f"at most {limits.inputs} inputs may be sent; there are {len(given)}", "input")
    found: Inputs = []
    for one in given:
        if isinstance(one, PicturePart):
            pictures.check_address(one.image_url.url, "input")
            found.append(("picture", one.image_url.url))
            continue
        if isinstance(one, list):
            tokenizer = predictor.codec.tokenizer
            if max(one) >= tokenizer.vocab_size:
                raise invalid(f"token ids are below {tokenizer.vocab_size}", "input")
            text = tokenizer.decode(one)
        else:
            text = one.text if isinstance(one, TextPart) else one
        if not text or len(text) > limits.text_length:
            raise invalid(f"a text has 1 to {limits.text_length:,} characters", "input")
        found.append(("text", text))
    if sum(kind == "picture" for kind, _ in found) > limits.pictures:
        raise invalid(f"at most {limits.pictures} pictures may be sent", "input")
    return found


def _packed(vector: NDArray[np.float32]) -> str:
    """Little-endian float32 numbers as base64."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
