"""Spreadsheets (.xlsx, .xlsm, .ods, .xls): one sheet as a table. Each cell becomes the text that a person would write.

openpyxl reads Excel's own format, since it tells errors, hidden rows and formulas without a value; calamine the others.
"""

from __future__ import annotations

import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rebus.data.readers.rows import Row, table_of
from rebus.data.readers.source import Source
from rebus.data.table import Table
from rebus.errors import DataError, MissingPackageError, nearest

EXCEL = (".xlsx", ".xlsm")
OTHERS = (".ods", ".xls")
_LARGEST = 4 << 30  # bytes that a file may unpack to
_UNSAVED = re.compile(rb"</f>(?:<v\s*/>|<v></v>)?</c>|<f[^>]*/></c>")


@dataclass
class _Sheet:
    """A sheet.

    Attributes:
        name: its name.
        rows: its cells, every row as wide as the widest.
        hidden: nobody sees it without asking.
        remarks: what the table should say of it.
    """

    name: str
    rows: Sequence[Sequence[Any]]
    hidden: bool = False
    remarks: list[str] = field(default_factory=list)

    @property
    def filled(self) -> int:
        """How many rows hold something."""
        return sum(any(cell not in (None, "") for cell in row) for row in self.rows)


def read_sheet(source: Source) -> Table:
    """Read the sheet that ``data.sheet`` names, else the first that is seen and holds something.

    Whole numbers are written without a point, truth as TRUE and FALSE, dates as 2024-01-31, errors as #N/A. Formulas
    are what was last computed of them.

    Raises:
        MissingPackageError: the libraries are not installed.
        DataError: the file is damaged, the sheet is not there, or as ``table_of`` has it.
    """
    content = source.read_bytes()
    sheets = _excel(source, content) if source.path.suffix.lower() in EXCEL else _others(source, content)
    sheet = _chosen(source, sheets)
    others = [
        f"{item.name} ({'hidden, ' if item.hidden else ''}{item.filled} rows)" for item in sheets if item is not sheet
    ]
    if others:
        source.notes.append(
            f"{source.name}: sheet '{sheet.name}' is read; not {', '.join(others[:8])} (another: --set data.sheet=NAME)"
        )
    source.warnings.extend(f"{source.name}, sheet '{sheet.name}': {remark}" for remark in sheet.remarks)
    texts = [(number, [_text(cell) for cell in row]) for number, row in enumerate(sheet.rows, 1)]
    return table_of(source, _trimmed(texts), "as wide as the sheet", word="row")


def _chosen(source: Source, sheets: list[_Sheet]) -> _Sheet:
    named = source.data.sheet
    if named is not None:
        result = next((sheet for sheet in sheets if sheet.name == named), None)
        alone = [sheet for sheet in sheets if sheet.filled]
        if result is None and len(alone) == 1:
            source.warnings.append(
                f"{source.name}: there is no sheet '{named}'; '{alone[0].name}', the only one, is read"
            )
            return alone[0]
        if result is None:
            names = [sheet.name for sheet in sheets]
            raise DataError(f"{source.name}, data.sheet", "a sheet of the file", f"'{named}'", nearest(named, names))
        return result
    filled = [sheet for sheet in sheets if sheet.filled]
    if not filled:
        raise DataError(source.path, "a sheet with rows", "only empty ones", "check that this is the right file")
    return next((sheet for sheet in filled if not sheet.hidden), filled[0])


# what the standard library raises for an archive that is damaged
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError)


