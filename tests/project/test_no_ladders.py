"""No room asks which task, head, tower, fusion or checkpoint family it has before it: each says of itself what others
need to know, so that one of another package is served alike."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import rebus
from rebus.formats.family import FAMILIES
from rebus.models.fusion import FUSIONS
from rebus.models.heads import HEADS
from rebus.models.towers import TOWERS
from rebus.registry import Registry
from rebus.tasks import TASKS

SOURCE = Path(rebus.__file__).parent
ROOMS: dict[str, Registry[type]] = {  # the room in which parts of a sort may know each other
    "tasks": TASKS,  # type: ignore[dict-item]
    "models/heads": HEADS,  # type: ignore[dict-item]
    "models/towers": TOWERS,
    "models/fusion": FUSIONS,  # type: ignore[dict-item]
    "formats": FAMILIES,  # type: ignore[dict-item]
}
ASKED = {"task", "name", "tasks", "family"}  # of these a name of a task or of a family is asked
ALLOWED = {
    "demo.py": "takes one task out of its own recipe",
}


def names_of(node: ast.AST) -> set[str]:
    """Names and last attributes in an expression."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def ladders(file: Path) -> Iterator[str]:
    """Comparisons with a part of another room, each as ``line: source``."""
    room = file.relative_to(SOURCE).as_posix()
    others = [registry for place, registry in ROOMS.items() if not room.startswith(f"{place}/")]
    classes = {registry.get(name).__name__ for registry in others for name in registry.names()}
    words = {name for registry in others if registry in (TASKS, FAMILIES) for name in registry.names()}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            if names_of(node.args[1]) & classes:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            told = {one.value for side in sides for one in ast.walk(side) if isinstance(one, ast.Constant)}
            asked = {name for side in sides for name in names_of(side)}
            if told & words and asked & ASKED:
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_no_room_asks_which_part_it_has() -> None:
    found = {file.relative_to(SOURCE).as_posix(): list(ladders(file)) for file in sorted(SOURCE.rglob("*.py"))}
    found = {path: lines for path, lines in found.items() if lines}
    assert {path: lines for path, lines in found.items() if path not in ALLOWED} == {}
    assert set(ALLOWED) <= set(found), "no longer needed"


def test_a_ladder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "serve" / "ladder.py"
    file.parent.mkdir()
    lines = [
        "isinstance(task, Regress | Tag)",
        'task.name == "caption"',
        '"converse" in tasks',
        "isinstance(tower, ViT)",
    ]
    file.write_text("\n".join([*lines, 'kind == "image"', "isinstance(task, Task)"]))
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    assert [line.partition(": ")[0] for line in ladders(file)] == ["1", "2", "3", "4"]
