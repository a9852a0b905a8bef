"""Tables and images given as Python objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import rebus
from rebus.data.images import decode_image
from rebus.data.in_memory import rows_of, table_path, usable_image, write_rows
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.errors import DataError
from rebus.inference.predictor import Predictor
from rebus.recipe import Data

ROWS = [{"text": "good film", "label": 1, "score": 1.5}, {"text": "bad film", "label": 0, "score": None}]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pa.Table.from_pylist], ids=["dicts", "pandas", "arrow"])
def test_all_forms_of_a_table_are_the_same_rows(make: Any, tmp_path: Path) -> None:
    data = make(ROWS)
    assert rows_of(data) == ROWS
    with table_path(data) as path:
        table = read_table(Data(path=str(path)))
        assert [table.value(row, "text") for row in range(2)] == ["good film", "bad film"]
        assert [str(table.value(row, "label")) for row in range(2)] == ["1", "0"]
        assert table.value(1, "score") is None
    assert not Path(str(path)).exists()


@pytest.mark.parametrize("data", [[], 7, [1, 2], {"a": [1]}, b"x.csv"])
def test_what_is_no_table_is_refused(data: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_rows(data, tmp_path / "t.parquet")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_images_in_memory_are_those_in_files(mode: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (9, 7), (200, 30, 90))
    image = Image.fromarray(np.full((7, 9), 4000, np.uint16)) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif")
    options = {"background": "white", "pixel_budget": 10**6, "where": "x"}
    from_file = decode_image(str(tmp_path / "a.tif"), tmp_path, **options)
    from_memory = decode_image(usable_image(image), tmp_path, **options)
    assert from_memory.shape == (7, 9, 3)
    assert np.abs(from_file.astype(int) - from_memory.astype(int)).max() <= (6 if mode == "CMYK" else 0)


def test_arrays_of_other_shapes_become_images_or_are_refused() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert isinstance(usable_image(grey), bytes)
    assert isinstance(usable_image(grey[:, :, None]), bytes)
    colour = np.zeros((3, 4, 3), np.uint8)
    assert usable_image(colour) is colour
    for wrong in (np.zeros((3, 4, 3), np.float32), np.zeros((2, 3, 4, 3), np.uint8), np.zeros((3, 4, 2), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            usable_image(wrong)


def test_relative_paths_stay_right_where_the_file_lies_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    path = write_rows([{"image": "a.png", "label": "x"}], tmp_path / "deep" / "t.parquet")
    assert read_table(Data(path=str(path))).value(0, "image") == str(tmp_path / "a.png")


def test_a_frame_with_images_trains_predicts_and_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    colours = {"red": (220, 20, 30), "blue": (20, 20, 220)}
    names = ["red", "blue"] * 20
    images = [
        Image.new("RGB", (16, 16), (*colours[name][:2], colours[name][2] - row % 20)) for row, name in enumerate(names)
    ]
    frame = pd.DataFrame({"image": images, "label": names})
    settings = {"train.steps": 4, "image.size": 16, "train.batch_size": 8, "report.explained": 0}
    run = rebus.train(frame, settings=settings, out="runs/colours", quiet=True)
    assert Path("runs/colours.parquet").is_file()
    model = run.load()
    assert type(model) is type(rebus.load(run)) is rebus.Model
    told = model.predict(frame.head(3))
    assert [one.value for one in model.predict(frame.head(3).to_dict("records"))] == [one.value for one in told]
    assert rebus.ask(model, frame["image"][0]) in colours
    assert rebus.ask(run, np.asarray(frame["image"][0])) == rebus.ask(model, frame["image"][0])
    done = rebus.predict(run, frame.head(3), "out.jsonl", quiet=True)
    assert done.rows == 3
    assert (
        rebus.predict(run, frame, "held-out.csv", split="test", quiet=True).rows == run.evaluation["rows"]["classify"]
    )
    model_rows = Predictor.run_task

    def interrupted(self: Any, task: Any, values: Any, rows: Any, image_of: Any, **options: Any) -> Any:
        if interrupted.calls:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        interrupted.calls += 1  # type: ignore[attr-defined]
        return model_rows(self, task, values, rows, image_of, **options)

    interrupted.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Predictor, "run_task", interrupted)
    monkeypatch.setattr("rebus.inference.predict_table.PORTION", 2)
    with pytest.raises(KeyboardInterrupt, match=r"first 2 of 3 rows are in stopped.partial.csv"):
        rebus.predict(run, frame.head(3), "stopped.csv", quiet=True)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert len(Path("stopped.partial.csv").read_text().splitlines()) == 3
    assert not Path("stopped.csv").exists()
    found = rebus.evaluate(run, frame.head(6), split="all", quiet=True)
    (note,) = [line for line in found.notes if "trained on" in line]
    dealt = assign_splits(read_table(run.recipe.data), run.recipe.data.split, ["image"], seed=0)
    assert note.startswith(f"task classify: {dealt[:6].count('train')} of 6 rows are among those")
    assert not [line for line in rebus.evaluate(run, frame, split="test", quiet=True).notes if "trained on" in line]
    assert found.rows["classify"] == 6
    for shown in (found, told[0], run, rebus.check(frame), model.explain(frame["image"][0])):
        assert "<" in shown._repr_html_()
    with pytest.raises(rebus.RebusError, match="a Run"):
        rebus.train(frame, settings=settings, out="runs/colours", quiet=True)
