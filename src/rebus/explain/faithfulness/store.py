"""explain.json: what is known of a Run's explanations, written whole or not at all.

``{task: {"method": the default, "why": ..., "methods": {...}, ...}}``: one entry a task, as ``Faithfulness.as_dict``
has it.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.checkpoints.run_folder import Run
from rebus.errors import RunError

FILE = "explain.json"
AGAIN = "delete the file, then measure again: rebus explain RUN --check DATA"


def read_faithfulness(folder: str | Path) -> dict[str, dict[str, Any]]:
    """What was measured, by task; {} before anything was.

    Raises:
        RunError: the file is damaged.
    """
    run = Run(folder)
    if not (run.folder / FILE).exists():
        return {}
    result = _read(run)
    if not isinstance(result, dict) or not all(_whole(entry) for entry in result.values()):
        raise RunError(
            run.folder / FILE,
            'for each task an entry with a "method" and the figures of "methods"',
            "other JSON",
            AGAIN,
        )
    return result


def _read(run: Run) -> Any:
    try:
        return run.read_json(FILE)
    except RunError as error:
        raise RunError(error.where, error.expected, error.found, AGAIN) from error


def keep_faithfulness(folder: str | Path, task: str, entry: dict[str, Any]) -> Path:
    """Put one task's figures beside those of others; gives the file.

    Raises:
        RunError: what is there is damaged, or the folder cannot be written.
    """
    path, run = Path(folder) / FILE, Run(folder)
    with run.writing() if run.saved and run.recipe_path.exists() else nullcontext():  # or another project's folder
        atomic.write_json(path, read_faithfulness(folder) | {task: entry})
    return path


def kept_method(folder: str | Path, task: str) -> str | None:
    """The default method of a task that was measured. Raises RunError as ``read_faithfulness`` does."""
    entry = read_faithfulness(folder).get(task)
    return None if entry is None else str(entry["method"])


def _whole(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("method"), str) and isinstance(entry.get("methods"), dict)