def _excel(source: Source, content: bytes) -> list[_Sheet]:
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise MissingPackageError("openpyxl", "excel", f"reading {source.name}") from error
    unsaved = _look_inside(source, content)
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    except (InvalidFileException, LookupError, ValueError, TypeError, AttributeError, SyntaxError, *_BROKEN) as error:
        raise _damaged(source, error) from error
    sheets = []
    for worksheet in book.worksheets:
        rows = [[_unescaped(cell) for cell in row] for row in worksheet.iter_rows(values_only=True)]
        sheet = _Sheet(worksheet.title, rows, worksheet.sheet_state != "visible")
        hidden_rows = sum(dimension.hidden for dimension in worksheet.row_dimensions.values())
        hidden_columns = [letter for letter, dimension in worksheet.column_dimensions.items() if dimension.hidden]
        if hidden_rows:
            sheet.remarks.append(f"{hidden_rows} hidden rows are read like the others")
        if hidden_columns:
            sheet.remarks.append(f"hidden columns are read like the others ({', '.join(hidden_columns[:5])})")
        _tell_merged(sheet, len(worksheet.merged_cells.ranges))
        if unsaved:
            sheet.remarks.append(
                f"{unsaved} formulas of the file hold no computed value and are empty; open and save it in a "
                "spreadsheet program"
            )
        sheets.append(sheet)
    return sheets


def _look_inside(source: Source, content: bytes) -> int:
    """The number of formulas without a value. Raises DataError for what is no zip archive or unpacks to too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(item.file_size for item in archive.infolist())
            if size > _LARGEST:
                raise DataError(source.path, "at most 4 GiB of cells", f"{size:,} bytes", "save the sheet as CSV")
            names = [name for name in archive.namelist() if name.startswith("xl/worksheets/") and name.endswith(".xml")]
            return sum(len(_UNSAVED.findall(archive.read(name))) for name in names)
    except (ValueError, *_BROKEN) as error:  # zipfile: a seek before the beginning
        raise _damaged(source, error) from error


def _others(source: Source, content: bytes) -> list[_Sheet]:
    try:
        import python_calamine as calamine
    except ImportError as error:
        raise MissingPackageError("python-calamine", "excel", f"reading {source.name}") from error
    sheets = []
    try:
        book = calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
        for number, about in enumerate(book.sheets_metadata):
            if about.typ is not calamine.SheetTypeEnum.WorkSheet:
                continue
            sheet_by_index = book.get_sheet_by_index(number)
            rows = sheet_by_index.to_python(skip_empty_area=False)
            sheet = _Sheet(about.name, rows, about.visible is not calamine.SheetVisibleEnum.Visible)
            _tell_merged(sheet, len(sheet_by_index.merged_cell_ranges or []))
            sheets.append(sheet)
    except (calamine.CalamineError, OSError, ValueError) as error:
        raise _damaged(source, error) from error
    return sheets


def _tell_merged(sheet: _Sheet, count: int) -> None:
    if count:
        sheet.remarks.append(f"{count} merged areas: their value stands in the first cell, the others are empty")


def _damaged(source: Source, error: Exception) -> DataError:
    message = " ".join(str(error).split())[:120] or type(error).__name__
    return DataError(
        source.path,
        f"a whole {source.path.suffix} file without a password",
        f"one that cannot be opened ({message})",
        "open it in a spreadsheet program and save it anew, or as CSV in UTF-8",
    )


def _unescaped(cell: Any) -> Any:
    """Text as Excel shows it: it writes control characters as ``_x000D_``."""
    if isinstance(cell, str) and "_x" in cell:
        return re.sub(r"_x([0-9A-Fa-f]{4})_", lambda result: chr(int(result[1], 16)), cell)
    return cell


def _text(cell: Any) -> str:
    """A cell as a person would write it."""
    match cell:
        case None:
            return ""
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case datetime.datetime():
            return str(cell.date() if cell.time() == datetime.time() else cell)
        case datetime.timedelta():
            seconds = round(cell.total_seconds())
            return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        case _:
            return str(cell)


def _trimmed(rows: list[Row]) -> list[Row]:
    """The rows without columns that are empty from top to bottom at either side."""
    used = [at for _, fields in rows for at, cell in enumerate(fields) if cell.strip()]
    first, last = (min(used), max(used) + 1) if used else (0, 0)
    return [(line, fields[first:last] + [""] * (last - len(fields))) for line, fields in rows]
