"""Every setting there is, in one typed tree; a saved recipe.yaml alone reproduces the run.

The tree knows no tensors and reads no data. ``None`` means "to be filled in from the data": a recipe that
has been resolved (see ``rebus.run``) holds no such blank where the run needs a value.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rebus.errors import RecipeError, nearest

Kind = Literal["picture", "text", "category", "labels", "number", "boxes", "tags", "ignore"]


class Section(BaseModel):
    """A branch of the recipe: unknown keys are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)


class Split(Section):
    """How rows are dealt to train, valid and test."""

    column: str | None = Field(None, description="a column that already says train, valid or test")
    group: str | None = Field(None, description="rows that share this column's value stay together")
    valid: float = Field(0.1, ge=0, lt=1, description="share of rows held out to watch training")
    test: float = Field(0.1, ge=0, lt=1, description="share of rows held out to judge the result")


class Data(Section):
    """Where the table is and how it is read."""

    path: str = Field("", description="table or folder")
    kinds: dict[str, Kind] = Field(default_factory=dict, description="column: kind, where the guess is wrong")
    delimiter: str | None = Field(None, description="field separator; None: found from the file")
    encoding: str | None = Field(None, description="text encoding; None: found from the file")
    split: Split = Field(default_factory=Split, description="train, valid and test")
    on_bad: Literal["refuse", "skip"] = Field("refuse", description="a broken row: stop, or leave it out and count it")
    background: str = Field("white", description="colour behind transparent pictures")
    pixel_budget: int = Field(50_000_000, gt=0, description="most pixels a picture may have, read from its header")
    workers: int = Field(
        0, ge=0, description="processes that prepare batches; 0: prepare them in a thread beside training"
    )
    cache_mb: int = Field(2048, ge=0, description="memory for decoded pictures, in MiB")


class Augment(Section):
    """Random changes to training pictures, each a pure function of (seed, epoch, index)."""

    shift: float = Field(0.0, ge=0, le=0.5, description="largest move, as a share of the side")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size, as a share")
    flip: float = Field(0.0, ge=0, le=1, description="chance of a mirror image; off where left and right matter")
    colour: float = Field(0.0, ge=0, le=1, description="strength of brightness, contrast and saturation changes")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour wheel, as a share of it")
    erase: float = Field(0.0, ge=0, le=1, description="chance of a blanked rectangle")


class Picture(Section):
    """How pictures become tensors."""

    size: int = Field(96, ge=8, le=2048, description="side of the square the model sees, in pixels")
    fit: Literal["pad", "crop", "squash"] = Field("pad", description="how a picture is fitted to the square")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="subtracted from each channel (of 0 to 1)")
    std: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="divides each channel")
    augment: Augment = Field(default_factory=Augment, description="random changes in training")


class Text(Section):
    """How text becomes tokens."""

    vocab_size: int = Field(4096, ge=300, description="most pieces the tokenizer may learn")
    tokenizer: str | None = Field(None, description="a tokenizer.json to use instead of training one")
    segment: Literal["auto", "none", "jieba"] = Field("auto", description="Chinese word segmentation, for word vectors")
    max_length: int = Field(256, ge=4, description="most tokens of one text; longer ones are cut and counted")


class Tower(Section):
    """One tower: a picture tower (convnet, vit) or a text tower (decoder, encoder, recurrent, wordvectors)."""

    kind: str = Field("auto", description="name of the tower, 'auto' or 'none'")
    width: int = Field(192, ge=8, description="size of a token's vector")
    depth: int = Field(4, ge=1, description="layers (convnet: blocks a stage)")
    heads: int = Field(6, ge=1, description="attention heads")
    kv_heads: int | None = Field(None, ge=1, description="key and value heads; None: as many as heads")
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    patch: int = Field(16, ge=1, description="side of a picture token, in pixels")
    cell: Literal["gru", "lstm"] = Field("gru", description="recurrent: the kind of cell")
    vectors: str | None = Field(None, description="wordvectors: a word2vec or GloVe text file")
    qk_norm: bool = Field(True, description="decoder: normalise queries and keys")
    tied: bool = Field(True, description="decoder: output weights are the embeddings")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    frozen: bool = Field(False, description="do not train; features are computed once and kept")
    weights: str | None = Field(None, description="a checkpoint folder or Run to start from")


