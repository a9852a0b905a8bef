"""Models written for other programs, from Runs and from checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rebus import recipe
from rebus.checkpoints.export import export
from rebus.checkpoints.hf_load import open_checkpoint
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import build_model, processor_of, save_model
from rebus.cli.app import app
from rebus.errors import RecipeError, RunError, WeightsError
from rebus.formats.gguf import read_gguf
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS
from rebus.text.tokenizer import Tokenizer
from tiny_checkpoints import reference_decoder
from tiny_tokenizers import TEXTS, chatml


def a_run(
    folder: Path, *, image: str = "none", pattern: Any = "qwen2", labels: list[str] | None = None, **tower: Any
) -> Path:
    settings = recipe.Recipe().replace(
        {"model.image.kind": image, "model.fusion.kind": "none" if image == "none" else "unified"}
    )
    small = {"kind": "decoder", "width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 64}
    settings = settings.replace({"model.text": recipe.Tower(**small, **tower), "text.max_length": 64})
    name, columns = ("caption", {"image": "p", "caption": "c"}) if image != "none" else ("lm", {"text": "text"})
    settings = settings.replace({"tasks": [TaskSettings(name=name, columns=columns)]})
    if labels:
        added = TaskSettings(name="classify", columns={"text": "text", "label": "label"})
        settings = settings.replace(tasks=[*settings.tasks, added])
    tasks = {one.name: TASKS.get(one.name)(one) for one in settings.tasks}
    if labels:
        tasks["classify"].restore({"labels": labels})
    processor = processor_of(settings, Tokenizer.train(TEXTS, 320, pattern=pattern), None)
    model = build_model(settings, tasks, processor)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.05 * torch.randn_like(tensor)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model, settings, tasks, processor)
    (folder / "recipe.yaml").write_text(settings.save_text())
    return folder


def a_checkpoint(folder: Path) -> Path:
    chatml(folder)
    model = reference_decoder("llama tied")
    model.resize_token_embeddings(Tokenizer.load(folder).vocab_size + 3, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def logits(path: Path) -> torch.Tensor:
    found = open_checkpoint(path)[0]
    decoder = found.decoder
    assert decoder is not None
    ids = torch.tensor([[1, 9, 200, 41, 7]])
    with torch.no_grad():
        return decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(5)[None]))


def run_logits(path: Path) -> torch.Tensor:
    from rebus.checkpoints.save_load import load_model

    decoder = load_model(Run.open(path))[0].decoder
    assert decoder is not None
    ids = torch.tensor([[1, 9, 200, 41, 7]])
    with torch.no_grad():
        return decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(5)[None]))


@pytest.mark.parametrize("tower", [{"qk_norm": True}, {"qk_norm": False, "tied": False, "rope_theta": 5e4}])
def test_a_run_becomes_gguf_and_a_plain_folder(tmp_path: Path, tower: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = a_run(tmp_path / "run", **tower)
    wanted = run_logits(run)
    told = export(run, tmp_path / "m.gguf", precision="f32")
    assert (told.format, told.precision) == ("gguf", "f32")
    assert read_gguf(tmp_path / "m.gguf").config["model_type"] == ("qwen3" if tower["qk_norm"] else "llama")
    assert torch.allclose(logits(tmp_path / "m.gguf"), wanted, atol=1e-5)
    told = export(run, tmp_path / "hf")
    assert (told.format, told.precision) == ("hf", "f32")
    assert not {"recipe.yaml", "heads.safetensors"} & {path.name for path in (tmp_path / "hf").iterdir()}
    assert "rebus" not in json.loads((tmp_path / "hf/config.json").read_text())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        assert torch.allclose(theirs(torch.tensor([[1, 9, 200, 41, 7]])).logits, wanted, atol=1e-5)
    ours = Tokenizer.load(run)
    assert AutoTokenizer.from_pretrained(tmp_path / "hf")(TEXTS[0]).input_ids == [ours.eos_id, *ours.encode(TEXTS[0])]
    assert theirs.generation_config.eos_token_id == ours.eos_id


def test_a_checkpoint_goes_through_gguf_and_back(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = a_checkpoint(tmp_path / "source")
    wanted = logits(source)
    export(source, tmp_path / "m.gguf", precision="f32")
    export(tmp_path / "m.gguf", tmp_path / "hf", precision="bf16")
    assert torch.allclose(logits(tmp_path / "m.gguf"), wanted, atol=1e-5)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert theirs.dtype == torch.bfloat16
    assert (theirs.float()(torch.tensor([[1, 9, 200, 41, 7]])).logits - wanted).abs().max() < 0.1 * wanted.abs().max()
    talk = [{"role": "user", "content": "hi"}]
    ids = AutoTokenizer.from_pretrained(tmp_path / "hf").apply_chat_template(talk, tokenize=True, return_dict=False)
    assert ids == Tokenizer.load(source).chat(talk) == read_gguf(tmp_path / "m.gguf").tokenizer.chat(talk)


def test_a_large_model_is_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr("rebus.checkpoints.export._SHARD_MB", 0.02)
    source = a_checkpoint(tmp_path / "source")
    export(source, tmp_path / "hf")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 2
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")(torch.tensor([[1, 9, 200, 41, 7]])).logits
    assert torch.allclose(theirs, logits(source), atol=1e-5)


def test_our_own_pattern_comes_with_a_note(tmp_path: Path) -> None:
    told = export(a_run(tmp_path / "run", pattern="rebus"), tmp_path / "m.gguf")
    assert any("does not normalise" in note for note in told.notes)
    assert any("multiple of 256" in note for note in told.notes)


def test_heads_that_are_left_out_are_named(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", labels=["good", "bad"])
    for out in ("m.gguf", "hf"):
        told = export(run, tmp_path / out)
        assert any("head of classify" in note for note in told.notes)
    assert torch.allclose(logits(tmp_path / "hf"), run_logits(run), atol=1e-5)


def test_what_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    with pytest.raises(RecipeError, match="q8_0"):
        export(run, tmp_path / "hf", precision="q8_0")
    with pytest.raises(RunError, match="a file to write"):
        export(run, tmp_path, format="gguf")
    with pytest.raises(RunError, match="a Run"):
        export(run, run)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a folder to write"):
        export(run, tmp_path / "file")
    with pytest.raises(RunError, match="no such folder"):
        export(tmp_path / "nothing-here", tmp_path / "m.gguf")
    seeing = a_run(tmp_path / "seeing", image="convnet")
    with pytest.raises(WeightsError, match=r"one text tower.*convnet"):
        export(seeing, tmp_path / "m.gguf")


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    told = CliRunner().invoke(app, ["export", str(run), str(tmp_path / "m.gguf"), "--type", "q8_0"])
    assert told.exit_code == 0, told.output
    assert "parameters as gguf q8_0" in told.output
    assert {entry.kind for entry in read_gguf(tmp_path / "m.gguf").file.entries.values()} == {"F32", "Q8_0"}
    told = CliRunner().invoke(app, ["export", str(run), str(run)])
    assert told.exit_code == 2
    assert "What to do" in told.output
