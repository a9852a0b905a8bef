"""Rows cut from shards: every token once, pure, never too long; and whole words hidden from them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebus.data.corpus import Documents, PackedRows, ScoredRows, Shards, mask_words
from rebus.data.corpus.manifest import Manifest, SplitCount
from rebus.data.corpus.masking import IGNORED
from rebus.data.corpus.order import Shuffle, permutation
from rebus.data.corpus.packing import best_fit
from rebus.errors import DataError, RecipeError

EOS = 0


def shards_of(lengths: list[int], files: int = 1) -> Shards:
    """Documents of these lengths whose tokens all differ: token k of document d is 1000 * d + k + 1, then eos."""
    documents = [[*(1000 * d + k + 1 for k in range(length - 1)), EOS] for d, length in enumerate(lengths)]
    parts = [part.tolist() for part in np.array_split(np.arange(len(documents)), min(files, len(documents)))]
    made: list[Any] = []
    for part in parts:
        tokens = np.array([token for d in part for token in documents[d]], dtype=np.uint32)
        ends = np.cumsum([lengths[d] for d in part]).astype(np.uint64)
        header = SimpleNamespace(tokens=len(tokens), eos_id=EOS, words=True)
        made.append(
            SimpleNamespace(
                header=header,
                tokens=tokens,
                ends=ends,
                path=Path("a.shard"),
                words=lambda start, stop, tokens=tokens: tokens[start:stop] % 2 == 1,
            )
        )
    split = Documents("train", made, 10_000_000, 1)
    manifest = Manifest("hash", 10_000_000, EOS, False, {}, {}, {"train": SplitCount()}, finished=True)
    return Shards(Path("nowhere"), manifest, {"train": split})


def epoch(rows: PackedRows, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [rows.row(number, index) for index in range(len(rows))]


lengths_of_documents = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(lengths_of_documents, st.integers(8, 20), st.sampled_from(["bestfit", "stream"]), st.integers(1, 3))
def test_every_token_is_a_label_once_an_epoch(lengths: list[int], block: int, packing: str, files: int) -> None:
    shards = shards_of(lengths, files)
    rows = PackedRows(shards, "train", block, packing, seed=3)
    everything = Counter(shards.documents("train").ids(0, sum(lengths)).tolist())
    for number in range(2):
        labels: Counter[int] = Counter()
        for ids, blocks in epoch(rows, number):
            assert 2 <= len(ids) <= block + 1
            assert len(blocks) == len(ids) - 1
            labels.update(ids[1:].tolist())
        assert labels == everything
    assert rows.rows_per_epoch == len(rows)
    assert rows.waste == pytest.approx(1 - sum(lengths) / (len(rows) * block))


@given(lengths_of_documents, st.integers(8, 20), st.sampled_from(["bestfit", "stream"]))
def test_inputs_stand_before_their_labels_and_blocks_part_documents(
    lengths: list[int], block: int, packing: str
) -> None:
    rows = PackedRows(shards_of(lengths), "train", block, packing, seed=5)
    for ids, blocks in epoch(rows, 1):
        for before, label, same in zip(ids[:-1], ids[1:], np.diff(blocks, prepend=-1) == 0, strict=True):
            begins = label == EOS or label % 1000 == 1  # a document's first token (eos: of a document of nothing else)
            if label != EOS and label % 1000 > 1 and (same or before != EOS):
                assert before == label - 1  # the token that stands before it in the text
            if same and label != EOS:
                assert before == label - 1
                assert not begins
        owners = [set((ids[1:][blocks == one][ids[1:][blocks == one] > 0] // 1000).tolist()) for one in set(blocks)]
        assert all(len(owner) <= 1 for owner in owners)


@given(lengths_of_documents, st.sampled_from(["bestfit", "stream"]))
def test_rows_are_pure(lengths: list[int], packing: str) -> None:
    one, other = (PackedRows(shards_of(lengths, files), "train", 9, packing, seed=7) for files in (1, 2))
    for number in (4, 0, 4, 1):  # in any order
        for index in reversed(range(len(one))):
            assert one.row(number, index)[0].tolist() == other.row(number, index)[0].tolist()


@pytest.mark.parametrize("packing", ["bestfit", "stream"])
def test_epochs_and_seeds_differ(packing: str) -> None:
    lengths = [5, 9, 14, 3, 22, 8, 8, 8, 30, 2] * 4
    found = {
        (seed, number): tuple(
            tuple(ids.tolist()) for ids, _ in epoch(PackedRows(shards_of(lengths), "train", 16, packing, seed), number)
        )
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(set(found.values())) == 4


def slow_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """The textbook: each piece into the fullest row with room."""
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [left for left in room if left >= length]
        if fits:
            room[room.index(min(fits))] -= length
        else:
            room.append(capacity - length)
    return sorted(room)


@given(st.lists(st.integers(1, 16), min_size=1, max_size=80))
def test_best_fit_is_the_textbooks(lengths: list[int]) -> None:
    row_of = best_fit(np.array(sorted(lengths, reverse=True)), 16)
    filled = np.bincount(row_of, weights=sorted(lengths, reverse=True)).astype(int)
    assert sorted(16 - filled) == slow_best_fit(lengths, 16)


def test_best_fit_cuts_fewer_documents_and_stream_wastes_less() -> None:
    lengths = np.random.default_rng(0).integers(3, 40, 400).tolist()
    best = PackedRows(shards_of(lengths), "train", 64, "bestfit")
    stream = PackedRows(shards_of(lengths), "train", 64, "stream")
    assert best.cut == 0
    assert 100 < stream.cut < 250  # a border every 64 tokens
    assert stream.waste < best.waste < 0.02
    crossing = 0
    for ids, _ in epoch(stream, 0):
        crossing += int(ids[1] % 1000 != 1)  # the row begins inside a document
    assert stream.cut == pytest.approx(crossing, abs=1)  # the ring may be cut twice in one document
    long = PackedRows(shards_of([100, 5]), "train", 64, "bestfit")
    assert (long.cut, len(long)) == (1, 2)


def test_a_row_that_goes_on_has_its_true_predecessor() -> None:
    rows = PackedRows(shards_of([40]), "train", 16, "bestfit")
    heads = sorted((ids[1], ids[0]) for ids, _ in epoch(rows, 0))
    assert heads == [(1, EOS), (17, 16), (33, 32)]


def test_words_of_rows() -> None:
    rows = PackedRows(shards_of([10, 30]), "train", 16, "bestfit")
    for index in range(len(rows)):
        ids, words, blocks = rows.row_words(0, index)
        assert ids.tolist() == rows.row(0, index)[0][1:].tolist()
        assert words.tolist() == (ids % 2 == 1).tolist()
        assert len(blocks) == len(ids)


@given(lengths_of_documents, st.integers(8, 20), st.sampled_from([None, 1, 3, 8, 50]))
def test_scored_rows_score_everything_once_in_order(lengths: list[int], block: int, stride: int | None) -> None:
    shards = shards_of(lengths, 2)
    rows = ScoredRows(shards, "train", block, stride)
    scored: list[int] = []
    for index in range(len(rows)):
        ids, blocks, first = rows[index]
        assert len(ids) <= block + 1
        assert len(blocks) == len(ids) - 1
        scored += ids[1 + first :].tolist()
        if index and stride is not None and stride < block:
            assert first >= min(index * stride, block - stride)
    assert scored == shards.documents("train").ids(0, sum(lengths)).tolist()


def test_bad_requests() -> None:
    with pytest.raises(RecipeError, match="bestfit or stream"):
        PackedRows(shards_of([5]), "train", 8, "worst")
    with pytest.raises(DataError, match="a split 'valid'"):
        PackedRows(shards_of([5]), "valid", 8)
    damaged = shards_of([5])
    damaged.documents("train").vocab_size = 3
    with pytest.raises(DataError, match=r"a.shard.*ids below 3"):
        PackedRows(damaged, "train", 8).row(0, 0)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 1000])
def test_a_shuffle_is_a_permutation(monkeypatch: pytest.MonkeyPatch, count: int, stored: bool) -> None:
    monkeypatch.setattr(Shuffle, "STORED", 1 << 16 if stored else 0)
    shuffle = Shuffle(count, 12345)
    assert sorted(map(shuffle, range(count))) == list(range(count))
    assert sorted(permutation(count, 5).tolist()) == list(range(count))
    with pytest.raises(IndexError):
        shuffle(count)


@pytest.mark.parametrize(("stored", "count"), [(1 << 16, 10), (0, 1000)])
def test_a_shuffle_is_even(monkeypatch: pytest.MonkeyPatch, stored: int, count: int) -> None:
    """Where each number lands, over many keys: no place is liked more than chance allows."""
    monkeypatch.setattr(Shuffle, "STORED", stored)
    landed = np.zeros((10, 10))
    for key in range(4000):
        shuffle = Shuffle(count, key)
        for place in range(10):
            landed[place, shuffle(place * count // 10) * 10 // count] += 1
    chi_square = ((landed - 400) ** 2 / 400).sum()
    assert 30 < chi_square < 150  # 81 to 90 degrees of freedom: mean 81 to 90, deviation 13


@given(st.integers(1, 60), st.floats(0.05, 0.9), st.integers(0, 1000))
def test_masking_hides_whole_words(count: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, 100, count)
    starts = rng.random(count) < 0.5
    starts[0] = True
    read, labels = mask_words(ids, starts, share, 2, 100, np.random.default_rng(seed), special=(0, 1, 2))
    again = mask_words(ids, starts, share, 2, 100, np.random.default_rng(seed), special=(0, 1, 2))
    assert read.tolist() == again[0].tolist()
    hidden = labels != IGNORED
    assert hidden.any()
    assert (labels[hidden] == ids[hidden]).all()
    assert (read[~hidden] == ids[~hidden]).all()
    word = np.cumsum(starts)
    for one in np.unique(word):
        assert len(set(hidden[word == one].tolist())) == 1


def test_the_share_hidden_and_what_is_read_there() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(10, 1000, 200_000)
    starts = rng.random(len(ids)) < 0.6
    rows = [
        mask_words(part, first, 0.15, 5, 1000, rng)
        for part, first in zip(ids.reshape(-1, 200), starts.reshape(-1, 200), strict=True)
    ]
    read = np.concatenate([row[0] for row in rows])
    hidden = np.concatenate([row[1] for row in rows]) != IGNORED
    assert hidden.mean() == pytest.approx(0.15, abs=0.004)
    assert (read[hidden] == 5).mean() == pytest.approx(0.8, abs=0.01)
    assert (read[hidden] == ids[hidden]).mean() == pytest.approx(0.1, abs=0.01)
    special = mask_words(np.array([0, 7, 0]), np.ones(3, bool), 0.9, 5, 10, rng, special=(0, 5))
    assert special[1].tolist() == [IGNORED, 7, IGNORED]
    nothing = mask_words(np.array([0, 0]), np.ones(2, bool), 0.9, 5, 10, rng, special=(0,))
    assert nothing[1].tolist() == [IGNORED, IGNORED]
    empty = mask_words(np.array([], dtype=np.int64), np.array([], dtype=bool), 0.5, 5, 10, rng)
    assert [len(part) for part in empty] == [0, 0]
