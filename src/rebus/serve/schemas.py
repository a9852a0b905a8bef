"""Requests and answers as OpenAI's protocol writes them, and those of our own routes: their shape, not what they mean.

Every number's upper bound is a setting (``settings.Limits``) and is looked at where the request is understood. Unknown
fields are refused, so that nothing a client asks for is left out in silence; those that ask for nothing are taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

Probability = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Stops = str | Annotated[list[str], Field(fail_fast=True)] | None


def few(most: int) -> BeforeValidator:
    """Refuse a list or an object with more entries before any of them is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, list | dict) and len(value) > most:
            raise PydanticCustomError("too_long", "too many entries", {"max_length": most})
        return value

    return BeforeValidator(check)


Listed = Field(min_length=1, fail_fast=True)  # the first wrong entry ends it: errors of all would cost without bound
MANY = few(4096)  # far beyond every limit, which is looked at where the request is understood


class Body(BaseModel):
    """A request."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_field(cls, value: Any) -> Any:
        """Keep one of many unknown fields, since each is an error by itself."""
        if isinstance(value, dict) and len(value) > len(cls.model_fields) + 1:
            known = {field.alias or name for name, field in cls.model_fields.items()}
            unknown = next(name for name in value if name not in known)
            return {name: entry for name, entry in value.items() if name in known or name == unknown}
        return value


class Open(BaseModel):
    """An answer."""

    model_config = ConfigDict(protected_namespaces=())


class ImageUrl(Body):
    """Where an image is: in the request itself."""

    url: str = Field(description="A data URL: data:image/png;base64,... Addresses are never fetched.")
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ImagePart(Body):
    """A part of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl | Annotated[str, Field(description='The same as {"url": ...}.')]

    @property
    def url(self) -> str:
        """Where the image is."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Part], Listed, MANY] | None = None
    name: str | None = None
    refusal: str | None = None  # what clients send back of an earlier answer
    audio: None = None
    annotations: None = None
    function_call: None = None
    tool_calls: None = None


class JsonSchema(Body):
    """A schema that the answer is to follow."""

    name: str = Field(max_length=256)
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]


class ObjectFormat(Body):
    """A JSON object."""

    type: Literal["json_object"]


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class StreamOptions(Body):
    """What a stream holds beside the text."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Written(Body):
    """What all requests for text share."""

    model: str = Field(max_length=1024)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    stop: Stops = None
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    max_tokens: Count | None = None
    user: str | None = Field(default=None, max_length=1024, description="Users take turns when many requests wait.")
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(default=None, description="Not in OpenAI's protocol.")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, description="Not in OpenAI's protocol.")
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = Field(
        default=None, description="Not in OpenAI's protocol."
    )
    logit_bias: Annotated[dict[str, float], Field(max_length=0), few(0)] | None = Field(
        default=None, description="Must be empty: it is not supported."
    )


class ChatRequest(Written):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Listed, MANY]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    response_format: Format | None = None
    tools: Annotated[list[JsonValue], Field(max_length=0), few(0)] | None = Field(
        default=None, description="Must be empty: the model calls no tools."
    )
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(fail_fast=True)] | None = None
    metadata: Annotated[dict[str, str], few(64)] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None


Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Listed]


class CompletionRequest(Written):
    """``POST /v1/completions``."""

    prompt: str | Ids | Annotated[list[str], Listed] | Annotated[list[Ids], Listed]
    echo: bool | None = Field(default=None, description="Give the prompt before its text; not with logprobs.")
    logprobs: Annotated[int, Field(ge=0)] | None = None
    best_of: Count | None = Field(default=None, description="Only the same number as n.")
    suffix: None = Field(default=None, description="Not supported: the models go on from a prompt.")


class EmbeddingRequest(Body):
    """``POST /v1/embeddings``."""

    model: str = Field(max_length=1024)
    input: str | Ids | Annotated[list[str | Part], Listed] | Annotated[list[Ids], Listed]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = Field(default=None, description="Only the model's own number.")
    user: str | None = None


class PredictRequest(Body):
    """``POST /v1/predict``: rows of a table, with the columns that the model was trained on."""

    model: str | None = Field(default=None, max_length=1024)
    task: str | None = Field(default=None, max_length=256, description="One of the model's; none: its first.")
    rows: Annotated[list[dict[str, JsonValue]], Listed, MANY] = Field(
        description="Column: value. Images are data URLs.",
        examples=[[{"question": "What is this?", "image": "data:image/png;base64,..."}]],
    )
    explain: bool | None = Field(default=None, description="Also say which parts of the image and text mattered.")
    target: str | int | None = Field(default=None, description="What to explain; none: what the model says.")
    method: str | None = Field(default=None, max_length=64, description="Of explaining; none: the model's best.")


# ---------------------------------------------------------------- answers


class ErrorObject(Open):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Open):
    """Every answer that is no success."""

    error: ErrorObject


class PromptDetails(Open):
    """Of the prompt's tokens."""

    cached_tokens: int


class Usage(Open):
    """How many tokens were read and written."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


class Answer(Open):
    """What the model says."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None


class Choice(Open):
    """One of the texts asked for."""

    index: int
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class ChatChoice(Choice):
    """One of the next turns asked for."""

    message: Answer


class CompletionChoice(Choice):
    """One of the texts asked for."""

    text: str


class TextReply(Open):
    """What all answers with text share."""

    id: str
    created: int
    model: str
    usage: Usage
    system_fingerprint: str | None = None


class ChatReply(TextReply):
    """The answer of ``/v1/chat/completions`` when it does not stream."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class CompletionReply(TextReply):
    """The answer of ``/v1/completions`` when it does not stream."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class Vector(Open):
    """One input's."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingReply(Open):
    """The answer of ``/v1/embeddings``."""

    object: Literal["list"]
    model: str
    data: list[Vector]
    usage: Usage


class TaskCard(Open):
    """A task of a model."""

    name: str
    columns: dict[str, str]


class ModelCard(Open):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    tasks: list[TaskCard]
    sees_images: bool
    context: int | None


class ModelList(Open):
    """The answer of ``/v1/models``."""

    object: Literal["list"]
    data: list[ModelCard]


class RowPrediction(Open):
    """One row's."""

    index: int
    value: JsonValue
    confidence: float | None
    scores: dict[str, float]
    explanation: dict[str, Any] | None = None


class PredictReply(Open):
    """The answer of ``/v1/predict``."""

    object: Literal["list"]
    model: str
    task: str
    data: list[RowPrediction]


class Health(Open):
    """The answer of ``/health``."""

    status: Literal["ready", "loading", "failed", "draining", "no model"]
    details: list[str]
