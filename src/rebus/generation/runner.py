"""Passes through the decoder: some tokens of each of many texts at once, and the logits of those that are whole then.

It knows the decoder and the pool, and neither turns nor sampling. Compiled code (``CompiledDecoder``) takes all tokens
of all texts as rows of one pass that looks into the pool itself. Else, and for what compiled code leaves to PyTorch
(prefixes, long prompts, memories), texts with about as many new tokens are one padded pass, with their keys copied out
of the pool. Letters: R texts, N rows, P prefix tokens, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rebus.generation.conditioning import Conditioning, joined
from rebus.generation.decoders.backend import DecoderBackend
from rebus.generation.decoders.compiled import SHORT, CompiledDecoder
from rebus.generation.decoders.eager import EagerDecoder
from rebus.generation.paging import PagedCache, Pool
from rebus.generation.sequence import TextSequence
from rebus.models.features import Features
from rebus.models.fusion import Condition

PADDED = 1.25  # times as many tokens as the shortest that texts of one padded pass may have


@dataclass(frozen=True)
class Chunk:
    """The next ``count`` places of a text: all that is left of its prefix, or nothing of it, then ids."""

    sequence: TextSequence
    count: int

    @property
    def whole(self) -> bool:
        """Whether nothing is unread after it."""
        return self.count == self.sequence.unread

    @property
    def prefix(self) -> int:
        """How many of its places are of the prefix."""
        return max(self.sequence.prefix - self.sequence.read, 0)

    @property
    def first(self) -> int:
        """The place of its first id among the text's."""
        return max(self.sequence.read - self.sequence.prefix, 0)

    @property
    def ids(self) -> list[int]:
        """Its ids."""
        if self.sequence.conditioning is None:
            return self.sequence.ids[self.sequence.read : self.sequence.read + self.count]
        return self.sequence.ids[self.first : max(self.sequence.read + self.count - self.sequence.prefix, 0)]

    @property
    def embedding(self) -> Conditioning | None:
        """What changes how its ids enter the decoder; None: they enter as any."""
        source = self.sequence.conditioning
        return source if source is not None and (source.spread or source.marks(self.ids)) else None

    @property
    def begun(self) -> bool:
        """Whether the text's prefix is read, and its memory."""
        conditioning = self.sequence.conditioning
        return conditioning is None or (not self.prefix and (conditioning.memory is None or bool(conditioning.cross)))


