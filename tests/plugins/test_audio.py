"""examples/rebus-audio: sounds as a modality from another package, with no line of Rebus changed."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rebus
from rebus.models.modalities import MODALITIES
from rebus.models.towers import TOWERS
from tiny_plugins import EXAMPLES, install

soundfile = pytest.importorskip("soundfile", reason="rebus-audio decodes with soundfile, which is not installed")
PITCHES = {"low": 200.0, "middle": 800.0, "high": 3000.0}  # hertz
SMALL = {
    "model.towers.audio.width": 32,
    "model.towers.audio.depth": 1,
    "train.steps": 60,
    "train.batch_size": 16,
    "train.lr": 3e-3,
}


def tone(path: Path, pitch: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate = int(rng.choice([8_000, 16_000, 22_050]))
    time = np.arange(int(rate * rng.uniform(0.15, 0.3))) / rate
    wave = 0.5 * np.sin(2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time) + 0.02 * rng.standard_normal(len(time))
    soundfile.write(path, wave.astype(np.float32), rate)


def table(folder: Path, words: bool = False) -> Path:
    rows = []
    for number in range(60):
        name = list(PITCHES)[number % 3]
        ending = ("wav", "ogg", "flac")[number % 2]
        tone(folder / f"{number}.{ending}", PITCHES[name], number)
        rows.append({"sound": f"{number}.{ending}", **({"text": f"tone {number}"} if words else {}), "label": name})
    path = folder / "tones.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    paths = list(sys.path)
    install("rebus-audio", tmp_path_factory.mktemp("audio-info"), [MODALITIES, TOWERS])
    yield
    sys.path[:] = paths


@pytest.fixture(scope="module")
def run(plugin: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tones")
    return rebus.train(table(folder), out=folder / "run", settings=SMALL, quiet=True)


def test_the_package_is_short() -> None:
    lines = [path.read_text().count("\n") for path in (EXAMPLES / "rebus-audio").rglob("*.py")]
    assert sum(lines) < 200


def test_sounds_are_recognised_and_learned(run: Any) -> None:
    assert run.recipe.data.kinds["sound"] == "audio"
    assert run.evaluation["tasks"]["classify"]["metrics"]["accuracy"] > 0.8


def test_a_run_is_loaded_and_predicts_the_same(run: Any, tmp_path: Path) -> None:
    name = tmp_path / "a.wav"
    tone(name, PITCHES["high"], 99)
    first, second = (rebus.load(run.folder).predict([{"sound": str(name)}])[0] for _ in range(2))
    assert first.value == "high"
    assert first == second


def test_a_sound_that_cannot_be_read_is_told(run: Any, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(rebus.RebusError, match="a sound file"):
        rebus.load(run.folder).predict([{"sound": str(tmp_path / "a.wav")}])


def test_the_report_and_evaluation_know_it(run: Any) -> None:
    assert "sound" in run.report_path.read_text()
    figures = rebus.evaluate(run.folder, quiet=True)
    assert figures.tasks["classify"].metrics["accuracy"] > 0.8


@pytest.mark.parametrize("fusion", ["joint", "unified", "cross"])
def test_sounds_beside_text_with_every_fusion(plugin: None, tmp_path: Path, fusion: str) -> None:
    small = {
        **SMALL,
        "train.steps": 4,
        "model.text.width": 32,
        "model.text.heads": 4,
        "model.text.depth": 1,
        "model.fusion.kind": fusion,
    }
    run = rebus.train(table(tmp_path, words=True), out=tmp_path / "run", settings=small, quiet=True)
    rows = [{"sound": str(tmp_path / "0.wav"), "text": "tone 0"}, {"text": "tone 1"}]
    assert {one.value for one in rebus.load(run.folder).predict(rows)} <= set(PITCHES)


def test_a_server_takes_sounds(run: Any, tmp_path: Path) -> None:
    from tiny_server import running

    tone(tmp_path / "a.wav", PITCHES["low"], 7)
    with running(run.folder) as server:
        sound = base64.b64encode((tmp_path / "a.wav").read_bytes()).decode()
        reply = server.http.post("/v1/predict", json={"rows": [{"sound": f"data:audio/wav;base64,{sound}"}]})
        assert reply.status_code == 200, reply.text
        assert "low" in reply.text
        refused = server.http.post("/v1/predict", json={"rows": [{"sound": str(tmp_path / "a.wav")}]})
        assert refused.status_code == 400
        assert "as a data URL" in refused.text
