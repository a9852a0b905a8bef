"""What goes wrong is named while it happens: each watcher is provoked for real, and a healthy run hears nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from batches import image_inputs
from rebus import api
from rebus.catalogue import Note
from rebus.checkpoints.run_folder import Run
from rebus.data.messages import Message
from rebus.errors import DataError
from rebus.evaluation.constant_answer import constant_answer
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Prediction, layout
from rebus.training.hardware import starvation
from rebus.training.monitors import LossWatch, labelled, overfitting, remarks_of, shuffled_images, variety
from rebus.training.train import assemble

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
COLOURS |= {"black": (10, 10, 10), "yellow": (240, 220, 30)}
SETTINGS = {
    "image.size": 32,
    "text.vocab_size": 300,
    "text.max_length": 24,
    "model.image.width": 24,
    "model.image.depth": 1,
    "model.image.heads": 2,
    "model.image.patch": 8,
    "model.text.width": 24,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "train.batch_size": 12,
    "train.precision": "fp32",
    "train.validate_every": 30,
    "data.split.column": "split",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain squares; a caption, a question, and a question that holds its answer."""
    folder = tmp_path_factory.mktemp("watch")
    rows = []
    for number in range(72):
        colour = list(COLOURS)[number % 6]
        shade = np.clip(np.array(COLOURS[colour]) + number % 7, 0, 255).astype(np.uint8)
        Image.fromarray(np.broadcast_to(shade, (32, 32, 3)).copy()).save(folder / f"{number}.png")
        rows.append(
            {
                "image": f"{number}.png",
                "caption": f"all {colour}",
                "question": "What colour?",
                "told": f"It is {colour}. What colour?",
                "answer": colour,
                "split": "train" if number < 48 else "valid" if number < 60 else "test",
            }
        )
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder / "table.jsonl"


ANSWER = {"name": "answer", "columns": {"image": "image", "question": "question", "answer": "answer"}}


def trained(table: Path, out: Path, task: dict[str, Any], **changes: Any) -> Run:
    kinds = {"caption": "text", "answer": "text", "question": "text", "told": "text"}
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    settings = {**SETTINGS, "data.kinds": kinds, "tasks": [{"max_new_tokens": 6, **task}], **changed}
    return api.train(table, out=out, settings=settings, quiet=True)


def names(run: Run) -> list[str]:
    return [one["name"] for one in run.evaluation.get("remarks", [])]


