from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Split

ROWS = [{"image": f"p{i // 3}.png", "text": f"text {i}", "artist": f"artist {i % 7}"} for i in range(600)]


def dealt(rows: list[dict[str, object]], split: Split | None = None, seed: int = 0) -> dict[str, str]:
    names = assign_splits(Table.from_rows(rows), split or Split(), ["image"], seed)
    return {str(row["text"]): name for row, name in zip(rows, names, strict=True)}


def test_shares_are_near_what_was_asked() -> None:
    counts = Counter(dealt(ROWS, Split(valid=0.2, test=0.1)).values())
    assert 80 <= counts["valid"] <= 160
    assert 30 <= counts["test"] <= 90


def test_stable_when_rows_are_added_and_reordered() -> None:
    before = dealt(ROWS)
    more = [*ROWS, *({"image": f"new{i}.png", "text": f"new {i}", "artist": "z"} for i in range(50))]
    random.Random(1).shuffle(more)
    after = dealt(more)
    assert {key: after[key] for key in before} == before


def test_rows_of_one_image_stay_together() -> None:
    names = dealt(ROWS)
    for i in range(0, 600, 3):
        assert len({names[f"text {j}"] for j in range(i, i + 3)}) == 1


def test_rows_of_one_group_stay_together() -> None:
    names = dealt(ROWS, Split(group="artist", valid=0.3, test=0.3))
    for artist in range(7):
        assert len({names[f"text {i}"] for i in range(600) if i % 7 == artist}) == 1
    assert len(set(names.values())) > 1


def test_seed_deals_otherwise_and_columns_order_does_not() -> None:
    assert dealt(ROWS) != dealt(ROWS, seed=1)
    turned = [dict(reversed(list(row.items()))) for row in ROWS]
    assert dealt(turned) == dealt(ROWS)


def test_without_images_equal_texts_stay_together() -> None:
    rows = [{"text": f"t{i % 40}", "label": "ab"[i % 2]} for i in range(400)]
    names = assign_splits(Table.from_rows(rows), Split(), [])
    assert len({(row["text"], name) for row, name in zip(rows, names, strict=True)}) == 40


def test_column_wins_with_any_word_for_a_split() -> None:
    words = ["train", "Training", "val", "dev", "validation", "test", "测试集", "训练"]
    rows = [{"text": str(i), "split": word} for i, word in enumerate(words)]
    assert assign_splits(Table.from_rows(rows), Split(), []) == [
        "train", "train", "valid", "valid", "valid", "test", "test", "train",
    ]  # fmt: skip


def test_column_without_valid_gets_some_from_train() -> None:
    rows = [{"text": str(i), "split": "train" if i < 400 else "test"} for i in range(500)]
    names = assign_splits(Table.from_rows(rows), Split(valid=0.2), [])
    assert names[400:] == ["test"] * 100
    assert set(names[:400]) == {"train", "valid"}


def test_column_of_training_rows_only_is_dealt() -> None:
    rows = [{"text": str(i), "split": "train"} for i in range(300)]
    assert set(assign_splits(Table.from_rows(rows), Split(), [])) == {"train", "valid", "test"}


@pytest.mark.parametrize(
    ("split", "rows", "told"),
    [
        (Split(), [{"text": "a", "split": "train"}, {"text": "b", "split": "holdout"}], "row 2"),
        (Split(), [{"text": "a", "split": "train"}, {"text": "b", "split": None}], "nothing"),
        (Split(column="part"), [{"text": "a"}], "part"),
        (Split(group="artst"), [{"text": "a", "artist": "b"}], "did you mean 'artist'"),
        (Split(valid=0.6, test=0.6), [{"text": "a"}], "below 1"),
    ],
)
def test_what_cannot_be_dealt_is_refused(split: Split, rows: list[dict[str, object]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        assign_splits(Table.from_rows(rows), split, [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=1, max_size=20), st.randoms())
def test_a_rows_split_depends_on_nothing_but_itself(pairs: list[tuple[str, str]], chance: random.Random) -> None:
    rows = [{"image": a, "text": b} for a, b in pairs]
    whole = assign_splits(Table.from_rows(rows), Split(valid=0.3, test=0.3), ["image"])
    order = list(range(len(rows)))
    chance.shuffle(order)
    shuffled = assign_splits(Table.from_rows([rows[i] for i in order]), Split(valid=0.3, test=0.3), ["image"])
    assert [whole[i] for i in order] == shuffled
    one = order[0]
    assert assign_splits(Table.from_rows([rows[one]]), Split(valid=0.3, test=0.3), ["image"]) == [whole[one]]
