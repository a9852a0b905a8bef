from __future__ import annotations

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_tiny as tiny
from rich.console import Console

from rebus.errors import RecipeError, RunError, TrainingError
from rebus.loop import checkpoint
from rebus.loop.events import read_metrics
from rebus.loop.lines import locked
from rebus.loop.loop import fit


def run(folder, *, model=None, seed=3, resume=False, plan=None, console=None, **settings):
    model = model or tiny.net()
    quiet = console is None
    result = fit(
        model,
        plan or tiny.plan(parts=settings.get("accumulate", 1)),
        tiny.train(**settings),
        folder,
        seed=seed,
        resume=resume,
        quiet=quiet,
        console=console,
    )
    return model, result


def interrupting(at, number=signal.SIGTERM, **changes):
    """A plan whose loss sends this process a signal at a step."""
    count = [0]

    def loss_of(model, batch, progress):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), number)
        return tiny.loss_of(model, batch, progress)

    return tiny.plan(loss_of=loss_of, **changes)


def test_it_learns_and_says_how(tmp_path):
    before = tiny.validate(tiny.net().eval())["loss"]
    model, result = run(tmp_path, plan=tiny.plan(total_steps=60, sample=lambda model: "a cat"))
    assert result.steps == 60
    assert result.stopped_because == "finished"
    assert result.history[-1]["metrics"]["loss"] < 0.5 * before
    assert [entry["step"] for entry in result.history] == list(range(6, 61, 6))
    assert result.best["value"] == min(entry["metrics"]["loss"] for entry in result.history)
    assert not model.training
    lines = read_metrics(tmp_path)
    assert {line["kind"] for line in lines} == {"train", "valid", "sample"}
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 10, 20, 30, 40, 50, 60]
    assert {"loss", "lr", "grad_norm", "examples_per_second", "parts"} <= next(iter(lines)).keys()
    assert list((tmp_path / "events").glob("events.out.tfevents*"))
    assert set(checkpoint.steps_saved(tmp_path)) == {54, 60, result.best["step"]}


def test_the_seed_and_nothing_else_decides(tmp_path):
    first, _ = run(tmp_path / "a")
    torch.manual_seed(99)
    again, _ = run(tmp_path / "b", model=tiny.net())
    other, _ = run(tmp_path / "c", seed=4)
    assert tiny.digest(first) == tiny.digest(again) != tiny.digest(other)


def test_accumulation_gives_the_same_mean_gradient(tmp_path):
    def frozen_statistics():
        model = tiny.net(dropout=0.0)
        for parameter in model.norm.parameters():
            parameter.requires_grad_(False)
        return model

    whole, _ = run(tmp_path / "a", model=frozen_statistics(), optimizer="sgd")
    parts, _ = run(tmp_path / "b", model=frozen_statistics(), optimizer="sgd", accumulate=4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "accumulate": 2},
        {"optimizer": "muon", "ema": 0.9, "validate_every": 4, "save_every": 3},
        {"optimizer": "sgd", "precision": "bf16", "patience": 50},
        {"optimizer": "muon", "rates": {"stem": 0.0, "hidden": 0.3}, "schedule": "wsd", "keep": 1},
    ],
)
def test_a_signal_saves_and_a_resume_ends_the_same(tmp_path, settings):
    whole, _ = run(tmp_path / "whole", **settings)
    shown = Console(file=io.StringIO(), width=200)
    stopped = interrupting(7 * settings.get("accumulate", 1), parts=settings.get("accumulate", 1))
    _, result = run(tmp_path / "cut", plan=stopped, console=shown, **settings)
    assert (result.stopped_because, result.steps) == ("interrupted", 7)
    assert "rebus train --resume" in shown.file.getvalue()
    model, result = run(tmp_path / "cut", resume=True, **settings)
    assert (result.stopped_because, result.steps) == ("finished", 20)
    assert tiny.digest(model) == tiny.digest(whole)


