"""What model hubs ask of a Run: which library and which pipeline open it, and what it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rebus.checkpoints.hf_heads import PIPELINES
from rebus.checkpoints.run_folder import Run
from rebus.tasks import TASKS


def hub_metadata(run: Run) -> dict[str, str]:
    """``library_name``, ``pipeline_tag`` and ``base_model`` as the hub names them; what is not known is left out.

    A model reads images where its image tower is there. A base in a folder is named without its place.
    """
    config: dict[str, Any] = run.read_json("config.json")
    recipe = run.recipe
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    native = config.get("model_type") != "rebus"
    tag = next((tag for ending, tag in PIPELINES.items() if native and architecture.endswith(ending)), "")
    sees = recipe.model.image.kind not in ("none", "auto")
    first = TASKS.get(recipe.tasks[0].name) if recipe.tasks else None
    if not tag and first is not None:
        tag = first.pipelines[0 if sees else 1]
    sentences = first is not None and first.answers == "likeness" and (run.folder / "modules.json").is_file()
    library = "sentence-transformers" if sentences else "transformers" if native else "rebus"
    base = recipe.base or recipe.model.text.weights or recipe.model.image.weights
    if base is not None and (Path(base).is_absolute() or Path(base).exists()):
        base = Path(base).name
    result = {"library_name": library, "pipeline_tag": tag, "base_model": base or ""}
    return {key: value for key, value in result.items() if value}
