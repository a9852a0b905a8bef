"""A Run folder that is missing, unfinished or damaged: one paragraph of four parts, never a traceback."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from rebus import api
from rebus.checkpoints.digests import _digest_of
from rebus.cli.app import app
from rebus.errors import RebusError, RunError, TrainingError, WeightsError
from rebus.loop.events import read_metrics

SMALL = {
    "image.size": 32,
    "model.image.width": 16,
    "model.image.depth": 1,
    "model.image.heads": 2,
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "text.vocab_size": 300,
    "train.steps": 2,
    "train.batch_size": 4,
    "train.precision": "fp32",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rows = []
    for number in range(12):
        Image.fromarray(np.full((32, 32, 3), 20 * number, dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'dark' if number < 6 else 'light'}")
    (folder / "table.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    run = api.train(folder / "table.csv", out=folder / "run", settings=SMALL, quiet=True)
    return run.folder


def edit_json(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def reshape(run: Path) -> None:
    state = load_file(run / "model.safetensors")
    name = next(key for key in state if state[key].dim() == 2)
    state[name] = state[name][:-1].contiguous()
    save_file(state, run / "model.safetensors")


def drop_tensor(run: Path) -> None:
    state = load_file(run / "model.safetensors")
    state.pop(next(name for name in sorted(state) if "absent" not in name))  # Runs from before have none of these
    save_file(state, run / "model.safetensors")


BREAKS: dict[str, tuple[Callable[[Path], object], type[RebusError]]] = {
    "no such folder": (shutil.rmtree, RunError),
    "an empty folder": (lambda run: (shutil.rmtree(run), run.mkdir()), RunError),
    "training has not ended": (lambda run: (run / "model.safetensors").unlink(), RunError),
    "no config": (lambda run: (run / "config.json").unlink(), RunError),
    "no recipe": (lambda run: (run / "recipe.yaml").unlink(), RunError),
    "no tokenizer": (lambda run: (run / "tokenizer.json").unlink(), RunError),
    "weights cut short": (lambda run: half(run / "model.safetensors"), WeightsError),
    "weights empty": (lambda run: (run / "model.safetensors").write_bytes(b""), WeightsError),
    "weights of another shape": (reshape, WeightsError),
    "a tensor missing": (drop_tensor, WeightsError),
    "config cut short": (lambda run: half(run / "config.json"), RunError),
    "config without tasks": (lambda run: edit_json(run / "config.json", lambda c: c.pop("tasks")), RunError),
    "tokenizer cut short": (lambda run: half(run / "tokenizer.json"), RunError),
    "recipe cut short": (lambda run: (run / "recipe.yaml").write_text("train: [", encoding="utf-8"), RebusError),
    "recipe with an unknown key": (
        lambda run: (run / "recipe.yaml").write_text("trian: {}", encoding="utf-8"),
        RebusError,
    ),
    "an unknown task": (
        lambda run: edit_json(run / "config.json", lambda c: c["tasks"][0]["settings"].update(name="sing")),  # type: ignore[index]
        RebusError,
    ),
}


@pytest.mark.parametrize("name", list(BREAKS))
def test_a_broken_run_is_told_in_four_parts(whole: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    unlisted = shutil.ignore_patterns("checkpoints", "events", "digests.json")  # as earlier versions left it
    shutil.copytree(whole, run, ignore=unlisted)
    damage, kind = BREAKS[name]
    damage(run)
    with pytest.raises(kind) as caught:
        api.load(run)
    parts = caught.value.as_dict()
    assert all(parts.values()), parts
    assert "\n" not in str(caught.value)
    image = whole.parent / "0.png"
    done = CliRunner().invoke(app, ["ask", str(run), str(image), "what?"])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_training_refuses_a_folder_that_holds_a_run(whole: Path) -> None:
    before = (whole / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="choose another --out"):
        api.train(whole.parent / "table.csv", out=whole, settings=SMALL, quiet=True)
    assert (whole / "model.safetensors").read_bytes() == before


def test_resuming_what_was_never_begun_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        api.resume(tmp_path / "nowhere", quiet=True)


def test_a_table_without_the_models_column_is_refused(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("photo,label\n0.png,dark\n", encoding="utf-8")
    with pytest.raises(RebusError, match="'image'"):
        api.predict(whole, tmp_path / "other.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_an_unknown_suffix_is_refused_before_any_work(whole: Path) -> None:
    with pytest.raises(RebusError, match=r"\.parquet"):
        api.predict(whole, whole.parent / "table.csv", whole.parent / "out.xlsx")


def test_a_broken_image_among_good_ones_is_counted(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    shutil.copy(whole.parent / "0.png", tmp_path / "good.png")
    (tmp_path / "mixed.csv").write_text("image,label\ngood.png,dark\nbad.png,light\n", encoding="utf-8")
    summary = api.predict(whole, tmp_path / "mixed.csv", tmp_path / "out.jsonl")
    assert (summary.rows, summary.skipped) == (2, 1)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows[0]["classify"] in ("dark", "light")
    assert rows[0]["error"] == ""
    assert rows[1]["classify"] is None
    assert "bad.png" in rows[1]["error"]


def test_a_run_shows_itself_in_a_notebook(whole: Path) -> None:
    shown = api.load(whole).run._repr_html_()
    assert "<td>accuracy</td>" in shown
    assert str(whole) in shown


@pytest.mark.parametrize("out", ["table.csv", "link.csv", "twin.csv"])
def test_predictions_never_replace_the_table_they_are_of(whole: Path, tmp_path: Path, out: str) -> None:
    table = tmp_path / "table.csv"
    shutil.copy(whole.parent / "table.csv", table)
    (tmp_path / "link.csv").symlink_to(table)
    os.link(table, tmp_path / "twin.csv")
    before = table.read_bytes()
    for data in (table, tmp_path, tmp_path / "t*.csv"):
        with pytest.raises(RebusError, match="the table itself"):
            api.predict(whole, data, tmp_path / out, quiet=True)
    assert table.read_bytes() == before


def test_a_list_of_one_image_is_that_image_and_each_entry_must_be_there(whole: Path) -> None:
    image, model = str(whole.parent / "0.png"), api.load(whole)
    assert model.predict({"image": [image], "question": "x"}) == model.predict({"image": image, "question": "x"})
    with pytest.raises(RebusError, match=r"none\.png"):
        model.predict({"image": [image, str(whole.parent / "none.png")], "question": "x"})


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "LONG", "x.csv", "--out", "o.csv"],
        ["ask", "LONG", "What?"],
        ["ask", "RUN", "--image", "LONG", "What?"],
        ["explain", "RUN", "--image", "LONG"],
        ["flow", "RUN", "--image", "LONG"],
        ["train", "x.csv", "--from", "LONG", "--out", "o"],
        ["train", "x.csv", "--text", "LONG", "--out", "o"],
        ["train", "x.csv", "--vision", "LONG", "--out", "o"],
        ["train", "--resume", "LONG"],
        ["verify", "LONG"],
        ["report", "LONG"],
        ["serve", "LONG"],
        ["export", "RUN", "LONG"],
        ["generate", "LONG", "Once"],
    ],
    ids=" ".join,
)
def test_a_text_too_long_to_be_a_path_is_told(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """As where the model is forgotten and a question stands in its place."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("text,label\na,b\n", encoding="utf-8")
    put = {"LONG": "why is that " * 50, "RUN": str(whole)}
    done = CliRunner().invoke(app, [put.get(word, word) for word in words])
    assert done.exit_code == 2, done.output
    assert "defect" not in done.output


