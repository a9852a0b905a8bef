"""What Rebus can be asked for, in Python: each verb of the command line is one function here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebus.data.check import CheckReport, check_table
from rebus.data.kinds import infer
from rebus.data.readers import read_table
from rebus.data.splits import assign_splits
from rebus.errors import DataError, RecipeError
from rebus.generation.write import Sampling
from rebus.recipe import Recipe, TaskSettings, as_yaml, load_recipe, override
from rebus.report.compose import write_outputs
from rebus.run.evaluate import Evaluation
from rebus.run.evaluate import evaluate_run as evaluate_folder
from rebus.run.folder import Run
from rebus.run.learn import assemble, learn, summed_loss
from rebus.run.predict import PredictSummary
from rebus.run.predict import predict_table as predict_folder
from rebus.run.predictor import Predictor
from rebus.run.prepare import filled
from rebus.tasks import Prediction
from rebus.training import parallel

Settings = Sequence[str] | dict[str, Any] | None


def train(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
    time_limit: float | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Run:
    """Train a model on a table and leave a Run folder.

    Args:
        data: a table (CSV, TSV, JSON, JSONL, Parquet) or a folder.
        task: one or more tasks; None: found from the columns.
        recipe: settings to start from, or the file that holds them.
        out: the Run folder; None: a new folder under runs/.
        settings: changes, as ``{"train.lr": 1e-3}`` or ``["train.lr=1e-3"]``.
        base: a Run whose weights and tokenizer to start from.
        time_limit: minutes.
        seed: of weights, order and augmentation.
        quiet: print nothing.

    Raises:
        RebusError: the data, the recipe or the folder cannot be used; said before any work is done.
    """
    made = make_recipe(data, task, recipe, settings, time_limit=time_limit, seed=seed)
    folder = Path(out) if out is not None else _new_folder(data)
    learn(made, folder, base=Path(base) if base is not None else None, tell=_teller(quiet), quiet=quiet)
    run = Run(folder)
    if parallel.is_first() and run.weights_path.exists():
        write_outputs(run)
    return run


def resume(run: str | Path, *, quiet: bool = False) -> Run:
    """Go on with a Run that was interrupted; does nothing to one that is finished.

    Raises:
        RunError: there is no Run to go on with, or its checkpoints are all damaged.
    """
    folder = Run.begun(run)
    if folder.config_path.exists() and folder.weights_path.exists():
        return folder
    learn(folder.recipe, folder.folder, resume=True, tell=_teller(quiet), quiet=quiet)
    if parallel.is_first() and folder.weights_path.exists():
        write_outputs(folder)
    return folder


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Attributes:
        recipe_text: the complete recipe, as YAML.
        parameters: numbers that are learned.
        memory_mb: estimate of the memory training needs, in MiB.
        seconds: estimate of the time, from two steps measured here.
    """

    recipe_text: str
    parameters: int
    memory_mb: float
    seconds: float | None


