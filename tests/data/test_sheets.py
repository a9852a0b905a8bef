"""Spreadsheets: one sheet as a table of texts, and what a person may miss in it is said."""

from __future__ import annotations

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rebus import api
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Data

openpyxl = pytest.importorskip("openpyxl")
ROWS = [
    [f"a good one, number {i}" if i % 2 else f"a bad one, number {i}", "pos" if i % 2 else "neg"] for i in range(12)
]


def book(path: Path, rows: list[list[Any]], change: Any = lambda book, sheet: None) -> Path:
    made = openpyxl.Workbook()
    sheet = made.active
    sheet.title = "data"
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row, 1):
            sheet.cell(number, column, value)
    change(made, sheet)
    made.save(path)
    return path


def read(path: Path, **data: Any) -> Table:
    return read_table(Data(path=str(path), **data))


def ods(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    """The smallest OpenDocument sheet that readers take."""
    kinds = {float: "float", str: "string", bool: "boolean"}

    def cell(value: Any) -> str:
        kind = kinds[type(value)]
        shown = f"<text:p>{value}</text:p>"
        if kind == "string":
            return f'<table:table-cell office:value-type="string">{shown}</table:table-cell>'
        name = "office:boolean-value" if kind == "boolean" else "office:value"
        return f'<table:table-cell office:value-type="{kind}" {name}="{str(value).lower()}">{shown}</table:table-cell>'

    tables = "".join(
        f'<table:table table:name="{name}">'
        + "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
        + "</table:table>"
        for name, rows in sheets.items()
    )
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>{tables}"
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def test_cells_are_the_text_that_a_person_would_write(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 1, 31, 9, 5)
    rows = [
        ["whole", "part", "truth", "day", "moment", "time", "long", "code", "error", "lines"],
        [
            1.0,
            0.1,
            True,
            datetime.date(2024, 1, 31),
            when,
            datetime.time(9, 5),
            datetime.timedelta(hours=30),
            "007",
            "#N/A",
            "a\nb_x000D_",
        ],
        [-3, 1e-7, False, None, None, None, None, "1.10", "#DIV/0!", "ü 文"],
    ]
    table = read(book(tmp_path / "a.xlsx", rows))
    assert list(table[0].values()) == [
        *("1", "0.1", "TRUE", "2024-01-31", "2024-01-31 09:05:00", "09:05:00", "30:00:00", "007", "#N/A", "a\nb\r")
    ]
    assert list(table[1].values()) == ["-3", "1e-07", "FALSE", None, None, None, None, "1.10", "#DIV/0!", "ü 文"]


def test_other_sheets_are_said_and_can_be_chosen(tmp_path: Path) -> None:
    def change(made: Any, sheet: Any) -> None:
        other = made.create_sheet("more")
        other.append(["text", "label"])
        other.append(["x", "y"])
        made.create_sheet("secret").sheet_state = "hidden"

    path = book(tmp_path / "a.xlsx", [["text", "label"], *ROWS], change)
    table = read(path)
    assert len(table) == 12
    assert any("more (2 rows), secret (hidden, 0 rows)" in note and "data.sheet" in note for note in table.notes)
    assert read(path, sheet="more").column("label") == ["y"]
    alone = read(book(tmp_path / "b.xlsx", [["text", "label"], *ROWS]), sheet="mor")
    assert any("there is no sheet 'mor'" in warning for warning in alone.warnings)
    with pytest.raises(DataError, match="did you mean 'more'"):
        read(path, sheet="mor")


def test_an_empty_first_sheet_is_passed_over(tmp_path: Path) -> None:
    def change(made: Any, sheet: Any) -> None:
        other = made.create_sheet("table")
        for row in (["text", "label"], *ROWS):
            other.append(row)

    assert len(read(book(tmp_path / "a.xlsx", [], change))) == 12


def test_what_may_be_missed_is_said(tmp_path: Path) -> None:
    def change(made: Any, sheet: Any) -> None:
        sheet.row_dimensions[4].hidden = True
        sheet.column_dimensions["B"].hidden = True
        sheet.merge_cells("A6:A7")
        sheet["C3"] = "=A2&B2"

    told = " ".join(read(book(tmp_path / "a.xlsx", [["text", "label", "both"], *ROWS], change)).warnings)
    for part in ("1 hidden rows", "hidden columns are read like the others (B)", "1 merged areas", "1 formulas"):
        assert part in told


def test_rows_and_columns_around_the_table(tmp_path: Path) -> None:
    rows = [[], [None, "Reviews of 2024"], [], [None, "id", "text", "label"]]
    rows += [[None, i, *row] for i, row in enumerate(ROWS)] + [[], [None, None, None, None]]
    table = read(book(tmp_path / "a.xlsx", rows))
    assert table.columns == ["id", "text", "label"]
    assert len(table) == 12
    assert table.where(0) == "a.xlsx, row 5"
    assert any("Reviews of 2024" in warning for warning in table.warnings)


@pytest.mark.parametrize("ending", ["xlsx", "ods"])
def test_a_sheet_is_checked_like_any_table(tmp_path: Path, ending: str) -> None:
    rows: list[list[Any]] = [["text", "label", "stars"], *([*row, float(i)] for i, row in enumerate(ROWS))]
    path = tmp_path / f"a.{ending}"
    book(path, rows) if ending == "xlsx" else ods(path, {"data": rows, "more": [["x"]]})
    report = api.check(path)
    assert report.columns["label"]["counts"] == {"neg": 6, "pos": 6}
    assert read(path).column("stars")[:2] == ["0", "1"]
    assert read(path).where(11) == f"a.{ending}, row 13"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / f"train.{ending}").write_bytes(path.read_bytes())
    assert read(tmp_path / "folder").column("text") == [row[0] for row in ROWS]


def test_labels_are_those_of_the_same_table_as_csv(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["text", "label"], *([row[0], i % 3] for i, row in enumerate(ROWS))]
    (tmp_path / "a.csv").write_text("".join(f'"{text}",{label}\n' for text, label in rows), encoding="utf-8")
    found = [api.check(path).columns["label"] for path in (tmp_path / "a.csv", book(tmp_path / "a.xlsx", rows))]
    assert found[0] == found[1]


def test_damaged_and_monstrous_files_are_refused(tmp_path: Path) -> None:
    whole = book(tmp_path / "a.xlsx", [["text", "label"], *ROWS]).read_bytes()
    for cut in (len(whole) // 2, len(whole) - 30):
        (tmp_path / "b.xlsx").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="cannot be opened"):
            read(tmp_path / "b.xlsx")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name in list(parts):
        with zipfile.ZipFile(tmp_path / "c.xlsx", "w") as archive:
            for other, content in parts.items():
                archive.writestr(other, content[: len(content) // 2] if other == name else content)
        try:
            read(tmp_path / "c.xlsx")
        except DataError:
            continue
