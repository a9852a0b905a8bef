"""Texts instead of tokens: a thin layer over the engine that is given what decodes ids, and knows no more of it.

Text is given as soon as it is certain: bytes of an unfinished character are held back, and so is what may yet turn out
to be the start of a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rebus.errors import RecipeError
from rebus.generation.engine import Engine
from rebus.generation.requests import Constraint, End, Step, Token
from rebus.generation.sampling import Sampling


class Decoding(Protocol):
    """Decodes one text's ids as they come; ``rebus.text.stream.StreamDecoder`` is one."""

    def push(self, ids: int) -> str:
        """Take one id; gives the text that is now certain, perhaps none."""
        ...

    def finish(self) -> str:
        """The rest."""
        ...


@dataclass(frozen=True)
class Piece:
    """What one step adds to one text.

    Attributes:
        number: the text's number in its call: prompt times n, plus sample.
        text: what is now certain, perhaps empty.
        tokens: the tokens of this step; those of a stop string may be among them.
        end: why the text ends here; None: it goes on.
    """

    number: int
    text: str
    tokens: tuple[Token, ...]
    end: End | None


@dataclass
class Text:
    """One text.

    Attributes:
        text: without what ended it.
        tokens: its tokens with their log-probabilities; none after beam search.
        logprob: mean log-probability of its tokens.
        end: ``eos``, ``stop`` or ``length`` (it is cut).
    """

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    logprob: float = 0.0
    end: End = "eos"

    def add(self, piece: Piece) -> None:
        """Go on with a piece."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.end = piece.end or self.end


class StopStrings:
    """Lets text through as long as it cannot be the start of a stop string.

    Args:
        stops: strings that end a text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self._pending = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text; gives what is certain, and whether a stop string was met, before which it ends."""
        self._pending += text
        ends = [(place + len(stop), place) for stop in self.stops if (place := self._pending.find(stop)) >= 0]
        if ends:  # the one that is whole first, and of these the longest, however the text came in pieces
            text, self._pending = self._pending[: min(ends)[1]], ""
            return text, True
        sure = len(self._pending) - max((_start_of(self._pending, stop) for stop in self.stops), default=0)
        text, self._pending = self._pending[:sure], self._pending[sure:]
        return text, False

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        text, self._pending = self._pending, ""
        return text


class TextDecoder:
    """The characters of one text, from its steps.

    Args:
        decoding: of its ids.
        stop: strings that end it.
    """

    def __init__(self, decoding: Decoding, stop: Sequence[str]) -> None:
        self._decoding, self._stops = decoding, StopStrings(stop)

    def take(self, step: Step) -> tuple[str, End | None]:
        """What a step adds, and why the text ends here; None: it goes on."""
        text, end = "".join(self._decoding.push(token.id) for token in step.tokens), step.end
        if end is not None:
            text += self._decoding.finish()
        text, stopped = self._stops.push(text)
        if stopped:
            return text, "stop"
        return (text if end is None else text + self._stops.finish()), end


class TextWriter:
    """Writes texts.

    Args:
        engine: writes tokens.
        decoding: makes what decodes one text's ids.
    """

    def __init__(self, engine: Engine, decoding: Callable[[], Decoding]) -> None:
        self.engine, self.decoding = engine, decoding

    def pieces(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        constraint: Constraint | None = None,
    ) -> Iterator[Piece]:
        """Texts as they are written; a text's last piece says why it ends. Arguments and errors as ``Engine.steps``."""
        _check(stop)
        texts: dict[int, TextDecoder] = {}
        ended: set[int] = set()
        for step in self.engine.steps(prompts, sampling, constraint=constraint, ended=ended):
            if step.text not in texts:
                texts[step.text] = TextDecoder(self.decoding(), stop)
            text, end = texts[step.text].take(step)
            if end is not None:
                ended.add(step.text)
            yield Piece(step.text, text, step.tokens, end)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        constraint: Constraint | None = None,
    ) -> list[Text]:
        """Whole texts, ``n`` a prompt. Arguments and errors as ``pieces``."""
        _check(stop)
        if sampling.beams > 1:
            texts = []
            for written in self.engine.write(prompts, sampling, constraint=constraint):
                step = Step(0, tuple(Token(token, 0.0) for token in written.ids), written.end, 0.0)
                text, end = TextDecoder(self.decoding(), stop).take(step)
                texts.append(Text(text, [], written.logprob, end or written.end))
            return texts
        texts = [Text() for _ in range(len(prompts) * sampling.n)]
        for piece in self.pieces(prompts, sampling, stop=stop, constraint=constraint):
            texts[piece.number].add(piece)
        for row in texts:
            row.logprob = sum(token.logprob for token in row.tokens) / max(len(row.tokens), 1)
        return texts


def _start_of(text: str, stop: str) -> int:
    """How much of the end of a text is the start of a stop string, the longest such start."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


def _check(stop: Sequence[str]) -> None:
    if not all(stop):
        raise RecipeError("'stop' of the text to be written", "strings of at least one character", "''", "leave it out")
