"""Heads: each turns what towers, fusion or decoder give into a task's numbers. See ``rebus.models.heads.base``."""

from rebus.models.heads import mask, pairs, pretext, tokens, vector, words, write
from rebus.models.heads.base import HEADS, Head, HeadContext, HeadSpec

__all__ = [
    "HEADS",
    "Head",
    "HeadContext",
    "HeadSpec",
    "mask",
    "pairs",
    "pretext",
    "tokens",
    "vector",
    "words",
    "write",
]
