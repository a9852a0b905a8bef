"""What spreadsheets and databases put around their rows: read, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rebus import api
from rebus.data.corpus.reading.rows import read_rows
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Data

ROWS = [{"text": f"a joy, number {i}", "label": "pos" if i % 2 else "neg"} for i in range(12)]


def lines(delimiter: str = ";", end: str = "\r\n") -> str:
    return f"text{delimiter}label{end}" + "".join(f"{row['text']}{delimiter}{row['label']}{end}" for row in ROWS)


def read(path: Path, content: str, name: str = "a.csv", **data: Any) -> Table:
    (path / name).write_bytes(content.encode("utf-8"))
    return read_table(Data(path=str(path / name), **data))


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "\ufeffsep=;", "sep=;;", "\r\nsep=;"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_the_line_that_excel_writes_is_obeyed(tmp_path: Path, line: str, end: str) -> None:
    table = read(tmp_path, line + end + lines(end=end))
    assert list(table) == ROWS
    assert any("sep=" in note for note in table.notes)
    above = (line + end).count(end)
    assert table.where(0) == f"a.csv, line {above + 2}"


def test_any_delimiter_may_be_named_so(tmp_path: Path) -> None:
    assert list(read(tmp_path, "sep=^\n" + lines("^", "\n"))) == ROWS
    assert list(read(tmp_path, "sep=\\t\n" + lines("\t", "\n"))) == ROWS
    assert list(read(tmp_path, "sep=|\n" + lines(), delimiter=";")) == ROWS
    with pytest.raises(DataError, match=r"line 1.*';'"):
        read(tmp_path, "sep=|\ntext;label\na;b\nc;d\n")


def test_a_column_may_be_called_sep(tmp_path: Path) -> None:
    assert read(tmp_path, "sep=x,label\na,b\n").columns == ["sep=x", "label"]


def test_the_corpus_obeys_it_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\ntext;n\nhello, you;1\n", encoding="utf-8")
    rows = [row for _, row in read_rows(tmp_path / "a.csv", "a.csv", Data(), 1000, None)]
    assert rows == [{"text": "hello, you", "n": "1"}]


@pytest.mark.parametrize(
    ("above", "told"),
    [
        ("\n\n", ""),
        ("Survey of 2024\n\n", "Survey of 2024"),
        ("# made by a program\n# on a day\n", "2 lines above"),
        ("Survey of 2024,,\n", "Survey of 2024"),
        (",,\n", "empty line"),
    ],
)
def test_what_stands_above_the_header_is_left_out_and_said(tmp_path: Path, above: str, told: str) -> None:
    content = above + "id,text,label\n" + "".join(f"{i},t{i},x\n" for i in range(8))
    table = read(tmp_path, content)
    assert table.columns == ["id", "text", "label"]
    assert len(table) == 8
    assert table.where(0) == f"a.csv, line {above.count(chr(10)) + 2}"
    assert not told or any(told in warning for warning in table.warnings)


def test_a_title_that_may_be_a_header_is_refused_and_settled_by_a_setting(tmp_path: Path) -> None:
    content = "Survey,\ntext,label\n" + "good,x\nbad,y\n" * 5
    with pytest.raises(DataError, match=r"data\.header=LINE: 1 if it is this one, 2 if"):
        read(tmp_path, content)
    assert read(tmp_path, content, header=2).columns == ["text", "label"]
    assert read(tmp_path, content, header=1).columns == ["Survey", "column_2"]
    with pytest.raises(DataError, match=r"data\.header"):
        read(tmp_path, "Survey of 2024\nid,text,label\n1,a,b\n2,c,d\n")
    with pytest.raises(DataError, match="line 99"):
        read(tmp_path, content, header=99)


def test_headers_in_the_middle_are_left_out_and_counted(tmp_path: Path) -> None:
    one = "text,label\n" + "good,x\nbad,y\n" * 3
    table = read(tmp_path, one + "\ufeff" + one + one)
    assert len(table) == 18
    assert set(table.column("label")) == {"x", "y"}
    assert any("2 lines name the columns again" in warning for warning in table.warnings)
    assert any("byte-order" in warning for warning in table.warnings)


def test_rows_and_columns_that_are_empty(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b,,\n1,x,,\n2,y,,\n,,,\n,,,\n")
    assert table.columns == ["a", "b", "column_3", "column_4"]
    assert len(table) == 2
    assert any("2 empty lines" in warning for warning in table.warnings)


@pytest.mark.parametrize("content", ["a,b\n1,x,\n2,y,\n", "a,b,\n1,x\n2,y\n", "a,b,\n1,x,\n2,y,\n"])
def test_a_delimiter_at_the_end_of_lines(tmp_path: Path, content: str) -> None:
    table = read(tmp_path, content)
    assert table.column("a") == ["1", "2"]
    assert table.column("b") == ["x", "y"]


def test_row_names_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row numbers"):
        read(tmp_path, "text,label\n1,good,x\n2,bad,y\n")


def test_units_below_the_header_are_warned_of(tmp_path: Path) -> None:
    table = read(tmp_path, "name,height,weight\n,cm,[kg]\n" + "".join(f"n{i},{150 + i},{60 + i}.5\n" for i in range(9)))
    assert any("line 2 looks like units" in warning and "cm" in warning for warning in table.warnings)
    assert not read(tmp_path, "name,height\n" + "".join(f"n{i},{150 + i}\n" for i in range(9))).warnings


def test_decimal_commas_between_semicolons(tmp_path: Path) -> None:
    table = read(tmp_path, "text;score\n" + "".join(f"row, {i};{i},5\n" for i in range(9)))
    assert table.column("score")[:2] == ["0,5", "1,5"]
    assert table.column("text")[0] == "row, 0"


def test_two_delimiters_that_fit_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.delimiter=.*or"):
        read(tmp_path, "a,b;c\n1,2;3\n4,5;6\n")
    assert read(tmp_path, "a,b;c\n1,2;3\n4,5;6\n", delimiter=";").columns == ["a,b", "c"]
    assert read(tmp_path, "a,b\tc\n1,2\t3\n4,5\t6\n", name="a.tsv").columns == ["a,b", "c"]


@pytest.mark.parametrize("mark", ["\x01", "^", "~", ":"])
def test_a_rare_delimiter_is_named(tmp_path: Path, mark: str) -> None:
    with pytest.raises(DataError, match=r"data\.delimiter"):
        read(tmp_path, lines(mark, "\n").replace(",", ""))
    assert list(read(tmp_path, lines(mark, "\n"), delimiter=mark)) == ROWS


def test_a_table_of_one_column_may_hold_such_marks(tmp_path: Path) -> None:
    assert read(tmp_path, "text\nso: good\nbad\n").column("text") == ["so: good", "bad"]


def test_quotes_after_blanks_and_with_backslashes(tmp_path: Path) -> None:
    table = read(tmp_path, 'text, label\n"good, so", "x"\n"bad", "y"\n')
    assert list(table) == [{"text": "good, so", "label": "x"}, {"text": "bad", "label": "y"}]
    table = read(tmp_path, 'text,label\n"he said \\"hi, you\\" twice",x\n"bad",y\n')
    assert table.column("text") == ['he said "hi, you" twice', "bad"]
    assert table.notes
    many = "a,b\n" + '"' + '""' * 5000 + '",x\n'
    assert read(tmp_path, many).column("a") == ['"' * 5000]


def test_single_quotes_are_letters_and_said(tmp_path: Path) -> None:
    assert any("single quotes" in warning for warning in read(tmp_path, "text,label\n'a','x'\n'b','y'\n").warnings)


def test_what_the_reader_says_is_in_the_check(tmp_path: Path) -> None:
    read(tmp_path, "sep=;\n" + lines() + ";\r\n")
    report = api.check(tmp_path / "a.csv")
    assert any("sep=" in note for note in report.as_dict()["notes"])
    assert any("1 empty line" in warning for warning in report.warnings)
    assert report.columns["label"]["counts"] == {"neg": 6, "pos": 6}


def test_a_first_row_instead_of_names_and_a_last_row_of_sums_are_warned_of(tmp_path: Path) -> None:
    rows = "".join(f"some words {i},{'ab'[i % 2]}\n" for i in range(10))
    (tmp_path / "t.csv").write_text(rows)
    assert "though 'a' is also what its column holds" in read_table(tmp_path / "t.csv").warnings[0]
    (tmp_path / "t.csv").write_text("text,label\n" + rows + "Total,10\n")
    assert "'Total' looks like a sum" in read_table(tmp_path / "t.csv").warnings[0]
    (tmp_path / "t.csv").write_text("text,label\n" + rows)
    assert not read_table(tmp_path / "t.csv").warnings


def test_a_table_that_is_called_a_text_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("sep=|\ntext|label\n" + "".join(f"some words {i}|a\n" for i in range(9)))
    assert "rename it to t.csv" in read_table(tmp_path / "t.txt").warnings[0]
    (tmp_path / "t.txt").write_text("".join(f"some words {i}; more\n" * (i % 2) + "others\n" for i in range(9)))
    assert not read_table(tmp_path / "t.txt").warnings
