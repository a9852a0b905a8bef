"""Whatever bytes a file holds, reading it gives a Table or a DataError, never anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.errors import DataError
from rebus.recipe import Data, Split

ENDINGS = [".csv", ".tsv", ".jsonl", ".json", ".txt", ".parquet"]
QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CSV_LIKE = st.text(alphabet='ab1",;|\t\n\r .é猫', max_size=80)


def read(path: Path, content: bytes, on_bad: str) -> None:
    path.write_bytes(content)
    try:
        table = read_table(Data.model_validate({"path": str(path), "on_bad": on_bad}))
    except DataError as error:
        told = error
    else:
        told = None
    if told is not None:
        assert all((told.where, told.expected, told.found, told.do))
        assert "\n" not in str(told)
        return
    assert len(table) > 0
    rows = list(table)
    assert len(rows) == len(table)
    assert all(list(row) == table.columns for row in rows)
    assert all(path.name in table.where(row) for row in range(len(table)))
    kinds = infer(table).kinds
    assert list(kinds) == table.columns
    names = assign_splits(table, Split(group=table.columns[0]), []) if "split" not in table.columns else []
    assert set(names) <= {"train", "valid", "test"}


@pytest.mark.parametrize("ending", ENDINGS)
@QUICK
@given(content=st.binary(max_size=300), on_bad=st.sampled_from(["refuse", "skip"]))
def test_random_bytes(tmp_path: Path, ending: str, content: bytes, on_bad: str) -> None:
    read(tmp_path / f"fuzz{ending}", content, on_bad)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".txt"])
@QUICK
@given(
    content=st.one_of(st.text(max_size=200), CSV_LIKE),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    on_bad=st.sampled_from(["refuse", "skip"]),
)
def test_random_text(tmp_path: Path, ending: str, content: str, encoding: str, on_bad: str) -> None:
    read(tmp_path / f"fuzz{ending}", content.encode(encoding, "replace"), on_bad)


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@QUICK
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "conversations", "image"]), JSON_VALUES, max_size=3), max_size=5
    )
)
def test_random_json(tmp_path: Path, ending: str, rows: list[dict[str, Any]]) -> None:
    text = json.dumps(rows) if ending == ".json" else "\n".join(map(json.dumps, rows))
    read(tmp_path / f"fuzz{ending}", text.encode(), "refuse")
