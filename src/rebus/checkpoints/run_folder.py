"""Where things are in a Run folder, and whether they are whole.

recipe.yaml               every setting; reproduces the run
config.json               what is needed to build the model again, with what the tasks learned from the data; where the
                          model is one text tower that Hugging Face knows, in that family's layout
model.safetensors         the weights
heads.safetensors         in such a layout: the heads of tasks that the family has no place for
tokenizer.json and so on  the tokenizer, with its chat template
preprocessor_config.json  how images become tensors
processor_config.json     where the model is laid out as Idefics3 or Llava: how many image tokens stand in a text
checkpoints/              what a resume starts from
metrics.jsonl, events/    figures by step, the latter for TensorBoard
check.json                what was found out about the data
fingerprint.json          the recipe and the data as they were at the start, which a resume is held to
loop.json                 how the numbers of the run are made: precision, threads, versions
evaluation.json           figures on held-out rows
plots/, report.html, README.md
digests.json              size and SHA-256 of the files above, written last: the mark of a finished Run

A process that writes holds the Run's lock (``Run.writing``) from its first byte to its last.
"""

from __future__ import annotations

import html
import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.catalogue import Note, from_json, to_json
from rebus.checkpoints.digests import FILE as DIGESTS
from rebus.checkpoints.digests import check_model, renewed, write_digests
from rebus.errors import RunError, reachable
from rebus.jsonl import json_lines
from rebus.loop.checkpoint import FOLDER as CHECKPOINTS
from rebus.loop.lines import locked
from rebus.notebook import html_table
from rebus.recipe import Recipe, load_recipe


class Run:
    """A Run folder. Shows itself in a notebook.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A Run whose model is saved, and is as training left it; it may not have been judged yet.

        Raises:
            RunError: there is no such folder, it holds no finished model, or a file of the model has changed.
        """
        run = cls(folder)
        with reachable(run.folder):
            if not run.folder.is_dir():
                raise RunError.of("problem.run_no_folder", where=str(run.folder))
            if not run.recipe_path.exists():
                raise run._not_a_run()
            if not run.saved:
                raise RunError.of("problem.run_unfinished", where=str(run.folder))
            check_model(run.folder)
        return run

    def _not_a_run(self) -> RunError:
        expected, inside = "a Run folder with recipe.yaml in it", self.folder.resolve().parent
        if inside.name == CHECKPOINTS and (inside.parent / "recipe.yaml").exists():
            whole = Run(inside.parent)
            do = f"name the Run itself: {whole.folder}"
            if not whole.saved:
                do = f"finish the Run with `rebus train --resume {whole.folder}`, then name the Run itself"
            received = "a checkpoint: what a resume starts from, without tokenizer and settings"
            return RunError(self.folder, expected, received, do)
        return RunError.of("problem.run_not_one", where=str(self.folder))

    @classmethod
    def begun(cls, folder: str | Path) -> Run:
        """A Run that was begun, finished or not. Raises RunError where there is none."""
        run = cls(folder)
        with reachable(run.folder):
            if not run.recipe_path.exists():
                received = Note("hint.no_recipe" if run.folder.is_dir() else "hint.no_such_folder")
                raise RunError.of("problem.run_not_begun", where=str(run.folder), received=received)
        return run

    @contextmanager
    def writing(self, *, wait: float = 10.0) -> Iterator[None]:
        """Whoever writes into the Run does it within this context: no other process does at the same time.

        What killed processes left half written is removed first; digests.json knows afterwards what has changed. May be
        entered again within itself.

        Args:
            wait: seconds to wait for another process that writes.

        Raises:
            RunError: another process has the Run, or the folder cannot be written.
        """
        with locked(self.folder, wait=wait) as outermost:
            if not outermost:
                yield
                return
            atomic.sweep(self.folder)
            with renewed(self.folder):
                yield

    def close(self) -> None:
        """Mark the Run as finished: digests of all its files are kept. Raises RunError: it cannot be written."""
        write_digests(self.folder)

    @property
    def saved(self) -> bool:
        """Whether the trained model is there."""
        return self.weights_path.exists() and self.config_path.exists()

    @property
    def finished(self) -> bool:
        """Whether the model is saved and judged, and the report written."""
        return self.saved and self.evaluated and self.report_path.exists() and (self.folder / "README.md").exists()

    @property
    def closed(self) -> bool:
        """Whether the finished Run has digests of its files; Runs of earlier versions have none."""
        return self.finished and (self.folder / DIGESTS).exists()

    @property
    def evaluated(self) -> bool:
        """Whether the model has been judged."""
        return (self.folder / "evaluation.json").exists()

    @property
    def recipe_path(self) -> Path:
        """recipe.yaml."""
        return self.folder / "recipe.yaml"

    @property
    def config_path(self) -> Path:
        """config.json."""
        return self.folder / "config.json"

    @property
    def weights_path(self) -> Path:
        """model.safetensors."""
        return self.folder / "model.safetensors"

    @property
    def report_path(self) -> Path:
        """report.html."""
        return self.folder / "report.html"

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe. Raises RecipeError when the file is damaged."""
        return load_recipe(self.recipe_path)

    def read_json(self, name: str) -> Any:
        """A JSON file of the Run, its notes as ``Note``.

        Raises:
            RunError: it is missing or not JSON.
        """
        path = self.folder / name
        try:
            return from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise RunError.of("problem.run_no_file", where=str(path)) from error
        except (OSError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RunError.of("problem.run_bad_json", where=str(path), why=str(error)) from error

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the Run, whole or not at all; notes are stored as keys with arguments."""
        atomic.write_json(self.folder / name, to_json(value))

    @property
    def evaluation(self) -> dict[str, Any]:
        """Figures on the held-out rows, {} before they are measured."""
        if not (self.folder / "evaluation.json").exists():
            return {}
        result = self.read_json("evaluation.json")
        if not isinstance(result, dict):
            do = "restore the file, or evaluate again"
            raise RunError(self.folder / "evaluation.json", "an object", f"'{result}'"[:60], do)
        return result

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, [] before training begins; a last line cut short by a kill is left out.

        Raises:
            RunError: another line is damaged.
        """
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        with reachable(path):
            lines = list(json_lines(path.read_text(encoding="utf-8", errors="replace")))
        result: list[dict[str, Any]] = []
        for number, line in lines:
            try:
                result.append(from_json(dict(json.loads(line))))
            except (ValueError, TypeError) as error:
                if number == lines[-1][0]:
                    break
                do = "restore the file, or remove that line"
                raise RunError(f"{path}, line {number}", "a JSON object", f"'{line[:60]}'", do) from error
        return result

    def load(self, *, precision: str = "fp32") -> Any:
        """The model, ready to answer: what ``rebus.load`` gives. Arguments and errors as there."""
        model = importlib.import_module("rebus.model")  # it stands above this room
        return model.load(self, precision=precision)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        rows = []
        for task, score in self.evaluation.get("tasks", {}).items():
            for name, value in score.get("metrics", {}).items():
                base = score.get("baseline", {}).get(name)
                cells = [task, name, f"{value:.3f}", "" if base is None else f"{base:.3f}"]
                rows.append(cells)
        table = html_table(["task", "metric", "value", "baseline"], rows) if rows else "<p>not evaluated yet</p>"
        return f"<h4>Run {html.escape(str(self.folder))}</h4>{table}"
