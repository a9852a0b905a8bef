"""Rules that hold for every file of the package, checked on its syntax rather than by hand."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "rebus").rglob("*.py"))

UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "_pickle"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "os.system",
    "dist.broadcast_object_list",
    "dist.all_gather_object",
    "dist.scatter_object_list",
    "dist.gather_object",
}
UNSAFE_ARGUMENTS = {"allow_pickle", "trust_remote_code", "shell"}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def unsafe(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (f"imports {name.name}" for name in node.names if name.name.split(".")[0] in UNPICKLERS)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in UNPICKLERS:
            yield f"imports {node.module}"
        elif isinstance(node, ast.Call):
            name = dotted(node.func).replace("torch.distributed.", "dist.")
            if name in UNSAFE_CALLS:
                yield f"line {node.lineno}: calls {name}"
            for keyword in node.keywords:
                off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                if keyword.arg in UNSAFE_ARGUMENTS and not off:
                    yield f"line {node.lineno}: {keyword.arg}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import torch.distributed as dist\ndist.all_gather_object([], 1)",
    ],
)
def test_the_rule_finds_what_it_should(source: str) -> None:
    assert list(unsafe(source))


def test_the_rule_lets_safe_code_pass() -> None:
    assert not list(unsafe("model.eval()\nimport numpy as np\nnp.load('x', allow_pickle=False)"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_unpickling_and_no_evaluation(path: Path) -> None:
    assert list(unsafe(path.read_text(encoding="utf-8"))) == []


def test_models_know_nothing_of_processes() -> None:
    for path in [*(ROOT / "src/rebus/models").rglob("*.py"), *(ROOT / "src/rebus/nn").rglob("*.py")]:
        assert "torch.distributed" not in path.read_text(encoding="utf-8"), path


def test_every_room_is_a_package() -> None:
    rooms = {path.parent for path in SOURCES}
    assert [str(room) for room in sorted(rooms) if not (room / "__init__.py").exists()] == []


def test_no_assert_stands_between_a_user_and_an_error() -> None:
    """Doors and readers meet users first: they raise, never assert."""
    shown = [*(ROOT / "src/rebus/cli").rglob("*.py"), *(ROOT / "src/rebus/recipe").glob("*.py")]
    for path in [*shown, ROOT / "src/rebus/registry.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)], path


def test_every_install_command_uses_the_exact_pins() -> None:
    files = ["Makefile", "README.md", "README.zh.md", "CONTRIBUTING.md", ".ci/run", ".pre-commit-config.yaml"]
    for name in files:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if re.search(r"pip install .*-e|pip install .*\[", line):
                assert "-c constraints.txt" in line, f"{name}: {line}"


def test_pins_are_exact_and_name_no_place() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert "torch==2.13.0" in pins
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", pin)] == []


def test_ci_runs_what_a_contributor_types() -> None:
    commands = [
        line
        for line in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert commands[-1] == "make test"


def test_the_architecture_names_what_exists() -> None:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| `([\w.]+/?)`(?:, `([\w.]+)`)? \|", text, re.MULTILINE)
    named = {name for pair in rooms for name in pair if name and (name.endswith((".py", "/")))}
    here = ROOT / "src/rebus"
    there = {path.name for path in here.glob("*.py") if not path.name.startswith("_")}
    there |= {f"{path.name}/" for path in here.iterdir() if (path / "__init__.py").exists()}
    assert named == there


def test_the_layer_contract_names_every_room() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip().removeprefix("rebus.") for layer in layers for name in layer.split("|")}
    here = ROOT / "src/rebus"
    there = {path.stem for path in here.glob("*.py") if not path.name.startswith("_")}
    assert named == there | {path.name for path in here.iterdir() if (path / "__init__.py").exists()}
