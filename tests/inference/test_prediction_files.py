from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.inference.prediction_files import WRITERS

ODD = ["1.10", "007", "1E400", "1294030472427835393", "NaN", "NULL", " x ", 'a "b", c', "two\nlines", "[1, 2]", "true"]
CELLS = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9))


def predicted(table: Table, path: Path, step: int = 2) -> Path:
    """The table with a made-up column, written in portions."""
    with WRITERS[path.suffix](path, table) as write:
        for start in range(0, len(table), step):
            part = table.select(range(start, min(start + step, len(table))))
            write(part, {"classify": ["yes"] * len(part), "classify_confidence": [0.5] * len(part)})
    return path


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Rows as another program reads them; nothing is typed in CSV."""
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    text = path.read_bytes().decode()
    if path.suffix == ".jsonl":
        return [json.loads(line, parse_float=Decimal) for line in text.split("\n") if line]
    with open(path, encoding="utf-8", newline="") as file:
        csv.field_size_limit(1 << 20)
        return list(csv.DictReader(file))


@settings(max_examples=30, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=5), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]))
def test_every_cell_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], source: str
) -> None:
    folder = tmp_path_factory.mktemp("cells")
    rows = [{"n": "row", "cell": cell} for cell in texts]
    table = read_table(written(folder / f"t{source}", rows))
    for ending in WRITERS:
        found = read(predicted(table, folder / f"out{ending}"))
        assert [row["cell"] or "" for row in found] == texts, ending
        assert {row["classify"] for row in found} == {"yes"}


def test_numbers_of_json_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [
        '{"id": 1294030472427835393, "price": 18.50, "share": 1E400, "on": true, "boxes": [[0.10, 1]], "mixed": 1.0}',
        '{"id": 1294030472427835400, "price": 20.00, "share": NaN, "on": false, "boxes": [], "mixed": "1.0"}',
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_table(path)
    assert table.column("price") == ["18.50", "20.00"]
    out = predicted(table, tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [line.split(', "classify"')[0] + "}" for line in out] == lines
    with open(predicted(table, tmp_path / "out.csv"), encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["price"], first["share"], first["on"]) == (
        "1294030472427835393",
        "18.50",
        "1E400",
        "true",
    )
    assert (first["boxes"], second["share"], second["mixed"]) == ("[[0.10, 1]]", "NaN", "1.0")
    schema = pq.read_table(predicted(table, tmp_path / "out.parquet")).schema
    assert schema.field("id").type == pa.string()  # more digits than are surely kept
    assert schema.field("price").type == pa.string()  # 18.50 has no place among floats
    assert schema.field("on").type == pa.bool_()


def test_numbers_beside_conversations_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    turns = '[{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]'
    for key in ("messages", "conversations"):
        path.write_text(
            "".join(f'{{"id": {i}, "{key}": {turns}, "score": 1.50}}\n' for i in range(3)), encoding="utf-8"
        )
        out = predicted(read_table(path), tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
        assert [('"id": 2' in line, '"score": 1.50' in line) for line in out][-1] == (True, True)
        assert json.loads(out[1])["id"] == 1


def test_parquet_keeps_its_types_and_lists_of_csv_their_spelling(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([2**62, None]),
        "price": pa.array([Decimal("1.10"), Decimal("2.00")]),
        "narrow": pa.array([0.1, 0.2], pa.float32()),
        "when": pa.array([0, 1], pa.timestamp("us")),
        "word": pa.array(["a", "b"]).dictionary_encode(),
        "several": pa.array([[1, 2], []]),
        "text": pa.array(["x", "y"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = pq.read_table(predicted(read_table(tmp_path / "t.parquet"), tmp_path / "out.parquet"))
    kept = found.select(list(columns))
    assert kept.to_pydict() == pa.table(columns).to_pydict()
    assert [field.type for field in kept.schema] == [column.type for column in columns.values()]
    assert read(predicted(read_table(tmp_path / "t.parquet"), tmp_path / "out.csv"))[0]["price"] == "1.10"

    lists = ["['a', \"b\"]", '["c"]']
    table = read_table(written(tmp_path / "l.csv", [{"text": "x", "labels": cell} for cell in lists]))
    assert [row["labels"] for row in read(predicted(table, tmp_path / "l-out.csv"))] == lists


def test_images_in_cells_are_left_out(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": b"\x89PNG", "path": "a.png"}, "raw": b"\x89PNG", "text": "x"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    for ending in WRITERS:
        assert set(read(predicted(table, tmp_path / f"out{ending}"))[0]) == {"text", "classify", "classify_confidence"}
