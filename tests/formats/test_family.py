"""A checkpoint family is one class: another package's is read, saved and exported with nothing else changed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus.checkpoints.export import export
from rebus.checkpoints.hf_load import open_checkpoint, read_checkpoint
from rebus.formats.config import load_config
from rebus.formats.family import FAMILIES, CheckpointSpec
from rebus.formats.llama import Llama, name_map
from tiny_checkpoints import write_checkpoint


class Alpaca(Llama):
    """Llama's layers under another name, never tied."""

    name, base, architecture = "alpaca", "AlpacaModel", "AlpacaForCausalLM"
    names = name_map("alpaca")

    def fits(self, spec: CheckpointSpec) -> bool:
        return False


@pytest.fixture
def alpaca(tmp_path: Path) -> Iterator[Path]:
    FAMILIES.register("alpaca")(Alpaca)
    write_checkpoint(tmp_path, "llama")
    config = load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "alpaca"}))
    yield tmp_path
    FAMILIES._items.pop("alpaca")


def test_a_family_of_another_package_is_read_and_exported(alpaca: Path, tmp_path: Path) -> None:
    assert read_checkpoint(alpaca).family.name == "alpaca"
    model = open_checkpoint(alpaca)[0]
    export(alpaca, tmp_path / "out")
    assert load_config(tmp_path / "out")["model_type"] == "alpaca"
    again = open_checkpoint(tmp_path / "out")[0].state_dict()
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in model.state_dict().items())


def test_no_source_asks_for_a_family_by_name() -> None:
    ladder = re.compile(
        r"family(_of\([^)]*\))?\.name\s*(==|!=|in\b)|isinstance\([^)]*(Family|Llama|Bert|Clip|Siglip)\b"
    )
    sources: dict[str, Any] = {str(file): file.read_text() for file in Path("src/rebus").rglob("*.py")}
    assert len(sources) > 300
    wrong = [f"{name}: {line}" for name, text in sources.items() for line in text.split("\n") if ladder.search(line)]
    assert not wrong
