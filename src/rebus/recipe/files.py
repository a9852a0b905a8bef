"""Recipes as files and as words on a command line: read, override, describe. The tree itself is in ``tree``."""

from __future__ import annotations

import reprlib
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError

from rebus.errors import RecipeError, nearest
from rebus.recipe.model import Model
from rebus.recipe.section import IsPath
from rebus.recipe.towers import OWN, TextTower, Tower, settings_of, tower_class
from rebus.recipe.tree import Recipe

# What other libraries call a setting whose name here is too unlike it to be guessed.
_USUAL = {
    "learning_rate": "lr",
    "max_steps": "steps",
    "num_steps": "steps",
    "iterations": "steps",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "epoch": "epochs",
    "batch": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulate",
    "max_grad_norm": "clip",
    "gradient_clip": "clip",
    "grad_clip": "clip",
    "lr_scheduler_type": "schedule",
    "scheduler": "schedule",
    "warmup_ratio": "warmup",
    "early_stopping_patience": "patience",
    "eval_steps": "validate_every",
    "save_steps": "save_every",
    "save_total_limit": "keep",
    "bf16": "precision",
    "dtype": "precision",
    "num_workers": "workers",
    "image_size": "size",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "val_split": "valid",
    "validation": "valid",
    "test_size": "test",
}


_MOST_SHOWN = 200  # characters of a value


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which the last would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the base class."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for number, key in enumerate(keys) if key in keys[:number]]:
            raise yaml.constructor.ConstructorError(None, None, f"'{twice[0]}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.yaml.

    Raises:
        RecipeError: the file is missing, is not YAML, or holds an unknown key or a value that does not fit.
    """
    path = Path(path)
    try:
        loader = _OnceLoader(path.read_text(encoding="utf-8"))
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
    except FileNotFoundError as error:
        raise RecipeError(path, "a recipe file", "no such file", "check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        received = " ".join(str(error).split())
        raise RecipeError(path, "a recipe in YAML", received, "compare it with what `rebus recipe` prints") from error
    if not isinstance(content, dict):
        raise RecipeError(path, "a mapping of settings", type(content).__name__, "start it with a key such as 'train:'")
    return recipe_from(content, where=str(path))


def recipe_from(content: dict[str, Any], where: str = "recipe") -> Recipe:
    """A Recipe from plain values. Raises RecipeError, naming the setting and the nearest right one."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise explained(error, where) from error


def override(recipe: Recipe, settings: list[str]) -> Recipe:
    """Apply ``--set`` words such as ``train.lr=1e-3`` or ``tasks.0.weight=2`` and give a new recipe.

    Values are read as YAML, never evaluated. ``model_fields_set`` of the new recipe's sections still tells what
    somebody has said, now or before, from what is at its default.

    Raises:
        RecipeError: a word without '=', an unknown key (the nearest right one is named), a value that does not fit.
    """
    given = []
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set {word}", "key=value", f"'{word}'", "write it like --set train.lr=1e-3")
        given.append((key.strip(), _value(value, word), word))
    for key, kind, _ in given:  # which settings a tower has depends on its kind
        if key in ("model.image.kind", "model.text.kind") and isinstance(kind, str):
            try:
                recipe = recipe.replace({key: kind})
            except ValidationError as error:
                raise explained(error, "--set") from error
    content = recipe.model_dump(mode="json")
    for key, value, word in given:
        _assign(content, key, value, word)
    result = recipe_from(content, where="--set")
    _carry_said(result, recipe)
    for word in settings:
        *path, last = word.partition("=")[0].strip().split(".")
        section: Any = result
        for part in path:
            section = section[int(part)] if isinstance(section, list) else getattr(section, part, None)
        if isinstance(section, BaseModel):
            section.__pydantic_fields_set__.add(last)
    return result


def as_yaml(value: Any) -> str:
    """A value as one line of YAML, to be read back by ``override``."""
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True).replace("\n...", "").strip()


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Every setting as (dotted name, type, default, meaning), in the order of the tree."""
    yield from _describe(Recipe, "")


def path_settings(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every setting that names a file or folder now, as (dotted name, path): those whose type holds ``IsPath``, and
    settings of plug-ins, whose types are not known here, that hold a folder's separator.
    """
    for name, value in {**(section.model_extra or {}), **getattr(section, "options", {})}.items():
        if isinstance(value, str) and ("/" in value or "\\" in value):
            yield f"{prefix}{'' if name in (section.model_extra or {}) else 'options.'}{name}", value
    for name, field in type(section).model_fields.items():
        value, dotted = getattr(section, name), f"{prefix}{name}"
        marks = [mark for mark in (*field.metadata, *_marks(field.annotation)) if isinstance(mark, IsPath)]
        if marks:
            yield from _said_paths(value, dotted, {word for mark in marks for word in mark.words})
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
        for place, item in [*inner, ("", value)]:
            if isinstance(item, BaseModel):
                yield from path_settings(item, f"{dotted}.{place}." if place != "" else f"{dotted}.")


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for inner in typing.get_args(annotation):
        yield from _marks(inner)


