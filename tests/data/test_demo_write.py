"""The scene set on disk: a table like any user's, the same however many processes wrote it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rebus.data.demo import write
from rebus.data.demo.pack import load_pack
from rebus.data.demo.write import write_scenes
from rebus.errors import DataError

SMALL: dict[str, Any] = {"train": 40, "size": 64, "test_scenes": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "set", processes=1, **SMALL)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_number_of_processes_changes_nothing(folder: Path, tmp_path: Path) -> None:
    two = write_scenes(tmp_path / "two", processes=3, **SMALL)
    assert digest(two) == digest(folder)
    assert sorted(path.name for path in two.iterdir()) == [
        "README.txt", "answer.jsonl", "images", "scenes.jsonl", "settings.json",
    ]  # fmt: skip


def test_unseen_artists_are_in_the_test_alone(folder: Path) -> None:
    for table in ("answer.jsonl", "scenes.jsonl"):
        seen_of: dict[tuple[str, bool], set[str]] = {}
        for row in rows(folder / table):
            seen_of.setdefault((row["split"], row["seen"]), set()).add(row["artist"])
        assert set(seen_of) == {("train", True), ("valid", True), ("test", True), ("test", False)}
        assert seen_of["test", False] == {"fxemoji", "twemoji"}
        for group in (("train", True), ("valid", True), ("test", True)):
            assert not seen_of[group] & {"fxemoji", "twemoji"}
            assert len(seen_of[group]) >= 4


def test_every_image_is_there_once(folder: Path) -> None:
    scenes = rows(folder / "scenes.jsonl")
    assert Counter((row["split"], row["seen"]) for row in scenes) == {
        ("train", True): 40, ("valid", True): write.VALID_SCENES, ("test", True): 12, ("test", False): 12,
    }  # fmt: skip
    named = [row["image"] for row in scenes]
    on_disk = {str(path.relative_to(folder)) for path in (folder / "images").rglob("*") if path.is_file()}
    assert set(named) == on_disk
    assert len(on_disk) == len(named)
    with Image.open(folder / named[0]) as image:
        assert image.size == (64, 64)
    contents = {hashlib.sha256((folder / name).read_bytes()).digest() for name in named}
    assert len(contents) == len(named)  # no scene of one split appears in another


def test_the_two_tables_agree(folder: Path) -> None:
    scenes = {row["image"]: row for row in rows(folder / "scenes.jsonl")}
    first: dict[str, dict[str, Any]] = {}
    languages: Counter[str] = Counter()
    for row in rows(folder / "answer.jsonl"):
        scene = scenes[row["image"]]
        if row["image"] in first:
            assert row["boxes"] is None
        else:
            first[row["image"]] = row
            assert row["boxes"] == scene["boxes"]
        languages[row["language"]] += 1
        if row["type"] == "caption":
            assert row["answer"] == scene[f"caption_{row['language']}"]
        assert (row["split"], row["artist"], row["scene"]) == (scene["split"], scene["artist"], scene["scene"])
    assert set(first) == set(scenes)
    assert languages["en"] == languages["zh"] > 0
    for scene in scenes.values():
        assert [box["label"].split("|")[0] for box in scene["boxes"]] == scene["things"]
        assert scene["count"] == len(scene["things"])
        for box in scene["boxes"]:
            x0, y0, x1, y1 = box["box"]
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1


def test_the_readme_names_every_artist_and_licence(folder: Path) -> None:
    text = (folder / "README.txt").read_text(encoding="utf-8")
    for name, info in load_pack().info.items():
        assert f"- {name}:" in text
        assert info["licence_url"] in text


def test_a_whole_set_is_left_and_another_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "VALID_SCENES", 2)
    settings: dict[str, Any] = {"train": 6, "size": 48, "test_scenes": 1, "processes": 1}
    folder = write_scenes(tmp_path / "set", **settings)
    before = (folder / "answer.jsonl").stat().st_mtime_ns
    write_scenes(folder, **settings)
    assert (folder / "answer.jsonl").stat().st_mtime_ns == before
    write_scenes(folder, **{**settings, "train": 3})
    assert len(list((folder / "images" / "train").iterdir())) == 3
    (folder / "settings.json").unlink()  # as when the power failed before the end
    (folder / ".unfinished").touch()
    write_scenes(folder, **settings)
    assert len(list((folder / "images" / "train").iterdir())) == 6


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"kinds": 73}, "from 5 to 72"),
        ({"size": 8}, "size"),
        ({"train": 0}, "train"),
        ({"processes": 0}, "processes"),
        ({"seed": -1}, "seed"),
        ({"unseen": ("fxemojy",)}, "did you mean 'fxemoji'"),
        ({"unseen": ()}, "at least one artist"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(tmp_path: Path, setting: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        write_scenes(tmp_path / "set", **{**SMALL, **setting})
    assert not (tmp_path / "set").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        write_scenes(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_process_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "VALID_SCENES", 1)
    monkeypatch.setattr(write, "_CHILD", "raise SystemExit(3)")
    with pytest.raises(DataError, match="status 3"):
        write_scenes(tmp_path / "set", train=2, test_scenes=1, processes=2)
    assert not (tmp_path / "set" / "settings.json").exists()


def test_the_demos_recipe_is_one_that_can_be_read() -> None:
    from rebus.demo import RECIPE
    from rebus.recipe import load_recipe

    recipe = load_recipe(RECIPE)
    assert [task.name for task in recipe.tasks] == ["patch_classify", "answer"]
    assert (recipe.model.image.kind, recipe.model.text.kind) == ("convnet", "decoder")