class Runner:
    """Reads chunks.

    Args:
        backend: runs the decoder; a memory is read by the decoder itself.
        pool: where keys and values are.
    """

    def __init__(self, backend: DecoderBackend, pool: Pool) -> None:
        self.backend, self.pool = backend, pool
        self.attending = backend if backend.attends else EagerDecoder(backend.decoder)
        self._joined: tuple[list[Conditioning], Condition | None] = ([], None)

    def read(self, chunks: Sequence[Chunk], vocab_size: int) -> Tensor:
        """(R, V) float32 on the CPU: the logits of each chunk that ends its text, in their order.

        Nothing that texts know of themselves changes: what fails may be read again.
        """
        parts: list[Tensor] = []
        order: list[int] = []
        for backend, memory in ((self.backend, False), (self.attending, True)):
            places = [place for place, chunk in enumerate(chunks) if _attends(chunk.sequence) is memory]
            if places:
                hidden = self._read(backend, [chunks[place] for place in places])
                whole = [row for row, place in enumerate(places) if chunks[place].whole]
                parts.append(backend.logits(hidden if len(whole) == len(places) else hidden[whole]))
                order += [places[row] for row in whole]
        return _in_order([part[:, :vocab_size].float().cpu() for part in parts], order)

    def _read(self, backend: DecoderBackend, chunks: Sequence[Chunk]) -> Tensor:
        """(R, D), each chunk's last vector."""
        counts = [len(chunk.ids) for chunk in chunks]
        x = self._embed(backend, chunks, counts)
        order: list[int] = []
        if isinstance(backend, CompiledDecoder):
            order = [place for place, chunk in enumerate(chunks) if _as_rows(chunk)]
            if len(order) == len(chunks):
                return self._compiled(backend, chunks, x)
        vectors = torch.split(x, counts)
        parts: list[Tensor] = []
        if isinstance(backend, CompiledDecoder) and order:
            rows = torch.cat([vectors[place] for place in order])
            parts.append(self._compiled(backend, [chunks[place] for place in order], rows))
        for group in _alike(chunks, sorted({*range(len(chunks))} - {*order})):
            parts.append(self._padded(backend, [chunks[at] for at in group], [vectors[at] for at in group]))
            order += group
        return _in_order(parts, order)

    def _embed(self, backend: DecoderBackend, chunks: Sequence[Chunk], counts: Sequence[int]) -> Tensor:
        """The ids of all chunks as they enter the decoder, one after the other: (N, D)."""
        ids = torch.tensor([token for chunk in chunks for token in chunk.ids], dtype=torch.long, device=backend.device)
        x = backend.embed(ids[None])[0]
        altered = [place for place, chunk in enumerate(chunks) if counts[place] and chunk.embedding is not None]
        if not altered:
            return x
        starts = np.cumsum([0, *counts]).tolist()
        single = [place for place in altered if counts[place] == 1 and not _inside(chunks[place])]
        sources = [source for place in single if (source := chunks[place].embedding) is not None]
        if len(single) > 1 and all(source.model is sources[0].model for source in sources):
            if self._joined[0] != sources:  # the same texts are written for many steps
                self._joined = (sources, joined([source.condition for source in sources]))
            if self._joined[1] is not None:
                at = torch.tensor([starts[place] for place in single], device=backend.device)
                x[at] = sources[0].model.embed(self._joined[1], ids[at][:, None])[:, 0].to(backend.dtype)
                altered = [place for place in altered if place not in single]
        for place in altered:
            chunk, first, end = chunks[place], starts[place], starts[place + 1]
            if (source := chunk.embedding) is not None:
                before = source.marks(chunk.sequence.ids[: chunk.first])
                x[first:end] = source.embed(ids[None, first:end], before)[0].to(backend.dtype)
        return x

    def _compiled(self, backend: CompiledDecoder, chunks: Sequence[Chunk], x: Tensor) -> Tensor:
        """(N, D), all chunks' ids one after the other -> (R, D), each one's last vector."""
        counts = np.array([chunk.count for chunk in chunks])
        ends = counts.cumsum()
        starts = np.array([chunk.sequence.read for chunk in chunks])
        before = np.array([chunk.sequence.prefix for chunk in chunks])
        text = np.arange(len(chunks), dtype=np.int32).repeat(counts)
        at = (np.arange(ends[-1]) - (ends - counts).repeat(counts) + starts.repeat(counts)).astype(np.int32)
        positions = at - (before - (before > 0)).repeat(counts)  # a prefix stands at position 0
        tables = np.zeros((len(chunks), int(-(-(starts + counts).max() // self.pool.size))), dtype=np.int32)
        for row, chunk in enumerate(chunks):
            few = chunk.sequence.table[: tables.shape[1]]
            tables[row, : len(few)] = few

        def layer(index: int) -> tuple[Tensor, Tensor]:
            return self.pool.layer(index, *backend.heads(index), backend.dtype, backend.device)

        hidden = backend.rows(
            x,
            torch.from_numpy(positions.astype(np.int64)),
            torch.from_numpy(text),
            torch.from_numpy(at),
            layer,
            torch.from_numpy(tables),
        )
        return hidden[torch.from_numpy(ends - 1)]

    def _padded(self, backend: DecoderBackend, chunks: Sequence[Chunk], parts: Sequence[Tensor]) -> Tensor:
        """Of chunks with equal prefixes left: these first, then their ids, (L, D) each. (R, D)."""
        sequences, left = [chunk.sequence for chunk in chunks], chunks[0].prefix
        starts, counts = [sequence.read for sequence in sequences], [len(part) for part in parts]
        if left:
            end = sequences[0].prefix
            prefixes = [source.prefix[end - left :] for source in _sources(sequences) if source.prefix is not None]
            mask = torch.ones(len(chunks), 1, left, end, dtype=torch.bool, device=backend.device)
            x = torch.stack(prefixes).to(backend.dtype)
            hidden = self._pass(backend, sequences, x, starts, [left] * len(chunks), mask)
            if not counts[0]:
                return hidden[:, -1]
            starts = [start + left for start in starts]
        hidden = self._pass(backend, sequences, pad_sequence(list(parts), batch_first=True), starts, counts)
        return hidden[torch.arange(len(counts)), torch.tensor(counts) - 1]

    def _pass(
        self,
        backend: DecoderBackend,
        sequences: Sequence[TextSequence],
        x: Tensor,
        starts: Sequence[int],
        counts: Sequence[int],
        mask: Tensor | None = None,
    ) -> Tensor:
        """(R, L, D) -> (R, L, D): the next places of each text."""
        memories = [(source, source.memory) for source in _sources(sequences) if source.memory is not None]
        cross = [(source.cross, memory.tokens.shape[1]) for source, memory in memories]
        cache = PagedCache(self.pool, [sequence.table for sequence in sequences], starts, counts, cross)
        within = np.minimum(np.arange(x.shape[1]), np.array(counts)[:, None] - 1)  # padding stands where the last does
        before = np.array([[max(sequence.prefix - 1, 0)] for sequence in sequences])
        positions = torch.from_numpy((np.array(starts)[:, None] + within - before).clip(0)).to(backend.device)
        if mask is None:
            mask = cache.mask(backend.device)
        return backend.forward_embeds(x, positions, mask, _memory(memories), cache)


def _in_order(parts: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """Rows of several parts, of which ``order`` says where each stands among all, in that order."""
    rows = parts[0] if len(parts) == 1 else torch.cat(list(parts))
    if all(before < after for before, after in itertools.pairwise(order)):
        return rows
    return rows[torch.tensor(order, device=rows.device).argsort()]


def _attends(sequence: TextSequence) -> bool:
    return sequence.conditioning is not None and sequence.conditioning.memory is not None


def _inside(chunk: Chunk) -> bool:
    return chunk.sequence.conditioning is not None and chunk.sequence.conditioning.inside


def _as_rows(chunk: Chunk) -> bool:
    """Whether compiled code may read it."""
    return chunk.begun and (chunk.count == 1 or chunk.sequence.read + chunk.count <= SHORT)


def _alike(chunks: Sequence[Chunk], places: Sequence[int]) -> Iterator[list[int]]:
    """Places of chunks that may be one padded pass."""

    def kind(place: int) -> tuple[bool, int, int, int]:
        chunk = chunks[place]
        if chunk.sequence.conditioning is None:
            return True, 0, 0, chunk.count
        return chunk.begun, chunk.prefix, chunk.sequence.prefix * (chunk.prefix > 0), chunk.count - chunk.prefix

    group: list[int] = []
    for place in sorted(places, key=kind):
        if group:
            *same, least = kind(group[0])
            *other, count = kind(place)
            if same != other or count > (PADDED * least if least > 1 else least):
                yield group
                group = []
        group.append(place)
    if group:
        yield group


def _sources(sequences: Sequence[TextSequence]) -> list[Conditioning]:
    return [sequence.conditioning for sequence in sequences if sequence.conditioning is not None]


def _memory(memories: Sequence[tuple[Conditioning, Features]]) -> Features | None:
    """What texts attend to, filled up to the longest. Attention keeps what it makes of the tokens at the first pass;
    later ones need the mask alone.
    """
    if not memories:
        return None
    mask = pad_sequence([memory.mask[0] for _, memory in memories], batch_first=True)
    most = 1 if all(source.cross for source, _ in memories) else mask.shape[1]
    tokens = pad_sequence([memory.tokens[0, :most] for _, memory in memories], batch_first=True)
    return Features(tokens, mask, tokens[:, 0])
