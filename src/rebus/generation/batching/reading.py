"""Passes through the decoder: some tokens of each of many texts at once, and the logits of those that are whole then.

It knows the decoder and the pool, and neither turns nor sampling. Where the writer is compiled (``Native``), all tokens
of all texts are rows of one pass that looks into the pool itself. Else texts that are being written are one pass, with
their keys copied out of the pool and filled up to the longest, and each part of a prompt is one more; so is, in either
case, what compiled code leaves to PyTorch: prefixes, long prompts, memories. Letters: R texts, N rows, P prefix tokens,
L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rebus.generation.batching.images import Given, joined
from rebus.generation.batching.text import Text
from rebus.generation.native import SHORT, Native, fast
from rebus.generation.paging import Paged, Pool
from rebus.generation.reading import Writer
from rebus.generation.writers import Plain
from rebus.models.features import Features
from rebus.models.fusion import Condition
from rebus.models.towers.decoder import Decoder
from rebus.nn.cache import Cache


@dataclass(frozen=True)
class Span:
    """The next ``count`` places of a text: all that is left of its prefix, or nothing of it, then ids."""

    text: Text
    count: int

    @property
    def whole(self) -> bool:
        """Whether nothing is unread after it."""
        return self.count == self.text.unread

    @property
    def first(self) -> int:
        """The place of its first id among the text's."""
        return max(self.text.read - self.text.prefix, 0)

    @property
    def ids(self) -> list[int]:
        """Its ids."""
        return self.text.ids[self.first : max(self.text.read + self.count - self.text.prefix, 0)]

    @property
    def enters(self) -> Given | None:
        """What changes how its ids enter the decoder; None: they enter as any."""
        given = self.text.given
        return given if given is not None and (given.spread or given.marks(self.ids)) else None

    @property
    def begun(self) -> bool:
        """Whether the text's prefix is read, and its memory."""
        given = self.text.given
        return given is None or (self.text.read >= given.length and (given.memory is None or bool(given.kept)))


