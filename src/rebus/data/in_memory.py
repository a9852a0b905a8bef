"""Tables and images given as Python objects instead of files: DataFrames, lists of rows, PIL images, arrays.

Everything below reads tables from files, so that a run can be resumed and evaluated later: rows in memory become a
Parquet file. It imports neither pandas nor polars; it asks objects for their columns.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image as pillow

from rebus import atomic
from rebus.data.columns import arrow_table
from rebus.errors import DataError


@runtime_checkable
class DataFrame(Protocol):
    """What pandas and polars have in common."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def __getitem__(self, name: Any, /) -> Any:
        """One column."""


InMemory: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table | DataFrame
TableLike: TypeAlias = str | Path | InMemory
Image: TypeAlias = str | Path | bytes | NDArray[Any] | pillow.Image | None
Images: TypeAlias = Iterable[Image]


def usable_image(value: Any) -> Any:
    """An image as the rest of Rebus takes it; what is no image is returned as it is.

    Args:
        value: a PIL image or a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); anything else is left alone.

    Returns:
        PNG bytes of a PIL image or of an array that is not (H, W, 3) of uint8; else ``value``.

    Raises:
        DataError: an array has another shape or type.
    """
    if isinstance(value, pillow.Image):
        return _png(value)
    if not isinstance(value, np.ndarray) or (value.ndim == 3 and value.shape[2] == 3 and value.dtype == np.uint8):
        return value
    plain = value[:, :, 0] if value.ndim == 3 and value.shape[2] == 1 else value
    if plain.dtype != np.uint8 or not (plain.ndim == 2 or (plain.ndim == 3 and plain.shape[2] == 4)):
        raise DataError(
            "an image given as an array",
            "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8",
            f"{value.shape} of {value.dtype}",
            "put the channels last and scale the values to 0..255",
        )
    return _png(pillow.fromarray(plain))


def rows_of(data: InMemory) -> list[dict[str, Any]]:
    """A table in memory as one dictionary a row.

    Raises:
        DataError: it is none of the accepted types.
    """
    columns = _columns(data)
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def write_rows(data: InMemory, path: Path) -> Path:
    """Write a table in memory as a Parquet file, images as PNG inside it, and return its path.

    Relative paths of existing files become absolute: they are relative to the working directory, not to ``path``.

    Raises:
        DataError: it is none of the accepted types, has no rows, or a column mixes values that cannot stand together.
        RunError: the file cannot be written.
    """
    table = data if isinstance(data, pa.Table) else None
    if table is None:
        columns = {name: [_stored(cell) for cell in cells] for name, cells in _columns(data).items()}
        table = arrow_table(columns, lambda row: f"row {row + 1}", "the table in memory")
    if not table.num_rows or not table.num_columns:
        raise DataError("the table in memory", "at least one row", "none", "give a table with rows")
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            cells = table.column(number).to_pylist()
            if (absolute := _absolute(cells)) is not cells:
                table = table.set_column(number, field.name, pa.array(absolute))
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_with(path, lambda beside: pq.write_table(table, beside))
    return path


@contextmanager
def table_path(data: TableLike | None) -> Iterator[str | Path | None]:
    """The path of a table; rows in memory lie in a temporary file while the context lasts."""
    if data is None or isinstance(data, str | Path):
        yield data
        return
    with TemporaryDirectory() as folder:
        yield write_rows(data, Path(folder) / "table.parquet")


def _columns(data: Any) -> dict[str, list[Any]]:
    if isinstance(data, pa.Table):
        return {name: data.column(name).to_pylist() for name in data.column_names}
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and all(isinstance(r, Mapping) for r in data):
        names = list(dict.fromkeys(str(key) for row in data for key in row))
        return {name: [row.get(name) for row in data] for name in names}
    if isinstance(data, DataFrame) and all(hasattr(data[name], "__len__") for name in data.columns):
        return {str(name): [_plain(cell) for cell in data[name]] for name in data.columns}
    raise DataError(
        "the table",
        "a path, a list of dictionaries, a DataFrame or a pyarrow.Table",
        type(data).__name__,
        "convert it to one of these",
    )


def _plain(cell: Any) -> Any:
    """A DataFrame's cell as a Python value: NumPy scalars unwrapped, NaN, NaT and pandas.NA as None."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, str | bytes | list | tuple | dict | np.ndarray | pillow.Image):
        return cell
    return None if cell is None or str(cell) in ("nan", "NaT", "<NA>") else cell


def _stored(cell: Any) -> Any:
    if isinstance(cell, np.ndarray) and cell.ndim == 3:
        cell = _png(pillow.fromarray(cell)) if cell.shape[2] == 3 and cell.dtype == np.uint8 else usable_image(cell)
    elif isinstance(cell, np.ndarray):
        cell = usable_image(cell) if cell.ndim == 2 and cell.dtype == np.uint8 else cell.tolist()
    elif isinstance(cell, Path):
        cell = str(cell)
    elif isinstance(cell, tuple):
        cell = list(cell)
    elif isinstance(cell, list):
        return [_stored(part) for part in cell]
    return usable_image(cell)


def _absolute(cells: list[Any]) -> list[Any]:
    first = next((cell for cell in cells if isinstance(cell, str) and cell.strip()), "")
    if len(first) > 1000 or "\n" in first or "\0" in first or Path(first).is_absolute() or not Path(first).is_file():
        return cells
    return [str(Path(cell).absolute()) if isinstance(cell, str) and Path(cell).is_file() else cell for cell in cells]


def _png(image: pillow.Image) -> bytes:
    held = io.BytesIO()
    try:
        image.save(held, "PNG", compress_level=1)
    except (OSError, ValueError) as error:  # a mode that PNG has no place for, such as CMYK or F
        if image.mode not in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
            received, do = f"a PIL image of mode {image.mode} ({error})", "convert it to RGB, RGBA, L or I;16"
            raise DataError("an image", "one that can be stored as PNG", received, do) from error
        image.convert("RGBA" if image.mode.endswith("a") else "RGB").save(held, "PNG", compress_level=1)
    return held.getvalue()
