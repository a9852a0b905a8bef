"""What to start from: a Run or a checkpoint for the whole model (``base``), or for one tower (``model.text.weights``).

A base decides the towers and the tokenizer before the data is read (``settle_base``); its tensors are taken over once
the model is built (``start_from``). A resumed run needs neither: its recipe is settled, its checkpoints hold all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rebus import recipe
from rebus.checkpoints.hf_heads import architecture_of
from rebus.checkpoints.hf_load import Checkpoint, is_checkpoint, is_hub_id, read_checkpoint
from rebus.checkpoints.hf_save import PAIRS, run_state
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import processor_of, saved_processor
from rebus.errors import RecipeError, WeightsError
from rebus.models.vlm import VisionLanguageModel
from rebus.resolve.known import Log, Start
from rebus.tasks import TASKS, TextProcessor

# What a tower is, as against how it is trained and read
SHAPE = (
    *("kind", "width", "depth", "heads", "kv_heads", "hidden", "head_dim", "qk_norm", "tied", "rope_theta"),
    *("rope_scaling", "eps", "bias", "norm", "feedforward", "activation", "positions", "context", "rows", "segments"),
    *("patch", "cell", "norm_first", "causal", "filler", "class_token", "patch_bias", "pre_norm", "last_norm"),
    *("layer_scale", "block", "stages", "channels"),
)
SEEN = ("size", "fit", "mean", "std", "resample", "edge")  # of the recipe's image
JOINED = ("kind", "how", "depth", "heads", "gate", "layout", "projector", "shuffle")  # of the recipe's fusion
READ = ("max_length", "segment", "reader", "options")  # of its text


@dataclass(frozen=True)
class Base:
    """A Run or a checkpoint to start from; one of the two is there.

    Attributes:
        name: as the recipe records it.
        run: a finished Run.
        checkpoint: of another project.
    """

    name: str
    run: Run | None = None
    checkpoint: Checkpoint | None = None


def open_base(name: str, log: Log) -> Base:
    """Look into a base; no weights are read yet.

    Raises:
        RunError: it is a folder without a finished Run. WeightsError, MissingPackageError: it is a checkpoint that
            cannot be read.
    """
    recorded = name if is_hub_id(name) else str(Path(name).resolve())
    if is_checkpoint(name):
        return Base(recorded, checkpoint=read_checkpoint(name, log))
    return Base(recorded, run=Run.open(name))


def settle_base(settings: recipe.Recipe, known: Start, log: Log) -> recipe.Recipe:
    """The recipe with its base's towers; as it is where it names no base.

    What the recipe leaves at its default becomes what the base has. Of a Run, also the image tower, how images are
    seen, the fusion and the length of texts, as far as the recipe does not say otherwise.

    Raises:
        RecipeError: a setting says something else of a tower than the base. Else as ``open_base``.
    """
    if settings.base is None or known.resumed:
        return settings
    base = open_base(settings.base, log)
    wordless = base.run is not None and base.run.recipe.model.text.kind == "none"
    if settings.text.tokenizer is not None and not wordless:
        do = "leave text.tokenizer out, or train without a base"
        raise RecipeError("text.tokenizer", f"nothing, as the base {base.name} brings its own", "a tokenizer", do)
    size = settings.model.size
    if size is not None and (base.run is None or base.run.recipe.model.size != size):
        expected = f"nothing, as the base {base.name} has its shape"
        raise RecipeError("model.size", expected, f"'{size}'", "leave --size out, or train without a base")
    result = settings.replace(base=base.name)
    result = _settle_checkpoint(result, base.checkpoint, base.name, log) if base.checkpoint else result
    result = _settle_run(result, base.run.recipe, base.name) if base.run else result
    return settle_length(settings, result, log)


def _settle_checkpoint(settings: recipe.Recipe, base: Checkpoint, name: str, log: Log) -> recipe.Recipe:
    sentences, architecture = base.sentences, architecture_of(base.config, base.family)
    if architecture is not None:
        log(f"{name}: the head of its {architecture} is left behind; heads are trained anew")
    shape = SHAPE if sentences is None else (*SHAPE, "pool")
    settings = adopt(settings, "model.text", base.tower, shape, name)
    if sentences is not None and sentences.max_length and settings.text.max_length == recipe.Text().max_length:
        settings = settings.replace({"text.max_length": max(4, min(sentences.max_length, settings.text.max_length))})
    return _settle_images(settings, base, name)


def _settle_run(settings: recipe.Recipe, base: recipe.Recipe, name: str) -> recipe.Recipe:
    if base.model.text.kind != "none":
        settings = adopt(settings, "model.text", base.model.text, (*SHAPE, "pool"), name, deeper=True)
    if base.model.image.kind not in ("none", "auto") and settings.model.image.kind != "none":
        settings = adopt(settings, "model.image", base.model.image, SHAPE, name, deeper=True)
        settings = fill(settings, "model.image", base.model.image, ("tokens",))
        settings = fill(settings, "image", base.image, SEEN)
    if base.model.fusion.kind != "none":
        settings = fill(settings, "model.fusion", base.model.fusion, JOINED)
    settings = settings.replace({"model.head": settings.model.head or base.model.head or "normed"})
    return fill(settings, "text", base.text, READ)


def base_processor(settings: recipe.Recipe, log: Log = lambda _: None) -> TextProcessor | None:
    """The tokenizers of the recipe's base, or of what its text tower starts from; None where these bring none.

    A foreign tokenizer without a chat template is given Rebus' special tokens where a task lays its texts out as turns.

    Raises:
        RunError: a tokenizer is missing or damaged. Else as ``open_base``.
    """
    source = settings.base or settings.model.text.weights
    if source is None:
        return None
    base = open_base(source, log)
    if base.run is not None:
        if base.run.recipe.model.text.kind == "none":  # an image tower alone: its tokenizer has seen no text
            return None
        theirs = saved_processor(base.run)
        return processor_of(settings, theirs.tokenizer, theirs.reader)
    assert base.checkpoint is not None  # noqa: S101 - one of the two is there
    tokenizer = base.checkpoint.load_tokenizer(False)
    if not tokenizer.has_chat and any(
        TASKS.get(task.name).lays_turns and task.layout == "chat" for task in settings.tasks
    ):
        tokenizer = base.checkpoint.load_tokenizer(True)
    return processor_of(settings, tokenizer, None)


def start_from(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    processor: TextProcessor,
    base: str | Path | None,
    log: Log,
    *,
    fresh: bool = True,
) -> None:
    """Take over weights where names and shapes agree, and say how many; freeze what the recipe says is frozen.

    Args:
        model: freshly built from ``settings``.
        settings: settled and resolved.
        processor: of the model.
        base: ``settings.base``; None when resuming, or where there is none.
        log: prints a line for people.
        fresh: False when resuming: checkpoints hold all weights, so that towers need not be read again either.

    Raises:
        RecipeError: a tower is to be taken over that the model has not.
        WeightsError: nothing fits, a checkpoint lacks a tensor of its tower, or it is of another shape.
    """
    if base is not None:
        _take_base(model, settings, open_base(str(base), log), log)
    for name in dict.fromkeys(("image", "text", *model.modalities)):
        tower, module = settings.model.tower(name), model.reader if name == "text" else model.tower(name)
        if module is None:
            if tower.weights is not None:
                needed = "an image column" if name == "image" else "a task that reads or writes text"
                received, do = f"none, though {tower.weights} is given for it", f"leave out model.{name}.weights, or "
                do += "name the column with --kind COLUMN=image" if name == "image" else "choose another --task"
                raise RecipeError(f"model.{name}.weights", needed, received, do)
            continue
        if tower.weights is not None and fresh:
            rows = getattr(module, "vocab_size", None)
            state = module.fitted(tower_weights(Path(tower.weights), name, tower, log, rows))
            expected = module.state_dict()
            wrong = [key for key, tensor in state.items() if key in expected and expected[key].shape != tensor.shape]
            if wrong:
                shapes = f"{tuple(expected[wrong[0]].shape)} for '{wrong[0]}'"
                received = str(tuple(state[wrong[0]].shape))
                do = f"set model.{name}'s width, depth and heads to the checkpoint's"
                raise WeightsError(tower.weights, shapes, received, do)
            taken, left = take_fitting(module, state)
            if not taken:
                raise WeightsError(
                    tower.weights, f"weights of a {tower.kind}", "none that fits", "check model." + name + ".kind"
                )
            log(f"{name} tower started from {tower.weights}: {taken} tensors taken over, {left} begin anew")
        if tower.frozen:
            module.requires_grad_(False)


def tower_weights(
    place: Path, name: str, tower: recipe.Tower | recipe.OtherTower, log: Log = lambda _: None, rows: int | None = None
) -> dict[str, Tensor]:
    """One tower's tensors out of a Run or a checkpoint, under the names that Rebus gives them.

    Args:
        place: the Run or checkpoint.
        name: of its modality; a checkpoint that is no Run has towers for images and text alone.
        tower: the settings of the tower that takes them.
        log: prints a line for people.
        rows: that a checkpoint's embeddings should have; None: as they are.

    Raises:
        WeightsError: there are no weights, or they are of a family that is not read.
    """
    prefixes = ("text.", "decoder.") if name == "text" else (f"{name}.",)
    if not is_checkpoint(place):
        run = Run.open(place)
        state = run_state(run.folder, run.read_json("config.json"), run.recipe.model.text)
    elif name == "image":
        state = read_checkpoint(place, log, image_only=True).state()
    else:
        text = read_checkpoint(place, log)
        pool = tower.pool if isinstance(tower, recipe.Tower) else "mean"
        state = text.state(text.tower.replace(pool=pool), rows)
    return {key.removeprefix(p): tensor for key, tensor in state.items() for p in prefixes if key.startswith(p)}


def take_fitting(module: nn.Module, state: dict[str, Tensor]) -> tuple[int, int]:
    """Copy tensors of the same name and shape; gives how many were taken and how many of the module's were not."""
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    module.load_state_dict(fitting, strict=False)
    for name, parameter in module.named_parameters():
        if name in fitting:
            parameter.taken_over = True  # type: ignore[attr-defined]  # rebus.resolve.tune asks
    return len(fitting), len(own) - len(fitting)


