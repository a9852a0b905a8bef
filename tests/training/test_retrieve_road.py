"""Retrieve and match from a table to answers: learned, saved, asked, ranked anew; what is refused at the door."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, RecipeError
from rebus.inference.embedding import check_space
from rebus.inference.predictor import Predictor
from rebus.loop.checkpoint import path_of, steps_saved
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.retrieval.rerank import rerank
from rebus.training.losses import summed_loss
from rebus.training.train import assemble, learn

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
PLACES = {"left": 4, "right": 18}
CHINESE = {"red": "红", "green": "绿", "blue": "蓝", "white": "白", "left": "左", "right": "右"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of four colours in two places: eight things to say, of several images each, in two languages."""
    folder = tmp_path_factory.mktemp("squares")
    rng, rows = np.random.default_rng(0), []
    for number in range(48):
        colour, place = list(COLOURS)[number % 4], list(PLACES)[number // 4 % 2]
        side = int(rng.integers(7, 11))
        top, left = int(rng.integers(0, 32 - side)), PLACES[place]
        array = np.full((32, 32, 3), 90, dtype=np.uint8)
        array[top : top + side, left : left + side] = COLOURS[colour]
        Image.fromarray(array).save(folder / f"{number}.png")
        split = "test" if number >= 40 else "train"
        shared = {"image": f"{number}.png", "split": split, "other": f"{colour} {number}"}
        rows.append({**shared, "text": [f"a {colour} square on the {place}", f"{place}: {colour}"], "type": "en"})
        rows.append({**shared, "text": [f"{CHINESE[place]}边的{CHINESE[colour]}色方块"], "type": "zh"})
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def small(table: Path, *tasks: str, **train: Any) -> Recipe:
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "image.size": 32,
            "text.vocab_size": 330,
            "text.max_length": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="encoder", width=24, depth=1, heads=2),
            "model.fusion": Fusion(kind="cross", depth=1, heads=2),
            "model.embed": 16,
        }
    )
    columns = {"image": "image", "text": "text"}
    recipe = recipe.replace({"tasks": [TaskSettings(name=name, columns=columns | {"type": "type"}) for name in tasks]})
    return recipe.replace(train=recipe.train.replace({"batch_size": 16, "steps": 70, "precision": "fp32", **train}))


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "both"
    return api.train(table, recipe=small(table, "retrieve", "match"), out=folder, quiet=True)


@pytest.fixture(scope="module")
def predictor(run: Run) -> Predictor:
    return Predictor.open(run.folder)


def test_squares_are_found_in_seconds(run: Run) -> None:
    found = run.evaluation["tasks"]
    assert found["retrieve"]["metrics"]["mean_recall"] > 0.95
    assert found["retrieve"]["baseline"]["mean_recall"] < 0.7
    assert set(found["retrieve"]["by_type"]) == {"en", "zh"}
    assert found["match"]["metrics"]["auroc"] > 0.7
    assert found["match"]["gains"]["auroc"][0] > 0.2
    assert (run.folder / "report.html").exists()
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Text to image: recall at 1" in page
    assert "retrieve" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_a_saved_space_gives_the_same_vectors(table: Path, tmp_path: Path) -> None:
    from rebus.checkpoints.save_load import save_model, save_processor

    ready = assemble(small(table, "retrieve"), lambda _: None)
    assert ready.recipe.model.fusion.kind == "none"  # nothing is joined
    assert ready.model.fusion is None
    save_processor(tmp_path, ready.processor)
    (tmp_path / "recipe.yaml").write_text(ready.recipe.save_text(), encoding="utf-8")
    save_model(tmp_path, ready.model, ready.recipe, ready.tasks, ready.processor)
    again = Predictor.open(tmp_path)
    texts, images = ["a red square", "红色方块", ""], [table.parent / "0.png", table.parent / "5.png"]
    assert np.array_equal(again.embed(texts), ready.predictor.embed(texts))
    assert np.array_equal(again.embed_images(images), ready.predictor.embed_images(images))
    assert again.embed(texts).shape == (3, 16)
    assert np.linalg.norm(again.embed_images(images), axis=1) == pytest.approx([1, 1])


def test_images_come_as_paths_bytes_or_arrays(predictor: Predictor, table: Path) -> None:
    path = table.parent / "3.png"
    array = np.asarray(Image.open(path))
    made = predictor.embed_images(one for one in (str(path), path, path.read_bytes(), array))
    assert made.shape == (4, 16)
    assert np.allclose(made, made[0], atol=1e-6)
    assert np.allclose(predictor.embed_images(np.stack([array, array])), made[:2], atol=1e-6)
    assert np.allclose(predictor.embed_images(["3.png"], table.parent), made[:1], atol=1e-6)
    assert predictor.embed_images([]).shape[0] == predictor.embed([]).shape[0] == 0
    with pytest.raises(DataError, match="several images"):
        predictor.embed_images(str(path))
    with pytest.raises(DataError, match="image 2"):
        predictor.embed_images([path, None])


