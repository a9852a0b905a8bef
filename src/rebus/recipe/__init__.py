"""Every setting there is, in one typed tree; a saved recipe.yaml alone reproduces the run.

It knows no tensors and reads no data.
"""

from rebus.recipe.files import as_yaml, describe, explained, load_recipe, override, path_settings, recipe_from
from rebus.recipe.kinds import KINDS, Kind, known_kinds, recognised_kind
from rebus.recipe.model import Fusion, Lora, Model, Size
from rebus.recipe.section import IsPath, PathText, Section
from rebus.recipe.towers import OtherTower, Tower
from rebus.recipe.tree import (
    Augment,
    Clean,
    Corpus,
    Data,
    Image,
    Recipe,
    Report,
    Split,
    Stage,
    TaskSettings,
    Text,
    Train,
)

__all__ = [
    "KINDS",
    "Augment",
    "Clean",
    "Corpus",
    "Data",
    "Fusion",
    "Image",
    "IsPath",
    "Kind",
    "Lora",
    "Model",
    "OtherTower",
    "PathText",
    "Recipe",
    "Report",
    "Section",
    "Size",
    "Split",
    "Stage",
    "TaskSettings",
    "Text",
    "Tower",
    "Train",
    "as_yaml",
    "describe",
    "explained",
    "known_kinds",
    "load_recipe",
    "override",
    "path_settings",
    "recipe_from",
    "recognised_kind",
]
