"""The model: towers, what joins them, heads and length of training, where a recipe leaves them open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rebus import recipe as settings
from rebus.errors import RecipeError
from rebus.models.fusion import FUSIONS
from rebus.models.towers import TOWERS, tower_kinds
from rebus.resolve.columns import shared_image_column
from rebus.resolve.inputs import others, reads_text
from rebus.resolve.known import Log, Rows
from rebus.resolve.tune import usual_epochs
from rebus.tasks import TASKS, Task
from rebus.tasks.base import VectorTask
from rebus.tasks.reading import WordsTask
from rebus.tasks.retrieve import PairTask

ENOUGH_ROWS, MOST_PASSES = 100_000, 30.0  # rows of columns alone that are seen, and how often each at most
BATCHES = ((4_000, 32), (40_000, 128))  # rows below which a batch of columns alone holds so many
ENOUGH_TEXTS = 40_000  # texts seen, some again and again, after which learning to classify them gains no more


def settle_image_tower(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """A convolutional network where there are images. Raises RecipeError where a task lacks a tower that it needs."""
    model = recipe.model
    named = next((entry.name for entry in recipe.tasks if TASKS.get(entry.name).has_places), None)
    if model.image.kind == "none" and named is not None:
        expected = f"an image tower, which the task '{named}' is for"
        raise RecipeError("model.image.kind", expected, "'none'", "set convnet or vit")
    check_pairs(model, _kinds(recipe))
    if model.image.kind == "auto":
        sees = shared_image_column(recipe.tasks) is not None
        recipe = recipe.replace({"model.image.kind": "convnet" if sees else "none"})
    return recipe


def settle_text_tower(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """The text tower that suits the tasks, none for columns alone. Raises RecipeError where a task is for another."""
    kinds = _kinds(recipe)
    needed = next((kind.tower for kind in kinds if kind.tower is not None), None)
    if recipe.model.text.kind == "auto":
        sees = shared_image_column(recipe.tasks) is not None
        by_word = any(issubclass(kind, WordsTask) for kind in kinds)  # a word's tag depends on what follows it too
        if others(recipe) and not (needed or sees or reads_text(recipe) or _writes(recipe)):
            recipe = recipe.replace({"model.text.kind": "none"})
        elif needed or _writes(recipe) or (sees and not by_word):
            recipe = recipe.replace({"model.text.kind": needed or "decoder"})
        else:
            kind = "encoder" if sees else kinds[0].suits
            recipe = recipe.replace({"model.text.kind": kind})
            recipe = recipe.fill({"model.text.dropout": 0.1})  # texts to be read are few and soon known by heart
            recipe = recipe.fill({"model.text.depth": 2}) if kind == "recurrent" else recipe
    if recipe.text.segment == "auto" and any(issubclass(kind, WordsTask) for kind in kinds):
        recipe = recipe.replace({"text.segment": "none"})  # spans begin and end at any character
    for task in kinds:
        if task.tower is not None and recipe.model.text.kind != task.tower:
            expected = f"{task.tower}, which the task '{task.name}' is for"
            do = "set it so, or train them apart"
            raise RecipeError("model.text.kind", expected, f"'{recipe.model.text.kind}'", do)
    return recipe


def settle_fusion(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """None where there is nothing to join. Raises RecipeError for a fusion that does not exist."""
    if recipe.model.fusion.kind != "none":
        FUSIONS.get(recipe.model.fusion.kind)
    count = len(others(recipe)) + reads_text(recipe)
    alone = count < 2 and not _writes(recipe) and shared_image_column(recipe.tasks) is None
    if alone or not any(kind.joins for kind in _kinds(recipe)):
        recipe = recipe.replace({"model.fusion.kind": "none"})
    return recipe


def settle_head(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """The shape of heads and, for these, of the pooling.

    On a text tower or image tower of another project, heads are what such models are usually fine-tuned with.
    """
    model, kinds = recipe.model, _kinds(recipe)
    if model.head is None:
        places = (recipe.base, model.text.weights, model.image.weights)
        foreign = any(place is not None and not (Path(place) / "recipe.yaml").exists() for place in places)
        recipe = recipe.replace({"model.head": "linear" if foreign else "normed"})
    if recipe.model.head == "normed" or not any(kind.on_tower for kind in kinds):
        return recipe
    if model.text.kind == "encoder" and model.image.kind == "none":
        recipe = recipe.fill({"model.text.pool": "cls"})
    if not _reads(recipe) and not _writes(recipe) and all(kind.on_tower for kind in kinds):
        # the tower's own vector is what such heads read
        changes = {"model.fusion.kind": "none"}
        if model.image.kind == "vit" and model.image.pool == "pooler":
            changes["model.image.pool"] = "cls"
        recipe = recipe.replace(changes)
    return recipe


def check_towers(recipe: settings.Recipe, _: Any, log: Log) -> settings.Recipe:
    """Refuse a kind that no tower has, and a tower of another modality. Raises RecipeError."""
    for name, kind in (("image", recipe.model.image.kind), ("text", recipe.model.text.kind)):
        if kind != "none" and TOWERS.get(kind).modality != name:
            do = f"choose {', '.join(tower_kinds(name))}"
            expected = f"a tower that reads {'an' if name[0] in 'aeiou' else 'a'} {name}"
            raise RecipeError(f"model.{name}.kind", expected, f"'{kind}'", do)
    return recipe


def check_inputs(recipe: settings.Recipe, _: Rows, log: Log) -> settings.Recipe:
    """Refuse a model that reads nothing of what the tasks have. Raises RecipeError."""
    model, writes = recipe.model, _writes(recipe)
    if others(recipe):
        return recipe
    if model.image.kind == "none" and not _reads(recipe) and not writes:
        expected = "an image tower, as the tasks have no text column"
        raise RecipeError("model.image.kind", expected, "'none'", "set it to convnet or vit")
    if model.text.kind == "none" and model.image.kind == "none" and not writes:
        raise RecipeError("model.text.kind", "a tower that reads the text", "'none'", "set it to decoder or encoder")
    return recipe


def settle_epochs(recipe: settings.Recipe, known: Rows, log: Log) -> settings.Recipe:
    """How long to train, where neither steps nor epochs nor a time limit are given."""
    train = recipe.train
    if train.steps is not None or train.epochs is not None or train.time_limit is not None:
        return recipe
    epochs = usual_epochs(recipe)
    sees = shared_image_column(recipe.tasks) is not None
    if recipe.base is None and not sees and all(issubclass(kind, VectorTask) for kind in _kinds(recipe)):
        # a class of a text is soon learned, and then the texts by heart (docs/LOG.md)
        epochs = min(epochs, max(3.0, round(ENOUGH_TEXTS / max(len(known.training), 1), 1)))
    if recipe.base is None and recipe.model.text.kind == recipe.model.image.kind == "none":
        epochs = min(MOST_PASSES, max(5.0, round(ENOUGH_ROWS / max(len(known.training), 1), 1)))
        size = next((size for rows, size in BATCHES if len(known.training) < rows), 512)
        recipe = recipe.fill({"train.batch_size": size})
    return recipe.replace({"train.epochs": epochs})


def check_pairs(model: settings.Model, kinds: Sequence[type[Task]]) -> None:
    """Refuse to do without a tower that a task on images with texts reads. Raises RecipeError."""
    task = next((kind.name for kind in kinds if issubclass(kind, PairTask)), None)
    for name, article, kind, do in (
        ("image", "an image", model.image.kind, "set it to convnet or vit"),
        ("text", "a text", model.text.kind, f"set it to {' or '.join(tower_kinds('text'))}"),
    ):
        if task is not None and kind == "none":
            raise RecipeError(f"model.{name}.kind", f"{article} tower, which the task '{task}' is for", "'none'", do)


def _kinds(recipe: settings.Recipe) -> list[type[Task]]:
    return [TASKS.get(entry.name) for entry in recipe.tasks]


def _writes(recipe: settings.Recipe) -> bool:
    return any(kind.writes for kind in _kinds(recipe))


def _reads(recipe: settings.Recipe) -> bool:
    """Whether a task that does not write has a column of text."""
    tasks = zip(_kinds(recipe), recipe.tasks, strict=True)
    return any(set(kind.inputs) - {"image"} & set(entry.columns) for kind, entry in tasks if not kind.writes)
