"""An image tower and a text tower from elsewhere (``--vision``, ``--text``): a Run or another project's checkpoint.

What is taken over decides the shape of the tower, how images are seen and which tokenizer reads the text, before the
data is read; ``rebus.resolve.from_base`` then takes over the tensors. It reads no weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rebus import recipe
from rebus.checkpoints.hf_load import image_family_of, is_checkpoint, is_hub_id, read_checkpoint
from rebus.checkpoints.run_folder import Run
from rebus.errors import RecipeError, WeightsError, nearest
from rebus.formats.config import load_config
from rebus.formats.family import known_family
from rebus.models.towers import TOWERS, tower_kinds
from rebus.resolve.from_base import READ, SHAPE, adopt, fill, settle_length
from rebus.resolve.known import Log, Start

OURS = {"dropout", "options", "frozen", "weights", "tokens"}  # how a tower is trained and used
LOOKED_AT = tuple(name for name in recipe.Tower.all_fields() if name not in OURS)
SEEN = tuple(name for name in recipe.Image.model_fields if name != "augment")


def name_towers(settings: recipe.Recipe, vision: str | Path | None, text: str | Path | None) -> recipe.Recipe:
    """The recipe with where its towers come from; ``text`` may also be the kind of a text tower.

    Raises:
        RecipeError: it is neither a kind nor a place, or ``vision`` is a kind.
    """
    if vision is not None:
        if str(vision) in TOWERS.names() and not os.path.exists(vision):
            do = f"for a fresh one write --image {vision}"
            raise RecipeError("--vision", "a Run or a checkpoint with an image tower", f"'{vision}', a kind", do)
        settings = settings.replace({"model.image.weights": str(vision)})
    if text is None:
        return settings
    if str(text) in ("auto", "none") or str(text) in TOWERS.names():
        return settings.replace({"model.text.kind": str(text)})
    if os.path.exists(text) or Path(text).suffix == ".gguf" or is_hub_id(text):
        return settings.replace({"model.text.weights": str(text)})
    kinds = tower_kinds("text")
    expected = f"a kind of text tower ({', '.join(kinds)}), a Run, a checkpoint folder, a .gguf file or a hub id"
    raise RecipeError("--text", expected, f"'{text}', and no such file", nearest(str(text), kinds))


def settle_towers(settings: recipe.Recipe, known: Start, log: Log) -> recipe.Recipe:
    """The recipe with the shapes of the towers that it starts from; as it is where it names none.

    What the recipe leaves at its default becomes what the tower has.

    Raises:
        RecipeError: a setting says something else of a tower, or it is of the other modality. RunError, WeightsError,
            MissingPackageError: what is named cannot be read.
    """
    image, text, given = settings.model.image.weights, settings.model.text.weights, settings
    if image is not None and not known.resumed:
        settings = _settle_image(settings, image, log)
    if text is not None and not known.resumed:
        settings = settle_length(given, _settle_text(settings, text, log), log)
    return settings


def refuse_raw_text(settings: recipe.Recipe) -> None:
    """A language model learns from raw text alone: it starts from one model. Raises RecipeError."""
    for name, tower in (("image", settings.model.image), ("text", settings.model.text)):
        if tower.weights is not None:
            do = "leave it out" if name == "image" else f"write --from {tower.weights}"
            received = f"'{tower.weights}', with raw text to learn from"
            raise RecipeError(f"model.{name}.weights", "nothing", received, do)


def _settle_image(settings: recipe.Recipe, place: str, log: Log) -> recipe.Recipe:
    where = "model.image"
    if settings.model.image.kind == "none":
        do = "leave out one of the two"
        raise RecipeError("model.image.kind", f"an image tower, as --vision {place} has one", "'none'", do)
    if is_checkpoint(place):
        _check_modality(place, "--vision", "--text")
        checkpoint = read_checkpoint(place, log, image_only=True)
        settings = adopt(settings, where, checkpoint.tower, LOOKED_AT, place)
        seen: dict[str, Any] = checkpoint.image
    else:
        theirs = Run.open(place).recipe
        if theirs.model.image.kind in ("none", "auto"):
            do = f"write --text {place} for its text tower, or --from {place} for all of it"
            raise RecipeError("--vision", "a Run with an image tower", f"{place}, which has none", do)
        settings = adopt(settings, where, theirs.model.image, LOOKED_AT, place, deeper=True)
        seen = {name: getattr(theirs.image, name) for name in SEEN}
    settings = settings.fill({f"image.{name}": value for name, value in seen.items()})
    return settings.replace({"model.image.weights": _recorded(place)})


def _settle_text(settings: recipe.Recipe, place: str, log: Log) -> recipe.Recipe:
    where, kind = "model.text", settings.model.text.kind
    if settings.base is not None:
        received = f"{place}, beside the base {settings.base}"
        raise RecipeError("--text", "one text model to start from", received, "leave out --text or --from")
    if settings.text.tokenizer is not None:
        do = "leave text.tokenizer out"
        raise RecipeError("text.tokenizer", f"nothing, as --text {place} brings its own", "a tokenizer", do)
    if kind in ("none", *tower_kinds("image")):
        do = "leave out one of the two"
        raise RecipeError("model.text.kind", f"a text tower, as --text {place} has one", f"'{kind}'", do)
    if is_checkpoint(place):
        _check_modality(place, "--text", "--vision")
        checkpoint = read_checkpoint(place, log)
        shape = SHAPE if checkpoint.sentences is None else (*SHAPE, "pool")
        settings = adopt(settings, where, checkpoint.tower, shape, place)
    else:
        theirs = Run.open(place).recipe
        if theirs.model.text.kind in ("none", "auto"):
            do = f"write --vision {place} for its image tower"
            raise RecipeError("--text", "a Run with a text tower", f"{place}, which has none", do)
        settings = adopt(settings, where, theirs.model.text, (*SHAPE, "pool"), place, deeper=True)
        settings = fill(settings, "text", theirs.text, READ)
    return settings.replace({"model.text.weights": _recorded(place)})


def _check_modality(place: str, here: str, there: str) -> None:
    """Refuse a folder that is known to be of the other modality. Raises RecipeError; anything else is told later."""
    if not (Path(place) / "config.json").is_file():
        return
    try:
        config = load_config(place)
    except WeightsError:
        return  # told by whoever opens it
    family, sees = known_family(config), image_family_of(config) is not None
    if family is not None and sees == (here == "--text") and "inline." not in family.owns:
        what = "an image tower" if here == "--vision" else "a text model"
        do = f"write {there} {place}"
        raise RecipeError(here, f"a checkpoint with {what}", f"{place}, whose model_type is '{family.name}'", do)


def _recorded(place: str) -> str:
    return place if is_hub_id(place) else str(Path(place).resolve())
