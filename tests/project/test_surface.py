"""What a user may rely on: the names in ``rebus``, and that reaching them is cheap."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

import rebus

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
    assert rebus.__all__ == [
        "Comparison",
        "Model",
        "RebusError",
        "Recipe",
        "Run",
        "__version__",
        "compare",
        "load",
        "train",
    ]
    assert rebus.__all__ == sorted(rebus.__all__)
    assert dir(rebus) == rebus.__all__


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