def test_rows_are_told_by_their_likeness(predictor: Predictor, table: Path, tmp_path: Path, run: Run) -> None:
    image, right, wrong = str(table.parent / "0.png"), "a red square on the left", "右边的白色方块"
    vector, texts = predictor.embed_images([image])[0], predictor.embed([right, wrong])
    rows = [{"image": image, "text": text} for text in (right, wrong)]
    told = predictor.predict(rows, task="retrieve")
    assert [one.value for one in told] == pytest.approx((texts @ vector).tolist(), abs=1e-5)
    assert told[0].value > told[1].value
    assert predictor.predict({"image": image}, task="retrieve")[0].value == pytest.approx(vector, abs=1e-5)
    assert predictor.predict({"text": right}, task="retrieve")[0].value == pytest.approx(texts[0], abs=1e-5)
    with pytest.raises(DataError, match="a column 'image' or 'text'"):
        predictor.predict({"colour": "red"}, task="retrieve")
    with pytest.raises(DataError, match="a column 'text'"):
        predictor.predict({"image": image}, task="match")
    yes, no = predictor.predict(rows, task="match")
    assert yes.scores["yes"] > no.scores["yes"]
    assert predictor.predict({"image": None, "text": right}, task="match")[0].value is None
    data, out = tmp_path / "ask.jsonl", tmp_path / "told.csv"
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    api.predict(run.folder, data, out)
    with open(out, encoding="utf-8") as file:
        said = list(csv.DictReader(file))
    assert float(said[0]["retrieve"]) == pytest.approx(told[0].value, abs=1e-5)
    assert said[0]["match"] in ("true", "false")


def test_another_table_is_judged_and_figures_are_of_its_split(run: Run, table: Path) -> None:
    found = api.evaluate(run.folder, table, split="test", by="type")
    assert found.rows == {"retrieve": 16, "match": 16}
    assert found.tasks["retrieve"].metrics["mean_recall"] == pytest.approx(
        run.evaluation["tasks"]["retrieve"]["metrics"]["mean_recall"]
    )
    assert set(found.by["match"]) == {"en", "zh"}


def test_candidates_are_ranked_anew_by_looking_at_each(predictor: Predictor, table: Path) -> None:
    images = [str(table.parent / f"{number}.png") for number in (1, 6, 0, 3)]
    text = "a red square on the left"
    ranked = rerank(predictor, text, images, k=3)
    assert sorted(place for place, _ in ranked) == [0, 1, 2]
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True)
    alone = [predictor.predict({"image": one, "text": text}, task="match")[0].scores["yes"] for one in images[:3]]
    assert dict(ranked) == pytest.approx(dict(enumerate(alone)), abs=1e-5)
    back = rerank(predictor, Path(images[2]), [text, "右边的白色方块"])
    assert dict(back)[0] == pytest.approx(alone[2], abs=1e-5)
    assert rerank(predictor, text, []) == []


def test_hard_negatives_come_from_the_shared_space(table: Path) -> None:
    both, alone = (assemble(small(table, *names), lambda _: None) for names in (("retrieve", "match"), ("match",)))
    batch = both.builder.parts_at(0, 1.0)[0]
    part = batch.targets["match"]
    with torch.no_grad():
        seen, text = both.model.see(batch), both.model.read(part)
        assert text is not None
        likeness = both.model.likeness(seen, text, part)
        assert likeness is not None
        assert likeness.shape == part["belongs"].shape
        assert float(likeness.abs().max()) <= 1 / 0.07 + 1e-4
        assert alone.model.likeness(seen, text, part) is None
        outputs = both.model(batch)
    assert outputs["match"].shape == (3 * len(part["pair"]), 1)
    assert set(summed_loss(both.tasks, outputs, batch)[1]) == {"loss/retrieve", "loss/match"}


