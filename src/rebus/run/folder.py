"""Where things are in a Run folder, and whether they are whole.

recipe.yaml               every setting; reproduces the run
config.json               what is needed to build the model again, with what the tasks learned from the data
model.safetensors         the weights
tokenizer.json and so on  the tokenizer, with its chat template
preprocessor_config.json  how pictures become tensors
checkpoints/              what a resume starts from
metrics.jsonl, events/    figures by step, the latter for TensorBoard
check.json                what was found out about the data
evaluation.json           figures on held-out rows
plots/, report.html, README.md
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.errors import RunError
from rebus.recipe import Recipe, load_recipe


class Run:
    """A Run folder. Shows itself in a notebook.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A finished Run.

        Raises:
            RunError: there is no such folder, or it holds no finished model.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(run.path, "a Run folder", "no such folder", "give the folder that `rebus train` made")
        if not run.recipe_path.exists():
            raise RunError(
                run.path, "a Run folder with recipe.yaml in it", "none", "give the folder that `rebus train` made"
            )
        if not (run.weights_path.exists() and run.config_path.exists()):
            raise RunError(
                run.path,
                "a finished Run",
                "no model.safetensors and config.json: its training has not ended",
                f"finish it with: rebus train --resume {run.path}",
            )
        return run

    @property
    def recipe_path(self) -> Path:
        """recipe.yaml."""
        return self.path / "recipe.yaml"

    @property
    def config_path(self) -> Path:
        """config.json."""
        return self.path / "config.json"

    @property
    def weights_path(self) -> Path:
        """model.safetensors."""
        return self.path / "model.safetensors"

    @property
    def report_path(self) -> Path:
        """report.html."""
        return self.path / "report.html"

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe. Raises RecipeError when the file is damaged."""
        return load_recipe(self.recipe_path)

    def read_json(self, name: str) -> Any:
        """A JSON file of the Run.

        Raises:
            RunError: it is missing or not JSON.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(
                path, "a file that training writes", "no such file", "train again, or restore the folder"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(path, "whole JSON", f"'{error}'", "restore the file, or train again") from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the Run, whole or not at all."""
        atomic.write_json(self.path / name, value)

    @property
    def evaluation(self) -> dict[str, Any]:
        """Figures on the held-out rows, {} before they are measured."""
        if not (self.path / "evaluation.json").exists():
            return {}
        found: dict[str, Any] = self.read_json("evaluation.json")
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, [] before training begins."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def load(self) -> Any:
        """The model, ready to answer: a ``Predictor``."""
        from rebus.run.predictor import Predictor

        return Predictor.open(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        rows = []
        for task, score in self.evaluation.get("tasks", {}).items():
            for name, value in score.get("metrics", {}).items():
                base = score.get("baseline", {}).get(name)
                cells = [task, name, f"{value:.3f}", "" if base is None else f"{base:.3f}"]
                rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        head = "<tr><th>task</th><th>figure</th><th>value</th><th>baseline</th></tr>"
        table = f"<table>{head}{''.join(rows)}</table>" if rows else "<p>not evaluated yet</p>"
        return f"<h4>Run {html.escape(str(self.path))}</h4>{table}"