@pytest.fixture(scope="module")
def healthy(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(table, tmp_path_factory.mktemp("healthy") / "run", ANSWER, train__steps=90)


def test_a_healthy_run_hears_nothing(healthy: Run) -> None:
    assert healthy.evaluation["tasks"]["answer"]["metrics"]["exact_match"] > 0.35  # by chance: 0.17
    assert names(healthy) == []
    assert not [line for line in healthy.metrics() if line["kind"] == "remark"]


def test_collapse_is_named_with_advice_and_kept(table: Path, tmp_path: Path) -> None:
    """An image tower that is frozen at nothing: all images look alike, so one caption is said of all."""
    run = trained(
        table,
        tmp_path / "run",
        {"name": "caption", "columns": {"image": "image", "caption": "caption"}},
        train__steps=60,
        train__rates={"image": 0.0, "fusion": 0.0, "places": 0.0},
        image__augment__colour=1.0,
        image__mean=[500.0, 500.0, 500.0],
        image__std=[1e6, 1e6, 1e6],
    )
    assert names(run) == ["collapse"]
    (remark,) = run.evaluation["remarks"]
    assert "the same output for 12 validation rows" in remark["text"]
    assert "Train longer" in remark["text"]
    assert not remark["passed"]
    assert any(line["kind"] == "remark" and line["name"] == "collapse" for line in run.metrics())
    assert "the same output for 12 validation rows" in run.report_path.read_text("utf-8")


def test_answers_that_ignore_the_image_are_named(table: Path, tmp_path: Path) -> None:
    """A column that tells nine answers in ten: the text is enough to seem right."""
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["image"] = str(table.parent / row["image"])
        row["hint"] = row["answer"] if number % 5 else "red"
    hinted = tmp_path / "hinted.jsonl"
    hinted.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    columns = {"image": "image", "text": "hint", "label": "answer"}
    run = trained(
        hinted,
        tmp_path / "run",
        {"name": "classify", "columns": columns},
        train__steps=60,
        train__rates={"image": 0.0},
        data__kinds={"hint": "text", "answer": "category"},
        data__ignore=["caption", "question", "told"],
        image__mean=[500.0, 500.0, 500.0],
        image__std=[1e6, 1e6, 1e6],
    )
    assert names(run) == ["blind"]
    assert "stay the same when images are shuffled" in run.evaluation["remarks"][0]["text"]


def test_a_loss_of_nothing_from_the_start_is_named(table: Path, tmp_path: Path) -> None:
    """What it starts from has learned to copy the answer out of the question."""
    fast = {"train__steps": 120, "train__lr": 0.01, "train__muon_lr": 0.03, "train__schedule": "constant"}
    fast["train__validate_every"] = 120
    told = {"name": "generate", "columns": {"prompt": "told", "output": "answer"}}
    first = trained(table, tmp_path / "first", told, **fast)
    again = trained(table, tmp_path / "again", told, base=str(first.folder), train__steps=10)
    (remark,) = again.evaluation["remarks"]
    assert remark["name"] == "zero loss"
    assert "in 100% of the rows the answer stands in the prompt" in remark["text"]
    assert remark["step"] <= 10


def test_a_template_that_leaves_the_answers_out_is_named(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(messages: list[Message], answer: str, processor: Any, kind: str = "chat") -> list[int]:
        return [processor.tokenizer.eos_id]

    monkeypatch.setattr(layout, "answer_ids", silent)
    run = trained(table, tmp_path / "run", ANSWER, train__steps=40)
    assert "template" in names(run)
    assert "zero loss" not in names(run) or len(names(run)) > 1
    monkeypatch.setattr(layout, "answer_ids", lambda *_: [])
    with pytest.raises(DataError, match="answers with tokens to learn") as caught:
        trained(table, tmp_path / "mute", ANSWER, train__steps=4)
    assert all(caught.value.as_dict().values())


def test_a_loss_that_does_not_fall_is_named(table: Path, tmp_path: Path) -> None:
    run = trained(
        table, tmp_path / "low", ANSWER, train__steps=80, train__lr=1e-9, train__muon_lr=1e-9, train__validate_every=80
    )
    (remark,) = [one for one in run.evaluation["remarks"] if one["name"] == "flat loss"]
    assert "raise train.lr" in remark["text"]


def test_a_loss_that_rises_asks_for_a_lower_rate() -> None:
    watch = LossWatch({"answer": TASKS.get("answer")(TaskSettings(name="answer"))}, {"answer": {}}, [])
    said = [r for step in range(100) for r in watch.stepped(step, step / 100, {"loss/answer": 1 + step / 50})]
    assert [name for name, _ in said] == ["flat loss"]
    assert "lower train.lr" in said[0][1]


def test_what_was_said_before_a_kill_is_not_said_again() -> None:
    task = TASKS.get("answer")(TaskSettings(name="answer"))
    records = [{"kind": "train", "step": n, "parts": {"loss/answer": 2.0}} for n in range(40)]
    watch = LossWatch({"answer": task}, {"answer": {}}, [])
    watch.recall(records)
    assert [name for name, _ in watch.stepped(40, 0.5, {"loss/answer": 2.0})] == ["flat loss"]
    watch = LossWatch({"answer": task}, {"answer": {}}, [])
    watch.recall([*records, {"kind": "remark", "name": "flat loss", "step": 40, "text": "x"}])
    assert watch.stepped(41, 0.5, {"loss/answer": 2.0}) == []


def test_a_remark_that_no_longer_holds_is_kept_as_passed() -> None:
    records = [
        {"kind": "remark", "name": name, "step": 50, "text": name} for name in ("collapse", "blind", "flat loss")
    ]
    found = remarks_of(records, [("blind", "still")], looked=True, step=100)
    assert [(one["name"], one["passed"], one["step"]) for one in found] == [
        ("collapse", True, 50),
        ("flat loss", False, 50),
        ("blind", False, 100),
    ]
    assert not remarks_of(records, [], looked=False, step=100)[0]["passed"]


def test_images_are_shuffled_so_that_no_row_keeps_its_own() -> None:
    images = ["a", "a", "b", "c", "d", None]
    arrays = {name: np.full((1, 1, 3), place, dtype=np.uint8) for place, name in enumerate("abcd")}
    shuffled = shuffled_images(images, range(6), image_inputs(lambda row: arrays[images[row]]))
    assert shuffled is not None
    given = [next((item["pixels"] for item in shuffled.items("image", row)), None) for row in range(6)]
    assert given[5] is None
    assert all(one is not arrays[name] for one, name in zip(given[:5], images[:5], strict=True))
    assert given[0] is given[1]
    assert {int(one[0, 0, 0]) for one in given[:5]} == {0, 1, 2, 3}
    assert shuffled_images(["a", "b", "a"], range(3), image_inputs(lambda row: None)) is None


def test_variety_and_labels() -> None:
    assert variety(Counter("aaaa")) == pytest.approx(1)
    assert variety(Counter("abcd")) == pytest.approx(4)
    part = {
        "labels": torch.tensor([[-100, 5, 6, -100, 7], [-100, -100, 8, -100, -100]]),
        "blocks": torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, -1, -1]]),
    }
    assert labelled(part) == [(5, 6), (7,), (8,)]


