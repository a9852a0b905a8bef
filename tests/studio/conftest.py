"""A Studio in a thread over two tiny Runs, and a browser that reaches nothing but this machine.

Screenshots go to the folder that the environment variable REBUS_SHOTS names, else to pytest's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rebus.studio import jobs
from rebus.training.train import learn
from required import required
from tiny_studio import CHROMIUM, MISSING, Running, Seen, look, run_studio, small

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220)}
CHINESE = {"red": "红色", "green": "绿色", "blue": "蓝色", "left": "左边", "right": "右边"}

if {"gradio", "fastapi", "uvicorn"} & set(MISSING) and not required():  # said, not passed over
    print("tests/studio is left out, not installed:", ", ".join(MISSING))
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table of coloured squares (questions in two languages and a label), and a broken one."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "squares").mkdir()
    rng, rows = np.random.default_rng(0), []
    for number in range(36):
        colour, side = list(COLOURS)[number % 3], ("left", "right")[number // 3 % 2]
        array = np.full((32, 32, 3), 235, dtype=np.uint8)
        top, left = int(rng.integers(2, 18)), 3 if side == "left" else 18
        array[top : top + 11, left : left + 11] = COLOURS[colour]
        Image.fromarray(array).save(folder / "squares" / f"{number}.png")
        shared = {"image": f"{number}.png", "split": "test" if number >= 30 else "train", "label": colour}
        answer = f"a {colour} square on the {side}"
        rows.append({**shared, "question": "What is in the image?", "answer": answer})
        rows.append({**shared, "question": "图片里有什么？", "answer": f"{CHINESE[side]}的{CHINESE[colour]}方块"})
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "squares" / "table.jsonl").write_text(lines, encoding="utf-8")
    (folder / "bad.csv").write_text("image,label\nnowhere.png,red\n", encoding="utf-8")
    yield folder
    for run in (folder / "runs").glob("*"):  # whatever a test that failed left behind
        if jobs.trainer(run) is not None:
            jobs.stop(run)


@pytest.fixture(scope="session")
def asks(place: Path) -> Path:
    """A Run that answers questions."""
    made = small(place / "squares" / "table.jsonl", "answer", {"question": "question", "answer": "answer"}, steps=120)
    return learn(made, place / "runs" / "asks", log=lambda _: None, quiet=True).folder


@pytest.fixture(scope="session")
def sorts(place: Path) -> Path:
    """A Run that classifies."""
    made = small(place / "squares" / "table.jsonl", "classify", {"label": "label", "text": "question"})
    return learn(made, place / "runs" / "sorts", log=lambda _: None, quiet=True).folder


@pytest.fixture(scope="session")
def studio(place: Path, asks: Path, sorts: Path) -> Iterator[Running]:
    yield from run_studio(asks, place)


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ["REBUS_SHOTS"]) if "REBUS_SHOTS" in os.environ else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")  # an event loop runs in this thread while it is open
def chromium() -> Iterator[Any]:
    if CHROMIUM is None or MISSING:
        lacking = ", ".join(MISSING) or "nothing"
        pytest.skip(f"no browser test: chromium {CHROMIUM or 'is not installed'}; missing packages: {lacking}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def seen(chromium: Any, shots: Path) -> Iterator[Seen]:
    yield from look(chromium, shots)
