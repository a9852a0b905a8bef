"""What Rebus can be asked for, in Python: each verb of the command line is one function here."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, Unpack

from rebus import atomic
from rebus.checkpoints.digests import Verification, verify_files
from rebus.checkpoints.run_folder import Run
from rebus.comparison import Comparison
from rebus.comparison import compare as compare_strategies
from rebus.data.check import CheckReport
from rebus.data.corpus import Manifest
from rebus.data.corpus.cleaning.cleaner import CleaningReport
from rebus.data.corpus.prepare import clean_text, make_shards
from rebus.data.in_memory import Image, TableLike, table_path, usable_image, write_rows
from rebus.data.tars.making import holds_images, make_tars
from rebus.data.tars.manifest import TarManifest
from rebus.data.tars.writing import Recode
from rebus.errors import DataError, RecipeError, RunError
from rebus.evaluation.class_prompts import judge_frozen
from rebus.evaluation.evaluate import Evaluation
from rebus.evaluation.evaluate import evaluate_run as evaluate_folder
from rebus.explain.explaining import ExplainOptions
from rebus.explain.faithfulness import Faithfulness
from rebus.explain.result import Explanation
from rebus.generation.sampling import SamplingOptions
from rebus.inference.predict_table import PredictSummary
from rebus.inference.predict_table import predict_table as predict_folder
from rebus.loop import parallel
from rebus.loop.optim import build_optimizers
from rebus.model import Model, load
from rebus.progress import shown
from rebus.recipe import Kind, Recipe, TaskSettings, as_yaml, load_recipe, override
from rebus.report.checked import check_maps
from rebus.report.compose import keep_ablation, write_outputs
from rebus.report.flow import Flow, write_flow
from rebus.report.flow import flow as follow
from rebus.report.summary import summary_lines
from rebus.resolve.from_towers import name_towers
from rebus.resolve.scaling import DIALLED
from rebus.retrieval.build_index import IndexSummary, index_run
from rebus.retrieval.search import Hit, find_run
from rebus.training.dry_run import look_at
from rebus.training.losses import summed_loss
from rebus.training.train import Ready, Trained, learn, make_ready

LONG = 20.0  # seconds after which a dry run measures no further step
Settings = Sequence[str] | dict[str, Any] | None
AnyModel: TypeAlias = str | Path | Run | Model  # a Run, another project's checkpoint, or what ``load`` gave


def train(
    data: TableLike,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
    vision: str | Path | None = None,
    text: str | Path | None = None,
    ignore: Sequence[str] = (),
    time_limit: float | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Run:
    """Train a model on a table and leave a Run folder.

    Args:
        data: a table (CSV, TSV, JSON, JSONL, Parquet, Excel), a folder, a list of dictionaries, a DataFrame or a
            pyarrow.Table. What is in memory is kept beside the Run as NAME.parquet, so that the run can be
            resumed.
        task: one or more tasks; None: found from the columns.
        recipe: settings to start from, or the file that holds them.
        out: the Run folder; None: a new folder under runs/.
        settings: changes, as ``{"train.lr": 1e-3}`` or ``["train.lr=1e-3"]``.
        base: a Run, a checkpoint folder, a .gguf file or a hub id whose weights and tokenizer to start from.
        vision: a Run, a checkpoint folder or a hub id whose image tower to start from.
        text: the same for the text tower and its tokenizer, or a .gguf file; or the kind of a fresh text tower. With
            both, the run has two stages unless ``train.stages`` says otherwise.
        ignore: columns that are not read at all.
        time_limit: minutes.
        seed: of weights, order and augmentation.
        quiet: print nothing.

    Raises:
        RebusError: the data, the recipe or the folder cannot be used; said before any work is done.
    """
    folder = Path(out) if out is not None else _new_folder(data)
    run = Run(folder)
    log = _teller(quiet)

    def begin() -> Trained:
        path = _kept(data, folder)
        result = make_recipe(
            path,
            task,
            recipe,
            settings,
            time_limit=time_limit,
            seed=seed,
            base=base,
            vision=vision,
            text=text,
            ignore=ignore,
        )
        return learn(result, folder, log=log, quiet=quiet)

    _train(run, begin, log)
    return run


def _train(run: Run, begin: Callable[[], Trained], log: Callable[[str], None]) -> None:
    """Train a Run and write what it lacks afterwards: report, card, digests; figures and times are printed."""
    if not parallel.is_first():
        begin()
        return
    with run.writing(wait=0.0):
        reported, trained = run.finished, begin()
        if run.saved and run.evaluated:
            if not reported:
                start = time.monotonic()
                write_outputs(run, predictor=trained.predictor, table=trained.table)
                for line in summary_lines(run.evaluation, report=time.monotonic() - start):
                    log(line)
            run.close()


def resume(
    run: str | Path, *, data: str | Path | None = None, accept_changes: bool = False, quiet: bool = False
) -> Run:
    """Go on with a Run that was interrupted, wherever that was; does nothing to one that is finished.

    Args:
        run: the Run folder.
        data: where the data is now; None: where it was.
        accept_changes: go on although the recipe or the data have changed since the run began.
        quiet: print nothing.

    Raises:
        RunError: there is no Run to go on with, or what it was begun with has changed.
    """
    folder = Run.begun(run)
    if folder.closed:
        return folder
    log = _teller(quiet)

    def begin() -> Trained:
        if folder.saved and folder.evaluated:
            return Trained(folder.folder)
        place = {} if data is None else {"data.path": str(Path(data).resolve())}
        settings = folder.recipe.replace(place)
        return learn(settings, folder.folder, resume=True, log=log, quiet=quiet, accept_changes=accept_changes)

    _train(folder, begin, log)
    return folder


@dataclass(frozen=True)
class DryRun:
    """What a run would be.

    Attributes:
        recipe_text: the complete recipe, as YAML.
        parameters: numbers that are learned.
        memory_mb: estimate of the memory training needs, in MiB.
        seconds: estimate of the time of training, from some steps measured here; the limit where there is one.
        steps: updates; an estimate where there is a time limit.
        epochs: passes over the training rows; likewise.
    """

    recipe_text: str
    parameters: int
    memory_mb: float
    seconds: float | None
    steps: int
    epochs: float


def dry_run(
    data: TableLike,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
    base: str | Path | None = None,
    vision: str | Path | None = None,
    text: str | Path | None = None,
    time_limit: float | None = None,
    seed: int | None = None,
) -> DryRun:
    """The resolved recipe with estimates, from a few steps that are thrown away. Arguments and errors as ``train``."""
    with table_path(data) as path, TemporaryDirectory() as folder:
        result = make_recipe(
            path, task, recipe, settings, time_limit=time_limit, seed=seed, base=base, vision=vision, text=text
        )
        ready = make_ready(result, _teller(False), Path(folder) / "shards")
        train = ready.recipe.train
        step = _step_seconds(ready)
        parameters = ready.model.count_parameters()
        state = 16 * parameters / 2**20  # weights, gradients and two moments, four bytes each
        limit = 60 * train.time_limit if train.time_limit else None
        # of a limit, a twelfth or so goes to validations and checkpoints
        steps = max(int(0.92 * limit / step), 1) if limit else ready.total_steps or 0
        needed = state + ready.memory_mb() + 400
        epochs = steps / max(ready.builder.steps_per_epoch, 1e-9)
    return DryRun(ready.recipe.save_text(), parameters, needed, limit or steps * step, steps, epochs)


def _step_seconds(ready: Ready) -> float:
    """Seconds of a training step, from up to four after a first one; the model learns from them."""
    train, spent = ready.recipe.train, []
    optimizers = build_optimizers(ready.model, train)
    for step in range(5):
        start = time.perf_counter()
        batch = ready.builder.parts_at(step, 1.0)[0]
        loss, _ = summed_loss(ready.tasks, ready.model(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        passed = (time.perf_counter() - start) * train.accumulate
        start = time.perf_counter()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        spent.append(passed + time.perf_counter() - start)
        if sum(spent) > LONG:
            break
    usual = sorted(spent[1:] or spent)
    return usual[len(usual) // 2]


def predict(
    run: str | Path | Run, data: TableLike, out: str | Path, *, split: str | None = None, quiet: bool = False
) -> PredictSummary:
    """Predict every row of a table into ``out`` (.csv, .jsonl or .parquet); see ``rebus.inference.predict_table``.

    For predictions in memory see ``Model.predict``. ``split``: only rows of train, valid or test. ``quiet``: show no
    progress.
    """
    with table_path(data) as path, shown(not quiet):
        return predict_folder(Run.open(_folder(run)), _named(path), out, split=split)


def evaluate(
    run: str | Path | Run,
    data: TableLike | None = None,
    *,
    split: str | None = None,
    by: str | None = None,
    task: str | Sequence[str] | None = None,
    kinds: dict[str, Kind] | None = None,
    probe: str | None = None,
    zero_shot: bool = False,
    labels: Sequence[str] | None = None,
    lang: str | None = None,
    ablate: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Figures of a Run, or of a checkpoint of another project, on a table; see ``rebus.evaluation.evaluate``.

    Args:
        run: the model.
        data: a table; None: the one the Run was trained from.
        split: train, valid, test or all.
        by: a column whose values are also judged apart.
        task: what to judge it on.
        kinds: column: kind, where the guess is wrong.
        probe: ``linear`` or ``knn``: judge frozen features on the table's labels; see
            ``rebus.evaluation.linear_probe``.
        zero_shot: judge a model with a shared space on classes named only; see ``rebus.evaluation.class_prompts``.
        labels: names of these classes; None: the table's own.
        lang: ``en`` or ``zh``, of the sentences around them; None: that of each name. With ``ablate``: of the verdict.
        ablate: also what the model loses when its images or its text are taken away. Of the Run's own test rows that
            is kept in its evaluation.json, its report and its card.
        quiet: show no progress.

    Raises:
        RebusError: the model or the table cannot be read, or the options do not go together.
    """
    if ablate and (probe is not None or zero_shot):
        received = "--zero-shot" if zero_shot else "--probe"
        raise RecipeError("--ablate", "the task that the model was trained for", received, "leave one of the two out")
    if (labels is not None or (lang is not None and not ablate)) and not zero_shot:
        flag = "--labels" if labels is not None else "--lang"
        raise RecipeError(flag, "--zero-shot beside it", "none", "add --zero-shot, or leave it out")
    folder = _folder(run)
    with table_path(data) as path, shown(not quiet):
        if probe is not None or zero_shot:
            return judge_frozen(
                folder, path, probe=probe, labels=labels, lang=lang, task=task, split=split, by=by, kinds=kinds
            )
        evaluation = evaluate_folder(folder, path, split=split, by=by, task=task, kinds=kinds, ablations=ablate)
    if ablate:
        keep_ablation(Run(folder), evaluation, lang, own=data is None and split in (None, "test") and task is None)
    return evaluation


