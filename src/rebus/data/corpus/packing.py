"""Documents to rows for training and for scoring; each row a pure function of (seed, epoch, index).

A row is ``ids`` (n + 1,) and ``blocks`` (n,): inputs are ``ids[:-1]``, labels ``ids[1:]``, and ``blocks`` numbers the
document of each *label*. The first id is the token before the first label, or eos where a document begins there. So

- every token of the split is a label exactly once an epoch, and no label is thrown away;
- the eos after a document is, as an input, the beginning of the next one. Where documents must not see each other
  (``corpus.inner_mask``), it lies in the block of the document it begins, so nothing of another one is read.

Two ways to cut rows. ``stream``: documents in a new order each epoch, end to end, cut every ``block`` tokens, unpadded.
``bestfit``: documents longer than a row are cut into rows; what is left and all others are packed, longest first, each
into the fullest row that has room, so that few are cut and little is padded. Source: Ding et al. (2024), "Fewer
Truncations Improve Language Modeling". It does not know what is learned.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from rebus.data.corpus.order import Shuffle, key_of, mixed, permutation
from rebus.data.corpus.shards import Documents, Ids, Shards
from rebus.errors import RecipeError

Stretch = tuple[int, int]  # start and stop, as places in the split's tokens
_KEPT_EPOCHS = 2  # a batch may reach into the next epoch


class _Layout(Protocol):
    rows: int

    def stretches(self, index: int) -> list[Stretch]:
        """What row ``index`` holds, each a part of one document."""
        ...


class PackedRows:
    """Rows of one split.

    Args:
        shards: an open folder.
        split: train, valid or test.
        block: most labels of a row.
        packing: bestfit or stream.
        seed: of the order.

    Attributes:
        rows_per_epoch: how many rows hold the split once; also ``len(rows)``.
        tokens: labels of an epoch, all tokens of the split.
        cut: documents that lie in more than one row (stream: in the first epoch).

    Raises:
        RecipeError: the packing is not known.
    """

    def __init__(
        self,
        shards: Shards,
        split: str,
        block: int,
        packing: Literal["bestfit", "stream"] | str = "bestfit",
        seed: int = 0,
    ) -> None:
        if packing not in ("bestfit", "stream"):
            raise RecipeError("setting 'corpus.packing'", "bestfit or stream", repr(packing), "name one of them")
        self.documents = shards.documents(split)
        self.block, self.packing, self.seed = block, packing, seed
        self.tokens = self.documents.tokens
        self._pieces = _Pieces(self.documents, block) if packing == "bestfit" else None
        self._epochs: dict[int, tuple[_Layout, Shuffle]] = {}
        first = self._layout(0)[0]
        self.rows_per_epoch = first.rows
        if isinstance(first, _Stream):
            self.cut = first.cut
        else:
            self.cut = int((self.documents.lengths > block).sum())

    def __len__(self) -> int:
        return self.rows_per_epoch

    @property
    def waste(self) -> float:
        """Share of an epoch's positions that are padding, 0 to 1."""
        return 1.0 - self.tokens / (self.rows_per_epoch * self.block)

    def row(self, epoch: int, index: int) -> tuple[Ids, Ids]:
        """Row ``index`` of an epoch: ids (n + 1,) and the document of each label (n,), n at most ``block``.

        Raises:
            DataError: the shard is damaged: an id is beyond the vocabulary.
        """
        return _row(self.documents, self._stretches(epoch, index))

    def row_words(self, epoch: int, index: int) -> tuple[Ids, npt.NDArray[np.bool_], Ids]:
        """The same tokens for a masked model: ids (n,), whether a word starts at each (n,), its document (n,).

        Raises:
            DataError: the shard is damaged, or does not say where words start.
        """
        stretches = self._stretches(epoch, index)
        ids, blocks = _row(self.documents, stretches)
        words = np.concatenate([self.documents.word_starts(*stretch) for stretch in stretches])
        return ids[1:], words, blocks

    def _stretches(self, epoch: int, index: int) -> list[Stretch]:
        layout, shuffle = self._layout(epoch)
        return layout.stretches(shuffle(index))

    def _layout(self, epoch: int) -> tuple[_Layout, Shuffle]:
        if epoch not in self._epochs:
            key = key_of("documents", self.seed, epoch)
            pieces = self._pieces
            layout = _Stream(self.documents, self.block, key) if pieces is None else _BestFit(pieces, key)
            while len(self._epochs) >= _KEPT_EPOCHS:
                del self._epochs[min(self._epochs, key=lambda kept: abs(kept - epoch) * 2 + (kept > epoch))]
            self._epochs[epoch] = layout, Shuffle(layout.rows, key_of("rows", self.seed, epoch))
        return self._epochs[epoch]


