"""Lists that tables hold as text: JSON's, Python's, NumPy's."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus import api
from rebus.data.lists import parse_column, parse_list, parse_value
from rebus.data.readers import read_table
from rebus.data.tagging import as_list


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['O', 'B-PER']", ["O", "B-PER"]),
        ('["O", "B-PER"]', ["O", "B-PER"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("[1 -2 3.5]", [1, -2, 3.5]),
        ("[1. 2.]", [1.0, 2.0]),
        ("('a', 'b')", ["a", "b"]),
        ("{'b', 'a'}", ["b", "a"]),
        ("['it\\'s', \"don't\", 'a, b']", ["it's", "don't", "a, b"]),
        ("['\\u00e9', 'a\\nb', '[x]']", ["é", "a\nb", "[x]"]),
        ("[np.str_('x'), np.int64(3), None, True]", ["x", 3, None, True]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("[['a' 'b']\n ['c' 'd']]", [["a", "b"], ["c", "d"]]),
        ("[{'label': 'cat', 'box': (0.1, 0.2, 0.3, 0.4)}]", [{"label": "cat", "box": [0.1, 0.2, 0.3, 0.4]}]),
        ("[]", []),
        ("[array([1, 2]), array([], dtype=float64)]", [[1, 2], []]),
    ],
)
def test_a_list_is_read_however_it_is_written(text: str, value: list[Any]) -> None:
    assert parse_list(text) == value
    assert as_list(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("[a, b]", "[removed]", "(a text)", "(5)", "[0 1 2 ... 998]", "['a'", "['x']*3", "{'a': 1}", "", "["),
        *("[__import__('os')]", "[(lambda: 1)()]", "[" * 5000 + "]" * 5000, "[open('x')]", "a list ['a']", "[f'{1}']"),
    ],
)
def test_other_texts_are_no_lists_and_nothing_is_run(text: str) -> None:
    assert parse_list(text) is None


def test_dictionaries_are_values_but_no_lists() -> None:
    text = "{'text': array(['x y'], dtype=object), 'answer_start': array([177], dtype=int32)}"
    assert parse_value(text) == {"text": ["x y"], "answer_start": [177]}


_leaves = st.one_of(st.text(max_size=12), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))


@settings(max_examples=60, deadline=None)
@given(st.recursive(_leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_whatever_python_prints_of_a_list_reads_back(value: Any) -> None:
    assert parse_list(repr([value])) == [value]
    assert parse_list(repr((value, value))) == [value, value]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8), min_size=1))
def test_whatever_numpy_prints_of_words_reads_back(words: list[str]) -> None:
    assert parse_list(str(np.array(words, dtype=object))) == words
    assert parse_list(repr(np.array(words, dtype=object))) == words


def test_a_column_with_some_lists_is_text_and_a_warning() -> None:
    assert parse_column(["['a']", "", None, "['b', 'c']"]) == ([["a"], None, None, ["b", "c"]], "")
    lists, problem = parse_column(["['a', 'b']", "['c', 'd']", "[e, f]"])
    assert lists is None
    assert "1 of 3" in problem
    assert "[e, f]" in problem
    assert parse_column(["good", "[removed]", "bad", "so so"]) == (None, "")


def write(path: Path, names: list[str], rows: list[list[str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return path


@pytest.mark.parametrize(
    "show", [repr, lambda words: str(np.array(words, dtype=object)), lambda words: str(tuple(words))]
)
def test_tags_labels_and_choices_as_pandas_writes_them(tmp_path: Path, show: Any) -> None:
    words, tags = ["EU", "rejects", "it's"], ["B-ORG", "O", "O"]
    path = write(
        tmp_path / "n.csv", ["tokens", "ner_tags"], [[show([*words, str(i)]), show([*tags, "O"])] for i in range(20)]
    )
    report = api.check(path)
    assert list(report.tasks) == ["ner"]
    assert not report.bad_rows
    table = read_table(path)
    assert as_list(table.column("tokens")[0]) == [*words, "0"]
    films = write(
        tmp_path / "m.csv",
        ["text", "genres"],
        [[f"film {i} of the week", show(["Action", "Drama"] if i % 2 else ["Drama"])] for i in range(20)],
    )
    report = api.check(films)
    assert report.columns["genres"]["counts"] == {"Drama": 20, "Action": 10}


def test_squad_answers_that_pandas_wrote_are_answers(tmp_path: Path) -> None:
    cell = "{'text': array(['Paris'], dtype=object), 'answer_start': array([3], dtype=int32)}"
    rows = [[f"It Paris {i}.", f"Where is number {i}?", cell] for i in range(10)]
    report = api.check(write(tmp_path / "q.csv", ["context", "question", "answers"], rows))
    assert list(report.tasks) == ["extract"]
    assert not report.bad_rows
