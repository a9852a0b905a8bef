"""Every setting there is, in one typed tree; a saved recipe.yaml alone reproduces the run.

It knows no tensors and reads no data.
"""

from rebus.recipe.files import as_yaml, describe, load_recipe, override, recipe_from
from rebus.recipe.tree import (
    Augment,
    Clean,
    Corpus,
    Data,
    Fusion,
    Kind,
    Lora,
    Model,
    Picture,
    Recipe,
    Section,
    Size,
    Split,
    TaskSettings,
    Text,
    Tower,
    Train,
)

__all__ = [
    "Augment",
    "Clean",
    "Corpus",
    "Data",
    "Fusion",
    "Kind",
    "Lora",
    "Model",
    "Picture",
    "Recipe",
    "Section",
    "Size",
    "Split",
    "TaskSettings",
    "Text",
    "Tower",
    "Train",
    "as_yaml",
    "describe",
    "load_recipe",
    "override",
    "recipe_from",
]