def ask(
    run: AnyModel,
    image: Image = None,
    question: str = "",
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> str:
    """One answer as text. Arguments and errors as for ``Model.ask``; load the model once to ask it often."""
    return _loaded(run, precision).ask(image, question, system=system, max_new_tokens=max_new_tokens)


def chat(
    run: AnyModel,
    messages: Sequence[Mapping[str, Any]],
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    **options: Unpack[SamplingOptions],
) -> str:
    """The answer to a conversation's last message. Arguments and errors as for ``Model.chat``."""
    return str(_loaded(run, precision).chat(messages, **options))


def generate(
    run: AnyModel,
    prompt: str | Sequence[str],
    *,
    stop: str | Sequence[str] = (),
    json_schema: str | Mapping[str, Any] | None = None,
    regex: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    **options: Unpack[SamplingOptions],
) -> Any:
    """Go on from a prompt, or from each of several. Arguments, result and errors as for ``Model.generate``."""
    return _loaded(run, precision).generate(
        prompt, stop=stop, json_schema=json_schema, regex=regex, stream=False, **options
    )


def explain_answer(
    run: AnyModel, image: Image = None, text: str = "", **options: Unpack[ExplainOptions]
) -> Explanation:
    """Where a model looked and which words mattered. Arguments and errors as for ``Model.explain``."""
    return _loaded(run).explain(image, text, **options)


def flow(
    run: AnyModel,
    image: Image = None,
    text: str = "",
    *,
    columns: Mapping[str, Any] | None = None,
    task: str | None = None,
    lang: Literal["en", "zh"] = "en",
    out: str | Path | None = None,
) -> Flow:
    """One example followed through a model, from the file to the answer; ``out``: also written there as a page.

    Arguments and errors as for ``rebus.report.flow.flow``.
    """
    result = follow(_loaded(run).predictor, image=usable_image(image), text=text, columns=columns, task=task, lang=lang)
    if out is not None:
        write_flow(out, result)
    return result


def index(
    run: str | Path | Run,
    data: TableLike,
    *,
    out: str | Path | None = None,
    kinds: dict[str, Kind] | None = None,
    quiet: bool = False,
) -> IndexSummary:
    """Embed a collection's images and texts to be searched; see ``rebus.retrieval.build_index``."""
    with table_path(data) as path:
        return index_run(_folder(run), _named(path), out=out, kinds=kinds, log=_teller(quiet))


def find(
    run: str | Path | Run,
    query: str,
    *,
    k: int = 10,
    index: str | Path | None = None,
    what: Literal["image", "text"] | None = None,
    rerank: bool = False,
    quiet: bool = False,
) -> list[Hit]:
    """What is nearest to a text or an image in an indexed collection; see ``rebus.retrieval.search``."""
    return find_run(_folder(run), query, k=k, index=index, what=what, rerank=rerank, log=_teller(quiet))


def compare(
    data: TableLike,
    *,
    task: str | None = None,
    recipe: Recipe | str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = None,
    folds: int | None = None,
    repeats: int | None = None,
    only: str | Sequence[str] = (),
    time_limit: float | None = None,
    seed: int | None = None,
    lang: str = "en",
    quiet: bool = False,
    command: str = "",
) -> Comparison:
    """Text alone, images alone and every way of joining them, trained on the same rows with the same budget.

    Args:
        data: a table (CSV, TSV, JSON, JSONL, Parquet) or a folder.
        task: classify, tag, regress, answer, caption or another that reads images and text; None: from the columns.
        recipe: settings to start from, or the file that holds them.
        out: the folder; None: ``runs/NAME-compare``. A comparison that was begun there goes on; finished runs stay.
        settings: changes, as for ``train``; ``train.steps`` or ``train.epochs`` is the budget of each training.
        folds: parts the rows are dealt to, each judged once; None: 3, or what the table says of its test rows.
        repeats: instead of folds, deal the rows anew so many times.
        only: strategies: text, image, joint (or joint-concat, ...), unified, cross; empty: all.
        time_limit: minutes of each training, as the budget.
        seed: of weights, order and augmentation.
        lang: en or zh, of the verdict and the report.
        quiet: print nothing.
        command: shown in the report as the way to do it again.

    Raises:
        RebusError: the data, the settings or the folder cannot be used; said before any work is done.
        KeyboardInterrupt: a signal; the same call goes on where it was.
    """
    folder = Path(out) if out is not None else Path("runs") / f"{_stem(data)}-compare"
    path = _kept(data, folder)
    result = make_recipe(path, task, recipe, settings, time_limit=time_limit, seed=seed)
    return compare_strategies(
        result,
        folder,
        folds=folds,
        repeats=repeats,
        only=[only] if isinstance(only, str) else list(only),
        language=lang,
        command=command or f"rebus compare {path} --out {folder}",
        log=_teller(quiet),
    )


def check(
    data: TableLike,
    *,
    task: str | Sequence[str] | None = None,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
) -> CheckReport:
    """What training would see and say of a table, without training.

    Raises:
        DataError: the table cannot be read at all.
    """
    with table_path(data) as path:
        return look_at(make_recipe(path, task, recipe, settings)).report


def shard(
    data: TableLike,
    out: str | Path,
    *,
    shard_mb: float | None = None,
    recode: Literal["jpeg", "png", "webp"] | None = None,
    side: int | None = None,
    quality: int = 90,
    shuffle: bool = False,
    tokenizer: str | Path | None = None,
    words: bool = False,
    rebuild: bool = False,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
    quiet: bool = False,
) -> TarManifest | Manifest:
    """Write shards to train from: tar files of a table with images (WebDataset), or tokens of raw text.

    Args:
        data: a table with images, tar shards, or text; or a folder of them.
        out: the folder of the shards.
        shard_mb: images: size of a shard in MiB; None: 256.
        recode: images: encode them anew; None: their own bytes.
        side: images, with ``recode``: longer side at most, in pixels.
        quality: images: of ``recode`` jpeg and webp.
        shuffle: images: in an order that the recipe's seed decides.
        tokenizer: text: a Run or a tokenizer.json; None: one is trained.
        words: text: also store where words start, for masked models.
        rebuild: throw away shards of another source, tokenizer or settings.
        recipe: settings to start from, or the file that holds them.
        settings: changes, as for ``train``.
        quiet: print nothing.

    Raises:
        RebusError: the source cannot be read, or the folder cannot be written.
    """
    log = _teller(quiet)
    with table_path(data) as path:
        result = make_recipe(path, None, recipe, settings)
        of_text = words or tokenizer is not None or result.corpus.column is not None
        if shard_mb is not None or recode is not None or (not of_text and holds_images(result)):
            how, size = Recode(recode, side, quality), shard_mb or 256.0
            return make_tars(result, out, shard_mb=size, recode=how, shuffle=shuffle, rebuild=rebuild, log=log)
        return make_shards(result, out, tokenizer=tokenizer, words=words, rebuild=rebuild, log=log)


def clean(
    data: TableLike,
    out: str | Path | None = None,
    *,
    recipe: Recipe | str | Path | None = None,
    settings: Settings = None,
) -> CleaningReport:
    """What cleaning raw text leaves out and changes, by reason; ``out``: a JSONL file for what is kept.

    Raises:
        DataError: the text cannot be read. RunError: the file cannot be written.
    """
    with table_path(data) as path:
        return clean_text(make_recipe(path, None, recipe, settings), out)


def write_report(run: str | Path | Run, *, lang: str = "en") -> Path:
    """Write a Run's report.html and model card again, in English or Chinese."""
    if lang not in ("en", "zh"):
        raise RecipeError("--lang", "en or zh", f"'{lang}'", "choose one")
    return write_outputs(Run.open(_folder(run)), lang=lang)


def verify(run: str | Path | Run) -> Verification:
    """Read every file of a finished Run and compare it with the digests that were kept when it was written.

    Raises:
        RunError: there is no Run, or it has no digests.
    """
    return verify_files(Run.begun(_folder(run)).folder)


def write_demo(folder: str | Path) -> Path:
    """Write the demo's table of scenes."""
    from rebus.demo import write_demo_scenes

    return write_demo_scenes(Path(folder))


def run_demo(out: str | Path = "demo", *, time_limit: float | None = None, lang: str = "en") -> Run:
    """Train on images by six artists, then answer questions about images by two others."""
    from rebus import demo

    return demo.run_demo(Path(out), minutes=time_limit, lang=lang)


def make_recipe(
    data: str | Path | None,
    task: str | Sequence[str] | None,
    recipe: Recipe | str | Path | None,
    settings: Settings,
    *,
    time_limit: float | None = None,
    seed: int | None = None,
    base: str | Path | None = None,
    vision: str | Path | None = None,
    text: str | Path | None = None,
    ignore: Sequence[str] = (),
) -> Recipe:
    """One recipe from all that was said. Raises RecipeError."""
    result = recipe if isinstance(recipe, Recipe) else load_recipe(recipe) if recipe else Recipe()
    places = {"data.path": data, "base": base}
    result = name_towers(
        result.replace({path: str(place) for path, place in places.items() if place is not None}), vision, text
    )
    names = [task] if isinstance(task, str) else list(task or [])
    if names:
        known = {entry.name: entry for entry in result.tasks}
        result = result.replace(tasks=[known.get(name, TaskSettings(name=name)) for name in names])
    if recipe is not None and result.model.size is not None and _turns_dial(settings, result.model.size):
        result = result.reset(DIALLED)
    words = [f"{key}={as_yaml(value)}" for key, value in settings.items()] if isinstance(settings, dict) else settings
    words = [*([f"data.ignore={as_yaml(list(ignore))}"] if ignore else []), *(words or [])]
    words += [] if time_limit is None else [f"train.time_limit={time_limit}"]
    words += [] if seed is None else [f"seed={seed}"]
    return override(result, words)


def _turns_dial(settings: Settings, size: str) -> bool:
    """Whether the settings turn the dial of a recipe that it has been turned in already."""
    text = (
        settings if isinstance(settings, dict) else dict(word.split("=", 1) for word in settings or [] if "=" in word)
    )
    return str(text.get("model.size", size)).strip("\"'") != size


def _new_folder(data: TableLike) -> Path:
    """A new folder under runs/, made at once so that two starts do not meet in one."""
    number = 1
    while True:
        folder = Path("runs") / f"{_stem(data)}-{number}"
        try:
            if not folder.exists():
                if parallel.world() == 1:  # several processes must choose the same, whichever is faster
                    folder.mkdir(parents=True)
                return folder
        except FileExistsError:
            pass
        except OSError as error:
            raise atomic.explained(folder, error) from error
        number += 1


def _stem(data: TableLike) -> str:
    if not isinstance(data, str | Path):
        return "table"
    return re.sub(r"[*?\[\]{}]+", "", Path(data).resolve().stem).strip("-_.") or "run"  # of a pattern, what is plain


def _kept(data: TableLike, folder: Path) -> str | Path:
    """The path of a table; one in memory is written beside the folder that is made from it."""
    if isinstance(data, str | Path):
        return data
    path = folder.with_name(f"{folder.name}.parquet")
    if (folder / "recipe.yaml").exists():  # its table is not to be replaced
        raise RunError(folder, "a new or empty folder", "a Run", "choose another folder, or go on with rebus.resume")
    return write_rows(data, path)


def _named(path: str | Path | None) -> str | Path:
    if path is None:
        raise DataError("the table", "a path, rows or a DataFrame", "None", "give a table")
    return path


def _folder(run: str | Path | Run) -> str | Path:
    return run.folder if isinstance(run, Run) else run


def _loaded(run: AnyModel, precision: str = "fp32") -> Model:
    return run if isinstance(run, Model) else load(run, precision=precision)


def _teller(quiet: bool) -> Callable[[str], None]:
    if quiet or not parallel.is_first():
        return lambda _: None
    from rich.console import Console

    return lambda text: Console(stderr=True, highlight=False).print(text, style="dim", markup=False, soft_wrap=True)


__all__ = [
    "CheckReport",
    "Comparison",
    "DryRun",
    "Evaluation",
    "Explanation",
    "Faithfulness",
    "Flow",
    "Hit",
    "IndexSummary",
    "Model",
    "PredictSummary",
    "ask",
    "chat",
    "check",
    "check_maps",
    "clean",
    "compare",
    "dry_run",
    "evaluate",
    "explain_answer",
    "find",
    "flow",
    "generate",
    "index",
    "load",
    "predict",
    "resume",
    "run_demo",
    "shard",
    "train",
    "verify",
    "write_demo",
    "write_report",
]