def dry_run(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
) -> DryRun:
    """The resolved recipe with estimates, from two steps that are thrown away. Raises as ``train``."""
    made = make_recipe(data, task, recipe, settings)
    ready = assemble(made, _teller(True), base=Path(base) if base is not None else None)
    train = ready.prepared.recipe.train
    spent = []
    for step in range(2):
        batch = ready.feed.batch_at(step, 1.0)
        start = time.perf_counter()
        loss, _ = summed_loss(ready.prepared.tasks, ready.model(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        spent.append(time.perf_counter() - start)
    parameters = ready.model.count_parameters()
    state = 16 * parameters / 2**20  # weights, gradients and two moments, four bytes each
    pictures = ready.prepared.pictures()
    cached = 0.0
    if pictures is not None:
        cached = min(float(ready.prepared.recipe.data.cache_mb), len(ready.feed.groups) * pictures.size**2 * 3 / 2**20)
    activations = train.batch_size / train.accumulate * ready.prepared.recipe.picture.size**2 * 200 / 2**20
    seconds = train.time_limit * 60 if train.time_limit else (ready.total_steps or 0) * min(spent)
    return DryRun(ready.prepared.recipe.save_text(), parameters, state + cached + activations + 400, seconds)


class Model:
    """A trained model, ready to answer.

    Args:
        predictor: what ``rebus.load`` made.
        run: the Run it came from.
    """

    def __init__(self, predictor: Predictor, run: Run) -> None:
        self.predictor, self.run = predictor, run

    @property
    def tasks(self) -> list[str]:
        """What it can do."""
        return [name for name, task in self.predictor.tasks.items() if task.predicts]

    def ask(self, picture: Any, question: str = "", *, temperature: float = 0.0, seed: int = 0) -> str:
        """One answer as text.

        Args:
            picture: a path, the bytes of a picture file, an array (H, W, 3) of uint8, or None.
            question: may be empty for a model that captions or classifies.
            temperature: 0: the likeliest words; above 0 they are drawn.
            seed: of the draw.

        Raises:
            PictureError: the picture cannot be read. DataError: the model cannot be asked that.
        """
        sampling = Sampling(temperature=temperature, seed=seed) if temperature > 0 else None
        said = self.predictor.ask(picture, question, sampling=sampling).value
        return ", ".join(said) if isinstance(said, list) else str(said)

    def chat(self, messages: Sequence[dict[str, Any]]) -> str:
        """Answer the last message of a conversation; the picture shown last is the one it is about.

        Args:
            messages: ``{"role", "content"}``, content a text or a list of ``{"type": "text", "text"}`` and
                ``{"type": "image", "path"}`` parts. Models trained on single questions read the last question only.

        Raises:
            DataError: no message of the user's.
        """
        picture, question = None, None
        for message in messages:
            if message.get("role") != "user":
                continue
            content = message.get("content", "")
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            question = " ".join(part["text"] for part in parts if part.get("type") == "text")
            picture = next((part["path"] for part in parts if part.get("type") == "image"), picture)
        if question is None:
            raise DataError("chat", "a message of the user's", "none", 'add {"role": "user", "content": "..."}')
        return self.ask(picture, question)

    def predict(
        self, rows: Sequence[dict[str, Any]] | dict[str, Any], *, task: str | None = None, root: str | Path = "."
    ) -> list[Prediction]:
        """Predictions for rows given as dictionaries; see ``Predictor.predict``."""
        return self.predictor.predict(rows, task=task, root=root)

    def evaluate(
        self, data: str | Path | None = None, *, split: str | None = None, by: str | None = None
    ) -> Evaluation:
        """Figures on a table; None: the held-out rows of the table it was trained on."""
        return evaluate_folder(self.run, data, split=split, by=by)

    def __repr__(self) -> str:
        return f"Model({str(self.run.folder)!r}, tasks={self.tasks})"


def load(run: str | Path | Run) -> Model:
    """The model of a Run folder.

    Raises:
        RunError: the folder is missing, unfinished or damaged; WeightsError: its weights do not fit its recipe.
    """
    folder = run.folder if isinstance(run, Run) else Path(run)
    return Model(Predictor.open(folder), Run(folder))


def predict_table(run: str | Path, data: str | Path, out: str | Path) -> PredictSummary:
    """Predict every row of a table into ``out`` (.csv, .jsonl or .parquet); see ``rebus.run.predict``."""
    return predict_folder(Run.open(run), data, out)


def evaluate_run(
    run: str | Path, data: str | Path | None = None, *, split: str | None = None, by: str | None = None
) -> Evaluation:
    """Figures of a Run on a table; see ``rebus.run.evaluate``."""
    return evaluate_folder(Run.open(run), data, split=split, by=by)


def check(
    data: str | Path,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
) -> CheckReport:
    """What training would see and say of a table, without training.

    Raises:
        DataError: the table cannot be read at all.
    """
    made = make_recipe(data, task, recipe, settings)
    table = read_table(made.data)
    inference = infer(table, made.data.kinds, [entry.name for entry in made.tasks])
    tasks = filled(made.tasks, inference) if made.tasks or inference.tasks else []
    pictures = [column for column, kind in inference.kinds.items() if kind == "picture"]
    splits = assign_splits(table, made.data.split, pictures, seed=0)
    return check_table(table, made.data, inference.kinds, tasks, splits)


def write_report(run: str | Path, *, lang: str = "en") -> Path:
    """Write a Run's report.html and model card again, in English or Chinese."""
    if lang not in ("en", "zh"):
        raise RecipeError("--lang", "en or zh", f"'{lang}'", "choose one")
    return write_outputs(Run.open(run), lang=lang)


def write_demo(folder: str | Path) -> Path:
    """Write the demo's table of scenes."""
    from rebus.demo import write_demo_scenes

    return write_demo_scenes(Path(folder))


def demo(out: str | Path, *, minutes: float | None = None, lang: str = "en") -> Run:
    """Train on six artists' pictures, answer about two others'."""
    from rebus.demo import run_demo

    return run_demo(Path(out), minutes=minutes, lang=lang)


def make_recipe(
    data: str | Path,
    task: str | Sequence[str] | None,
    recipe: Recipe | str | Path | None,
    settings: Settings,
    *,
    time_limit: float | None = None,
    seed: int | None = None,
) -> Recipe:
    """One recipe from all that was said. Raises RecipeError."""
    made = recipe.model_copy(deep=True) if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    made.data.path = str(data)
    names = [task] if isinstance(task, str) else list(task or [])
    if names:
        known = {entry.name: entry for entry in made.tasks}
        made.tasks = [known.get(name, TaskSettings(name=name)) for name in names]
    words = [f"{key}={as_yaml(value)}" for key, value in settings.items()] if isinstance(settings, dict) else settings
    made = override(made, list(words or []))
    if time_limit is not None:
        made = override(made, [f"train.time_limit={time_limit}"])
    if seed is not None:
        made = override(made, [f"seed={seed}"])
    return made


def _new_folder(data: str | Path) -> Path:
    name = Path(data).resolve().stem or "run"
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def _teller(quiet: bool) -> Callable[[str], None]:
    if quiet or not parallel.is_first():
        return lambda _: None
    from rich.console import Console

    return lambda text: Console(stderr=True, highlight=False).print(text, style="dim", markup=False)


__all__ = [
    "DryRun",
    "Model",
    "check",
    "demo",
    "dry_run",
    "evaluate_run",
    "load",
    "predict_table",
    "resume",
    "train",
    "write_demo",
    "write_report",
]
