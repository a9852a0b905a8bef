"""Measuring a real, tiny model on a table: rows, boxes, what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rebus.checkpoints.save_load import save_model, save_processor
from rebus.cli.app import app
from rebus.data.readers import read_table
from rebus.errors import DataError, RebusError, RecipeError, RunError
from rebus.evaluation.rows import rows_of
from rebus.explain import explain
from rebus.explain.faithfulness import check_faithfulness, read_faithfulness
from rebus.explain.faithfulness.boxes import fitted_box, placed, things_asked
from rebus.explain.faithfulness.checking import matching
from rebus.explain.faithfulness.pointing import Named
from rebus.inference.predictor import Predictor
from rebus.recipe import Data, Fusion, Recipe, TaskSettings, Tower
from rebus.training.train import assemble

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of a red and a green square; every second row asks where one of them is."""
    folder = tmp_path_factory.mktemp("squares")
    rng, rows = np.random.default_rng(0), []
    for number in range(12):
        array = np.full((32, 32, 3), 90, dtype=np.uint8)
        boxes = []
        for half, colour in enumerate(COLOURS):
            left, top = 16 * half + int(rng.integers(0, 6)), int(rng.integers(0, 22))
            array[top : top + 10, left : left + 10] = COLOURS[colour]
            box = [left / 32, top / 32, (left + 10) / 32, (top + 10) / 32]
            boxes.append({"label": f"{colour}|{'红' if half == 0 else '绿'}", "box": box})
        Image.fromarray(array).save(folder / f"{number}.png")
        both = [("Where is the red one?", "left"), ("有什么？", "红"), ("How many?", "two")]
        for place, (question, answer) in enumerate(both):
            row = {
                "image": f"{number}.png",
                "question": question,
                "answer": answer,
                "type": ["where", "is", "count"][place],
            }
            row |= {
                "boxes": boxes if place == 2 else None,
                "side": 0.1 * number,
                "split": "train" if number < 6 else "test",
            }
            rows.append(row)
    path = folder / "table.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def tiny(table: Path, folder: Path, task: TaskSettings, fusion: str = "unified") -> Path:
    """An untrained Run of a few thousand weights."""
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"boxes": "boxes", "side": "number"},
            "image.size": 32,
            "text.vocab_size": 300,
            "text.max_length": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(kind="decoder", width=24, depth=1, heads=2),
            "model.fusion": Fusion(kind=fusion, depth=1, heads=2),
            "tasks": [task],
        }
    )
    ready = assemble(recipe, lambda _: None)
    with torch.no_grad():
        for one in ready.model.parameters():
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())) * 0.05)
    save_processor(folder, ready.processor)
    (folder / "recipe.yaml").write_text(ready.prepared.recipe.save_text(), encoding="utf-8")
    save_model(folder, ready.model, ready.prepared.recipe, ready.prepared.tasks, ready.processor)
    return folder


ANSWER = {"image": "image", "question": "question", "answer": "answer", "type": "type"}


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = TaskSettings(name="answer", columns=ANSWER, max_new_tokens=3)
    return tiny(table, tmp_path_factory.mktemp("run"), task)


