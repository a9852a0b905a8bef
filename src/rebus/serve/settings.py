"""Every setting of a server there is, with what it may be. It knows no model and no web framework."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from rebus.errors import RecipeError, nearest

SHORTEST_KEY = 8  # characters of an API key


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for; what is beyond is refused before any work.

    Attributes:
        body_mb: MiB of a request's body.
        text_mb: MiB of a body beside its images.
        bodies_mb: MiB of all bodies together that are being received or answered; past it 503.
        header_kb: KiB of its first line and headers together.
        header_seconds: until all headers must have come.
        body_seconds: until all of the body must have come.
        seconds: until the answer must be finished; what was written so far is sent with an error.
        connections: open at once; past it 503, and past twice as many they are closed unheard.
        requests: being answered at once, whatever they ask; past it 503.
        queue: requests that wait for the model; past it 429.
        images: of one request.
        pixels: of one image, by its header, before it is decoded.
        frames: of one image; 1 refuses animations.
        prompt_tokens: of one prompt; 0: as many as the model has places.
        max_tokens: that may be asked for.
        n: texts a prompt.
        prompts: of one completion request.
        stops: stop strings.
        stop_length: characters of a stop string.
        logprobs: alternatives a token.
        inputs: texts and images of one embedding request.
        rows: of one prediction request.
        explained: rows of one prediction request that asks why, which costs many predictions each.
        text_length: characters of one text.
        messages: of one conversation.
        json_depth: of lists and objects inside one another.
        json_values: separators of values in a body, so that a small body cannot be a great many of them.
        json_objects: objects in a body; each costs more to look at than a number.
        json_keys: fields of all objects together.
        json_escapes: characters written with a backslash.
        json_bytes: outside strings.
        schema_kb: KiB of a JSON schema that an answer is to follow.
        schema_depth: of that schema.
        pattern_length: characters of a regular expression in it.
        schema_repeats: most that a schema may count to (minLength, maxItems, ``{2,9}``, ...).
    """

    body_mb: int = 32
    text_mb: int = 8
    bodies_mb: int = 512
    header_kb: int = 16
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    seconds: float = 600.0
    connections: int = 1024
    requests: int = 512
    queue: int = 256
    images: int = 8
    pixels: int = 25_000_000
    frames: int = 1
    prompt_tokens: int = 0
    max_tokens: int = 4096
    n: int = 8
    prompts: int = 32
    stops: int = 8
    stop_length: int = 256
    logprobs: int = 20
    inputs: int = 256
    rows: int = 256
    explained: int = 8
    text_length: int = 200_000
    messages: int = 512
    json_depth: int = 32
    json_values: int = 200_000
    json_objects: int = 20_000
    json_keys: int = 50_000
    json_escapes: int = 1_000_000
    json_bytes: int = 4_194_304
    schema_kb: int = 64
    schema_depth: int = 24
    pattern_length: int = 512
    schema_repeats: int = 1000

    def __post_init__(self) -> None:
        for each in fields(self):
            least = 0 if each.name == "prompt_tokens" else 1e-3
            value = getattr(self, each.name)
            if not least <= value < float("inf"):
                raise RecipeError(f"the server's limit '{each.name}'", "a number above 0", str(value), "raise it")

    def changed(self, words: Sequence[str]) -> Limits:
        """The same but for ``NAME=NUMBER`` words. Raises RecipeError where there is no such limit or number."""
        known = {each.name: type(getattr(self, each.name)) for each in fields(self)}
        changes: dict[str, float] = {}
        for word in words:
            name, equals, number = word.partition("=")
            if not equals or name not in known:
                do = nearest(name, known)
                raise RecipeError("--limit", "NAME=NUMBER with the name of a limit", f"'{word}'", do)
            try:
                changes[name] = known[name](number)
            except ValueError as error:
                raise RecipeError(f"--limit {name}", "a number", f"'{number}'", "write digits") from error
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ServeSettings:
    """How a server is reached, and what it allows.

    Attributes:
        host: address to listen on; anything but this machine's own (loopback) needs an ``api_key``.
        port: 0: any that is free.
        api_key: what every request but those for ``/health`` must show; None: none.
        name: of the model, as clients write it; None: the folder's.
        precision: of the weights.
        temperature: of requests that do not say; 0, as ``rebus ask``: the likeliest words.
        running: texts written at once.
        cache_mb: MiB that keys and values of all texts may take together.
        chunk: tokens of prompts read in one step.
        drain: seconds that requests in progress get to finish when the server is told to stop.
        cors: web pages' origins that may call from a browser; none: no page may.
        hosts: names besides loopback's that requests may come to; only looked at where there is no key.
        log_prompts: write what people ask into the log.
        limits: see ``Limits``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    name: str | None = None
    precision: str = "fp32"
    temperature: float = 0.0
    running: int = 64
    cache_mb: int = 1024
    chunk: int = 256
    drain: float = 30.0
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    log_prompts: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.api_key is not None:
            check_key(self.api_key)
        if not is_loopback(self.host) and self.api_key is None:
            raise RecipeError(
                f"--host {self.host}",
                "an API key, because others than this machine can reach that address",
                "none",
                "add --api-key-file FILE (or --api-key), or leave --host out",
            )
        for name, value, fits in (
            ("--port", self.port, 0 <= self.port <= 65535),
            ("--running", self.running, 1 <= self.running <= 1024),
            ("--cache-mb", self.cache_mb, self.cache_mb >= 1),
            ("--drain", self.drain, 0 <= self.drain < float("inf")),
            ("--temperature", self.temperature, 0 <= self.temperature <= 2),
        ):
            if not fits:
                raise RecipeError(name, "a number in its range", str(value), "see rebus serve --help")
        for origin in self.cors:
            if origin != "*" and not origin.startswith(("http://", "https://")):
                raise RecipeError("--cors", "an origin such as https://example.org", f"'{origin}'", "correct it")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_key(key: str) -> None:
    """Raises RecipeError, which does not show the key, where it cannot be one."""
    if len(key) < SHORTEST_KEY or not all(33 <= ord(character) <= 126 for character in key):
        raise RecipeError(
            "the API key",
            f"at least {SHORTEST_KEY} printable ASCII characters without spaces",
            f"{len(key)} characters",
            "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )


def read_key(file: Path) -> str:
    """The API key in a file, without the space around it. Raises RecipeError, which does not show it."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = type(error).__name__ if isinstance(error, UnicodeDecodeError) else error.strerror or "an error"
        raise RecipeError(f"--api-key-file {file}", "a file with the key", problem, "check the path") from error
    check_key(key)
    return key
