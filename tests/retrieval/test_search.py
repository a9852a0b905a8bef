"""An index of images and texts: whole, incremental, and only of the model that made it; what is found in it."""

from __future__ import annotations

import builtins
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, ImageError, MissingPackageError, RunError
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.retrieval import build_index as indexing
from rebus.retrieval import index as search_index
from rebus.retrieval import search
from rebus.retrieval.build_index import index_run
from rebus.retrieval.index import Collection, Entry, Finder, Lists, load_index, make_lists, save_index
from rebus.retrieval.search import find_run
from rebus.training.train import learn

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}
WORDS = {
    "red": ("a red square", "红色的方块"),
    "green": ("a green square", "绿色的方块"),
    "blue": ("a blue square", "蓝色的方块"),
}


def draw(path: Path, colour: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.integers(80, 100, (32, 32, 3), dtype=np.uint8)
    left, top = rng.integers(0, 16, 2)
    array[top : top + 16, left : left + 16] = COLOURS[colour]
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares, each with a caption in English and one in Chinese."""
    folder = tmp_path_factory.mktemp("squares")
    rows = []
    for number in range(30):
        colour = list(COLOURS)[number % 3]
        draw(folder / f"{colour}-{number}.png", colour, number)
        rows.append({"image": f"{colour}-{number}.png", "caption": list(WORDS[colour])})
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def small(data: Path, task: str) -> Recipe:
    return Recipe().replace(
        {
            "data.path": str(data),
            "image.size": 32,
            "text.vocab_size": 320,
            "text.max_length": 16,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="encoder", width=24, depth=1, heads=2),
            "tasks": [TaskSettings(name=task)],
            "data.split.valid": 0.05,
            "data.split.test": 0.05,
            "train.steps": 2,
            "train.batch_size": 12,
            "train.precision": "fp32",
        }
    )


@pytest.fixture(scope="module")
def shared(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model that knows which words belong to which colour."""
    recipe = small(table, "retrieve")
    recipe = recipe.replace({"train.steps": 60, "train.batch_size": 24})
    return learn(recipe, tmp_path_factory.mktemp("shared") / "run", log=lambda _: None, quiet=True, evaluate=False)


@pytest.fixture(scope="module")
def alone(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An image tower alone."""
    recipe = small(table, "pretrain_image")
    return learn(recipe, tmp_path_factory.mktemp("alone") / "run", log=lambda _: None, quiet=True, evaluate=False)


@pytest.fixture
def images(table: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        shutil.copy2(table.parent / f"{list(COLOURS)[number % 3]}-{number}.png", folder)
    return folder


def test_words_find_images_and_images_find_words(shared: Run, table: Path, tmp_path: Path) -> None:
    done = index_run(shared.folder, table, out=tmp_path)
    assert (done.images, done.texts, done.broken) == (30, 6, 0)
    for colour, (en, zh) in WORDS.items():
        for query in (en, zh):
            hits = find_run(shared.folder, query, k=5, index=tmp_path)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert sum(hit.name.startswith(colour) for hit in hits) >= 4, query
        shown = table.parent / f"{colour}-{list(COLOURS).index(colour)}.png"
        said = find_run(shared.folder, str(shown), k=2, index=tmp_path, what="text")
        assert {hit.name for hit in said} == {en, zh}
        itself = find_run(shared.folder, str(shown), k=1, index=tmp_path)[0]
        assert itself.score == pytest.approx(1, abs=1e-5)
        assert itself.path == shown
        assert itself.text == f"{en} / {zh}"
        assert "table.jsonl" in itself.place


def test_only_what_is_new_is_embedded(
    alone: Run, images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = index_run(alone.folder, images)
    assert (first.images, first.added, first.kept, first.removed) == (12, 12, 0, 0)
    before = load_index(alone.folder / "index", "")
    vector = dict(zip((e.name for e in before.entries["image"]), before.vectors["image"], strict=True))
    draw(images / "new.png", "red", 99)
    (images / "red-0.png").unlink()
    draw(images / "blue-11.png", "green", 5)  # another content under the same name
    os.utime(images / "blue-2.png", ns=(1, 1))  # touched, not changed
    again = index_run(alone.folder, images)
    assert (again.images, again.added, again.kept, again.removed) == (12, 2, 10, 2)
    after = load_index(alone.folder / "index", "")
    names = [entry.name for entry in after.entries["image"]]
    assert names == sorted(path.name for path in images.iterdir())
    now = dict(zip(names, after.vectors["image"], strict=True))
    assert np.array_equal(now["blue-2.png"], vector["blue-2.png"])
    assert not np.allclose(now["blue-11.png"], vector["blue-11.png"], atol=1e-3)
    fresh = index_run(alone.folder, images, out=tmp_path / "fresh")
    whole = load_index(fresh.folder, "")
    assert np.allclose(whole.vectors["image"], after.vectors["image"], atol=1e-5)
    opened: list[str] = []
    known = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (opened.append(path.name), known(path))[1])
    assert index_run(alone.folder, images).kept == 12
    assert opened == []  # files that have not changed are not even read
    assert len(list((alone.folder / "index").glob("[!.]*"))) == 3  # older files are gone


def test_broken_images_are_counted_and_listed(alone: Run, images: Path, tmp_path: Path) -> None:
    (images / "cut.png").write_bytes((images / "red-0.png").read_bytes()[:60])
    (images / "text.jpg").write_text("no image", encoding="utf-8")
    told: list[str] = []
    done = index_run(alone.folder, images, out=tmp_path / "i", log=told.append)
    assert (done.images, done.broken) == (12, 2)
    listed = json.loads((tmp_path / "i" / "index.json").read_text(encoding="utf-8"))["broken"]
    assert [set(one) for one in listed] == [{"where", "expected", "found", "do"}] * 2
    assert any("cut.png" in line for line in told)
    only = tmp_path / "only"
    only.mkdir()
    shutil.copy(images / "text.jpg", only)
    with pytest.raises(DataError, match="found none"):
        index_run(alone.folder, only, out=tmp_path / "j")
    assert not (tmp_path / "j").exists()


def test_what_can_be_wrong_is_told(alone: Run, shared: Run, images: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make one: rebus index"):
        find_run(shared.folder, "a red square")
    place = tmp_path / "i"
    index_run(alone.folder, images, out=place)
    query = str(images / "red-0.png")
    with pytest.raises(RunError, match="another model made"):
        find_run(shared.folder, query, index=place)
    with pytest.raises(DataError, match="vectors of one space"):
        find_run(alone.folder, "a red square", index=place)
    with pytest.raises(DataError, match="an index of texts"):
        find_run(alone.folder, query, index=place, what="text")
    with pytest.raises(ImageError, match="no file 'red-77"):
        find_run(alone.folder, "red-77.png", index=place)
    with pytest.raises(DataError, match="at least 1"):
        find_run(alone.folder, query, k=0, index=place)
    with pytest.raises(DataError, match="nothing"):
        find_run(alone.folder, " ", index=place)
    with pytest.raises(DataError, match="--rerank"):
        find_run(alone.folder, query, index=place, rerank=True)
    (images / "green-1.png").unlink()
    told: list[str] = []
    hits = find_run(alone.folder, query, k=12, index=place, log=told.append)
    assert [hit.name for hit in hits if not hit.there] == ["green-1.png"]
    assert "no longer there" in told[0]
    kept = tmp_path / "query.png"
    shutil.copy(query, kept)
    moved = images.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"it has moved or is gone.*rebus index"):
        find_run(alone.folder, str(kept), index=place)
    assert index_run(alone.folder, moved, out=place).added == 0  # names and contents are as they were
    assert find_run(alone.folder, str(kept), k=1, index=place)[0].path == moved / "red-0.png"


@pytest.mark.parametrize("damage", ["cut", "other", "version", "gone", "escape"])
def test_a_damaged_index_is_told(alone: Run, images: Path, tmp_path: Path, damage: str) -> None:
    place = tmp_path / "i"
    index_run(alone.folder, images, out=place)
    meta = json.loads((place / "index.json").read_text(encoding="utf-8"))
    vectors = place / meta["vectors"]
    if damage == "cut":
        vectors.write_bytes(vectors.read_bytes()[:200])
    elif damage == "gone":
        vectors.unlink()
    elif damage == "other":
        from safetensors.numpy import save_file

        save_file({"images": np.zeros((3, 24), np.float32)}, vectors)
    else:
        changed = {"version": 7} if damage == "version" else {"vectors": f"../{meta['vectors']}x"}
        (place / "index.json").write_text(json.dumps(meta | changed), encoding="utf-8")
    with pytest.raises(RunError, match="What to do: make one"):
        find_run(alone.folder, str(images / "red-0.png"), index=place)


def test_an_interrupted_index_goes_on(
    alone: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "SAVED_EVERY", 5)

    def stop(line: str) -> None:
        if "would go on" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_run(alone.folder, images, out=tmp_path / "i", log=stop)
    told: list[str] = []
    find_run(alone.folder, str(images / "red-0.png"), index=tmp_path / "i", log=told.append)
    assert "not whole" in told[0]
    assert index_run(alone.folder, images, out=tmp_path / "i").added == 0
    told.clear()
    find_run(alone.folder, str(images / "red-0.png"), index=tmp_path / "i", log=told.append)
    assert told == []


def test_the_best_are_read_again_together_with_the_query(
    shared: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `match` says of them is tested with it; here it turns the order round."""
    index_run(shared.folder, table, out=tmp_path)
    asked: list[Any] = []

    def backwards(predictor: Any, query: Any, candidates: list[Any], k: int) -> list[tuple[int, float]]:
        asked.append((query, list(candidates)))
        return [(place, place / k) for place in reversed(range(k))]

    plain = find_run(shared.folder, "a red square", k=8, index=tmp_path)
    with pytest.raises(DataError, match="'match'"):
        find_run(shared.folder, "a red square", index=tmp_path, rerank=True)
    monkeypatch.setattr(search, "rerank", backwards)
    hits = find_run(shared.folder, "a red square", k=2, index=tmp_path, rerank=True)
    assert [hit.name for hit in hits] == [plain[7].name, plain[6].name]
    assert hits[0].score == 7 / 8
    assert asked[0] == ("a red square", [hit.path for hit in plain])
    shown = table.parent / "red-0.png"
    said = find_run(shared.folder, str(shown), k=1, index=tmp_path, what="text", rerank=True)
    assert said[0].kind == "text"
    assert asked[1][0] == shown
    assert all(isinstance(text, str) for text in asked[1][1])


def test_a_table_keeps_bytes_and_repeated_images_apart(alone: Run, table: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = [path.read_bytes() for path in sorted(table.parent.glob("*.png"))[:4]]
    pq.write_table(pa.table({"image": [*content, content[0], None]}), tmp_path / "t.parquet")
    done = index_run(alone.folder, tmp_path / "t.parquet", out=tmp_path / "i")
    assert (done.images, done.added) == (4, 4)
    shown = sorted(table.parent.glob("*.png"))[2]
    hit = find_run(alone.folder, str(shown), k=1, index=tmp_path / "i")[0]
    assert (hit.path, hit.there) == (None, True)
    assert "row 3" in hit.name


def collection(count: int, width: int = 16, clusters: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(clusters, width))
    drawn = centres[rng.integers(0, clusters, count)] + 0.3 * rng.normal(size=(count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def test_a_large_collection_is_listed_and_loses_little(tmp_path: Path) -> None:
    vectors = collection(4000)
    told: list[str] = []
    lists = make_lists(vectors, told.append, exact=1000)
    assert lists is not None
    assert lists.recall >= search_index.GOOD_ENOUGH
    assert f"{lists.probes} are looked at" in told[0]
    assert lists.probes < len(lists.centres)
    found = Collection("m", "/d", "/d", vectors={"image": vectors}, lists={"image": lists})
    found.entries["image"] = [Entry("image", f"{n}.png", "", size=1, digest=str(n)) for n in range(4000)]
    save_index(tmp_path, found)
    again = load_index(tmp_path, "")
    exact = Finder(vectors, None).nearest(vectors[:50], 10)[1]
    quick = Finder(again.vectors["image"], again.lists["image"]).nearest(vectors[:50], 10)[1]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, quick, strict=True)]) > 0.95
    assert (quick[:, 0] == np.arange(50)).all()
    again.lists["image"] = Lists(lists.centres, lists.owner + len(lists.centres), 1, 1.0)
    save_index(tmp_path, again)
    with pytest.raises(RunError, match="lists of images that do not fit"):
        load_index(tmp_path, "")


@pytest.fixture
def no_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "faiss":
            raise ImportError(name)
        return known(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)


def test_numpy_finds_what_faiss_finds(request: pytest.FixtureRequest) -> None:
    vectors = collection(500)
    vectors[7] = vectors[3]  # equals: the earlier one first
    scores, places = Finder(vectors, None).nearest(vectors[:20], 8)
    request.getfixturevalue("no_faiss")
    plain = Finder(vectors, None)
    assert "NumPy" in plain.how
    others = plain.nearest(vectors[:20], 8)
    assert np.array_equal(places, others[1])
    assert np.allclose(scores, others[0], atol=1e-6)
    assert places[7, :2].tolist() == [3, 7]
    assert plain.nearest(vectors[:1], 900)[1].shape == (1, 500)


def test_without_faiss_a_large_collection_needs_it(no_faiss: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_index, "WITHOUT_FAISS", 100)
    with pytest.raises(MissingPackageError, match=r"rebus-vlm\[search\]"):
        Finder(collection(200), None)
    assert make_lists(collection(200), lambda _: None, exact=100) is None


def test_classes_are_told_by_name(shared: Run, table: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["colour"] = row["image"].split("-")[0]
        row["image"] = str(table.parent / row["image"])
    rows.append({**rows[0], "image": None})
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    kinds = {"caption": "ignore", "colour": "category"}
    found = api.evaluate(shared.folder, labelled, zero_shot=True, kinds=kinds)  # type: ignore[arg-type]
    score = found.tasks["zero-shot"]
    assert found.rows["zero-shot"] == 30  # the row without an image cannot be judged
    assert score.metrics["accuracy"] > 0.75
    assert score.baseline["accuracy"] == pytest.approx(1 / 3)
    named = api.evaluate(shared.folder, labelled, zero_shot=True, labels=["RED", "green"], kinds=kinds)  # type: ignore[arg-type]
    assert "blue" in named.notes[0]
    assert named.tasks["zero-shot"].metrics["accuracy"] <= 2 / 3 + 1e-6
    model = api.load(shared.folder)
    shown = [table.parent / row["image"] for row in rows[:30]]
    truth = [list(COLOURS).index(row["colour"]) for row in rows[:30]]
    for labels, template in ((["red", "green", "blue"], "a {} square"), (["红色", "绿色", "蓝色"], "{}的方块")):
        told = model.zero_shot(shown, labels, templates=[template])
        right = [one.value == labels[place] for one, place in zip(told, truth, strict=True)]
        assert sum(right) > 20, template
    assert sum(told[0].scores.values()) == pytest.approx(1)
    assert model.zero_shot([], ["red", "blue"]) == []