def test_label_smoothing_counts_in_tasks_that_write(table: Path) -> None:
    losses = []
    for smoothing in (0.0, 0.2):
        recipe = api.make_recipe(table, None, None, {**SETTINGS, "tasks": [{**ANSWER, "label_smoothing": smoothing}]})
        made = assemble(recipe, lambda _: None)
        part = made.builder.parts_at(0, 0.0)[0].targets["answer"]
        sure = torch.full((int((part["labels"] != -100).sum()), made.processor.tokenizer.vocab_size), -20.0)
        sure[torch.arange(len(sure)), part["labels"][part["labels"] != -100]] = 20.0
        losses.append(float(made.tasks["answer"].loss(sure, part)))
    assert losses[0] == pytest.approx(0, abs=1e-4)
    assert losses[1] == pytest.approx(0.2 * 40 * (1 - 1 / made.processor.tokenizer.vocab_size), rel=0.01)


def told_of(name: str, column: str, truths: list[Any], answers: list[Any]) -> str | None:
    role = {"classify": "label", "regress": "target", "tag": "labels", "answer": "answer"}[name]
    columns = {"image": "image", "question": "question"} if name == "answer" else {"text": "text"}
    task = TASKS.get(name)(TaskSettings(name=name, columns={**columns, role: column}))
    values = task.values({**{one: [""] * len(truths) for one in columns.values()}, column: truths})
    return constant_answer(task, values, range(len(truths)), [Prediction(one) for one in answers])


def test_a_model_that_says_the_majority_class_to_all_is_told_of() -> None:
    truths = ["good"] * 60 + ["bad"] * 40
    told = told_of("classify", "mood", truths, ["good"] * 100)
    assert told == (
        "task classify: the model says 'good' to all 100 rows, which is true of 60% of them: it tells nothing apart"
    )
    assert "to 99 of 100 rows" in str(told_of("classify", "mood", truths, ["good"] * 99 + ["bad"]))
    assert told_of("classify", "mood", truths, ["good"] * 90 + ["bad"] * 10) is None
    assert told_of("classify", "mood", ["good"] * 99 + ["bad"], ["good"] * 100) is None, "it could hardly say more"


def test_other_tasks_that_tell_nothing_apart_are_told_of() -> None:
    assert "says 'yes' to all" in str(told_of("answer", "answer", ["yes", "no"] * 10, ["yes"] * 20))
    assert "says 'a, b' to all" in str(told_of("tag", "labels", ["a|b", "c"] * 10, [["b", "a"]] * 20))
    numbers = [float(n) for n in range(20)]
    told = told_of("regress", "price", numbers, [9.5 + n / 1000 for n in range(20)])
    assert "nearly the same number, 9.509, to all 20 rows, whose true numbers go from 0 to 19" in str(told)
    assert told_of("regress", "price", numbers, numbers) is None


def course(losses: list[float], figures: dict[str, list[float]]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for number, loss in enumerate(losses, 1):
        lines += [{"kind": "train", "step": 100 * number - 50 + more, "loss": loss} for more in (0, 10, 20, 30, 40)]
        metrics = {f"classify/{name}": values[number - 1] for name, values in figures.items()}
        lines.append({"kind": "valid", "step": 100 * number, "metrics": metrics})
    return lines


def test_overfitting_is_told_of() -> None:
    falling = [0.7, 0.4, 0.2, 0.1]
    told = overfitting(course(falling, {"accuracy": [0.6, 0.62, 0.62, 0.62], "ece": [0.085, 0.15, 0.3, 0.37]}))
    assert told is not None
    assert told[0] == "overfitting"
    assert "classify/ece on the validation rows rose from 0.085 (step 100) to 0.370 (step 400)" in told[1]
    assert "training loss fell from 0.700 to 0.100" in told[1]
    assert isinstance(told[1], Note)
    assert overfitting(course(falling, {"rmse": [3.0, 2.0, 2.1, 2.4]})) is not None


def test_what_is_no_overfitting() -> None:
    falling, level = [0.7, 0.4, 0.2, 0.1], [0.7, 0.69, 0.7, 0.69]
    assert overfitting(course(falling, {"ece": [0.3, 0.2, 0.1, 0.11], "accuracy": [0.5, 0.6, 0.7, 0.6]})) is None
    assert overfitting(course(level, {"ece": [0.085, 0.15, 0.3, 0.37]})) is None
    assert overfitting(course(falling[:2], {"ece": [0.085, 0.37]})) is None


def test_a_starved_training_is_told_of() -> None:
    told = starvation({"cores_used": 0.3, "metered": 60.0, "machine": {}})
    assert told is not None
    assert "0.30 of a processor core" in told
    assert isinstance(told, Note)
    assert starvation({"cores_used": 0.95, "metered": 60.0, "machine": {}}) is None
    assert starvation({"cores_used": 0.3, "metered": 60.0, "machine": {"gpu": "one"}}) is None
    assert starvation({"cores_used": 0.3, "metered": 3.0, "machine": {}}) is None, "starting takes as long"
