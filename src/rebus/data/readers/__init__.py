"""Any file or folder of the kinds below to one Table; ``read_table`` is the only door.

CSV and TSV (``delimited``), JSONL and JSON (``json_lines``), conversations (``conversations``), Parquet and Hugging
Face datasets on disk (``arrow``), folders of images or text (``folders``), plain text (``plain_text``).
"""

from __future__ import annotations

from pathlib import Path

from rebus.data.readers.dispatch import read_table as _read_table
from rebus.data.table import Table
from rebus.recipe import Data


def read_table(data: Data | str | Path) -> Table:
    """Read a table or a folder.

    Args:
        data: the recipe's ``data`` section, or only a path.

    Returns:
        A Table of at least one row. Rows left out because ``on_bad`` is ``skip`` are in ``Table.skipped``.

    Raises:
        DataError: nothing is there, it is not a kind that is read, or it is damaged; the file and row are named.
    """
    return _read_table(data if isinstance(data, Data) else Data(path=str(data)))
