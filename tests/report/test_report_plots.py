from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rebus.errors import RecipeError, RunError
from rebus.report import Result, canvas, plots

RECORDS = [
    {"kind": "train", "step": 1, "loss": 2.0, "lr": 0.5, "parts": {"loss/answer": 1.0, "loss/caption": 1.0}},
    {"kind": "skip", "step": 2, "reason": "not finite"},
    {"kind": "train", "step": 2, "loss": None, "lr": 1.0},
    {"kind": "train", "step": 3, "loss": 1.0, "lr": 0.2, "parts": {"loss/answer": 0.4}},
    {"kind": "valid", "step": 3, "metrics": {"answer/exact_match": 0.4, "caption/bleu": 12.0, "tag/map_classes": 3}},
]
RESULTS = [Result("accuracy", 0.7, (0.6, 0.8), 0.5), Result("rmse", 3.0), Result("macro_f1", 0.6, task="图")]
Draw = Callable[[Path, str], Path]
TYPES = {"seen": {"数量": 0.9, "$x": 0.1}, "new": {"数量": 0.5}}
PLOTS: dict[str, Draw] = {
    "curves": lambda path, language: plots.plot_curves(path, RECORDS, language),
    "no curves": lambda path, language: plots.plot_curves(path, [], language),
    "bars": lambda path, language: plots.plot_metric_bars(path, RESULTS, language),
    "no bars": lambda path, language: plots.plot_metric_bars(path, [], language),
    "types": lambda path, language: plots.plot_types(path, TYPES, language),
    "no types": lambda path, language: plots.plot_types(path, {}, language),
    "confusion": lambda path, language: plots.plot_confusion(path, [[3, 1], [0, 0]], ["猫", "a_b^c $"], language),
    "large": lambda path, language: plots.plot_confusion(path, np.eye(60), [str(n) for n in range(60)], language),
    "calibration": lambda path, language: plots.plot_calibration(path, [0.2, 0.9, 1.0], [0, 1, 1], language),
    "no calibration": lambda path, language: plots.plot_calibration(path, [], [], language),
    "scatter": lambda path, language: plots.plot_scatter(path, [1.0, 2.0], [1.5, 1.8], language, "年份"),
    "no scatter": lambda path, language: plots.plot_scatter(path, [], [], language),
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_a_image_with_something_on_it(name: str, tmp_path: Path) -> None:
    path = PLOTS[name](tmp_path / "plots" / "one.png", "zh" if name == "curves" else "en")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(set(image.convert("L").tobytes())) > 1
    assert [file.name for file in path.parent.iterdir()] == ["one.png"]


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (PLOTS["bars"](tmp_path / name, "en").read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_without_a_chinese_font_one_note_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(canvas, "chinese_font", lambda: None)
    canvas.cjk_family.cache_clear()
    canvas._tell_of_boxes.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            canvas.save(tmp_path / "c.png", lambda figure, word: figure.suptitle(word("loss")), "en", (2, 2))
        assert not caplog.records, "nothing in it needs such a font"
        with caplog.at_level(logging.WARNING):
            PLOTS["types"](tmp_path / "a.png", "zh")
            PLOTS["types"](tmp_path / "b.png", "zh")
        assert canvas.spoken("zh") == "en"
    finally:
        canvas.cjk_family.cache_clear()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "No installed font draws Chinese" in told[0]
    assert not [warning for warning in recwarn.list if "Glyph" in str(warning.message)]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="en or zh"):
        PLOTS["bars"](tmp_path / "a.png", "fr")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        PLOTS["bars"](tmp_path / "file" / "a.png", "en")


def test_smoothing_starts_at_the_first_value_and_follows_a_constant() -> None:
    assert plots._smoothed([3.0] * 100) == pytest.approx([3.0] * 100)
    noisy = [1.0, 3.0] * 100
    assert 1.8 < plots._smoothed(noisy)[-1] < 2.2


def test_heavy_libraries_wait_until_they_are_needed() -> None:
    program = (
        "import sys, rebus.report, rebus.report.plots\n"
        "print([name for name in ('matplotlib', 'jinja2', 'sacrebleu', 'torchmetrics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    assert loaded in ("[]", "['jinja2']")  # torch itself may bring jinja2 along
