"""The contract that every part keeps: each task with each fusion and each tower builds, learns one batch, saves, loads
and predicts the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import save_model, save_processor
from rebus.errors import RecipeError
from rebus.evaluation.evaluate import evaluate_run
from rebus.inference.predictor import Predictor
from rebus.models.fusion import FUSIONS as REGISTERED
from rebus.models.towers import tower_kinds
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.tasks import TASKS
from rebus.training.train import Assembled, assemble, learn, summed_loss

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
COLUMNS = {
    "caption": {"image": "image", "caption": "caption"},
    "answer": {"image": "image", "question": "question", "answer": "answer", "type": "type"},
    "classify": {"image": "image", "text": "question", "label": "colour"},
    "tag": {"image": "image", "text": "question", "labels": "tags"},
    "regress": {"image": "image", "text": "question", "target": "size"},
    "patch_classify": {"image": "image", "boxes": "boxes"},
    "generate": {"image": "image", "prompt": "question", "output": "answer"},
    "translate": {"source": "question", "target": "answer"},
    "converse": {"messages": "talk"},
    "choose": {"question": "question", "choices": "choices", "answer": "answer"},
    "ner": {"image": "image", "tokens": "tokens", "tags": "marks"},
    "extract": {"image": "image", "question": "question", "passage": "passage", "answer": "colour"},
    "similar": {"anchor": "twin", "positive": "passage"},
    "pretrain_image": {"image": "image"},
    "retrieve": {"image": "image", "text": "caption", "type": "type"},
    "match": {"image": "image", "text": "passage"},
    "lm": {"text": "passage"},
    "mlm": {"text": "passage"},
}
FUSIONS = [("joint", how) for how in ("concat", "mean", "weighted", "sum")] + [
    ("unified", "concat"),
    ("unified", "inline"),  # not a way to fuse: where image tokens stand
    ("cross", "concat"),
]
TOWERS = [("convnet", "decoder"), ("vit", "encoder"), ("resnet", "recurrent"), ("efficientnet", "wordvectors")]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen small images of one square each, with a column for every task."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        colour = list(COLOURS)[number % 4]
        side = int(rng.integers(8, 20))
        left, top = (int(x) for x in rng.integers(0, 32 - side, 2))
        array = np.full((32, 32, 3), 90, dtype=np.uint8)
        array[top : top + side, left : left + side] = COLOURS[colour]
        Image.fromarray(array).save(folder / f"{number}.png")
        zh = number % 2 == 1
        rows.append(
            {
                "image": f"{number}.png",
                "caption": [f"a {colour} square", f"the square is {colour}"],
                "question": "方块是什么颜色？" if zh else "What colour is the square?",
                "answer": colour,
                "type": "zh" if zh else "en",
                "colour": colour,
                "tags": [colour, "big" if side > 13 else "small"],
                "size": side / 32,
                "boxes": [{"label": colour, "box": [left / 32, top / 32, (left + side) / 32, (top + side) / 32]}],
                "choices": list(COLOURS),
                "tokens": ["A", colour, "square"] if zh else ["The", "square", "is", colour],
                "marks": ["O", "B-colour", "B-shape"] if zh else ["O", "B-shape", "O", "B-colour"],
                "twin": f"{number}: {side} dots of {colour}",
                "passage": f"The square of row {number} is {colour}, its side is {side} dots.",
                "talk": [
                    {"role": "user", "content": "问题一" if zh else "A question."},
                    {"role": "assistant", "content": "好" if zh else "Yes?"},
                    {"role": "user", "content": "什么颜色？" if zh else "What colour?"},
                    {"role": "assistant", "content": colour},
                ],
                "split": "train" if number < 12 else "test",
            }
        )
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def small(table: Path, task: str, fusion: str, how: str, image: str, text: str) -> Recipe:
    """A recipe for models of a few thousand parameters."""
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"boxes": "boxes", "tags": "labels"},
            "data.inputs": {"tabular": []},
            "image.size": 32,
            "text.vocab_size": 320,
            "text.max_length": 32,
            "model.image": Tower(kind=image, width=24, depth=1, heads=2, patch=8),
            "model.text": Tower(kind=text, width=24, depth=1, heads=2),
        }
    )
    if how == "inline":
        recipe = recipe.replace({"model.fusion": Fusion(kind=fusion, layout="inline", depth=1, heads=2)})
    else:
        recipe = recipe.replace({"model.fusion": Fusion(kind=fusion, how=how, depth=1, heads=2)})
    return recipe.replace(
        {"tasks": [TaskSettings(name=task, columns=COLUMNS[task], max_new_tokens=6)], "train.batch_size": 12}
    )


def loss_of(ready: Assembled, batch: dict[str, object]) -> torch.Tensor:
    torch.manual_seed(0)  # word vectors leave out words: the same ones each time
    return summed_loss(ready.prepared.tasks, ready.model(batch), batch)[0]


@pytest.mark.parametrize(("image", "text"), TOWERS)
@pytest.mark.parametrize(("fusion", "how"), FUSIONS)
@pytest.mark.parametrize("task", list(COLUMNS))
def test_contract(table: Path, tmp_path: Path, task: str, fusion: str, how: str, image: str, text: str) -> None:
    recipe = small(table, task, fusion, how, image, text)
    if (needed := TASKS.get(task).tower) not in (None, text):
        with pytest.raises(RecipeError, match=f"expected {needed}"):
            assemble(recipe, lambda _: None)
        return
    ready = assemble(recipe, lambda _: None)
    ready.model.train()
    batch = ready.builder.parts_at(0, 1.0)[0]
    optimizer = torch.optim.Adam(ready.model.parameters(), lr=3e-5)
    before = loss_of(ready, batch)
    before.backward()
    for name, parameter in ready.model.named_parameters():
        assert parameter.grad is None or bool(torch.isfinite(parameter.grad).all()), name
    optimizer.step()
    assert float(loss_of(ready, batch).detach()) < float(before.detach())  # one step on one batch lowers its loss
    save_processor(tmp_path, ready.processor)
    (tmp_path / "recipe.yaml").write_text(ready.prepared.recipe.save_text(), encoding="utf-8")
    save_model(tmp_path, ready.model, ready.prepared.recipe, ready.prepared.tasks, ready.processor)
    again = Predictor.open(tmp_path)
    known = ready.prepared.tasks[task]
    if not known.predicts:
        ready.model.eval()
        with torch.no_grad():
            assert torch.equal(ready.model(batch)[task], again.model(batch)[task])
    source, rows = ready.rows_of(known), ready.prepared.rows("test")
    first = source.predict(ready.predictor, rows)
    said = source.predict(again, rows)
    assert [one.value for one in said] == [one.value for one in first]
    for one, other in zip(said, first, strict=True):  # a finished model's weights lie in memory another way
        assert (one.confidence is None) == (other.confidence is None)
        assert one.confidence is None or one.confidence == pytest.approx(other.confidence, rel=1e-5)
        assert one.scores == pytest.approx(other.scores, rel=1e-5)
    figures = known.score(source.values, rows, first, ready.prepared.rows("train"), n=20)
    assert known.watch in figures.metrics
    assert figures.baseline
    assert Run(tmp_path).weights_path.exists()


def test_the_matrix_holds_every_registered_part() -> None:
    assert set(COLUMNS) == set(TASKS.names())
    assert {fusion for fusion, _ in FUSIONS} == set(REGISTERED.names())
    assert {name for pair in TOWERS for name in pair} == {*tower_kinds("image"), *tower_kinds("text")}


def test_a_question_does_not_see_the_others_that_share_its_image(table: Path) -> None:
    """The block mask: packing several questions in one pass changes no answer."""
    recipe = small(table, "caption", "unified", "concat", "convnet", "decoder")
    recipe = recipe.replace({"tasks.0.per_image": 2})
    ready = assemble(recipe, lambda _: None)
    ready.model.eval()
    together = ready.builder.assemble([(0, 0)], ready.prepared.tasks)
    part = together.targets["caption"]
    assert int(part["blocks"].max()) == 1  # two captions in one row
    with torch.no_grad():
        both = ready.model(together)["caption"]
        second = {name: value.clone() for name, value in part.items()}
        second["input_ids"][part["blocks"] == 0] = 7
        changed = ready.model(together.with_target("caption", second))["caption"]
    first_tokens = int(((part["blocks"] == 0) & (part["labels"] != -100)).sum())
    assert torch.allclose(both[first_tokens:], changed[first_tokens:], atol=1e-6)
    assert not torch.allclose(both[:first_tokens], changed[:first_tokens], atol=1e-6)


def test_several_tasks_share_one_trunk(table: Path) -> None:
    recipe = small(table, "answer", "unified", "concat", "convnet", "decoder")
    recipe = recipe.replace(
        {"tasks": [*recipe.tasks, TaskSettings(name="classify", columns=COLUMNS["classify"], weight=0.5)]}
    )
    recipe = recipe.replace(
        {"tasks": [*recipe.tasks, TaskSettings(name="patch_classify", columns=COLUMNS["patch_classify"], until=0.5)]}
    )
    ready = assemble(recipe, lambda _: None)
    early, late = ready.builder.parts_at(0, 0.1)[0], ready.builder.parts_at(0, 0.9)[0]
    assert set(early.targets) == {"answer", "classify", "patch_classify"}
    assert set(late.targets) == {"answer", "classify"}
    _, parts = summed_loss(ready.prepared.tasks, ready.model(early), early)
    assert set(parts) == {"loss/answer", "loss/classify", "loss/patch_classify"}


def test_a_missing_image_is_handled_by_every_fusion(table: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    for number in (0, 13):
        rows[number]["image"] = None
    for number in range(16):
        if rows[number]["image"]:
            rows[number]["image"] = str(table.parent / rows[number]["image"])
    gaps = tmp_path / "gaps.jsonl"
    gaps.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    for fusion, how in FUSIONS:
        ready = assemble(small(gaps, "classify", fusion, how, "convnet", "decoder"), lambda _: None)
        loss = loss_of(ready, ready.builder.parts_at(0, 1.0)[0])
        assert bool(torch.isfinite(loss)), fusion
        classify = ready.prepared.tasks["classify"]
        told = ready.rows_of(classify).predict(ready.predictor, ready.prepared.rows("test"))
        assert len(told) == 4


def test_a_table_to_answer_about_need_not_have_boxes(table: Path, tmp_path: Path) -> None:
    recipe = small(table, "answer", "unified", "concat", "convnet", "decoder")
    recipe = recipe.replace(
        {
            "tasks": [*recipe.tasks, TaskSettings(name="patch_classify", columns=COLUMNS["patch_classify"])],
            "train.steps": 2,
            "train.precision": "fp32",
        }
    )
    run = learn(recipe, tmp_path / "run", log=lambda _: None, quiet=True)
    assert set(run.evaluation["tasks"]) == {"answer", "patch_classify"}
    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    bare = [{k: v for k, v in row.items() if k != "boxes"} for row in rows]
    for row in bare:
        row["image"] = str(table.parent / row["image"])
    (tmp_path / "bare.jsonl").write_text("\n".join(json.dumps(row) for row in bare), encoding="utf-8")
    assert set(evaluate_run(run, tmp_path / "bare.jsonl").tasks) == {"answer"}
