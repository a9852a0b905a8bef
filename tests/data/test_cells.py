from __future__ import annotations

import csv
import json
import unicodedata
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.data import cells
from rebus.data.readers import read_table
from rebus.data.role_cells import role_values
from rebus.recipe import TaskSettings
from tiny_tables import checked

CLASSIFY = TaskSettings(name="classify", columns={"text": "text", "label": "label"})
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)


@pytest.mark.parametrize("blank", [None, float("nan"), "", " ", "\u3000", "\ufeff", "\u200b\xa0\n", [], ["", None]])
def test_what_cannot_be_seen_is_blank_everywhere(blank: Any) -> None:
    assert cells.is_blank(blank)
    assert cells.label(blank).strip() == ""


@pytest.mark.parametrize("cell", ["0", "-", "?", "None of them", "nano", 0, 0.0, False, [0], b"0"])
def test_a_cell_that_says_something_is_not_blank(cell: Any) -> None:
    assert not cells.is_blank(cell, cells.BLANKS)


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>", "NaT", "#N/A", "NULL", " NaN "])
def test_what_programs_write_for_nothing_is_blank_in_every_role(word: str) -> None:
    generate = TaskSettings(name="generate", columns={"prompt": "p", "output": "o"})
    assert role_values(CLASSIFY, "label", [word, "x"]) == [None, "x"]
    assert role_values(generate, "output", [word, "x"]) == [None, "x"]


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "null"])
def test_a_word_that_people_write_is_blank_as_a_label_and_a_text_as_an_answer(word: str) -> None:
    answer = TaskSettings(name="answer", columns={"question": "q", "answer": "a"})
    assert role_values(CLASSIFY, "label", [word]) == [None]
    assert role_values(answer, "answer", [word]) == [word]
    kept = CLASSIFY.model_copy(update={"blanks": []})
    assert role_values(kept, "label", [word, ""]) == [word, None]
    told = answer.model_copy(update={"blanks": [word]})
    assert role_values(told, "answer", [word, "NaN"]) == [None, "NaN"]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        *((" pos", "pos"), ("pos\u3000", "pos"), ("\ufeffpos\u200b", "pos"), ("a \n b\xa0c", "a b c")),
        *(("1.0", "1"), ("-3.0", "-3"), ("-0.0", "0"), (1.0, "1"), (1, "1"), ("12", "12")),
        *(("1.10", "1.10"), ("1.1", "1.1"), ("1.00", "1.00"), ("1E3", "1E3"), ("007", "007"), ("007.0", "007.0")),
        *(("true", "true"), ("True", "true"), ("TRUE", "true"), (True, "true"), ("FALSE", "false"), ("tRUE", "tRUE")),
        *(("cafe\u0301", "caf\xe9"), ("Pos", "Pos"), ("\uff11", "\uff11"), (1.5, "1.5"), (0.1, "0.1")),
        ("1294030472427835393", "1294030472427835393"),
        ('a, "b"', 'a, "b"'),
    ],
)
def test_one_rule_says_which_labels_are_the_same(cell: Any, label: str) -> None:
    assert cells.label(cell) == label


@given(WORDS)
def test_a_label_of_a_label_is_itself(text: str) -> None:
    once = cells.label(text)
    assert cells.label(once) == once == unicodedata.normalize("NFC", once)
    assert cells.label(f"\u3000{text} ") == once


def written(folder: Path, kind: str, labels: list[Any]) -> Path:
    """The same labels as six programs write them; ``labels`` are Python values, None where a row has none."""
    path = folder / f"t.{'csv' if kind == 'excel' else kind}"
    texts = [f"text number {row}" for row in range(len(labels))]
    spelt: list[Any] = ["" if one is None else one for one in labels]
    if kind in ("csv", "tsv", "excel"):
        if kind == "excel":  # TRUE, and semicolons
            spelt = [str(one).upper() if isinstance(one, bool) else one for one in spelt]
        with open(path, "w", encoding="utf-8-sig" if kind == "excel" else "utf-8", newline="") as file:
            writer = csv.writer(file, delimiter={"csv": ",", "tsv": "\t", "excel": ";"}[kind])
            writer.writerows([("text", "label"), *zip(texts, spelt, strict=True)])
    elif kind in ("json", "jsonl"):
        rows = [{"text": text, "label": one} for text, one in zip(texts, labels, strict=True)]
        body = json.dumps(rows) if kind == "json" else "\n".join(map(json.dumps, rows))
        path.write_text(body, encoding="utf-8")
    else:
        pq.write_table(pa.table({"text": texts, "label": pa.array(labels)}), path)
    return path