def _take_base(model: VisionLanguageModel, settings: recipe.Recipe, base: Base, log: Log) -> None:
    if base.run is not None:
        state = run_state(base.run.folder, base.run.read_json("config.json"), base.run.recipe.model.text)
    else:
        assert base.checkpoint is not None  # noqa: S101 - one of the two is there
        state = base.checkpoint.state(settings.model.text, getattr(model.reader, "vocab_size", None))
        _check_tower(model, base.checkpoint, state)
    if model.image is not None:
        own = {name.removeprefix("image."): tensor for name, tensor in state.items() if name.startswith("image.")}
        state |= {f"image.{name}": tensor for name, tensor in model.image.fitted(own).items()}
    taken, left = take_fitting(model, state)
    if not taken:
        expected, received = "weights that fit this model", "none of the same name and shape"
        raise WeightsError(base.name, expected, received, "use the base's recipe")
    log(f"started from {base.name}: {taken} tensors taken over, {left} begin anew")


def _settle_images(settings: recipe.Recipe, base: Checkpoint, name: str) -> recipe.Recipe:
    """With what a checkpoint is beside its text tower. Raises RecipeError for a setting that says otherwise."""
    spec = base.spec
    if spec.image is not None and settings.model.image.kind != "none":
        settings = adopt(settings, "model.image", spec.image, (*SHAPE, "pool"), name)
        settings = fill(settings, "image", recipe.Image.model_validate(base.image), SEEN)
        if spec.fusion is not None:
            settings = fill(settings, "model.fusion", spec.fusion, JOINED)
    if spec.embed is None:
        return settings
    settings = settings.replace({"model.text.pool": base.tower.pool})
    for place, task in enumerate(settings.tasks):
        if task.name == PAIRS:
            settings = settings.fill({f"tasks.{place}.loss": spec.loss})
    if settings.model.embed in (None, spec.embed):
        settings = settings.replace({"model.embed": spec.embed, "model.maps": spec.maps})
    return settings