def test_a_resume_keeps_the_layout_of_memory(tmp_path):
    def build():
        return tiny.net().to(memory_format=torch.channels_last)

    whole, _ = run(tmp_path / "whole", model=build(), optimizer="adamw")
    run(tmp_path / "cut", model=build(), plan=interrupting(7), optimizer="adamw")
    model, _ = run(tmp_path / "cut", model=build(), resume=True, optimizer="adamw")
    assert tiny.digest(model) == tiny.digest(whole)


def test_a_resume_of_a_finished_run_changes_nothing(tmp_path):
    model, first = run(tmp_path, ema=0.9)
    again, second = run(tmp_path, resume=True, ema=0.9)
    assert tiny.digest(again) == tiny.digest(model)
    assert second.history == first.history
    assert second.steps == 20


def test_lines_of_later_steps_are_cut_on_resume(tmp_path):
    run(tmp_path, plan=interrupting(12), save_every=100)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "train", "step": 19, "loss": 1}\n{"kind": "tr')
    run(tmp_path, resume=True, save_every=100)
    steps = [line["step"] for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert steps == [1, 2, 3, 10, 20]


def test_a_run_is_not_trained_over(tmp_path):
    run(tmp_path)
    with pytest.raises(RunError, match="--resume"):
        run(tmp_path)


def test_two_processes_may_not_train_one_run(tmp_path):
    with locked(tmp_path), ThreadPoolExecutor(1) as pool, pytest.raises(RunError, match=f"process {os.getpid()} is"):
        pool.submit(run, tmp_path).result()
    run(tmp_path)


def poisoned(steps):
    def batch_at(step, progress):
        batch = tiny.batch_at(step, progress)
        if step in steps:
            batch["target"][0] = float("nan")
        return batch

    return tiny.plan(batch_at=batch_at)


def test_a_bad_step_is_skipped_counted_and_named(tmp_path):
    model, result = run(tmp_path, plan=poisoned({3, 4, 9}))
    assert [entry["step"] for entry in result.skipped_steps] == [3, 4, 9]
    assert "'embedding.weight'" in result.skipped_steps[0]["reason"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())
    assert sum(line["kind"] == "skip" for line in read_metrics(tmp_path)) == 3


def test_a_skipped_step_leaves_the_weights_and_statistics_as_they_were(tmp_path):
    def infinite(step, progress):
        batch = tiny.batch_at(step, progress)
        return batch | {"spoil": torch.tensor(float("inf") if step == 1 else 1.0)}

    def loss_of(model, batch, progress):
        handle = model.stem.register_forward_hook(lambda *args: args[2] * batch["spoil"])
        loss = tiny.loss_of(model, batch, progress)
        handle.remove()
        return loss

    model, result = run(tmp_path, plan=tiny.plan(batch_at=infinite, loss_of=loss_of, total_steps=2))
    assert [entry["step"] for entry in result.skipped_steps] == [1]
    assert model.norm.num_batches_tracked == 2
    assert bool(torch.isfinite(model.norm.running_mean).all())


def test_three_bad_steps_in_a_row_stop_with_advice(tmp_path):
    with pytest.raises(TrainingError, match=r"3 steps in a row.*lower train\.lr"):
        run(tmp_path, plan=poisoned({5, 6, 7}))


def test_weights_without_numbers_stop_with_advice(tmp_path):
    def loss_of(model, batch, progress):
        loss = tiny.loss_of(model, batch, progress)
        model.head.bias.data.fill_(float("inf"))  # as an update of a rate that is too high leaves it
        return loss

    with pytest.raises(TrainingError, match=r"'head\.bias' that are not.*lower train\.lr"):
        run(tmp_path, plan=tiny.plan(loss_of=loss_of, total_steps=1))


def test_early_stopping_ends_with_the_best_weights(tmp_path):
    figures = iter([5.0, 3.0, 4.0, 4.5])
    digests = []

    def validate(model):
        digests.append(tiny.digest(model))
        return {"loss": next(figures)}

    plan = tiny.plan(validate=validate, total_steps=40)
    model, result = run(tmp_path, plan=plan, patience=2, validate_every=3, keep=1)
    assert (result.stopped_because, result.steps) == ("early", 12)
    assert result.best == {"step": 6, "value": 3.0, "metrics": {"loss": 3.0}}
    assert tiny.digest(model) == digests[1] != digests[-1]
    assert checkpoint.steps_saved(tmp_path) == [6, 12]
    again, second = run(tmp_path, plan=plan, resume=True, patience=2, validate_every=3, keep=1)
    assert second.stopped_because == "early"
    assert tiny.digest(again) == digests[1]


def test_higher_can_be_better_and_not_a_number_never_is(tmp_path):
    figures = iter([0.2, float("nan"), 0.5, 0.4])
    plan = tiny.plan(
        validate=lambda model: {"accuracy": next(figures)}, watch="accuracy", higher_is_better=True, total_steps=4
    )
    _, result = run(tmp_path, plan=plan, validate_every=1)
    assert (result.best["step"], result.best["value"]) == (3, 0.5)


def test_a_figure_to_watch_that_is_not_measured(tmp_path):
    with pytest.raises(TrainingError, match="'accuracy'"):
        run(tmp_path, plan=tiny.plan(watch="accuracy"))


def test_averaged_weights_are_validated_and_kept_at_the_end(tmp_path):
    plain, _ = run(tmp_path / "plain")
    digests = []

    def validate(model):
        digests.append(tiny.digest(model))
        return tiny.validate(model)

    model, _ = run(tmp_path / "ema", plan=tiny.plan(validate=validate), ema=0.9)
    assert tiny.digest(model) == digests[-1] != tiny.digest(plain)
    live = checkpoint.load(tmp_path / "ema", 20).model
    assert all(torch.equal(value, live[name]) for name, value in plain.state_dict().items())


def test_frozen_parts_stay_as_they_were(tmp_path):
    before = {name: value.clone() for name, value in tiny.net().state_dict().items()}
    model, _ = run(tmp_path, rates={"norm": 0.0, "stem": 0.0})
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(("norm", "stem")), name


def test_a_time_limit_ends_the_run_in_time(tmp_path):
    _, result = run(tmp_path, plan=tiny.plan(total_steps=None), time_limit=0.03, validate_every=0)
    assert 1.0 < result.seconds < 3.0
    assert result.stopped_because == "time"
    assert (tmp_path / "plan.jsonl").stat().st_size > 0
    assert result.history[-1]["step"] == result.steps


@pytest.mark.parametrize(("step", "row", "most"), [(0.4, 0.001, 64), (2.0, 0.5, 20)])
def test_a_time_limit_on_a_simulated_clock(tmp_path, step, row, most):
    time = [0.0]
    looked_at = [64]

    def loss_of(model, batch, progress):
        time[0] += step
        return tiny.loss_of(model, batch, progress)

    def validate(model):
        time[0] += row * looked_at[0]
        return tiny.validate(model)

    def shorten(rows):
        looked_at[0] = rows

    plan = tiny.plan(total_steps=None, loss_of=loss_of, validate=validate, valid_rows=64, shorten=shorten)
    shown = Console(file=io.StringIO(), width=200)
    _, result = fit_at(lambda: time[0], tmp_path, plan, shown, time_limit=1.0)
    assert 57 <= time[0] <= 60
    assert result.stopped_because == "time"
    assert result.seconds == time[0]
    assert result.validating <= 6
    assert 4 <= result.valid_rows <= most
    assert ("rows, so that they take at most a tenth" in shown.file.getvalue()) == (most < 64)
    assert result.history[-1]["step"] == result.steps


def fit_at(now, folder, plan, console, **settings):
    model = tiny.net()
    return model, fit(model, plan, tiny.train(**settings), folder, seed=3, console=console, now=now)


def told_in_turn(figures, digests):
    def validate(model):
        digests.append(tiny.digest(model))
        return {"loss": figures[len(digests) - 1]}

    return tiny.plan(validate=validate, total_steps=len(figures))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_weights_of_the_best_validation_are_kept(tmp_path, ema):
    figures, digests = [5.0, 2.0, 4.0, 3.0, 6.0, 7.0], []
    plan = told_in_turn(figures, digests)
    shown = Console(file=io.StringIO(), width=200)
    model, result = run(tmp_path / "best", plan=plan, validate_every=1, keep=1, ema=ema, console=shown)
    assert (result.steps, result.weights_step) == (6, 2)
    assert tiny.digest(model) == digests[1]
    assert "kept the weights of step 2, whose validation was the best (loss 2.000)" in shown.file.getvalue()
    last, result = run(
        tmp_path / "last", plan=told_in_turn(figures, []), validate_every=1, final_weights="last", ema=ema
    )
    assert result.weights_step == 6
    assert tiny.digest(last) == digests[5]


def test_validations_on_the_rows_that_are_judged_choose_nothing(tmp_path):
    digests = []
    plan = replace(told_in_turn([5.0, 2.0, 3.0], digests), chooses=False)
    model, result = run(tmp_path, plan=plan, validate_every=1)
    assert result.weights_step == 3
    assert tiny.digest(model) == digests[2]


def test_of_equal_validations_the_later_is_kept(tmp_path):
    digests = []
    model, result = run(tmp_path, plan=told_in_turn([5.0, 2.0, 2.0, 3.0], digests), validate_every=1)
    assert result.weights_step == 3
    assert tiny.digest(model) == digests[2]


def test_a_resume_keeps_the_best_of_before_the_kill(tmp_path):
    figures = {4: 1.0, 8: 3.0, 12: 2.0, 16: 4.0, 20: 5.0}

    seen = []

    def validate(model):
        seen.append(model)
        return {"loss": figures[4 * len(seen)]}

    whole, _ = run(tmp_path / "whole", plan=tiny.plan(validate=validate), validate_every=4, keep=1)
    seen.clear()
    run(tmp_path / "cut", plan=interrupting(14, validate=validate), validate_every=4, keep=1)
    assert checkpoint.steps_saved(tmp_path / "cut") == [4, 14]
    model, result = run(tmp_path / "cut", plan=tiny.plan(validate=validate), resume=True, validate_every=4, keep=1)
    assert result.weights_step == 4
    assert tiny.digest(model) == tiny.digest(whole)
    assert checkpoint.steps_saved(tmp_path / "cut") == [4, 20]


def test_without_an_end_it_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="time_limit"):
        run(tmp_path, plan=tiny.plan(total_steps=None))


def test_an_error_in_a_batch_comes_out(tmp_path):
    def batch_at(step, progress):
        if step == 4:
            raise KeyError("row 12")
        return tiny.batch_at(step, progress)

    with pytest.raises(KeyError, match="row 12"):
        run(tmp_path, plan=tiny.plan(batch_at=batch_at))


def test_the_measured_precision_is_used_again(tmp_path):
    _, first = run(tmp_path, plan=interrupting(5), precision="auto")
    other = "fp32" if first.precision == "bf16" else "bf16"
    text = (tmp_path / "loop.json").read_text(encoding="utf-8")
    (tmp_path / "loop.json").write_text(text.replace(f'"precision": "{first.precision}"', f'"precision": "{other}"'))
    _, second = run(tmp_path, resume=True, precision="auto")
    assert second.precision == other


def test_a_run_that_begins_again_keeps_no_line_of_before(tmp_path: Path) -> None:
    """A kill before the first checkpoint leaves a validation of step 0, which is made anew."""
    from rebus.loop.events import Events, read_metrics

    first = Events(tmp_path, 0)
    first.write("valid", 0, metrics={"x": 1.0})
    first.close()
    again = Events(tmp_path, 0)
    again.write("valid", 0, metrics={"x": 1.0})
    again.write("valid", 3, metrics={"x": 2.0})
    again.close()
    Events(tmp_path, 3).close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 3]
