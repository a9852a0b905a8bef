"""Every task with every fusion and every tower: each method that fits says something finite of the right shape about
every input, and leaves the model as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_matrix import COLUMNS, FUSIONS, TOWERS, small

from rebus.errors import DataError
from rebus.explain import METHODS, explain, methods_for
from rebus.inference.predictor import Predictor
from rebus.tasks import TASKS
from rebus.training.train import assemble

GRID = 4  # 32 pixels in patches of 8
WRITE = {name for name in COLUMNS if TASKS.get(name).writes} | {"choose", "lm"}


def predictor_for(table: Path, task: str, fusion: str, how: str, image: str, text: str) -> Predictor:
    """A model with random weights, none of them zero: gates and last layers start closed otherwise."""
    ready = assemble(small(table, task, fusion, how, image, text), lambda _: None)
    torch.manual_seed(1)
    for parameter in ready.model.parameters():
        if parameter.numel() == 1 or not bool(parameter.abs().sum()):
            torch.nn.init.normal_(parameter, std=0.2)
    ready.model.eval()
    return ready.predictor


def columns_for(table: Path, predictor: Predictor, task: str, number: int = 13) -> dict[str, Any]:
    """One row of the table, with what the task reads."""
    row = json.loads(table.read_text(encoding="utf-8").splitlines()[number])
    row["image"] = str(table.parent / row["image"])
    return {column: row[column] for column in predictor.tasks[task].settings.columns.values()}


def check(table: Path, task: str, fusion: str, how: str, image: str, text: str) -> None:
    if TASKS.get(task).tower not in (None, text):
        return
    predictor = predictor_for(table, task, fusion, how, image, text)
    if task == "pretrain_image":
        with pytest.raises(DataError, match="to explain"):
            methods_for(predictor, task)
        return
    columns = columns_for(table, predictor, task)
    known = predictor.tasks[task]
    sees = known.uses_image and predictor.model.image is not None
    before = predictor.predict(columns, task=task)[0].value if known.predicts else None
    state = {name: value.clone() for name, value in predictor.model.state_dict().items()}
    able = methods_for(predictor, task)
    assert {"gradients", "occlusion"} <= set(able) <= set(METHODS.names())
    for method in able:
        found = explain(predictor, columns=columns, task=task, method=method)
        assert found.method == method
        for one in (found, *found.words):
            assert np.isfinite(one.score)
            assert (one.image is not None) == sees, method
            if sees:
                assert one.image is not None
                side = GRID // 2 if (how, method) == ("inline", "attention") and task in WRITE else GRID
                assert one.image.shape == (side, side)  # of the image tokens in the text, which are fewer
                assert np.isfinite(one.image).all()
                assert one.shown is not None
                assert one.shown.shape == (32, 32, 3)
            assert all(np.isfinite(token.score) for token in one.tokens)
            assert all(one.text[token.start : token.end] == token.text for token in one.tokens)
            if method != "gradcam":
                assert bool(one.tokens) == bool(one.text.strip())
                covered = "".join(token.text for token in one.tokens)
                if text not in ("wordvectors", "recurrent") and task != "mlm":  # these read no signs
                    assert covered == "".join(one.text.split())[: len(covered)]
            if one.weights is not None:
                assert fusion == "joint"
                assert sum(one.weights.values()) == pytest.approx(1, abs=1e-4)
        if fusion == "joint" and sees and task not in ("retrieve", "patch_classify"):
            assert found.weights is not None
        assert bool(found.words) == (task in WRITE)
        json.dumps(found.to_json(), allow_nan=False)
    for method in set(METHODS.names()) - set(able):
        with pytest.raises(DataError, match=r"use .*occlusion"):
            explain(predictor, columns=columns, task=task, method=method)
    after = predictor.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in state.items())
    assert not any(module._forward_hooks for module in predictor.model.modules())
    assert all(parameter.grad is None for parameter in predictor.model.parameters())
    if known.predicts:
        assert predictor.predict(columns, task=task)[0].value == before


# each task once; each fusion with a task that writes and with one that reads
SOME = [(task, *FUSIONS[(3 * n) % 7], *TOWERS[n % 4]) for n, task in enumerate(COLUMNS)] + [
    (task, *fusion, *TOWERS[(n + shift) % 4])
    for n, fusion in enumerate(FUSIONS)
    for shift, task in enumerate(("answer", "classify"))
]


@pytest.mark.parametrize(("task", "fusion", "how", "image", "text"), SOME)
def test_some(table: Path, task: str, fusion: str, how: str, image: str, text: str) -> None:
    check(table, task, fusion, how, image, text)


# every pair of a task, a fusion and the towers; not every triple, of which there are four times as many
PAIRS = [
    (task, *fusion, *TOWERS[(n + m) % len(TOWERS)])
    for n, task in enumerate(COLUMNS)
    for m, fusion in enumerate(FUSIONS)
]


def test_the_pairs_are_all_there() -> None:
    ways = {(name, how) for _, name, how, _, _ in PAIRS}
    towers = {(image, text) for _, _, _, image, text in PAIRS}
    assert (len(ways), len(towers)) == (len(FUSIONS), len(TOWERS))
    for task in COLUMNS:
        assert {(image, text) for name, _, _, image, text in PAIRS if name == task} == towers
    for way in ways:
        assert {(image, text) for _, name, how, image, text in PAIRS if (name, how) == way} == towers


@pytest.mark.slow
@pytest.mark.parametrize(("task", "fusion", "how", "image", "text"), PAIRS)
def test_pairs(table: Path, task: str, fusion: str, how: str, image: str, text: str) -> None:
    check(table, task, fusion, how, image, text)
