"""Towers: each turns the items of one modality into Features. See ``rebus.models.towers.base``."""

from rebus.models.towers import convnet, decoder, efficientnet, encoder, recurrent, resnet, tabular, vit
from rebus.models.towers.base import TOWERS, Tower, tower_kinds

__all__ = [
    "TOWERS",
    "Tower",
    "convnet",
    "decoder",
    "efficientnet",
    "encoder",
    "recurrent",
    "resnet",
    "tabular",
    "tower_kinds",
    "vit",
]
