"""Reading prompts, and going on from them a token at a time: what greedy decoding, sampling and beam search share.

It knows no sampling: ids in, the decoder's last vectors out. Prompts of unequal length are padded on the left, so that
every text's next token is in the last column; padding is masked and positions count real tokens only, so a text does
not depend on what it is batched with beyond rounding.
Letters: R texts, P prefix tokens, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from rebus.errors import DataError
from rebus.models.features import Features
from rebus.nn.attention import causal_mask
from rebus.nn.cache import Cache

WORTH_SHARING = 8  # tokens that prompts must have in common before they are read once for all
ROOM = 256  # tokens the cache is made larger for at first, where more may be written


class Writer(Protocol):
    """What writes: a ``Decoder``, or one prepared for inference."""

    max_length: int
    vocab_size: int

    @property
    def device(self) -> torch.device:
        """Where ids and masks are made."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether it has no positions beyond ``max_length``."""
        ...

    def embed(self, input_ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        ...

    def forward_embeds(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        memory: Features | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """(R, L, D) -> (R, L, D); see ``Decoder.forward_embeds``."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        ...

    def new_cache(self, room: int = 64) -> Cache:
        """An empty cache."""
        ...


class Source:
    """What texts are written from beside their prompts: nothing here; see ``write.Conditioned``.

    Attributes:
        prefix: (R, P, D) tokens read before the prompts, seen both ways; None: none.
        memory: tokens that cross-attention layers read; None: none.
        alike: whether equal ids mean the same thing in every text, so that what they share may be read once.
    """

    prefix: Features | None = None
    memory: Features | None = None
    alike = True

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def embed(self, ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        return self.writer.embed(ids)

    def select(self, items: Tensor) -> None:
        """Make text ``i`` what text ``items[i]`` was."""


class Prefix:
    """Ids that were read already, to be handed to later calls; made by ``Engine.prefix``.

    Attributes:
        ids: what was read.
        cache: of one item.
        grows: take in what a call reads and writes, where it has one text: the turns of a conversation.
    """

    def __init__(self, ids: Sequence[int] = (), cache: Cache | None = None, *, grows: bool = False) -> None:
        self.ids, self.cache, self.grows = list(ids), cache, grows


class Reading:
    """R texts as far as they are read.

    Attributes:
        hidden: (R, D), the last token's vector of each.
        length: tokens of each text that were read, prefix tokens left out.
        limit: most tokens a text may have.
    """

    def __init__(
        self,
        writer: Writer,
        source: Source,
        prompts: Sequence[Sequence[int]],
        *,
        room: int,
        chunk: int,
        prefix: Prefix | None = None,
    ) -> None:
        self.writer, self.source = writer, source
        self._first = int(source.prefix is not None)  # prefix tokens all stand at position 0
        self.limit = writer.max_length - self._first if writer.bounded else 2**62
        _check(prompts, self.limit)
        shared = _common(prompts) if source.alike else 0
        cache = self._begun(prompts, shared, min(room, ROOM), chunk, prefix)
        read = cache.length
        self.cache = cache
        self.length = torch.tensor([len(prompt) for prompt in prompts], device=writer.device)
        rows, longest = len(prompts), max(len(prompt) for prompt in prompts) - read
        real = torch.zeros(rows, longest, dtype=torch.bool)
        ids = torch.zeros(rows, longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tail = list(prompt[read:])
            real[row, longest - len(tail) :] = True
            ids[row, longest - len(tail) :] = torch.tensor(tail, dtype=torch.long)
        real, ids = real.to(writer.device), ids.to(writer.device)
        positions = read + (real.cumsum(1) - 1).clamp(min=0) + self._first
        before = self._read_prefix(rows, read)
        after = real.new_ones(rows, room + 1)
        self._seen: Tensor | None = torch.cat(
            [before, real, after], dim=1
        )  # which of the cache's tokens are no padding
        self._drop_mask()
        for start in range(0, longest, chunk):
            end = min(start + chunk, longest)
            mask = None
            if self._seen is not None:
                upto = cache.length + end - start
                mask = self._seen[:, None, :upto] & causal_mask(end - start, upto, writer.device)
                mask = mask[:, None]
            x = source.embed(ids[:, start:end])
            hidden = writer.forward_embeds(x, positions[:, start:end], mask, source.memory, cache)
        self.hidden = hidden[:, -1]

    def logits(self, vocab_size: int) -> Tensor:
        """(R, V) float32 on the CPU, for the next token of each text."""
        return self.writer.logits(self.hidden)[:, :vocab_size].float().cpu()

    def go_on(self, chosen: Tensor) -> None:
        """Read one more token (R,) of each text."""
        ids = chosen.to(self.writer.device)[:, None]
        mask = None if self._seen is None else self._seen[:, None, None, : self.cache.length + 1]
        positions = (self.length + self._first)[:, None]
        x = self.source.embed(ids)
        self.hidden = self.writer.forward_embeds(x, positions, mask, self.source.memory, self.cache)[:, -1]
        self.length = self.length + 1

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts, in this order; one may be there several times, or no longer."""
        if list(rows) == list(range(len(self.length))):
            return
        items = torch.tensor(list(rows), device=self.writer.device)
        self.cache.select(items)
        self.source.select(items)
        self.hidden, self.length = self.hidden[items], self.length[items]
        if self._seen is not None:
            self._seen = self._seen[items]
            self._drop_mask()

    def _begun(
        self, prompts: Sequence[Sequence[int]], shared: int, room: int, chunk: int, prefix: Prefix | None
    ) -> Cache:
        """A cache for all texts that holds what they have in common, where that is worth it."""
        writer, rows = self.writer, len(prompts)
        longest = max(len(prompt) for prompt in prompts) + room
        known = 0
        if prefix is not None and prefix.cache is not None and self.source.alike:
            known = min(_alike(prefix.ids, prompts[0]), shared)
        if known and prefix is not None and prefix.cache is not None:
            if shared - known < WORTH_SHARING or rows == 1:
                return prefix.cache.copied(rows, known, longest)
            one = prefix.cache.copied(1, known, shared)
        elif rows == 1 or shared < WORTH_SHARING:
            return writer.new_cache(longest)
        else:
            one = writer.new_cache(shared)
        for start in range(known, shared, chunk):
            ids = torch.tensor([list(prompts[0][start : min(start + chunk, shared)])], device=writer.device)
            places = torch.arange(start, start + ids.shape[1], device=writer.device)[None]
            writer.forward_embeds(self.source.embed(ids), places, None, None, one)
        return one.copied(rows, shared, longest)

    def _read_prefix(self, rows: int, read: int) -> Tensor:
        """Which tokens of the cache are real before the prompts' own; prefix tokens are read here."""
        prefix = self.source.prefix
        if prefix is None:
            return torch.ones(rows, read, dtype=torch.bool, device=self.writer.device)
        places = torch.zeros(prefix.mask.shape, dtype=torch.long, device=self.writer.device)
        mask = prefix.mask[:, None, None, :].expand(-1, 1, prefix.mask.shape[1], -1)
        self.writer.forward_embeds(prefix.tokens.to(self.writer.dtype), places, mask, self.source.memory, self.cache)
        return prefix.mask

    def _drop_mask(self) -> None:
        if self._seen is not None and bool(self._seen.all()):
            self._seen = None


def _check(prompts: Sequence[Sequence[int]], limit: int) -> None:
    empty = next((number for number, prompt in enumerate(prompts, 1) if not len(prompt)), None)
    if empty is not None:
        do = "begin it with at least one token, such as the one that begins texts"
        raise DataError(f"prompt {empty}", "at least one token", "none", do)
    longest = max(len(prompt) for prompt in prompts)
    if longest > limit:
        raise DataError("the prompt", f"at most {limit} tokens, as the model has places", str(longest), "shorten it")


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two sequences have in common at their start."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """What all prompts have in common, short of the last token of the shortest, whose vector is wanted."""
    shared = min(len(prompt) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        shared = min(shared, _alike(prompts[0][:shared], prompt))
    return max(shared, 0)
