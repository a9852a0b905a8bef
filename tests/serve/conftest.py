"""Servers that several tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from tiny_server import Running, running, write_run, write_seer


@pytest.fixture(scope="session")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that converses and sees."""
    return write_seer(tmp_path_factory.mktemp("seer") / "seer")


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run that answers, captions, classifies and regresses."""
    return write_run(tmp_path_factory.mktemp("asked"), "answer", "caption", "classify", "regress")


@pytest.fixture(scope="session")
def matched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run with images and texts in one space."""
    return write_run(tmp_path_factory.mktemp("matched"), "retrieve")


@pytest.fixture(scope="module")
def seeing(seer: Path) -> Iterator[Running]:
    """``seer`` behind a server."""
    with running(seer) as made:
        yield made


@pytest.fixture(scope="module")
def answering(asked: Path) -> Iterator[Running]:
    """``asked`` behind a server."""
    with running(asked) as made:
        yield made