@settings(max_examples=15, deadline=None)
@given(
    st.one_of(
        st.lists(st.one_of(st.none(), st.integers(-999, 999)), min_size=3, max_size=6),
        st.lists(st.one_of(st.none(), st.integers(-99, 99).map(float), st.sampled_from([0.5, 1.1])), min_size=3),
        st.lists(st.one_of(st.none(), st.booleans()), min_size=3, max_size=6),
        st.lists(st.one_of(st.none(), st.text("ab é|\"',;0", min_size=1, max_size=5)), min_size=3, max_size=6),
    )
)
def test_labels_are_the_same_classes_in_six_formats(
    tmp_path_factory: pytest.TempPathFactory, labels: list[Any]
) -> None:
    if all(cells.is_blank(one) for one in labels):
        labels = [*labels, 1]
    folder = tmp_path_factory.mktemp("formats")
    found = {}
    for kind in ("csv", "tsv", "excel", "json", "jsonl", "parquet"):
        column = read_table(written(folder, kind, labels)).column("label")
        found[kind] = role_values(CLASSIFY, "label", column)
    assert len(set(map(repr, found.values()))) == 1, found


def test_narrow_floats_and_decimals_are_labels_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    prices = pa.array([Decimal("1.10"), Decimal("2.00"), None])
    pq.write_table(pa.table({"narrow": pa.array([0.1, 2.0, None], pa.float32()), "price": prices}), path)
    table = read_table(path)
    assert role_values(CLASSIFY, "label", table.column("narrow")) == ["0.1", "2", None]
    assert role_values(CLASSIFY, "label", table.column("price")) == ["1.10", "2.00", None]


def test_labels_of_one_cell() -> None:
    assert cells.labels(" a | b;a；") == ["a", "b"]
    assert cells.labels('["x", "y|z", 1.0]') == ["x", "y|z", "1"]
    assert cells.labels(["x ", None, "NaN"], words=cells.BLANKS) == ["x"]
    assert cells.labels("a, b", ",") == ["a", "b"]
    assert cells.labels("a | b", "") == ["a | b"]


def test_near_equal_labels() -> None:
    names = ["pos", "Pos", "p.o.s", "neg", "caf\xe9", "cafe", "1", "\uff11", "-1", "1.5", "15"]
    assert cells.near_equal(names) == [["pos", "Pos", "p.o.s"], ["caf\xe9", "cafe"], ["1", "\uff11"]]


@pytest.mark.parametrize(
    ("cell", "point", "comma"),
    [
        *(("5", 5, 5), (" 5 ", 5, 5), ("-1.5", -1.5, None), ("0,05", None, 0.05), (".5", 0.5, None), ("1E3", 1e3, 1e3)),
        *(("1,100", 1100, 1.1), ("1.234", 1.234, 1234), ("1,234,567.8", 1234567.8, None), ("1.234,5", None, 1234.5)),
        *(("$1.50", 1.5, None), ("-$5", -5, -5), ("1,50 €", None, 1.5), ("¥100", 100, 100), ("100元", 100, 100)),
        *(("US$ 5", 5, 5), ("5%", 5, 5), ("５％", 5, 5), ("(3)", -3, -3), ("\u22123", -3, -3), ("+7", 7, 7)),
        *(
            ("1 234,5", None, 1234.5),
            ("1\xa0234.5", 1234.5, None),
            ("1'234.5", 1234.5, None),
            ("12,34,567", 1234567, None),
        ),
        *(("", None, None), ("abc", None, None), ("1,2,3", None, None), ("1-2", None, None), ("5 apples", None, None)),
        *(("0,123", None, 0.123), ("1_000", None, None), ("--5", None, None), ("2024-01-02", None, None)),
    ],
)
def test_numbers_of_both_decimal_marks(cell: str, point: float | None, comma: float | None) -> None:
    assert cells.number(cell) == point
    assert cells.number(cell, "comma") == comma


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_programs_write_for_a_number_is_that_number(number: float) -> None:
    assert cells.number(repr(number)) == number
    assert cells.number(repr(number).replace(".", ","), "comma") == number


@given(st.integers(-(10**9), 10**9), st.integers(0, 99), st.sampled_from([",", " ", "'"]))
def test_thousands_may_be_set_apart(whole: int, cents: int, mark: str) -> None:
    text = f"{whole:,}".replace(",", mark) + f".{cents:02}"
    assert cells.number(text) == pytest.approx(float(f"{whole}.{cents:02}"))


def test_the_decimal_mark_of_a_column() -> None:
    assert cells.numbers(["0,05", "1,5", "1.200,00"]).style == "comma"
    assert cells.numbers(["0.05", "1,200.5"]) == cells.Numbers("point", 2, 2)
    unsure = cells.numbers(["1,100", "2,101", "", "NaN"])
    assert (unsure.style, unsure.total, unsure.unsure) == ("point", 2, ("1,100", "2,101"))
    assert cells.numbers(["1,100", "2,101"], "comma").unsure == ()
    assert cells.numbers(["1", "x", "2"]).unlike == ("x",)