def _said_paths(value: Any, dotted: str, words: set[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _said_paths(item, f"{dotted}.{key}", words)
    elif value and str(value) not in words:
        yield dotted, str(value)


def _carry_said(new: BaseModel, old: BaseModel) -> None:
    for name in type(new).model_fields:
        mine, theirs = getattr(new, name), getattr(old, name)
        if isinstance(mine, BaseModel) and isinstance(theirs, BaseModel):
            _carry_said(mine, theirs)
    new.__pydantic_fields_set__ = set(old.model_fields_set)


def _value(text: str, word: str) -> Any:
    if text in (",", "|", "&", "#"):  # separators, which mean something else to YAML
        return text
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
    for place, part in enumerate(path):
        if typing.get_origin(model) is dict and _is_section(typing.get_args(model)[1]):
            content, model = content.setdefault(part, {}), typing.get_args(model)[1]
            continue
        if typing.get_origin(model) is dict:  # the rest is one key: a column's name may hold a dot
            last = ".".join((*path[place:], last))
            break
        if isinstance(content, list):
            if key.startswith("tasks.") and not content:
                raise RecipeError(f"--set {word}", "a task that is named", "none", "name it as well: --task NAME")
            if not part.isdigit() or int(part) >= len(content):
                raise RecipeError(
                    f"--set {word}", f"a number below {len(content)}", f"'{part}'", "name a task by its position"
                )
            content, model = content[int(part)], _inner(model)
            continue
        if not isinstance(content, dict) or (part not in content):
            raise _unknown(word, part, content)
        content, model = content[part], _child(model, part, content[part])
    if isinstance(content, list):
        if not last.isdigit() or int(last) >= len(content):
            raise RecipeError(
                f"--set {word}", f"a number below {len(content)}", f"'{last}'", "name a task by its position"
            )
        content[int(last)] = value
        return
    free = not _is_section(model) or model.model_config.get("extra") == "allow" or not content
    if not isinstance(content, dict) or (last not in content and not free):
        raise _unknown(word, last, content)
    content[last] = value


def _is_section(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _unknown(word: str, part: str, content: Any) -> RecipeError:
    known = list(content) if isinstance(content, dict) else []
    if "kind" in known and part in Tower.all_fields():
        expected = f"a setting of a tower of kind '{content['kind']}'"
        raise RecipeError(f"--set {word}", expected, f"'{part}', which another kind has", nearest(part, known))
    everywhere = [name for name, *_ in describe() if name.rsplit(".", 1)[-1] in (part, _USUAL.get(part))]
    beside = [name for name in everywhere if name.rsplit(".", 1)[-1] in known]
    hint = f"did you mean '{(beside or everywhere)[0]}'?" if everywhere else nearest(part, known)
    return RecipeError(f"--set {word}", "a setting that exists", f"'{part}'", f"{hint} `rebus recipe` prints them all")


def _child(model: Any, part: str, content: Any) -> Any:
    if model is Model and part in ("image", "text"):
        return tower_class(content["kind"])
    return model.model_fields[part].annotation if _is_section(model) else None


def _inner(model: Any) -> Any:
    args = typing.get_args(model)
    return args[0] if args else None


def explained(error: ValidationError, where: str) -> RecipeError:
    """What is wrong with a setting, in four parts, with the nearest right one."""
    first = error.errors()[0]
    kinds = {chosen.__name__: chosen for chosen in OWN.values()}
    location = [str(part) for part in (error.title, *first["loc"]) if part != "Recipe"]
    chosen = next((kinds[part] for part in location if part in kinds), None)
    if location[0] in kinds:  # a tower by itself
        location[:1] = ["model", "text" if issubclass(kinds[location[0]], TextTower) else "image"]
    location = [part for part in location if part not in kinds]
    dotted = ".".join(location)
    if first["type"] == "extra_forbidden" and chosen is not None:
        expected = f"settings of a tower of kind '{chosen().kind}'"
        hint = f"{nearest(location[-1], chosen.model_fields)} `rebus recipe model` prints them all"
        return RecipeError(where, expected, f"'{dotted}'", hint)
    if first["type"] == "extra_forbidden":
        above = ["N" if part.isdigit() else part for part in location[:-1]]
        names = [name.split(".") for name, *_ in describe()]
        known = [words[len(above)] for words in names if words[: len(above)] == above and len(words) > len(above)]
        usual = _USUAL.get(location[-1], "")
        hint = f"did you mean '{usual}'?" if usual in known else nearest(location[-1], known)
        hint += " `rebus recipe` prints them all"
        return RecipeError(where, "settings that exist", f"'{dotted}'", hint)
    return RecipeError(
        where=f"{where}, setting '{dotted}'",
        expected=first["msg"].removeprefix("Input should be "),
        found=textwrap.shorten(reprlib.repr(first["input"]), _MOST_SHOWN, placeholder="..."),
        do="`rebus recipe` prints every setting with its meaning and default",
    )


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        if model is Model and name in ("image", "text"):
            for own, setting in settings_of(name).items():
                default = as_yaml(setting.get_default(call_default_factory=True))
                yield f"{prefix}{name}.{own}", _type_name(setting.annotation), default, setting.description or ""
            continue
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
    if origin is typing.Annotated:
        return _type_name(annotation.__origin__)
    if origin is Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join("null" if arg is type(None) else _type_name(arg) for arg in typing.get_args(annotation))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_type_name(arg) for arg in typing.get_args(annotation))}]"
    return getattr(annotation, "__name__", str(annotation))
