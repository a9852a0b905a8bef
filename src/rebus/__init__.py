"""Rebus: train, question and evaluate vision-language models on your own images and text.

``import rebus`` imports nothing heavy: each name below is fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rebus._version import __version__

if TYPE_CHECKING:
    from rebus.api import (
        Comparison,
        Evaluation,
        Explanation,
        Model,
        ask,
        chat,
        check,
        check_maps,
        clean,
        compare,
        dry_run,
        evaluate,
        explain_answer,
        find,
        flow,
        generate,
        index,
        load,
        predict,
        resume,
        run_demo,
        shard,
        train,
        verify,
        write_report,
    )
    from rebus.checkpoints.export import export
    from rebus.checkpoints.run_folder import Run
    from rebus.checkpoints.tokenizers import inspect_tokenizer, train_tokenizer
    from rebus.doctor import examine
    from rebus.errors import RebusError
    from rebus.recipe import Recipe, describe
    from rebus.serve.run import serve_model
    from rebus.studio.start import run_studio

# Each verb of the command line and the function here that does the same. Where a package has the verb's name
# (rebus.explain, rebus.report, ...), the function's name says what it works on.
VERBS = {
    "ask": "ask",
    "chat": "chat",
    "compare": "compare",
    "data check": "check",
    "data clean": "clean",
    "data shard": "shard",
    "demo": "run_demo",
    "doctor": "examine",
    "evaluate": "evaluate",
    "explain": "explain_answer",
    "export": "export",
    "find": "find",
    "flow": "flow",
    "generate": "generate",
    "index": "index",
    "predict": "predict",
    "recipe": "describe",
    "report": "write_report",
    "serve": "serve_model",
    "studio": "run_studio",
    "tokenizer inspect": "inspect_tokenizer",
    "tokenizer train": "train_tokenizer",
    "train": "train",
    "verify": "verify",
}

_HOMES = {
    "Recipe": "rebus.recipe",
    "RebusError": "rebus.errors",
    "Run": "rebus.checkpoints.run_folder",
    "describe": "rebus.recipe",
    "examine": "rebus.doctor",
    "export": "rebus.checkpoints.export",
    "inspect_tokenizer": "rebus.checkpoints.tokenizers",
    "run_studio": "rebus.studio.start",
    "serve_model": "rebus.serve.run",
    "train_tokenizer": "rebus.checkpoints.tokenizers",
}

__all__ = [
    "Comparison",
    "Evaluation",
    "Explanation",
    "Model",
    "RebusError",
    "Recipe",
    "Run",
    "__version__",
    "ask",
    "chat",
    "check",
    "check_maps",
    "clean",
    "compare",
    "describe",
    "dry_run",
    "evaluate",
    "examine",
    "explain_answer",
    "export",
    "find",
    "flow",
    "generate",
    "index",
    "inspect_tokenizer",
    "load",
    "predict",
    "resume",
    "run_demo",
    "run_studio",
    "serve_model",
    "shard",
    "train",
    "train_tokenizer",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rebus' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES.get(name, "rebus.api")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
