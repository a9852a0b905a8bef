"""What a Run was begun with (fingerprint.json): its recipe and the content of its data, which a resume is held to.

It knows no loop. Where the data lies does not count, nor do settings that change no weight.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.errors import RunError
from rebus.recipe import Recipe, path_settings, recipe_from

FILE = "fingerprint.json"
# where things lie, how fast they are read, what is kept and told beside
FREE = (
    "data.path",
    "data.workers",
    "data.cache_mb",
    "corpus.cache",
    "train.keep",
    "report.",
)
_SHOWN = 6
_DECIDES = re.compile(r".*\.(safetensors|gguf|txt|model|jinja)|(config|tokenizer.*|vocab|.*index)\.json")
_ENDS = 2**25  # bytes at each end of a file


def fingerprint_of(recipe: Recipe, data: Mapping[str, Any]) -> dict[str, Any]:
    """The content of fingerprint.json.

    Args:
        recipe: resolved.
        data: what stands for the data: a flat or nested mapping of counts and digests.
    """
    return {"recipe": recipe.model_dump(mode="json"), "data": json.loads(json.dumps(data))}


def given_files(recipe: Recipe) -> dict[str, str]:
    """Setting: a digest of the file, or of the checkpoint folder, that it names; those that are not here are left out.

    They decide how a run begins; once it has a checkpoint they are not read again. Of a large file its size, its first
    and its last bytes count.
    """
    result = {}
    for name, value in path_settings(recipe):
        place = Path(value)
        if name in FREE or not place.exists():
            continue
        files = (
            [path for path in sorted(place.iterdir()) if _DECIDES.fullmatch(path.name)] if place.is_dir() else [place]
        )
        digest = hashlib.sha256()
        for path in files:
            with open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                digest.update(f"{path.name if place.is_dir() else ''}\0{size}\0".encode("utf-8", "surrogateescape"))
                for start in (0, max(_ENDS, size - _ENDS)):
                    file.seek(start)
                    digest.update(file.read(_ENDS))
        result[name] = digest.hexdigest()[:32]
    return result


def write_fingerprint(folder: Path, content: Mapping[str, Any]) -> None:
    """Keep it in the Run. Raises RunError: the folder cannot be written."""
    atomic.write_json(folder / FILE, content)


def read_fingerprint(folder: Path) -> dict[str, Any] | None:
    """What a Run was begun with; None for Runs of earlier versions. Raises RunError: the file is damaged."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"recipe": dict(content["recipe"]), "data": dict(content["data"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "restore the file, or start a new run"
        raise RunError(path, "what the run was begun with", f"a damaged file ({error})", do) from error


def refuse_recipe(folder: Path, kept: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse to go on with other settings than the run was begun with. Raises RunError, which names them."""
    # settings of later versions were at their defaults when the run began
    begun = recipe_from(kept["recipe"], str(folder / FILE)).model_dump(mode="json")
    changed = [
        f"{key}: {_short(old)}, now {_short(new)}"
        for key, old, new in differences(begun, recipe.model_dump(mode="json"))
        if not key.startswith(FREE)
    ]
    if changed:
        raise _changed(folder / "recipe.yaml", "the settings that the run was begun with", changed)


def refuse_data(folder: Path, kept: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Refuse to go on with other data than the run was begun with; what ``data`` does not name is not compared.

    Raises:
        RunError: names what changed.
    """
    changed = []
    kept = {name: value for name, value in kept["data"].items() if name in data}
    for key, old, new in differences(kept, json.loads(json.dumps(data))):
        whole = isinstance(old, int) and isinstance(new, int)
        change = f": {old:,}, now {new:,}" if whole else " is gone" if new is None else " is new" if old is None else ""
        changed.append(f"{key.replace('.', ' ', 1)}{change}")
    if changed:
        raise _changed(folder, "the data that the run was begun with", changed)


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value before, value now) of each value that is not the same; None: it is not there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
    elif old != new:
        yield key, old, new


def _changed(where: Path, expected: str, changed: list[str]) -> RunError:
    more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return RunError(
        where,
        expected,
        f"changes: {'; '.join(changed[:_SHOWN])}{more}",
        "put back what was changed; or go on with what is there now: add --accept-changes",
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
