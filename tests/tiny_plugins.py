"""Packages of the examples as if they were installed: their entry points, without pip."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from rebus.recipe import kinds
from rebus.registry import Registry

EXAMPLES = Path(__file__).parents[1] / "examples"


def install(package: str, folder: Path, registries: list[Registry]) -> Path:  # type: ignore[type-arg]
    """Put an example on ``sys.path`` with the metadata that pip would write; registries look for plug-ins again.

    Args:
        package: its folder in examples/.
        folder: an empty one, for the metadata.
        registries: those that it registers in.
    """
    project = tomllib.loads((EXAMPLES / package / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines))
    sys.path[:0] = [str(EXAMPLES / package), str(folder)]
    for registry in registries:
        registry._loaded_plugins = False
    kinds._load_plugins.cache_clear()
    return EXAMPLES / package
