"""Keys and values of many texts in one pool of blocks: a text has a table of its blocks, equal beginnings share theirs.

After Kwon et al. (2023), "Efficient Memory Management for Large Language Model Serving with PagedAttention". ``Blocks``
says whose a block is and what is in it, and holds no tensors; ``Pool`` holds them and knows no texts; ``PagedCache``
shows some texts' blocks to a decoder as one ``Cache``. Letters: R texts, G key heads, L new tokens, K head size, S
tokens of a block, N blocks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CrossCache = dict[int, tuple[Tensor, Tensor]]  # layer: a memory's keys and values (1, G, M, K)
GROWTH = 64  # blocks that are added at least, where their number is not fixed


class Blocks:
    """Which of N blocks are free, how many texts hold each of the others, and what is in those that are full.

    A block that nobody holds keeps its content until it is needed, and may be found by it; the one that was let go
    first is taken first. Block 0 is nobody's: it stays empty, for tables to be filled up with.

    Args:
        count: N, without block 0; None: as many as are needed.
        size: S.
    """

    def __init__(self, count: int | None, size: int) -> None:
        self.size, self.grows = size, count is None
        self.clear()
        self._add(count or 0)

    @property
    def available(self) -> int:
        """How many may be taken."""
        return len(self._blank) + len(self._reusable)

    def reserve(self, count: int) -> None:
        """Make so many available, where the number of blocks is not fixed."""
        if self.grows and count > self.available:
            self._add(max(count - self.available, GROWTH, self.count // 2))

    def _add(self, count: int) -> None:
        self._blank.extend(range(self.count + 1, self.count + count + 1))
        self._holders += [0] * count
        self._names += [None] * count
        self.count += count

    @property
    def cached(self) -> int:
        """How many of them have content that may be found again."""
        return len(self._reusable)

    def take(self) -> int | None:
        """A block for new content; None: there is none."""
        self.reserve(1)
        if self._blank:
            block = self._blank.popleft()
        elif self._reusable:
            block, _ = self._reusable.popitem(last=False)
            name = self._names[block]
            if name is not None:
                del self._by_name[name]
            self._names[block] = None
        else:
            return None
        self._holders[block] = 1
        return block

    def find(self, name: bytes) -> int | None:
        """The block with this content."""
        return self._by_name.get(name)

    def is_free(self, block: int) -> bool:
        """Whether nobody holds it."""
        return self._holders[block] == 0

    def share(self, block: int) -> None:
        """Hold a block that was found."""
        if self._holders[block] == 0:
            del self._reusable[block]
        self._holders[block] += 1

    def release(self, block: int) -> None:
        """Hold it no longer."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if self._names[block] is None:
            self._blank.append(block)
        else:
            self._reusable[block] = None

    def name(self, block: int, name: bytes) -> None:
        """Say what is in a block, which is full now; the first of several with one content is the one that is found."""
        if name not in self._by_name and self._names[block] is None:
            self._by_name[name], self._names[block] = block, name

    def clear(self) -> None:
        """No blocks; nobody holds one."""
        self.count = 0
        self._blank: deque[int] = deque()
        self._reusable: OrderedDict[int, None] = OrderedDict()  # free, with content
        self._holders = [0]
        self._names: list[bytes | None] = [None]
        self._by_name: dict[bytes, int] = {}

    def forget(self) -> None:
        """Nothing that is in a block may be found again."""
        self._by_name.clear()
        self._names = [None] * (self.count + 1)
        self._blank.extend(self._reusable)
        self._reusable.clear()