def test_a_folder_in_place_of_an_image_is_told(whole: Path) -> None:
    done = CliRunner().invoke(app, ["ask", str(whole), "--image", str(whole), "What?"])
    assert done.exit_code == 2
    assert "found a folder" in done.output


def test_json_output_replaces_no_table(whole: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    shutil.copy(whole.parent / "table.csv", table)
    done = CliRunner().invoke(app, ["evaluate", str(whole), "--json", str(table)], env={"COLUMNS": "400"})
    assert done.exit_code == 2
    assert "write --json last" in done.output
    assert table.read_bytes() == (whole.parent / "table.csv").read_bytes()


def forge(entries: Any) -> Callable[[Path], object]:
    """digests.json with these entries and a digest that fits them."""
    content = {"version": 1, "digest": _digest_of(entries), "files": entries}
    return lambda run: (run / "digests.json").write_text(json.dumps(content), encoding="utf-8")


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "digests that are a number": (forge(5), "verify"),
    "digests that are a list": (forge([]), "verify"),
    "an entry that is a number": (forge({"config.json": 5}), "verify"),
    "a size that is a text": (forge({"config.json": {"bytes": "x", "sha256": ""}}), "verify"),
    "an entry without a size": (forge({"config.json": {}}), "verify"),
    "a file outside": (forge({"plots/../../0.png": {"bytes": 1, "sha256": ""}}), "verify"),
    "a file far outside": (forge({"../0.png": {"bytes": 1, "sha256": ""}}), "verify"),
    "metrics that are a folder": (lambda run: as_folder(run / "metrics.jsonl"), "report"),
    "figures that are a folder": (lambda run: as_folder(run / "evaluation.json"), "report"),
    "figures that are a list": (lambda run: (run / "evaluation.json").write_text("[1]"), "report"),
    "a lock that is a folder": (lambda run: as_folder(run / ".lock"), "report"),
}


@pytest.mark.parametrize("name", list(ODD))
def test_odd_files_of_a_run_are_told(whole: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("checkpoints", "events"))
    damage, verb = ODD[name]
    (run / ".lock").touch()
    damage(run)
    done = CliRunner().invoke(app, [verb, str(run)])
    assert done.exit_code == 2, done.output
    assert "defect" not in done.output


def test_a_lock_that_is_a_link_overwrites_nothing(whole: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(whole, run, ignore=shutil.ignore_patterns("checkpoints", "events"))
    other.write_text("mine", encoding="utf-8")
    (run / ".lock").unlink(missing_ok=True)
    (run / ".lock").symlink_to(other)
    assert CliRunner().invoke(app, ["report", str(run)]).exit_code == 2
    assert other.read_text(encoding="utf-8") == "mine"


def test_lines_of_metrics_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\xfe\x00 {\n5\n{"step": 1}\n')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_weights_without_numbers_end_a_run_in_words(whole: Path, tmp_path: Path) -> None:
    settings = SMALL | {"train.steps": 2, "train.lr": 1e30, "train.muon_lr": 1e30}
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        api.train(whole.parent / "table.csv", out=tmp_path / "run", settings=settings, quiet=True)
