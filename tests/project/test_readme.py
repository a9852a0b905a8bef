"""The two README files: every command parses, the marked ones run, and both languages say the same."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rebus.cli.app import app

ROOT = Path(__file__).parents[2]
FILES = ["README.md", "README.zh.md"]
BLOCK = re.compile(r"(<!-- run -->\n)?```sh\n(.*?)```", re.DOTALL)
TINY = [
    "train.steps=3",
    "train.batch_size=8",
    "train.valid_rows=4",
    "image.size=48",
    "text.vocab_size=300",
    "model.image.width=24",
    "model.text.width=24",
    "model.text.heads=2",
    "model.text.depth=1",
]


def blocks(name: str) -> list[tuple[bool, list[str]]]:
    """(whether it is marked to be run, its command lines without comments)."""
    found = BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))
    return [(bool(mark), [line.split("  #")[0].strip() for line in body.splitlines() if line]) for mark, body in found]


def commands(name: str) -> list[str]:
    return [line for _, lines in blocks(name) for line in lines]


def parse(words: list[str]) -> None:
    """Read a command line as the command would, and run nothing. Raises a usage error for what it does not know."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("rebus", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, rest = command.resolve_command(context, rest)
        context = command.make_context("verb", rest, parent=context)


@pytest.mark.parametrize("name", FILES)
def test_there_is_something_to_check(name: str) -> None:
    assert len(commands(name)) >= 15
    assert sum(marked for marked, _ in blocks(name)) == 2


def test_the_parser_of_this_test_refuses_what_rebus_refuses() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["train", "x.csv", "--learning-rate", "3"])
    with pytest.raises(Exception, match="No such command"):
        parse(["data", "chek", "x.csv"])


@pytest.mark.parametrize("line", sorted({line for name in FILES for line in commands(name) if "rebus " in line}))
def test_every_command_parses(line: str) -> None:
    words = shlex.split(line)
    parse(words[words.index("rebus") + 1 :])


def test_both_languages_give_the_same_commands_and_links() -> None:
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in FILES)
    assert blocks(FILES[0]) == blocks(FILES[1])
    for pattern in (r"```python\n(.*?)```", r"`([^`\n]+)`", r"\]\(([^)]+)\)"):
        in_english = set(re.findall(pattern, english, re.DOTALL)) - {"README.zh.md"}
        in_chinese = set(re.findall(pattern, chinese, re.DOTALL)) - {"README.md"}
        assert {word for word in in_english ^ in_chinese if word.isascii() and "PATH" not in word} == set()
    assert english.count("\n## ") == chinese.count("\n## ")
    assert english.count("\n|") == chinese.count("\n|")


@pytest.mark.parametrize("name", FILES)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in [*FILES, "CONTRIBUTING.md"]:
        for target in re.findall(r"^make (\w+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def options(command: Any) -> set[str]:
    """Every option of a command and of those below it."""
    below = [options(one) for one in getattr(command, "commands", {}).values()]
    return {word for parameter in command.params for word in parameter.opts}.union(*below)


@pytest.mark.parametrize(
    "word", sorted(set(re.findall(r"--[a-z][a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8"))))
)
def test_every_option_that_is_named_exists(word: str) -> None:
    assert word in {*options(typer.main.get_command(app)), "--nproc-per-node"}


@pytest.mark.slow
def test_the_marked_commands_run_in_order(tmp_path: Path) -> None:
    """With scenes and a training so small that it takes seconds: that they end well is judged, not how good it is."""
    from rebus.data.demo.write import write_scenes

    write_scenes(tmp_path / "scenes", train=16, test_scenes=4, size=48, kinds=8, processes=1)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for marked, lines in blocks("README.md"):
        for line in lines if marked else []:
            words = shlex.split(line)
            if "--write" in words:
                continue  # the scenes are there, fewer of them
            if words[1] == "train":
                place = words.index("--time-limit")
                words[place : place + 2] = [part for word in TINY for part in ("--set", word)]
            done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert len((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()) > 16
    assert (tmp_path / "figures.json").exists()
    assert (tmp_path / "runs/first/report.html").exists()