@pytest.mark.parametrize(
    ("column", "mark", "sure"),
    [
        (["Action, Comedy", "Comedy", "Drama, Comedy", "Drama", "Action, Drama"], ",", True),
        (["红、大", "红", "大、绿", "绿、红"], "、", True),
        (["rock/pop", "pop", "jazz", "jazz/rock"], "/", True),
        (["New York, NY", "Boston, MA", "Buffalo, NY", "Worcester, MA"], ",", False),
        (["red, S", "red, M", "blue, S", "blue, M"], ",", False),
        (["Smith, John", "Doe, Jane", "Roe, Rick", "Poe, Ed"], "", False),
        (["a long sentence, with a comma in it", "yes", "another one, as long as that", "no"], "", False),
    ],
)
def test_what_divides_labels_is_found_by_what_comes_back(column: list[str], mark: str, sure: bool) -> None:
    found = cells.separator(column)
    assert (found.mark, found.sure) == (mark, sure)


def test_spellings_of_a_path() -> None:
    assert cells.paths("a.png") == ["a.png"]
    assert "a.png" in cells.paths(' "a.png"\u3000')
    assert "a/b.png" in cells.paths("a\\b.png ")
    assert "a b.png" in cells.paths("a%20b.png")
    assert {unicodedata.normalize(form, "\xe9.png") for form in ("NFC", "NFD")} <= set(cells.paths("\xe9.png"))


def test_lists_written_as_text_are_lists_where_a_role_takes_several() -> None:
    caption = TaskSettings(name="caption", columns={"image": "p", "caption": "c"})
    generate = TaskSettings(name="generate", columns={"prompt": "p", "output": "o"})
    column = ['["a cat", "a dog"]', "['one']", None]
    assert role_values(caption, "caption", column) == [["a cat", "a dog"], ["one"], None]
    assert role_values(caption, "caption", ["[a cat]", '["x"]']) == ["[a cat]", '["x"]']
    assert role_values(generate, "output", column) == column


@pytest.mark.parametrize(
    "labels",
    [
        ["pos", "neg", "-"], ["pos", "neg", "?"], ["pos", "neg", "#REF!"], ["pos", "neg", "#DIV/0!"],
        ["pos", "neg", "\\N"], ["pos", "neg", "undefined"], ["pos", "neg", "(null)"], ["好", "坏", "无"],
        ["a", "b", "NAN"],
    ],
)  # fmt: skip
def test_labels_that_may_say_nothing_are_warned_of(tmp_path: Path, labels: list[str]) -> None:
    rows = "".join(f"words number {i},{labels[i % 3]}\n" for i in range(30))
    (tmp_path / "t.csv").write_text("text,label\n" + rows, encoding="utf-8")
    report = checked(tmp_path / "t.csv").report
    assert any(f"'{labels[2]}'" in line and "data.blanks=" in line for line in report.warnings)
    settled = checked(tmp_path / "t.csv", blanks=[labels[2]], on_bad="skip").report
    assert len(settled.bad_rows) == 10


def test_plus_and_minus_are_labels(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"words {i},{'+-'[i % 2]}\n" for i in range(30)))
    assert not any("data.blanks" in line for line in checked(tmp_path / "t.csv").report.warnings)


@pytest.mark.parametrize(
    "pair",
    [("1", "1e0"), ("01", "1"), ("1.", "1"), ("+1", "1"), ("−1", "-1"), ("1.10", "1.1"), ("сat", "cat"),
     ("rock &amp; roll", "rock & roll")],
)  # fmt: skip
def test_labels_that_read_alike_are_warned_of(pair: tuple[str, str]) -> None:
    assert cells.near_equal([*pair, "other"]) == [list(pair)]
    assert cells.near_equal(["1", "-1", "15", "1.5", "5"]) == []


def test_the_semicolon_of_an_entity_divides_no_labels() -> None:
    assert cells.labels("rock &amp; roll; jazz|pop&#39;s") == ["rock &amp; roll", "jazz", "pop&#39;s"]


@pytest.mark.parametrize("mark", [" - ", " and ", "\t", "~", ":", " "])
def test_rarer_marks_between_labels_are_warned_of(tmp_path: Path, mark: str) -> None:
    said = [f"Action{mark}Drama", "Drama", "Comedy", f"Drama{mark}Comedy", "Action"]
    (tmp_path / "t.csv").write_text("text,genres\n" + "".join(f"words {i},{said[i % 5]}\n" for i in range(40)))
    assert any("is one label, or 'Action' and 'Drama'" in line for line in checked(tmp_path / "t.csv").report.warnings)


def test_one_combination_of_labels_that_stand_alone_is_warned_of() -> None:
    assert cells.separator(["toxic,insult", "insult", "ok", "toxic"] * 5).mark == ","
    assert cells.separator(["Cars, Trucks", "Home, Garden", "Books"] * 5).mark == ""
    assert cells.separator(["a,", "b,c,", "c,", "b,"] * 5).mark == ","


@pytest.mark.parametrize(("odd", "told"), [("-999", True), ("-1", True), ("9999", True), ("45", False), ("12", False)])
def test_amounts_written_for_nothing_are_warned_of(tmp_path: Path, odd: str, told: bool) -> None:
    rows = "".join(f"words {i},{odd if i % 5 == 0 else 20 + i / 5}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("text,price\n" + rows)
    lines = [line for line in checked(tmp_path / "t.csv").report.warnings if "far from all others" in line]
    assert bool(lines) is told