class Pool:
    """The tensors: for each layer keys and values (N + 1, G, S, K), made when the first token comes.

    Args:
        blocks: how many there are.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.size = blocks, blocks.size
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(
        self, index: int, heads: int, head_size: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """One layer's keys and values."""
        pair, count = self._layers.get(index), self.blocks.count + 1
        if pair is None or pair[0].shape[0] < count:
            shape = (count, heads, self.size, head_size)  # zeros: pages of memory that are touched when used
            larger = (torch.zeros(shape, dtype=dtype, device=device), torch.zeros(shape, dtype=dtype, device=device))
            for new, old in zip(larger, pair or (), strict=False):
                new[: old.shape[0]] = old
            self._layers[index] = pair = larger
        return pair

    @property
    def bytes(self) -> int:
        """What all layers take."""
        return sum(tensor.numel() * tensor.element_size() for pair in self._layers.values() for tensor in pair)

    def clear(self) -> None:
        """Give the memory back."""
        self._layers.clear()

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copy blocks, from the first of each pair to the second."""
        for index, (keys, _) in list(self._layers.items()):
            source, target = torch.tensor(pairs, device=keys.device).T
            for stored in self.layer(index, keys.shape[1], keys.shape[3], keys.dtype, keys.device):
                stored[target] = stored[source]


class PagedCache:
    """R texts' parts of a pool as one ``Cache``, for one pass in which each gets up to L new tokens.

    Args:
        pool: where they are.
        tables: each text's blocks, with room for the new tokens.
        starts: tokens of each that are there already.
        counts: new tokens of each; those beyond, up to L, are padding and not kept.
        memories: each text's keys and values of its memory, filled at the first pass, and M; none: there is no memory.
    """

    def __init__(
        self,
        pool: Pool,
        tables: Sequence[Sequence[int]],
        starts: Sequence[int],
        counts: Sequence[int],
        memories: Sequence[tuple[CrossCache, int]] = (),
    ) -> None:
        self.pool, self.tables, self.starts, self.counts = pool, tables, starts, counts
        self.memories = memories
        self._places: dict[int, tuple[Tensor, Tensor, Tensor | None]] = {}

    @property
    def length(self) -> int:
        """Tokens read so far of the longest text."""
        return max(self.starts)

    def __getitem__(self, index: int) -> _PagedLayer:
        return _PagedLayer(self, index)

    def mask(self, device: torch.device) -> Tensor | None:
        """(R, 1, L, Lk) bool: the new tokens see those of their own text up to themselves; None: that is causal."""
        if min(self.starts) == max(self.starts):
            return None
        new = max(self.counts)
        upto = torch.tensor(self.starts, device=device)[:, None] + torch.arange(1, new + 1, device=device)  # (R, L)
        places = torch.arange(self.length + new, device=device)
        return (places < upto[..., None])[:, None]

    def places(self, heads: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Where keys lie in a layer.

        Returns:
            (n, G) the new tokens, in the layer as (N + 1 times G times S, K); (R, G, blocks) the heads of all blocks
            that are looked at, in the layer as (N + 1 times G, S times K); (n,) which of the R x L new places are no
            padding, None: all.
        """
        if heads not in self._places:
            size, new = self.pool.size, max(self.counts)
            upto = self.length + new
            wide = -(-upto // size)
            filled = [[*blocks[:wide], *[0] * (wide - len(blocks))] for blocks in self.tables]
            table = torch.tensor(filled, device=device)
            head = torch.arange(heads, device=device)
            parts = table[:, None] * heads + head[:, None]  # (R, G, blocks)
            at = torch.tensor(self.starts, device=device)[:, None] + torch.arange(new, device=device)  # (R, L)
            fresh = (table.gather(1, at // size)[..., None] * heads + head) * size + (at % size)[..., None]
            fresh, real = fresh.flatten(0, 1), None
            if min(self.counts) < new:
                there = torch.arange(new, device=device) < torch.tensor(self.counts, device=device)[:, None]
                real = there.flatten().nonzero()[:, 0]
                fresh = fresh[real]
            self._places[heads] = fresh, parts, real
        return self._places[heads]


class _PagedLayer:
    """One layer of a ``PagedCache``."""

    def __init__(self, cache: PagedCache, index: int) -> None:
        self._cache, self._index = cache, index

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (R, G, L, K) new tokens; gives all so far, (R, G, Lk, K), copied out of the pool."""
        heads, size = keys.shape[1], keys.shape[3]
        fresh, parts, real = self._cache.places(heads, keys.device)
        upto = self._cache.length + keys.shape[2]
        pair = self._cache.pool.layer(self._index, heads, size, keys.dtype, keys.device)
        whole = []
        for stored, new in zip(pair, (keys, values), strict=True):
            new = new.transpose(1, 2).flatten(0, 1)  # (R L, G, K)
            new = (new if real is None else new[real]).reshape(-1, size)
            stored.view(-1, size).index_copy_(0, fresh.flatten(), new)
            every = stored.view(-1, stored.shape[2] * size).index_select(0, parts.flatten())
            whole.append(every.view(len(parts), heads, -1, size)[:, :, :upto])
        return whole[0], whole[1]

    @property
    def memory(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values (R, G, M, K) of the memories, filled up with zeros to the longest."""
        memories = self._cache.memories
        if not memories or not all(self._index in layers for layers, _ in memories):
            return None
        pairs = [layers[self._index] for layers, _ in memories]
        return pairs[0] if len(pairs) == 1 else (_stacked([key for key, _ in pairs]), _stacked([v for _, v in pairs]))

    @memory.setter
    def memory(self, pair: tuple[Tensor, Tensor] | None) -> None:
        assert pair is not None  # noqa: S101 - attention sets what it has computed
        for row, (layers, length) in enumerate(self._cache.memories):
            layers[self._index] = (pair[0][row : row + 1, :, :length], pair[1][row : row + 1, :, :length])


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """(1, G, M, K) each -> (R, G, most M, K)."""
    most = max(part.shape[2] for part in parts)
    return torch.cat([F.pad(part, (0, 0, 0, most - part.shape[2])) for part in parts])