def _check_tower(model: VisionLanguageModel, checkpoint: Checkpoint, state: dict[str, Tensor]) -> None:
    """A checkpoint must hold all of its tower; layers that only Rebus adds, for images and poolers, begin anew."""
    prefix = f"{checkpoint.part}."
    expected = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefix)}
    own = {name for name in expected if "cross_" not in name and "memory_norm" not in name and ".pooler." not in name}
    lacking = sorted(own - state.keys())
    wrong = sorted(name for name in own & state.keys() if expected[name].shape != state[name].shape)
    if not lacking and not wrong:
        return
    name = (lacking or wrong)[0]
    received = f"{len(lacking)} missing: '{name}'" if lacking else f"{tuple(state[name].shape)} for '{name}'"
    shapes = "all tensors of its tower" if lacking else f"{tuple(expected[name].shape)}"
    raise WeightsError(checkpoint.place, shapes, received, "use the config.json that came with the weights")


def adopt(
    settings: recipe.Recipe,
    where: str,
    theirs: recipe.Tower,
    names: Iterable[str],
    base: str,
    *,
    deeper: bool = False,
) -> recipe.Recipe:
    """With a tower (``where``: model.image, model.text) that has the base's settings.

    Args:
        settings: the recipe.
        where: the tower.
        theirs: the base's tower.
        names: the settings that are taken over.
        base: its name.
        deeper: the recipe's tower may have more layers.

    Raises:
        RecipeError: the recipe says something else of one of these settings.
    """
    values = {}
    for name in [name for name in names if name in type(theirs).model_fields]:
        path, wanted = f"{where}.{name}", getattr(theirs, name)
        mine, usual = settings.get(path), settings.default(path)
        if name == "depth" and deeper and mine > wanted and mine != usual:
            continue  # more layers, which begin anew
        if mine not in (usual, wanted):
            do = f"leave {path} out, or train without a base"
            raise RecipeError(path, f"{wanted!r}, as the base {base} has it", repr(mine), do)
        values[path] = wanted
    return settings.replace(values)


def fill(settings: recipe.Recipe, where: str, theirs: Any, names: Iterable[str]) -> recipe.Recipe:
    """With the base's values where a branch's settings are at their defaults."""
    values = {f"{where}.{name}": getattr(theirs, name) for name in names}
    return settings.replace({path: values[path] for path in values if settings.get(path) == settings.default(path)})


def settle_length(given: recipe.Recipe, settings: recipe.Recipe, log: Log) -> recipe.Recipe:
    """Texts no longer than a tower with learned positions can read. Raises RecipeError where ``given`` says more."""
    tower = settings.model.text
    if tower.context is None or (tower.kind != "encoder" and tower.positions != "learned"):
        return settings
    most = tower.context if tower.kind == "encoder" else (tower.context - 1) // 2  # a prompt and an answer in one row
    if settings.text.max_length <= most:
        return settings
    if given.text.max_length != recipe.Text().max_length:
        expected = f"at most {most}, as the base has {tower.context} positions"
        raise RecipeError("text.max_length", expected, str(given.text.max_length), "lower it")
    log(f"text.max_length: {most}, as the base has {tower.context} positions")
    return settings.replace({"text.max_length": max(4, most)})
