"""``rebus studio``: what is refused before anything is served."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rebus.cli.app import app
from rebus.studio import start


def rebus(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "no such folder"),
        (["--root", "nowhere"], "--root nowhere"),
        (["--host", "0.0.0.0"], "API key"),  # noqa: S104 - it is refused
        (["--api-key", "short"], "8 printable"),
        (["--api-key-file", "nowhere"], "nowhere"),
        (["--port", "99999"], "--port"),
    ],
)
def test_what_cannot_be_is_told_in_one_paragraph(words: list[str], told: str) -> None:
    done = rebus("studio", *words)
    assert done.exit_code == 2, done.output
    assert told in done.stderr
    assert "What to do:" in done.stderr
    assert "Traceback" not in done.output


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    done = rebus("studio")
    assert done.exit_code == 2
    assert "rebus-vlm[studio]" in done.stderr


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: 0\n")
    done = rebus("studio", str(tmp_path))
    assert done.exit_code == 2
    assert "rebus train --resume" in done.stderr
