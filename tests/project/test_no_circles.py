"""No module imports itself by way of others, and no room one that imports it. Imports for types count."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src"
Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "rebus").rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def names_imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(paths: Mapping[str, Path]) -> Graph:
    """module: the modules of ours that it imports, anywhere in it."""
    graph: Graph = {}
    for name, path in paths.items():
        targets = set()
        for target in names_imported(path):
            while target not in paths and "." in target:
                target = target.rpartition(".")[0]
            targets.add(target)
        graph[name] = {target for target in targets if target in paths and target != name}
    return graph


def circle(graph: Graph) -> list[str]:
    """A way from a node back to itself; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        for target in sorted(graph.get(node, ())):
            if round_ := visit(target, [*way, node]):
                return round_
        done.add(node)
        return []

    return next((way for node in sorted(graph) if (way := visit(node, []))), [])


def rooms_of(graph: Graph) -> Graph:
    """The same between rooms: what lies directly below ``rebus``."""
    rooms: Graph = {}
    for name, targets in graph.items():
        room = ".".join(name.split(".")[:2])
        rooms.setdefault(room, set()).update({".".join(target.split(".")[:2]) for target in targets} - {room})
    return rooms


@pytest.fixture(scope="module")
def graph() -> Graph:
    return imports_of(modules())


def test_no_module_imports_itself_by_way_of_others(graph: Graph) -> None:
    assert len(graph) > 300
    assert circle(graph) == []


def test_no_room_imports_one_that_imports_it(graph: Graph) -> None:
    assert circle(rooms_of(graph)) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from x import b\n")
    (tmp_path / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from x.c import C\n")
    (tmp_path / "c.py").write_text("def later():\n    import x.a\n")
    graph = imports_of({f"x.{name}": tmp_path / f"{name}.py" for name in "abc"})
    assert circle(graph) == ["x.a", "x.b", "x.c", "x.a"]