class Passes:
    """Reads spans.

    Args:
        writer: a decoder, or what writes with it; a memory is read by the decoder itself.
        pool: where keys and values are.
    """

    def __init__(self, writer: Writer | Decoder, pool: Pool) -> None:
        self.writer: Writer = fast(writer) if isinstance(writer, Decoder) else writer
        self.attending: Writer = Plain(writer) if isinstance(writer, Decoder) else writer  # to a memory
        self.pool = pool
        self._joined: tuple[list[Given], Condition | None] = ([], None)

    @torch.inference_mode()
    def read(self, spans: Sequence[Span], vocab_size: int) -> Tensor:
        """(R, V) float32 on the CPU: the logits of each span that ends its text, in their order.

        Nothing that texts know of themselves changes: what fails may be read again.
        """
        attends = [span.text.given is not None and span.text.given.memory is not None for span in spans]
        logits = torch.empty(sum(span.whole for span in spans), vocab_size)
        for writer, wanted in ((self.writer, False), (self.attending, True)):
            some = [span for span, one in zip(spans, attends, strict=True) if one is wanted]
            hidden = [last for span, last in zip(some, self._read(writer, some), strict=True) if span.whole]
            if hidden:
                told = writer.logits(torch.stack(hidden))[:, :vocab_size].float().cpu()
                if len(told) == len(logits):
                    return told
                whole = [one for span, one in zip(spans, attends, strict=True) if span.whole]
                logits[torch.tensor([one is wanted for one in whole])] = told
        return logits

    def _read(self, writer: Writer, spans: Sequence[Span]) -> Sequence[Tensor] | Tensor:
        """Each span's last vector (D,)."""
        if not spans:
            return []
        counts = [len(span.ids) for span in spans]
        x = self._embed(writer, spans, counts)
        together = [place for place, span in enumerate(spans) if _ordinary(writer, span)]
        if len(together) == len(spans):
            return self._together(writer, spans, x)
        parts = torch.split(x, counts)
        found: dict[int, Tensor] = {}
        if together:
            some = self._together(writer, [spans[at] for at in together], torch.cat([parts[at] for at in together]))
            found.update(zip(together, some, strict=True))
        for place, span in enumerate(spans):
            if place not in found:
                found[place] = self._part(writer, span, parts[place])
        return [found[place] for place in range(len(spans))]

    def _embed(self, writer: Writer, spans: Sequence[Span], counts: Sequence[int]) -> Tensor:
        """The ids of all spans as they enter the decoder, one after the other: (N, D)."""
        ids = torch.tensor([token for span in spans for token in span.ids], dtype=torch.long, device=writer.device)
        x = writer.embed(ids[None])[0]
        special = [place for place, span in enumerate(spans) if counts[place] and span.enters is not None]
        if not special:
            return x
        starts = np.cumsum([0, *counts]).tolist()
        ones = [place for place in special if counts[place] == 1 and not _inside(spans[place])]
        known = [given for place in ones if (given := spans[place].enters) is not None]
        if len(ones) > 1 and all(given.model is known[0].model for given in known):
            if self._joined[0] != known:  # the same texts are written for many steps
                self._joined = (known, joined([given.condition for given in known]))
            if self._joined[1] is not None:
                at = torch.tensor([starts[place] for place in ones], device=writer.device)
                x[at] = known[0].model.embed(self._joined[1], ids[at][:, None])[:, 0].to(writer.dtype)
                special = [place for place in special if place not in ones]
        for place in special:
            given, text, first, end = spans[place].enters, spans[place].text, starts[place], starts[place + 1]
            if given is not None:
                before = given.marks(text.ids[: spans[place].first])
                x[first:end] = given.embed(ids[None, first:end], before)[0].to(writer.dtype)
        return x

    def _together(self, writer: Writer, spans: Sequence[Span], x: Tensor) -> Tensor:
        """(N, D), all spans' ids one after the other -> (R, D), each one's last vector, by one pass."""
        if isinstance(writer, Native):
            return self._rows(writer, spans, x)
        return self._pass(writer, [span.text for span in spans], x[:, None])[:, -1]

    def _rows(self, writer: Native, spans: Sequence[Span], x: Tensor) -> Tensor:
        """(N, D), all spans' ids one after the other -> (R, D), each one's last vector."""
        counts = np.array([span.count for span in spans])
        ends = counts.cumsum()
        starts = np.array([span.text.read for span in spans])
        before = np.array([span.text.prefix for span in spans])
        text = np.arange(len(spans), dtype=np.int32).repeat(counts)
        at = (np.arange(ends[-1]) - (ends - counts).repeat(counts) + starts.repeat(counts)).astype(np.int32)
        positions = at - (before - (before > 0)).repeat(counts)  # a prefix stands at position 0
        size = self.pool.size
        tables = np.zeros((len(spans), int(-(-(starts + counts).max() // size))), dtype=np.int32)
        for row, span in enumerate(spans):
            few = span.text.table[: tables.shape[1]]
            tables[row, : len(few)] = few

        def kept(index: int) -> tuple[Tensor, Tensor]:
            return self.pool.layer(index, *writer.heads(index), writer.dtype, writer.device)

        told = writer.rows(
            x,
            torch.from_numpy(positions.astype(np.int64)),
            torch.from_numpy(text),
            torch.from_numpy(at),
            kept,
            torch.from_numpy(tables),
        )
        return told[torch.from_numpy(ends - 1)]

    def _part(self, writer: Writer, span: Span, x: Tensor) -> Tensor:
        """Of one text: what is left of the prefix, then ids (L, D). (D,)."""
        text, given, read, hidden = span.text, span.text.given, span.text.read, None
        if given is not None and given.prefix is not None and read < text.prefix:
            left = given.prefix[None, read:].to(writer.dtype)
            mask = torch.ones(1, 1, left.shape[1], text.prefix, dtype=torch.bool, device=writer.device)
            hidden, read = self._pass(writer, [text], left, mask), text.prefix
        if len(x):
            hidden = self._pass(writer, [text], x[None], start=read)
        assert hidden is not None  # noqa: S101 - a span has at least one place
        return hidden[0, -1]

    def _pass(
        self, writer: Writer, texts: Sequence[Text], x: Tensor, mask: Tensor | None = None, start: int | None = None
    ) -> Tensor:
        """(R, L, D) -> (R, L, D): the next L places of each text, or of one text those from ``start`` on."""
        starts = [text.read for text in texts] if start is None else [start]
        givens = [text.given for text in texts if text.given is not None and text.given.memory is not None]
        memories = [given.kept for given in givens] if givens else None
        paged = Paged(self.pool, [text.table for text in texts], starts, memories)
        new = x.shape[1]
        places = torch.tensor(starts, device=writer.device)[:, None] + torch.arange(new, device=writer.device)
        before = torch.tensor([[max(text.prefix - 1, 0)] for text in texts], device=writer.device)
        if mask is None:
            mask = paged.seen(new, writer.device)
        cache = cast("Cache", paged)
        return writer.forward_embeds(x, (places - before).clamp(min=0), mask, _memory(givens), cache)


def _inside(span: Span) -> bool:
    return span.text.given is not None and span.text.given.inside


def _ordinary(writer: Writer, span: Span) -> bool:
    """Whether it may be read in one pass with other texts'."""
    if not isinstance(writer, Native):
        return span.begun and span.count == 1 and span.text.read > 0
    return span.begun and (span.count == 1 or span.text.read + span.count <= SHORT)


def _memory(givens: Sequence[Given]) -> Features | None:
    """What texts attend to, filled up to the longest. Attention keeps what it makes of it at the first pass, which is
    one text's; later passes need the mask alone.
    """
    parts = [given.memory for given in givens if given.memory is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    most = max(part.tokens.shape[1] for part in parts)
    mask = torch.zeros(len(parts), most, dtype=torch.bool, device=parts[0].mask.device)
    for row, part in enumerate(parts):
        mask[row, : part.tokens.shape[1]] = True
    blank = parts[0].tokens.new_zeros(len(parts), 1, parts[0].tokens.shape[2])
    return Features(blank, mask, blank[:, 0])