class Fusion(Section):
    """How pictures and words are joined."""

    kind: str = Field("unified", description="joint, unified or cross")
    how: Literal["concat", "mean", "weighted", "sum"] = Field("concat", description="joint: how features are fused")
    depth: int = Field(2, ge=1, description="unified, cross: layers of the fusion itself (heads that classify)")
    heads: int | None = Field(None, ge=1, description="unified, cross: attention heads; None: as the text tower has")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")


class Model(Section):
    """The towers and what joins them."""

    picture: Tower = Field(
        default_factory=Tower, description="picture tower; kind auto: convnet where there are pictures"
    )
    text: Tower = Field(default_factory=Tower, description="text tower; kind auto: decoder")
    fusion: Fusion = Field(default_factory=Fusion, description="how they are joined")


class TaskSettings(Section):
    """One task over the shared trunk, reading its own columns."""

    name: str = Field(description="caption, answer, classify, tag, regress, patches")
    weight: float = Field(1.0, gt=0, description="share of this task's loss in the sum")
    start: float = Field(0.0, ge=0, le=1, description="share of the run after which it begins to be trained")
    until: float = Field(1.0, ge=0, le=1, description="share of the run after which it is no longer trained")
    columns: dict[str, str] = Field(default_factory=dict, description="role: column, where the guess is wrong")
    per_picture: int = Field(8, ge=1, description="caption, answer: most texts trained on in one pass over a picture")
    max_new_tokens: int = Field(48, ge=1, description="caption, answer: longest text generated")
    length_weight: float = Field(
        0.0, ge=0, le=1, description="caption, answer: 0 weighs tokens alike, 1 weighs texts alike"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")


class Train(Section):
    """The loop."""

    epochs: float | None = Field(None, gt=0, description="passes over the training rows")
    steps: int | None = Field(None, gt=0, description="updates; wins over epochs")
    time_limit: float | None = Field(None, gt=0, description="minutes; wins over both")
    batch_size: int = Field(32, ge=1, description="pictures (or rows without pictures) a step, over all processes")
    accumulate: int = Field(1, ge=1, description="parts each step's batch is cut into, to save memory")
    optimizer: Literal["muon", "adamw", "sgd"] = Field(
        "muon", description="muon: Muon for matrices, AdamW for the rest"
    )
    lr: float = Field(2e-3, gt=0, description="peak rate of AdamW (or SGD)")
    muon_lr: float = Field(1e-2, gt=0, description="peak rate of Muon")
    weight_decay: float = Field(0.05, ge=0, description="decoupled decay of matrices")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's two averages")
    momentum: float = Field(0.95, ge=0, lt=1, description="of Muon and SGD")
    rates: dict[str, float] = Field(
        default_factory=dict, description="part's name prefix: factor on its rates, e.g. picture: 0.1"
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="shape of the rate over the run"
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the run in which the rate rises")
    decay: float = Field(0.3, ge=0, le=1, description="wsd: share of the run in which the rate falls")
    final: float = Field(0.02, ge=0, le=1, description="rate at the end, as a share of the peak")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: no limit")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: measured on this machine")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are saved; 0: off")
    patience: int = Field(0, ge=0, description="validations without gain before stopping; 0: never stop early")
    validate_every: int = Field(0, ge=0, description="steps between validations; 0: ten times a run")
    valid_rows: int = Field(512, ge=1, description="most rows of a validation while training")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0: with each validation")
    keep: int = Field(2, ge=1, description="checkpoints kept")


class Recipe(Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    data: Data = Field(default_factory=Data, description="the table")
    picture: Picture = Field(default_factory=Picture, description="pictures to tensors")
    text: Text = Field(default_factory=Text, description="text to tokens")
    model: Model = Field(default_factory=Model, description="towers and fusion")
    tasks: list[TaskSettings] = Field(
        default_factory=list, description="what is learned; empty: found from the columns"
    )
    train: Train = Field(default_factory=Train, description="the loop")

    def save_text(self) -> str:
        """The recipe as YAML, every setting present."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.yaml.

    Raises:
        RecipeError: the file is missing, is not YAML, or holds an unknown key or a value that does not fit.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(path, "a recipe file", "no such file", "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        told = " ".join(str(error).split())
        raise RecipeError(path, "a recipe in YAML", told, "compare it with what `rebus recipe` prints") from error
    if not isinstance(content, dict):
        raise RecipeError(path, "a mapping of settings", type(content).__name__, "start it with a key such as 'train:'")
    return recipe_from(content, where=str(path))


def recipe_from(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """A Recipe from plain values. Raises RecipeError, naming the setting and the nearest right one."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _explained(error, where) from error


def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply ``--set`` words such as ``train.lr=1e-3`` or ``tasks.0.weight=2`` and give a new recipe.

    Values are read as YAML, never evaluated.

    Raises:
        RecipeError: a word without '=', an unknown key (the nearest right one is named), a value that does not fit.
    """
    content = recipe.model_dump(mode="json")
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {word}", "key=value", f"'{word}'", "write it like --set train.lr=1e-3")
        _assign(content, key.strip(), _value(value, word), word)
    return recipe_from(content, where="--set")


def as_yaml(value: Any) -> str:
    """A value as one line of YAML, to be read back by ``override``."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).replace("\n...", "").strip()


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Every setting as (dotted name, type, default, meaning), in the order of the tree."""
    yield from _describe(Recipe, "")


def _value(text: str, word: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {word}", "a value in YAML", f"'{text}'", "quote the value") from error
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(content: Any, key: str, value: Any, word: str) -> None:
    *path, last = key.split(".")
    model: Any = Recipe
    for part in path:
        if isinstance(content, list):
            if not part.isdigit() or int(part) >= len(content):
                raise RecipeError(
                    f"--set {word}", f"a number below {len(content)}", f"'{part}'", "name a task by its position"
                )
            content, model = content[int(part)], _inner(model)
            continue
        if not isinstance(content, dict) or (part not in content):
            raise _unknown(word, part, content)
        content, model = content[part], _child(model, part)
    if isinstance(content, list):
        if not last.isdigit() or int(last) >= len(content):
            raise RecipeError(
                f"--set {word}", f"a number below {len(content)}", f"'{last}'", "name a task by its position"
            )
        content[int(last)] = value
        return
    free = not (isinstance(model, type) and issubclass(model, BaseModel))
    if not isinstance(content, dict) or (last not in content and not free):
        raise _unknown(word, last, content)
    content[last] = value


def _unknown(word: str, part: str, content: Any) -> RecipeError:
    known = list(content) if isinstance(content, dict) else []
    everywhere = [name for name, *_ in describe() if name.rsplit(".", 1)[-1] == part]
    hint = f"did you mean '{everywhere[0]}'?" if everywhere else nearest(part, known)
    return RecipeError(f"--set {word}", "a setting that exists", f"'{part}'", f"{hint} `rebus recipe` prints them all")


def _child(model: Any, part: str) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        return model.model_fields[part].annotation
    return None


def _inner(model: Any) -> Any:
    args = typing.get_args(model)
    return args[0] if args else None


def _explained(error: ValidationError, where: str) -> RecipeError:
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    dotted = ".".join(location)
    if first["type"] == "extra_forbidden":
        above = ["N" if part.isdigit() else part for part in location[:-1]]
        names = [name.split(".") for name, *_ in describe()]
        known = [words[len(above)] for words in names if words[: len(above)] == above and len(words) > len(above)]
        hint = f"{nearest(location[-1], known)} `rebus recipe` prints them all"
        return RecipeError(where, "settings that exist", f"'{dotted}'", hint)
    return RecipeError(
        where=f"{where}, setting '{dotted}'",
        expected=first["msg"].removeprefix("Input should be "),
        found=repr(first["input"]),
        do="`rebus recipe` prints every setting with its meaning and default",
    )


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _describe(annotation, f"{prefix}{name}.")
            continue
        inner = _inner(annotation) if typing.get_origin(annotation) is list else None
        default = field.get_default(call_default_factory=True)
        shown = "required" if field.is_required() else as_yaml(default)
        yield f"{prefix}{name}", _type_name(annotation), shown, field.description or ""
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _describe(inner, f"{prefix}{name}.N.")


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("null" if arg is type(None) else _type_name(arg) for arg in typing.get_args(annotation))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_type_name(arg) for arg in typing.get_args(annotation))}]"
    return getattr(annotation, "__name__", str(annotation))