def test_a_model_is_measured_and_its_default_is_kept_and_used(run: Path, table: Path) -> None:
    told: list[str] = []
    found = check_faithfulness(run, table, rows=6, methods=["saliency", "rollout"], log=told.append)
    assert (found.split, found.table) == ("test", "table.jsonl")
    assert found.rows["pointing"] == 6
    assert list(found.methods) == ["saliency", "rollout"]
    assert set(found.random) >= {"pointing", "deletion", "insertion", "text_deletion", "text_insertion"}
    for one in found.methods.values():
        assert list(one.sanity) == ["heads and decoder", "fusion", "image tower"]
        assert set(one.by_type) == {"where", "is"}  # "How many?" is about no thing
        assert all(0.0 <= figure.value <= 1.0 for figure in one.figures.values())
        assert all(figure.low <= figure.value <= figure.high for figure in one.figures.values())
    assert found.random["pointing"].value == pytest.approx((10 / 32) ** 2)
    assert found.why == "curves"  # six questions are too few to decide by
    kept = read_faithfulness(run)["answer"]
    assert kept == json.loads(json.dumps(found.as_dict()))
    again = check_faithfulness(run, table, rows=6, methods=["saliency", "rollout"])
    assert {name: one.figures for name, one in again.methods.items()} == {
        name: one.figures for name, one in found.methods.items()
    }
    assert any("pointing game: 6" in line for line in told)
    other = "rollout" if found.method == "saliency" else "saliency"
    predictor = Predictor.open(run)
    row = {"image": np.asarray(Image.open(table.parent / "0.png")), "text": "Where is the red one?"}
    for name in (found.method, other):
        kept["method"] = name
        (run / "explain.json").write_text(json.dumps({"answer": kept}), encoding="utf-8")
        assert explain(predictor, **row).method == name
    (run / "explain.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="delete the file, then measure again"):
        explain(predictor, **row)
    with pytest.raises(RunError, match=r"explain\.json"):
        check_faithfulness(run, table, rows=6)
    assert explain(predictor, **row, method="rollout").method == "rollout"
    (run / "explain.json").unlink()


@pytest.mark.parametrize(
    ("task", "fusion"),
    [
        (TaskSettings(name="regress", columns={"image": "image", "text": "question", "target": "side"}), "joint"),
        (TaskSettings(name="classify", columns={"text": "question", "label": "answer"}), "joint"),
        (TaskSettings(name="classify", columns={"image": "image", "label": "answer"}), "cross"),
    ],
)
def test_numbers_labels_and_models_of_one_modality(
    table: Path, tmp_path: Path, task: TaskSettings, fusion: str
) -> None:
    lines = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    known = {*task.columns.values(), "split", "boxes", "side"}  # a column that is there would be read
    alone = table.parent / f"{task.name}-{'-'.join(task.columns)}.jsonl"
    alone.write_text("\n".join(json.dumps({k: row[k] for k in row if k in known}) for row in lines))
    table, folder = alone, tiny(alone, tmp_path, task, fusion)
    before = {name: one.clone() for name, one in Predictor.open(folder).model.state_dict().items()}
    found = check_faithfulness(folder, table, rows=4, split="all", methods=["occlusion"])
    figures = found.methods["occlusion"].figures
    sees, reads = "image" in task.columns, "text" in task.columns
    assert ("deletion" in figures, "text_deletion" in figures) == (sees, reads)
    assert ("pointing" in figures) == sees
    assert "pointing_right" not in figures or task.name == "classify"  # a number is more or less far off
    after = Predictor.open(folder).model.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_what_cannot_be_measured_is_refused_in_four_parts(run: Path, table: Path, tmp_path: Path) -> None:
    refused: list[tuple[dict[str, object], str]] = [
        ({"methods": ["salience"]}, "did you mean 'saliency'"),
        ({"only": {"kind": "where"}}, "column of the table"),
        ({"only": {"type": "nothing"}}, "choose other rows"),
        ({"rows": 0}, "at least 1 row"),
        ({"tolerance": 2.0}, "from 0 to 0.5"),
        ({"split": "tests"}, "did you mean 'test'"),
        ({"task": "caption"}, "a task 'caption'"),
    ]
    for options, told in refused:
        with pytest.raises(RebusError, match=told):
            check_faithfulness(run, table, **options)  # type: ignore[arg-type]
    with pytest.raises(RebusError):
        check_faithfulness(run, tmp_path / "none.jsonl")
    assert not (run / "explain.json").exists()


def test_the_command_prints_the_tables_and_writes_the_file(run: Path, table: Path) -> None:
    words = ["explain", str(run), "--check", str(table), "--rows", "3", "--only", "type=WHERE", "--methods", "rollout"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "rollout ✓" in told.output
    assert "random" in told.output
    assert "explain.json" in told.output
    assert read_faithfulness(run)["answer"]["settings"]["only"] == {"type": "WHERE"}
    assert read_faithfulness(run)["answer"]["rows"]["pointing"] == 3
    (run / "explain.json").unlink()
    wrong = CliRunner().invoke(app, ["explain", str(run), "--check", str(table), "--only", "where"])
    assert wrong.exit_code == 2
    assert "COLUMN=VALUE" in wrong.output


def test_rows_whose_question_and_answer_name_two_things_are_left_out(run: Path, table: Path) -> None:
    predictor = Predictor.open(run)
    read = read_table(Data(path=str(table), kinds={"boxes": "boxes"}))
    task = predictor.task("answer")
    values = dict(rows_of(predictor, read, task).values)
    values["question"] = ["Where is the red one?", "What is left of the red one?", "Is red above green?"] * 12
    values["answer"] = ["left", "green", "yes"] * 12
    found = things_asked(task, values, read, range(6), predictor.recipe)
    assert {row: one.name for row, one in found.items()} == {0: "red", 3: "red"}


def test_boxes_that_are_none_are_refused(table: Path, run: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    for wrong in ([{"label": "red"}], [{"label": "red", "box": [0.0, 0.0, 1.0]}], [3]):
        for row in rows:
            row["boxes"] = wrong
        path = tmp_path / "wrong.jsonl"
        path.write_text("\n".join(json.dumps(row | {"image": str(table.parent / row["image"])}) for row in rows))
        with pytest.raises(DataError, match="fractions of the image"):
            check_faithfulness(run, path, rows=2, split="all", methods=["rollout"])


def test_a_box_goes_where_its_image_was_fitted_to(tmp_path: Path) -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    assert fitted_box(box, 200, 100, "pad") == (0.0, 0.25, 0.5, 0.5)
    assert fitted_box(box, 100, 200, "pad") == (0.25, 0.0, 0.5, 0.5)
    assert fitted_box(box, 200, 100, "crop") == (0.0, 0.0, 0.5, 0.5)
    assert fitted_box((0.0, 0.0, 0.3, 0.5), 200, 100, "crop") is None  # a sixth of it is left
    assert fitted_box(box, 200, 100, "squash") == box
    Image.new("RGB", (60, 30)).save(tmp_path / "wide.png")
    recipe = Recipe()
    found = placed({0: Named("it", box)}, {"image": ["wide.png"]}, recipe, tmp_path)
    assert found[0].box == (0.0, 0.25, 0.5, 0.5)
    recipe = recipe.replace({"image.fit": "crop"})
    assert placed({0: Named("it", (0.9, 0.0, 1.0, 1.0))}, {"image": ["wide.png"]}, recipe, tmp_path) == {}


def test_rows_are_chosen_by_any_column_in_any_case() -> None:
    columns = {"seen": [True, False, None], "type": ["Where", "where", "left"]}
    table = SimpleNamespace(columns=list(columns), column=columns.__getitem__)
    assert matching(table, [0, 1, 2], {"type": "where"}) == [0, 1]  # type: ignore[arg-type]
    assert matching(table, [0, 1, 2], {"type": "WHERE ", "seen": "false"}) == [1]  # type: ignore[arg-type]
    assert matching(table, [0, 1, 2], {}) == [0, 1, 2]  # type: ignore[arg-type]


def test_an_option_without_a_value_is_refused() -> None:
    from rebus.cli.faithfulness import values_of

    assert values_of(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"}
    with pytest.raises(RecipeError, match="COLUMN=VALUE"):
        values_of(["a"])


def test_the_demo_measures_its_maps_and_says_so_in_both_languages(
    run: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from rebus.demo import measure_maps, print_maps

    predictor = Predictor.open(run)
    own = read_table(predictor.recipe.data)
    source = rows_of(predictor, own, predictor.task("answer"))
    found = measure_maps(predictor, source, own, range(18, 36))
    assert found is not None
    assert found.rows["pointing"] == 6  # of the three questions about each image, one asks where
    assert read_faithfulness(run)["answer"]["method"] == found.method
    assert measure_maps(predictor, source, own, [19, 20]) is None  # nobody asks where
    (run / "explain.json").unlink()
    chance = found.random["pointing"].value
    for lang, words in (("en", "a random point"), ("zh", "随机一点")):
        print_maps(Console(width=200), found, lang)
        told = capsys.readouterr().out
        assert words in told
        assert f"{chance:.0%}" in told
    print_maps(Console(), None, "en")
    assert capsys.readouterr().out == ""
