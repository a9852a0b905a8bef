"""What a shell can complete: plain words, so that nothing heavy is imported; a test holds them to the registries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rebus.recipe import KINDS

TASKS = (
    "answer",
    "caption",
    "choose",
    "classify",
    "converse",
    "extract",
    "generate",
    "lm",
    "match",
    "mlm",
    "ner",
    "patch_classify",
    "pretrain_image",
    "regress",
    "retrieve",
    "similar",
    "tag",
    "translate",
)
FUSIONS = ("cross", "joint", "unified")
IMAGE_TOWERS = ("convnet", "efficientnet", "none", "resnet", "vit")
TEXT_TOWERS = ("decoder", "encoder", "none", "recurrent")


def among(*words: str) -> Callable[[str], list[str]]:
    """A completion: those of the words that begin with what was typed."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def complete_text(incomplete: str) -> list[str]:
    """Text towers and Run folders."""
    return [*among(*TEXT_TOWERS)(incomplete), *complete_runs(incomplete)]


def complete_kinds(incomplete: str) -> list[str]:
    """``COLUMN=`` with each kind."""
    column, equals, kind = incomplete.rpartition("=")
    return [f"{column}={item}" for item in KINDS if equals and item.startswith(kind)]


def complete_settings(incomplete: str) -> list[str]:
    """Names of settings with an equals sign."""
    from rebus.recipe import describe

    return [f"{name}=" for name, *_ in describe() if name.startswith(incomplete)]


def complete_runs(incomplete: str) -> list[str]:
    """Run folders here and in runs/."""
    items = [path.parent for folder in (Path(), Path("runs"), Path("demo")) for path in folder.glob("*/recipe.yaml")]
    return [str(path) for path in sorted(set(items)) if str(path).startswith(incomplete)]
