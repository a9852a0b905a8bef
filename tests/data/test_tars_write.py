"""``rebus data shard``: tables with images to tar archives and back, whole or not at all, the same by any road."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rebus.cli.app import app
from rebus.data.images import decode_image
from rebus.data.kinds import infer, infer_kinds
from rebus.data.readers import read_table
from rebus.data.table import Table
from rebus.data.tars.manifest import TarManifest
from rebus.data.tars.writing import Recode, write_tars
from rebus.errors import DataError, ImageError, RunError
from rebus.recipe import Data
from tiny_tars import image, noise


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def rebus(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def rows_with_everything(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(noise(number))
        rows.append(
            {
                "image": f"{number}.jpg" if number != 5 else None,
                "caption": ["a cat", "两只 狗\n and a point. ", "", None][number % 4],
                "question": f"What is {number}?",
                "label": number % 3,
                "tags": [["x", "红"], []][number % 2],
                "score": [0.5, None, 1.0][number % 3],
                "boxes": [{"label": "cat|猫", "box": [0.0, 0.25, 0.5, 1.0]}] if number % 2 else [],
                "tokens": ["a", "b"],
                "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "你好"}],
                "row_id": f"r{number}",
                "flag": bool(number % 2),
            }
        )
    return rows


def test_every_kind_of_column_comes_back(tmp_path: Path) -> None:
    rows = rows_with_everything(tmp_path)
    table = Table.from_rows(rows, tmp_path)
    kinds = {**infer_kinds(table), "tokens": "tags"}
    manifest = write_tars(table, kinds, tmp_path / "out", Data(), shard_mb=0.01)
    assert len(manifest.shards) > 2
    back = read_table(tmp_path / "out")
    assert back.columns == table.columns
    assert infer(back).kinds == kinds  # also where the values alone would say something else
    for name in table.columns[1:]:
        assert back.column(name) == table.column(name), name
    for row in range(len(rows)):
        before, after = table.value(row, "image"), back.value(row, "image")
        assert (before is None) == (after is None)
        if after is not None:
            np.testing.assert_array_equal(decode_image(after, back.root), decode_image(before, tmp_path))
    for shard in manifest.shards:
        content = (tmp_path / "out" / shard.url).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.filesize, shard.sha256)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            names = archive.getnames()
        assert names == sorted(names)


def test_rows_of_one_image_share_a_sample(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(image(9, "PNG"))
    (tmp_path / "b.jpg").write_bytes(image(90))
    rows = [
        {"image": name, "caption": f"{name} {n}"}
        for n, name in enumerate(["a.png", "b.jpg", "a.png", "b.jpg", "a.png"])
    ]
    table = Table.from_rows(rows, tmp_path)
    manifest = write_tars(table, infer_kinds(table), tmp_path / "out", Data())
    assert [(shard.nsamples, shard.rows) for shard in manifest.shards] == [(2, 5)]
    with tarfile.open(tmp_path / "out" / "shard-000000.tar") as archive:
        assert archive.getnames()[:4] == ["000000000.json", "000000000.png", "000000000.txt", "000000001.jpg"]
        told = json.loads(archive.extractfile("000000000.json").read())  # type: ignore[union-attr]
        assert archive.extractfile("000000000.txt").read() == b"a.png 0"  # type: ignore[union-attr]
    assert told == [{"caption": f"a.png {n}"} for n in (0, 2, 4)]
    back = read_table(tmp_path / "out")
    assert sorted(back.column("caption")) == sorted(row["caption"] for row in rows)
    assert len(set(back.column("image"))) == 2


def test_two_images_a_row_and_odd_names(tmp_path: Path) -> None:
    rows = [{"left": image(10 * n), "右 图": image(100 + n, "PNG"), "score": n / 2} for n in range(3)]
    table = Table.from_rows(rows, tmp_path)
    write_tars(table, infer_kinds(table), tmp_path / "out", Data())
    back = read_table(tmp_path / "out")
    assert back.columns == ["left", "右 图", "score"]
    assert decode_image(back.value(2, "右 图"), back.root)[0, 0, 0] == 102


def test_processes_and_interruptions_change_nothing(tmp_path: Path) -> None:
    table = Table.from_rows(rows_with_everything(tmp_path), tmp_path)
    kinds = infer_kinds(table)
    one = write_tars(table, kinds, tmp_path / "one", Data(), shard_mb=0.01)
    two = write_tars(table, kinds, tmp_path / "two", Data(workers=2), shard_mb=0.01)
    assert [(s.url, s.sha256) for s in one.shards] == [(s.url, s.sha256) for s in two.shards]

    def stop(line: str) -> None:
        if line.startswith("shards: 2 of"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tars(table, kinds, tmp_path / "three", Data(), shard_mb=0.01, log=stop)
    with pytest.raises(RunError, match="a writing that was cut off"):
        read_table(tmp_path / "three")
    begun = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "three").glob("*.tar")}
    three = write_tars(table, kinds, tmp_path / "three", Data(), shard_mb=0.01)
    assert [s.sha256 for s in three.shards] == [s.sha256 for s in one.shards]
    assert len(begun) == 2
    assert all((tmp_path / "three" / name).stat().st_mtime_ns == when for name, when in begun.items())
    assert sorted(path.name for path in (tmp_path / "three").iterdir()) == sorted(
        ["index.json", *(shard.url for shard in three.shards)]
    )


def test_what_changed_is_written_again(tmp_path: Path) -> None:
    rows = rows_with_everything(tmp_path)
    table = Table.from_rows(rows, tmp_path)
    first = write_tars(table, infer_kinds(table), tmp_path / "out", Data(), shard_mb=0.01)
    (tmp_path / "11.jpg").write_bytes(image(200))
    told: list[str] = []
    second = write_tars(table, infer_kinds(table), tmp_path / "out", Data(), shard_mb=0.01, log=told.append)
    changed = [a.url for a, b in zip(first.shards, second.shards, strict=True) if a.sha256 != b.sha256]
    assert changed == [second.shards[-1].url]
    write_tars(table, infer_kinds(table), tmp_path / "out", Data(), shard_mb=0.01, log=told.append)
    assert told[-1].endswith("are used again")
    with pytest.raises(RunError, match=r"shard_mb was 0\.01, is 1\.0"):
        write_tars(table, infer_kinds(table), tmp_path / "out", Data(), shard_mb=1.0)
    assert len(write_tars(table, infer_kinds(table), tmp_path / "out", Data(), shard_mb=1.0, rebuild=True).shards) == 1
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1


def test_other_archives_are_left_alone(tmp_path: Path) -> None:
    table = Table.from_rows([{"image": image(1), "label": 1}, {"image": image(2), "label": 2}])
    (tmp_path / "mine.tar").write_bytes(b"precious")
    for rebuild in (False, True):
        with pytest.raises(RunError, match=r"mine\.tar"):
            write_tars(table, infer_kinds(table), tmp_path, Data(), rebuild=rebuild)
    assert (tmp_path / "mine.tar").read_bytes() == b"precious"


def test_an_index_that_the_archives_do_not_fit(tmp_path: Path) -> None:
    table = Table.from_rows([{"image": noise(n), "label": n % 2} for n in range(9)])
    manifest = write_tars(table, infer_kinds(table), tmp_path, Data(), shard_mb=0.01)
    last = tmp_path / manifest.shards[-1].url
    content = last.read_bytes()
    last.write_bytes(content + bytes(10240))
    with pytest.raises(DataError, match=r"as index\.json says"):
        read_table(tmp_path)
    last.unlink()
    with pytest.raises(DataError, match=f"1 missing, the first '{last.name}'"):
        read_table(tmp_path)
    last.write_bytes(content)
    (tmp_path / "other.tar").write_bytes(content)
    with pytest.raises(DataError, match="only archives that"):
        read_table(tmp_path)
    (tmp_path / "other.tar").unlink()
    (tmp_path / "index.json").write_text('{"rebus": {}}')
    with pytest.raises(RunError, match="damaged content"):
        read_table(tmp_path)


def test_broken_images_are_refused_or_counted(tmp_path: Path) -> None:
    rows = [
        {"image": b"\x89PNG no", "label": 1},
        {"image": image(2), "label": 2},
        {"image": image(3), "label": 1},
    ]
    table = Table.from_rows(rows, name="pets.csv")
    kinds = {"image": "image", "label": "category"}
    with pytest.raises(ImageError, match=r"pets\.csv, row 1"):
        write_tars(table, kinds, tmp_path / "a", Data())
    manifest = write_tars(table, kinds, tmp_path / "a", Data(on_bad="skip"), rebuild=True)
    assert manifest.left_out["count"] == 1
    assert read_table(tmp_path / "a").column("label") == [2, 1]
    again = write_tars(table, kinds, tmp_path / "a", Data(on_bad="skip"))
    assert again.left_out == manifest.left_out


def test_recoding(tmp_path: Path) -> None:
    deep = np.zeros((40, 80, 4), np.uint8)
    deep[..., 3] = 0
    saved = io.BytesIO()
    Image.fromarray(deep).save(saved, "PNG")
    table = Table.from_rows([{"image": saved.getvalue(), "label": 1}, {"image": noise(1, size=20), "label": 2}])
    for kind in ("jpeg", "png", "webp"):
        write_tars(table, infer_kinds(table), tmp_path / kind, Data(), recode=Recode(kind, 32))
        back = read_table(tmp_path / kind)
        first = decode_image(back.value(0, "image"), back.root)
        assert first.shape == (16, 32, 3)
        assert first.min() > 250  # transparent: the background
        assert decode_image(back.value(1, "image"), back.root).shape == (20, 20, 3)
        assert back.value(0, "image").endswith({"jpeg": ".jpg"}.get(kind, f".{kind}"))
    with pytest.raises(DataError, match="--recode"):
        write_tars(table, infer_kinds(table), tmp_path / "x", Data(), recode=Recode(side=32))


def test_values_that_json_does_not_hold(tmp_path: Path) -> None:
    rows = [
        {"image": image(n), "when": datetime.date(2020, 1, n + 1), "blob": b"\0\1", "x": [1.5, float("nan")][n % 2]}
        for n in range(2)
    ]
    table = Table.from_rows(rows)
    told: list[str] = []
    manifest = write_tars(table, infer_kinds(table, {"image": "image"}), tmp_path, Data(), log=told.append)
    assert manifest.not_carried == ["blob"]
    assert "blob" in told[0]
    back = read_table(tmp_path)
    assert back.column("when") == ["2020-01-01", "2020-01-02"]
    assert back.column("x") == [1.5, None]


def test_from_the_command_line(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        (tmp_path / f"{number}.jpg").write_bytes(noise(number))
        rows.append(f"{number}.jpg,an image of {number},{'train' if number < 20 else 'val'}")
    (tmp_path / "table.csv").write_text("image,caption,split\n" + "\n".join(rows), encoding="utf-8")
    words = ("data", "shard", tmp_path / "table.csv", tmp_path / "out", "--shard-mb", "0.06", "--shuffle")
    done = rebus(*words, "--json", tmp_path / "report.json")
    assert done.exit_code == 0, done.output
    assert "30 samples" in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert names[0] == "train-000000.tar"
    assert names[-1].startswith("valid-")
    manifest = TarManifest.load(tmp_path / "out")
    assert manifest is not None
    assert [s["sha256"] for s in json.loads((tmp_path / "report.json").read_text())["shards"]] == [
        s.sha256 for s in manifest.shards
    ]
    back = read_table(tmp_path / "out")
    assert sorted(back.column("caption")) == sorted(f"an image of {n}" for n in range(30))
    assert back.column("caption") != sorted(back.column("caption"), key=lambda text: int(text.split()[-1]))
    assert rebus("data", "check", tmp_path / "out").exit_code == 0
    again = rebus("data", "shard", tmp_path / "out", tmp_path / "again", "--workers", "2")
    assert again.exit_code == 0, again.output
    assert len(read_table(tmp_path / "again")) == 30
    wrong = rebus("data", "shard", tmp_path / "table.csv", tmp_path / "new", "--recode", "jpeg", "--kind", "image=text")
    assert wrong.exit_code == 2
    assert "a column of images" in wrong.stderr