def test_equal_files_under_other_names_are_no_negatives(table: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(table.parent / "0.png", tmp_path / f"{name}.png")
    shutil.copy(table.parent / "1.png", tmp_path / "c.png")
    rows = [{"image": f"{name}.png", "text": f"text {name}", "split": "train"} for name in "abc"]
    (tmp_path / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    recipe = small(tmp_path / "table.jsonl", "match", batch_size=3)
    recipe = recipe.replace({"tasks.0.columns": {"image": "image", "text": "text"}})
    recipe = recipe.replace({"data.split.valid": 0.0, "data.split.test": 0.0})
    part = assemble(recipe, lambda _: None).builder.assemble([(0, 0), (0, 1), (0, 2)], {})
    assert part.targets == {}
    ready = assemble(recipe, lambda _: None)
    belongs = ready.builder.assemble([(0, 0), (0, 1), (0, 2)], ready.tasks).targets["match"]["belongs"]
    assert belongs.tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_portions_end_with_the_weights_of_the_big_batch(table: Path, tmp_path: Path) -> None:
    weights = []
    for name, portion in (("plain", 0), ("cached", 4)):
        recipe = small(table, "retrieve", steps=3, grad_cache=portion, optimizer="sgd", lr=0.05)
        learn(recipe, tmp_path / name, log=lambda _: None, quiet=True, evaluate=False)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-4)


def test_a_run_with_a_cache_and_dropout_resumes_to_the_same_bits(table: Path, tmp_path: Path) -> None:
    recipe = small(table, "retrieve", "match", steps=6, grad_cache=8, save_every=3, validate_every=6, keep=5)
    recipe = recipe.replace({"model.text.dropout": 0.2, "model.image.dropout": 0.2})
    whole = learn(recipe, tmp_path / "whole", log=lambda _: None, quiet=True, evaluate=False)
    assert steps_saved(whole.folder) == [3, 6]
    shutil.copytree(whole.folder, tmp_path / "cut")
    shutil.rmtree(path_of(tmp_path / "cut", 6))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "cut" / name).unlink()
    learn(Run(tmp_path / "cut").recipe, tmp_path / "cut", resume=True, log=lambda _: None, quiet=True, evaluate=False)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole.folder, tmp_path / "cut"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_captions_are_written_beside(table: Path) -> None:
    """Many tasks over one trunk: the fusion is the caption's, the space is nobody's but the retriever's."""
    recipe = small(table, "retrieve", "match", batch_size=8, grad_cache=4)
    recipe = recipe.replace({"model.text.kind": "decoder"})
    added = TaskSettings(name="caption", columns={"image": "image", "caption": "text"})
    recipe = recipe.replace(tasks=[*recipe.tasks, added])
    ready = assemble(recipe, lambda _: None)
    batch = ready.builder.parts_at(0, 1.0)[0]
    loss, parts = summed_loss(ready.tasks, ready.model(batch), batch)
    assert set(parts) == {"loss/retrieve", "loss/match", "loss/caption"}
    loss.backward()
    assert len(ready.builder.parts_at(0, 1.0)) == 2


@pytest.mark.parametrize(
    ("tasks", "changes", "told"),
    [
        (("retrieve",), {"train.accumulate": 2}, "set train.grad_cache=8"),
        (("retrieve",), {"train.grad_cache": 5}, "set it to 4, or 0"),
        (("match",), {"train.grad_cache": 4}, "use train.accumulate"),
        (("retrieve",), {"train.batch_size": 1}, "at least 2 rows for the task 'retrieve'"),
        (("match",), {"train.batch_size": 8, "train.accumulate": 8}, "at least 2 rows for the task 'match'"),
        (("retrieve",), {"model.image.kind": "none"}, "an image tower, which the task 'retrieve' is for"),
        (("match",), {"model.text.kind": "none"}, "a text tower, which the task 'match' is for"),
        (("match",), {"model.fusion.kind": "none"}, "with image and text to join"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    table: Path, tasks: tuple[str, ...], changes: dict[str, Any], told: str
) -> None:
    from rebus.recipe import override

    recipe = override(small(table, *tasks), [f"{name}={value}" for name, value in changes.items()])
    with pytest.raises(RecipeError, match=told):
        assemble(recipe, lambda _: None)


def test_tables_that_cannot_work_are_refused(table: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "image"}) for row in rows))
    recipe = small(bare, "retrieve")
    recipe = recipe.replace({"tasks.0.columns": {}})
    with pytest.raises(DataError, match="a column for 'image'"):
        assemble(recipe, lambda _: None)
    rows = [row | {"image": str(table.parent / row["image"]), "label": "perhaps"} for row in rows]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("\n".join(json.dumps(row) for row in rows))
    recipe = small(wrong, "match")
    recipe = recipe.replace({"tasks.0.columns.label": "label"})
    with pytest.raises(DataError, match="whether the text belongs to the image; found 'perhaps'"):
        assemble(recipe, lambda _: None)


def test_columns_are_found_and_captions_stay_captions(table: Path) -> None:
    from rebus.data.roles import guess_tasks

    columns, kinds = ["image", "caption", "type"], {"image": "image", "caption": "text", "type": "category"}
    assert guess_tasks(columns, kinds)[0][0].name == "caption"  # type: ignore[arg-type]
    found = [task.columns for task, _ in guess_tasks(columns, kinds, ["retrieve", "match"])]  # type: ignore[arg-type]
    assert found == [{"image": "image", "text": "caption", "type": "type"}] * 2
    labelled = {"图片": "image", "描述": "text", "是否匹配": "category"}
    (task, _), *_ = guess_tasks(list(labelled), labelled, ["match"])  # type: ignore[arg-type]
    assert task.columns == {"image": "图片", "text": "描述", "label": "是否匹配"}


def test_what_a_model_lacks_is_said(table: Path) -> None:
    recipe = small(table, "classify")
    recipe = recipe.replace(
        {
            "tasks": [TaskSettings(name="classify", columns={"text": "text", "label": "type"})],
            "model.image.kind": "none",
        }
    )
    reads = assemble(recipe, lambda _: None).predictor
    with pytest.raises(DataError, match="an image tower"):
        reads.embed_images([table.parent / "0.png"])
    with pytest.raises(DataError, match="vectors of one space"):
        check_space(reads.model)
    with pytest.raises(DataError, match="a model with the task 'match'"):
        rerank(reads, "red", ["0.png"])
