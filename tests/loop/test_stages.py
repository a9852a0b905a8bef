"""A run in stages: schedules, optimizers and checkpoints at the boundary, killed and resumed."""

from __future__ import annotations

import json

import pytest
import torch
import training_tiny as tiny
from safetensors.torch import load_file

from rebus.loop import stages as module
from rebus.loop.checkpoint import path_of
from rebus.loop.loop import fit
from rebus.loop.optim import train_mode
from rebus.loop.stages import Stages
from rebus.tasks import batch_builder as builder

FROZEN = ("embedding", "stem", "norm", "hidden")  # in the first stage


def staged(model, settings, shares=(0.3, 0.7), entered=None):
    """First the head alone, then everything; a fast rate in the first stage."""

    def enter(number):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(number > 0 or not name.startswith(FROZEN))
        if entered is not None:
            entered.append((number, {name: value.clone() for name, value in model.state_dict().items()}))
        return settings.model_copy(update={"lr": 0.02 if number == 0 else 0.01})

    return Stages(list(shares), enter)


def run(folder, *, steps=20, resume=False, entered=None, plan=None, **changes):
    model = tiny.net()
    settings = tiny.train(**{"weight_decay": 0.5, "validate_every": 4, **changes})
    found = {"total_steps": steps, "stages": staged(model, settings, entered=entered), **(plan or {})}
    result = fit(model, tiny.plan(**found), settings, folder, seed=1, resume=resume, quiet=True)
    return model, result


def test_which_stage_and_how_far():
    stages = Stages([0.1, 0.2, 0.7], lambda _: tiny.train())
    assert [stages.at(x) for x in (0.0, 0.0999, 0.1, 0.29999, 0.3, 1.0)] == [0, 0, 1, 1, 2, 2]
    assert stages.within(0.2, 1) == pytest.approx(0.5)
    assert (stages.within(0.0, 1), stages.within(1.0, 1)) == (0.0, 1.0)
    assert module._CLOSE == builder.CLOSE  # who prepares batches and who trains on them must agree


def test_what_is_frozen_does_not_move_nor_decay_and_the_rest_begins_at_the_boundary(tmp_path):
    entered = []
    model, result = run(tmp_path, entered=entered, optimizer="adamw", save_every=1, keep=100)
    (first, begun), (second, middle) = entered
    assert (first, second) == (0, 1)
    learned = {name for name in begun if not torch.equal(begun[name], middle[name])}
    assert learned == {"head.weight", "head.bias"}  # statistics of the frozen norm stay too
    end = model.state_dict()
    assert {name.partition(".")[0] for name in end if not torch.equal(end[name], middle[name])} == {
        *FROZEN,
        "head",
    }
    at = {step: load_file(path_of(tmp_path, step) / "optimizer.safetensors") for step in (5, 6, 7)}
    assert {key.split("/")[1] for key in at[5]} == {"head.weight", "head.bias"}
    assert float(at[5]["0/head.weight/step"]) == 5
    assert not at[6]  # nothing is remembered across the boundary
    assert float(at[7]["0/head.weight/step"]) == float(at[7]["0/embedding.weight/step"]) == 1
    assert json.loads((path_of(tmp_path, 6) / "state.json").read_text())["stage"] == 1
    assert [one["step"] for one in result.history] == [0, 4, 6, 8, 12, 16, 20]


def test_each_stage_has_a_schedule_of_its_own(tmp_path):
    run(tmp_path, steps=40, warmup=0.1, final=0.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["lr"] for line in lines if line["kind"] == "train"}
    assert rates[10] < 0.3 < rates[20]  # the end of the first stage, and the middle of the second
    assert rates[40] < 0.01


@pytest.mark.parametrize(("killed_at", "optimizer"), [(5, "muon"), (6, "adamw"), (7, "muon"), (13, "adamw")])
def test_killed_around_the_boundary_and_resumed_to_the_same_bits(tmp_path, killed_at, optimizer):
    settings = {"optimizer": optimizer, "ema": 0.8, "save_every": 2, "validate_every": 5}
    whole, _ = run(tmp_path / "whole", **settings)

    def torn(step, progress):
        if step == killed_at:
            raise ConnectionError
        return tiny.batch_at(step, progress)

    with pytest.raises(ConnectionError):
        run(tmp_path / "torn", plan={"batch_at": torn}, **settings)
    again, _ = run(tmp_path / "torn", resume=True, **settings)
    assert tiny.digest(again) == tiny.digest(whole)


def test_the_averaged_weights_of_a_stage_are_what_the_next_begins_with(tmp_path):
    entered = []
    run(tmp_path, entered=entered, ema=0.9, steps=10, validate_every=0, save_every=1, keep=100)
    before = load_file(path_of(tmp_path, 2) / "ema.safetensors")["head.weight"]
    live = load_file(path_of(tmp_path, 2) / "model.safetensors")["head.weight"]
    after = load_file(path_of(tmp_path, 3) / "model.safetensors")["head.weight"]
    assert not torch.equal(before, live)
    assert not torch.equal(after, live)
    assert torch.equal(load_file(path_of(tmp_path, 3) / "ema.safetensors")["head.weight"], after)


def test_patience_counts_in_the_last_stage_alone(tmp_path):
    figures = iter([5.0, 1.0, 2.0, 3.0, 4.0, 3.5, 5.0, 6.0, 7.0, 8.0, 9.0])  # best in the first stage
    plan = {"validate": lambda model: {"loss": next(figures)}}
    _, result = run(tmp_path, steps=20, validate_every=2, patience=3, plan=plan)
    assert result.stopped_because == "early"
    assert [one["step"] for one in result.history] == [0, 2, 4, 6, 8, 10, 12]
    assert result.best["step"] == 6  # what the last stage began with was never reached again


def test_a_run_of_few_minutes_reaches_its_last_stage(tmp_path):
    for minutes in (0.025, 0.1, 0.4):  # a busy machine may spend the first of these on one step
        entered, left = [], []
        model = tiny.net()
        settings = tiny.train(time_limit=minutes)
        stages = staged(model, settings, shares=(0.4, 0.6), entered=entered)
        stages = Stages(stages.shares, stages.enter, left.append)
        folder = tmp_path / str(minutes)
        folder.mkdir()
        result = fit(model, tiny.plan(total_steps=None, stages=stages), settings, folder, seed=1, quiet=True)
        assert result.stopped_because == "time"
        if len(entered) == 2:
            break
    assert [number for number, _ in entered] == [0, 1]
    assert left == [-1, 0, 1]


def test_a_frozen_part_is_never_in_training_mode():
    model = tiny.net()
    model.norm.requires_grad_(False)
    model.eval()
    seen = []
    model.norm.train = lambda mode=True: seen.append(mode) or model.norm
    train_mode(model)
    assert True not in seen
    assert not model.norm.training
    assert model.hidden[2].training
