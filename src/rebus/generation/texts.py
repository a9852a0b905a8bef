"""Texts instead of tokens: a thin layer over the engine that is given what decodes ids, and knows no more of it.

Text is told as soon as it is certain: bytes of an unfinished character are held back, and so is what may yet turn out
to be the start of a stop string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rebus.errors import RecipeError
from rebus.generation.engine import Constraint, End, Engine, Token
from rebus.generation.reading import Prefix
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

    text: str
    tokens: list[Token] = field(default_factory=list)
    logprob: float = 0.0
    end: End = "eos"


class StopStrings:
    """Lets text through as long as it cannot be the start of a stop string.

    Args:
        stops: strings that end a text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take more text; gives what is certain, and whether a stop string was met, before which it ends."""
        self._held += text
        met = [(place + len(stop), place) for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if met:  # the one that is whole first, and of these the longest, however the text came in pieces
            said, self._held = self._held[: min(met)[1]], ""
            return said, True
        begun = max((_begun(self._held, stop) for stop in self.stops), default=0)
        sure = len(self._held) - begun
        said, self._held = self._held[:sure], self._held[sure:]
        return said, False

    def finish(self) -> str:
        """What was held back, now that nothing follows."""
        said, self._held = self._held, ""
        return said


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
        prefix: Prefix | None = None,
    ) -> Iterator[Piece]:
        """Texts as they are written; a text's last piece says why it ends. Arguments and errors as ``Engine.steps``."""
        _check(stop)
        texts: dict[int, tuple[Decoding, StopStrings]] = {}
        ended: set[int] = set()
        for step in self.engine.steps(prompts, sampling, constraint=constraint, ended=ended, prefix=prefix):
            decoder, stops = texts.setdefault(step.text, (self.decoding(), StopStrings(stop)))
            fresh = "".join(decoder.push(token.id) for token in step.tokens)
            end = step.end
            if end is not None:
                fresh += decoder.finish()
            said, met = stops.push(fresh)
            if met:
                ended.add(step.text)
                end = "stop"
            elif end is not None:
                said += stops.finish()
            yield Piece(step.text, said, step.tokens, end)

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        stop: Sequence[str] = (),
        constraint: Constraint | None = None,
        prefix: Prefix | None = None,
    ) -> list[Text]:
        """Whole texts, ``n`` a prompt. Arguments and errors as ``pieces``."""
        _check(stop)
        if sampling.beams > 1:
            return self._search(prompts, sampling, stop, constraint)
        found = [Text("") for _ in range(len(prompts) * sampling.n)]
        scores: list[list[float]] = [[] for _ in found]
        for piece in self.pieces(prompts, sampling, stop=stop, constraint=constraint, prefix=prefix):
            one = found[piece.number]
            one.text += piece.text
            one.tokens += piece.tokens
            scores[piece.number] += [token.logprob for token in piece.tokens]
            if piece.end is not None:
                one.end = piece.end
        for one, told in zip(found, scores, strict=True):
            one.logprob = sum(told) / max(len(told), 1)
        return found

    def _search(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        stop: Sequence[str],
        constraint: Constraint | None,
    ) -> list[Text]:
        found = []
        for written in self.engine.write(prompts, sampling, constraint=constraint):
            decoder, stops = self.decoding(), StopStrings(stop)
            said, met = stops.push("".join(decoder.push(one) for one in written.ids) + decoder.finish())
            found.append(
                Text(said if met else said + stops.finish(), [], written.logprob, "stop" if met else written.end)
            )
        return found


def _begun(text: str, stop: str) -> int:
    """How much of the end of a text is the start of a stop string, the longest such start."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


def _check(stop: Sequence[str]) -> None:
    if not all(stop):
        raise RecipeError("'stop' of the text to be written", "strings of at least one character", "''", "leave it out")


__all__ = ["Decoding", "Piece", "StopStrings", "Text", "TextWriter"]
