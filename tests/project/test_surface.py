"""What a user may rely on: the names in ``rebus``, and that reaching them is cheap."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import time
from typing import Any, get_type_hints

import pytest
from typer.main import get_command

import rebus
from rebus.cli.app import app

HEAVY = ["torch", "numpy", "datasets", "pyarrow", "pandas", "transformers", "matplotlib", "tokenizers", "pydantic"]


def modules_after(code: str) -> set[str]:
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return set(json.loads(printed.splitlines()[-1]))


def test_public_names_are_pinned() -> None:
    assert sorted(rebus.__all__) == rebus.__all__ == dir(rebus)
    assert set(rebus.__all__) == set(rebus.VERBS.values()) | {
        "Comparison",
        "Evaluation",
        "Explanation",
        "Model",
        "RebusError",
        "Recipe",
        "Run",
        "__version__",
        "check_maps",
        "dry_run",
        "load",
        "resume",
    }


def test_each_verb_of_the_command_line_is_a_function() -> None:
    def verbs(command: Any, path: str = "") -> set[str]:
        inside = getattr(command, "commands", None)
        if inside is None:
            return {path}
        return {verb for name, one in inside.items() for verb in verbs(one, f"{path} {name}".strip())}

    assert verbs(get_command(app)) == set(rebus.VERBS)


@pytest.mark.parametrize("name", sorted({*rebus.VERBS.values(), "resume", "dry_run", "check_maps", "load"}))
def test_functions_have_typed_arguments(name: str) -> None:
    function = getattr(rebus, name)
    hints = get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.name in hints, parameter
        assert parameter.kind is not parameter.VAR_KEYWORD or hints[parameter.name] != Any, parameter
    assert "return" in hints
    assert function.__doc__


@pytest.mark.parametrize("name", rebus.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rebus, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="tarin"):
        _ = rebus.tarin


def test_import_brings_nothing_heavy() -> None:
    loaded = modules_after("import rebus")
    assert not loaded.intersection(HEAVY)


@pytest.mark.parametrize("module", ["errors", "recipe", "registry", "atomic", "cli.app", "doctor"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    assert "torch" not in modules_after(f"import rebus.{module}")


def test_import_is_fast() -> None:
    code = "import time; start = time.perf_counter(); import rebus; print(time.perf_counter() - start)"
    seconds = min(
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    )
    assert seconds < 0.2  # 0.02 s on an idle machine


def test_help_answers_at_once_and_without_torch() -> None:
    code = (
        "import sys\nfrom rebus.cli import main\nsys.argv = ['rebus', '--help']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    best = float("inf")
    for _ in range(3):  # the best of three: a busy machine says nothing about the code
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert best < 2.0
