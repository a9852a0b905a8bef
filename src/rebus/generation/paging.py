"""Keys and values of many texts in one pool of blocks: a text has a table of its blocks, equal beginnings share theirs.

After Kwon et al. (2023), "Efficient Memory Management for Large Language Model Serving with PagedAttention". ``Blocks``
says whose a block is and what is in it, and holds no tensors; ``Pool`` holds them and knows no texts; ``Paged`` shows
some texts' blocks to a decoder as one ``Cache``. Letters: R texts, G key heads, L new tokens, K head size, S tokens of
a block, N blocks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import torch
from torch import Tensor

Kept = dict[int, tuple[Tensor, Tensor]]  # layer: a memory's keys and values


class Blocks:
    """Which of N blocks are free, how many texts hold each of the others, and what is in those that are full.

    A block that nobody holds keeps its content until it is needed, and may be found by it; the one that was let go
    first is taken first. Block 0 is nobody's: it stays empty, for tables to be filled up with.

    Args:
        count: N, without block 0.
        size: S.
    """

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._blank = deque(range(1, count + 1))
        self._left: OrderedDict[int, None] = OrderedDict()  # free, with content
        self._holders = [0] * (count + 1)
        self._names: list[bytes | None] = [None] * (count + 1)
        self._known: dict[bytes, int] = {}

    @property
    def available(self) -> int:
        """How many may be taken."""
        return len(self._blank) + len(self._left)

    @property
    def cached(self) -> int:
        """How many of them have content that may be found again."""
        return len(self._left)

    def take(self) -> int | None:
        """A block for new content; None: there is none."""
        if self._blank:
            block = self._blank.popleft()
        elif self._left:
            block, _ = self._left.popitem(last=False)
            name = self._names[block]
            if name is not None:
                del self._known[name]
            self._names[block] = None
        else:
            return None
        self._holders[block] = 1
        return block

    def find(self, name: bytes) -> int | None:
        """The block with this content."""
        return self._known.get(name)

    def is_free(self, block: int) -> bool:
        """Whether nobody holds it."""
        return self._holders[block] == 0

    def share(self, block: int) -> None:
        """Hold a block that was found."""
        if self._holders[block] == 0:
            del self._left[block]
        self._holders[block] += 1

    def release(self, block: int) -> None:
        """Hold it no longer."""
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if self._names[block] is None:
            self._blank.append(block)
        else:
            self._left[block] = None

    def name(self, block: int, name: bytes) -> None:
        """Say what is in a block, which is full now; the first of several with one content is the one that is found."""
        if name not in self._known and self._names[block] is None:
            self._known[name], self._names[block] = block, name

    def forget(self) -> None:
        """Nothing that is in a block may be found again."""
        self._known.clear()
        self._names = [None] * (self.count + 1)
        self._blank.extend(self._left)
        self._left.clear()


class Pool:
    """The tensors: for each layer keys and values (N + 1, G, S, K), made when the first token comes."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def layer(
        self, index: int, heads: int, head_size: int, dtype: torch.dtype, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """One layer's keys and values."""
        if index not in self._layers:
            shape = (self.count + 1, heads, self.size, head_size)  # zeros: pages of memory that are touched when used
            made = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)]
            self._layers[index] = (made[0], made[1])
        return self._layers[index]

    @property
    def bytes(self) -> int:
        """What all layers take when they are full."""
        return sum(one.numel() * one.element_size() for pair in self._layers.values() for one in pair)


class Paged:
    """R texts' parts of a pool as one ``Cache``, for one pass in which each gets L new tokens.

    Args:
        pool: where they are.
        tables: each text's blocks, with room for the new tokens.
        starts: tokens of each that are there already.
        memories: each text's keys and values of its memory, filled at the first pass; None: there is no memory.
    """

    def __init__(
        self, pool: Pool, tables: Sequence[Sequence[int]], starts: Sequence[int], memories: Sequence[Kept] | None = None
    ) -> None:
        self.pool, self.starts, self.memories = pool, list(starts), memories
        self._tables, self._places = tables, None
        self._layers: dict[int, _PagedLayer] = {}

    _places: tuple[Tensor, Tensor, Tensor] | None

    @property
    def length(self) -> int:
        """Tokens read so far of the longest text."""
        return max(self.starts)

    def __getitem__(self, index: int) -> _PagedLayer:
        return self._layers.setdefault(index, _PagedLayer(self, index))

    def seen(self, new: int, device: torch.device) -> Tensor | None:
        """(R, 1, L, Lk) bool: the new tokens see those of their own text up to themselves; None: that is causal."""
        if len(set(self.starts)) == 1:
            return None
        upto = torch.tensor(self.starts, device=device)[:, None] + torch.arange(1, new + 1, device=device)  # (R, L)
        places = torch.arange(self.length + new, device=device)
        return (places < upto[..., None])[:, None]

    def places(self, new: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The new tokens' blocks (R, L) and places in them (R, L), and all blocks that are looked at (R, n)."""
        if self._places is None:
            size = self.pool.size
            wide = -(-(self.length + new) // size)
            table = torch.zeros(len(self._tables), wide, dtype=torch.long)
            for row, blocks in enumerate(self._tables):
                few = blocks[:wide]
                table[row, : len(few)] = torch.tensor(few, dtype=torch.long)
            table = table.to(device)
            at = torch.tensor(self.starts, device=device)[:, None] + torch.arange(new, device=device)
            self._places = table.gather(1, at // size), at % size, table
        return self._places


class _PagedLayer:
    """One layer of ``Paged``."""

    def __init__(self, cache: Paged, index: int) -> None:
        self._cache, self._index = cache, index

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (R, G, L, K) new tokens; gives all so far, (R, G, Lk, K), copied out of the pool."""
        heads, new, size = keys.shape[1:]
        pool = self._cache.pool
        blocks, offsets, table = self._cache.places(new, keys.device)
        made = []
        for stored, fresh in zip(
            pool.layer(self._index, heads, size, keys.dtype, keys.device), (keys, values), strict=True
        ):
            stored[blocks, :, offsets] = fresh.transpose(1, 2)
            whole = stored[table].transpose(1, 2).flatten(2, 3)  # (R, G, n S, K)
            made.append(whole[:, :, : self._cache.length + new])
        return made[0], made[1]

    @property
    def memory(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values (R, G, M, K) of the memories, filled up with zeros to the longest."""
        kept = self._cache.memories
        if kept is None or not all(self._index in one for one in kept):
            return None
        pairs = [one[self._index] for one in kept]
        if len(pairs) == 1:
            return pairs[0]
        return _stacked([pair[0] for pair in pairs]), _stacked([pair[1] for pair in pairs])

    @memory.setter
    def memory(self, pair: tuple[Tensor, Tensor]) -> None:
        for row, one in enumerate(self._cache.memories or ()):
            one[self._index] = (pair[0][row : row + 1], pair[1][row : row + 1])


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """(1, G, M, K) each -> (R, G, most M, K)."""
    most = max(part.shape[2] for part in parts)
    made = parts[0].new_zeros(len(parts), parts[0].shape[1], most, parts[0].shape[3])
    for row, part in enumerate(parts):
        made[row, :, : part.shape[2]] = part[0]
    return made