class _Stream:
    """Documents in an order of the key, end to end in a ring, cut from a place of the key."""

    def __init__(self, documents: Documents, block: int, key: int) -> None:
        self.order = permutation(len(documents), key)
        self.ends = np.cumsum(documents.lengths[self.order])
        self.starts = documents.starts
        self.block, self.tokens = block, documents.tokens
        self.phase = int(key % self.tokens)
        self.rows = -(-self.tokens // block)

    @property
    def cut(self) -> int:
        borders = (self.phase + np.arange(self.rows, dtype=np.int64) * self.block) % self.tokens
        inside = borders[np.isin(borders, self.ends, invert=True) & (borders > 0)]
        return len(np.unique(np.searchsorted(self.ends, inside, side="right")))

    def stretches(self, index: int) -> list[Stretch]:
        start = index * self.block
        left = min(self.block, self.tokens - start)
        at = (self.phase + start) % self.tokens
        place = int(np.searchsorted(self.ends, at, side="right"))
        result = []
        while left:
            end = int(self.ends[place])
            taken = min(left, end - at)
            document = int(self.order[place])
            begin = int(self.starts[document]) + at - (int(self.ends[place - 1]) if place else 0)
            result.append((begin, begin + taken))
            at, left, place = at + taken, left - taken, place + 1
            if place == len(self.ends):
                at = place = 0
        return result


class _Pieces:
    """What is packed: documents, and the rows and remainders of those longer than a row; and which lengths share rows.

    Only lengths decide which rows there are, so this is worked out once; an epoch deals pieces of one length anew.
    """

    def __init__(self, documents: Documents, block: int) -> None:
        whole = documents.lengths // block  # full rows of each document
        counts = whole + (documents.lengths % block > 0)
        document = np.repeat(np.arange(len(documents), dtype=np.int64), counts)
        number = np.arange(len(document), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        self.starts: Ids = documents.starts[document] + number * block
        self.lengths = np.minimum(block, documents.lengths[document] - number * block).astype(np.int32)
        self.inner = number > 0  # begins inside a document
        row_of = best_fit(np.sort(self.lengths)[::-1], block)
        self.by_row = np.argsort(row_of, kind="stable")
        self.bounds: Ids = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(row_of))])


class _BestFit:
    def __init__(self, pieces: _Pieces, key: int) -> None:
        self.pieces = pieces
        order = np.lexsort((mixed(len(pieces.lengths), key), -pieces.lengths))  # longest first, equals by the key
        self.order: Ids = order[pieces.by_row]
        self.rows = len(pieces.bounds) - 1

    def stretches(self, index: int) -> list[Stretch]:
        pieces = self.pieces
        chosen = self.order[int(pieces.bounds[index]) : int(pieces.bounds[index + 1])].tolist()
        # a piece from inside a document comes first, where its true predecessor can stand before it
        chosen.sort(key=lambda piece: not pieces.inner[piece])
        starts = [int(pieces.starts[piece]) for piece in chosen]
        return [(start, start + int(pieces.lengths[piece])) for start, piece in zip(starts, chosen, strict=True)]


def best_fit(lengths: npt.NDArray[np.integer], capacity: int) -> Ids:
    """Best-fit decreasing: the row of each piece, rows numbered from 0.

    Pieces of one length are placed together, which gives the same rows as one at a time: the fullest row with room
    stays the fullest until it has no more. So the time depends on how many lengths there are, not on how many pieces.

    Args:
        lengths: (N,) falling, from ``capacity`` to 1.
        capacity: what a row holds.
    """
    row_of = np.empty(len(lengths), dtype=np.int64)
    space: list[list[Ids]] = [[] for _ in range(capacity + 1)]  # rows by the room they have left
    there = np.zeros(capacity + 1, dtype=bool)
    borders = np.flatnonzero(np.diff(lengths)) + 1
    rows = at = 0
    for stop in [*borders.tolist(), len(lengths)]:
        length = int(lengths[at]) if at < len(lengths) else 1
        while at < stop:
            room = length + int(there[length:].argmax())
            if there[room]:
                known = np.concatenate(space[room])
                space[room], there[room] = [], False
            else:
                room = capacity
                count = -(-(stop - at) // (room // length))
                known = np.arange(rows, rows + count, dtype=np.int64)
                rows += count
            each = room // length
            used = known[: -(-(stop - at) // each)]
            placed = min(stop - at, each * len(used))
            row_of[at : at + placed] = np.repeat(used, each)[:placed]
            full, rest = divmod(placed, each)
            left_over = (
                (known[len(used) :], room),
                (used[:full], room - each * length),
                (used[full : full + 1], room - rest * length),
            )
            for some, left in left_over:
                if len(some) and left:
                    space[left].append(some)
                    there[left] = True
            at += placed
    return row_of


class ScoredRows:
    """Rows in the order of the source, for scoring: every token of the split is scored exactly once.

    Args:
        shards: an open folder.
        split: what is scored.
        block: most labels of a row, those read as context included.
        stride: labels scored a row; the ``block - stride`` before them are context (the first row has none). None: all,
            no overlap, the fastest; smaller: better predictions, as each has ``block - stride`` tokens before it.
    """

    def __init__(self, shards: Shards, split: str, block: int, stride: int | None = None) -> None:
        self.documents = shards.documents(split)
        self.block, self.stride = block, min(block, stride or block)
        self._ends = self.documents.starts + self.documents.lengths

    def __len__(self) -> int:
        return -(-self.documents.tokens // self.stride)

    def __getitem__(self, index: int) -> tuple[Ids, Ids, int]:
        """Ids (n + 1,), the document of each label (n,), and the first label that is scored."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        scored = index * self.stride
        stop = min(scored + self.stride, self.documents.tokens)
        start = min(scored, max(0, stop - self.block))
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        borders = [start, *self._ends[first:last].tolist(), stop]
        ids, blocks = _row(self.documents, list(pairwise(borders)))
        return ids, blocks, scored - start


def _row(documents: Documents, stretches: list[Stretch]) -> tuple[Ids, Ids]:
    lengths = [stop - start for start, stop in stretches]
    ids = np.empty(sum(lengths) + 1, dtype=np.int64)
    first = stretches[0][0]
    if first:
        documents.copy(first - 1, first, ids[:1])  # of the same document, or the eos of another: eos either way
    else:
        ids[0] = documents.eos_id
    at = 1
    for (start, stop), length in zip(stretches, lengths, strict=True):
        documents.copy(start, stop, ids[at : at + length])
        at += length
    documents.check(ids, first)
    return ids, np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
