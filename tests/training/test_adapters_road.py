"""From a checkpoint of another library to a Run with adapters, and into PEFT and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from rebus.checkpoints.hf_load import open_checkpoint
from rebus.checkpoints.run_folder import Run
from rebus.recipe import Recipe, TaskSettings, override
from rebus.training.train import learn
from tiny_checkpoints import write_bert, write_checkpoint

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
IDS = torch.tensor([[1, 8, 10, 12, 14, 2]])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"prompt": f"is the {what} {how}", "output": answer, "split": split}
        for what in ("cat", "dog", "mat")
        for how, answer in (("red", "good"), ("blue", "bad"))
        for split in ("train", "train", "test")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def adapted(table: Path, base: Path, folder: Path, task: TaskSettings) -> Run:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "base": str(base),
            "tasks": [task],
            "train.precision": "fp32",
            "train.batch_size": 4,
            "train.steps": 8,
            "train.lr": 0.01,
        }
    )
    made = override(made, ["train.tune=lora", "model.lora.rank=3", "model.lora.dropout=0.1", "text.max_length=24"])
    return learn(made, folder, log=lambda _: None, quiet=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_adapters_of_a_decoder_open_in_peft_and_the_run_in_transformers(table: Path, tmp_path: Path, name: str) -> None:
    start = write_checkpoint(tmp_path / "base", name, chat=True)
    columns = {"prompt": "prompt", "output": "output"}
    run = adapted(table, tmp_path / "base", tmp_path / "run", TaskSettings(name="generate", columns=columns))
    load = transformers.AutoModelForCausalLM.from_pretrained
    with torch.no_grad():
        expected = load(run.folder).eval()(IDS).logits
        assert float((expected - start(IDS).logits).abs().max()) > 1e-3
        beside = peft.PeftModel.from_pretrained(load(tmp_path / "base"), run.folder / "adapter").eval()
        torch.testing.assert_close(beside(IDS).logits, expected, atol=1e-4, rtol=0)
        ours = open_checkpoint(run.folder / "adapter")[0].decoder
        assert ours is not None
        told = ours.logits(ours.forward_embeds(ours.embed(IDS), torch.arange(IDS.shape[1])[None]))
        torch.testing.assert_close(told[..., : expected.shape[-1]], expected, atol=1e-4, rtol=0)


def test_adapters_of_an_encoder_open_in_peft(table: Path, tmp_path: Path) -> None:
    write_bert(tmp_path / "base")
    columns = {"text": "prompt", "label": "output"}
    run = adapted(table, tmp_path / "base", tmp_path / "run", TaskSettings(name="classify", columns=columns))
    load = transformers.AutoModel.from_pretrained
    with torch.no_grad():
        beside = peft.PeftModel.from_pretrained(load(tmp_path / "base"), run.folder / "adapter").eval()
        expected = load(run.folder).eval()(IDS).last_hidden_state
        torch.testing.assert_close(beside(IDS).last_hidden_state, expected, atol=1e-4, rtol=0)
    assert json.loads((run.folder / "adapter" / "adapter_config.json").read_text())["task_type"] == "FEATURE_EXTRACTION"
