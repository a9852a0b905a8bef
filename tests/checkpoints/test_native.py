"""A Run that is one text tower is a Hugging Face checkpoint: other libraries open it, and Rebus reads it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus.checkpoints.hf_save import saved_model
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import load_model, save_model
from rebus.errors import RebusError, WeightsError
from rebus.formats.weights import load_weights
from rebus.inference.predictor import Predictor
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.training.train import learn

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
GPT2 = {"norm": "layer", "feedforward": "mlp", "positions": "learned", "bias": "all", "qk_norm": False, "context": 96}
TOWERS: dict[str, dict[str, Any]] = {
    "qwen3": {"kind": "decoder"},
    "llama": {"kind": "decoder", "qk_norm": False, "tied": False, "kv_heads": 1},
    "qwen2": {"kind": "decoder", "qk_norm": False, "bias": "qkv"},
    "gpt2": {"kind": "decoder", **GPT2},
    "bert": {"kind": "encoder"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("native") / "table.jsonl"
    rows = [
        {
            "text": f"the {noun} number {n} is {colour}",
            "output": f"{colour}, {'好' if n % 2 else 'yes'}",
            "label": colour,
            "split": "test" if n % 4 == 3 else "train",
        }
        for n, (noun, colour) in enumerate((a, b) for a in ("cat", "dog", "mat", "hat") for b in ("red", "blue", "tan"))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(table: Path, tower: dict[str, Any], task: str) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"text": "text", "output": "text", "label": "category"},
            "model.text": Tower(**{"width": 24, "depth": 2, "heads": 2, **tower}),
            "text.vocab_size": 320,
            "text.max_length": 32,
        }
    )
    columns = {"prompt": "text", "output": "output"} if task == "generate" else {"text": "text", "label": "label"}
    return made.replace(
        {
            "tasks": [TaskSettings(name=task, columns=columns, max_new_tokens=4)],
            "train.steps": 3,
            "train.batch_size": 4,
            "train.precision": "fp32",
        }
    )


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A Run for each family, trained for three steps."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, tower in TOWERS.items():
        task = "classify" if name == "bert" else "generate"
        found[name] = learn(recipe(table, tower, task), folder / name, log=lambda _: None, quiet=True)
    return found


@pytest.mark.parametrize("name", [name for name in TOWERS if name != "bert"])
@torch.no_grad()
def test_a_run_that_writes_loads_in_transformers(runs: dict[str, Run], name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = runs[name]
    config = run.read_json("config.json")
    assert config["model_type"] == name
    assert config["architectures"][0].endswith(("ForCausalLM", "LMHeadModel"))
    theirs, report = AutoModelForCausalLM.from_pretrained(run.folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    model, _, _, processor = load_model(run)
    assert model.decoder is not None
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    messages = [{"role": "user", "content": "the cat number 0 is red"}]
    ids = torch.tensor([processor.tokenizer.chat(messages, prompt=True)])
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == ids[0].tolist()
    hidden = model.decoder.forward_embeds(model.decoder.embed(ids), torch.arange(ids.shape[1])[None])
    torch.testing.assert_close(theirs.eval()(ids).logits, model.decoder.logits(hidden), **CLOSE)
    assert theirs.config.eos_token_id == processor.tokenizer.eos_id


@torch.no_grad()
def test_a_run_that_reads_loads_in_transformers_with_its_head_beside(runs: dict[str, Run], table: Path) -> None:
    from transformers import AutoModel

    run = runs["bert"]
    config = run.read_json("config.json")
    assert (config["model_type"], config["architectures"]) == ("bert", ["BertModel"])
    assert load_weights(run.folder / "heads.safetensors").keys() == {
        "heads.classify.norm.weight",
        "heads.classify.linear.weight",
        "heads.classify.linear.bias",
    }
    theirs = AutoModel.from_pretrained(run.folder).eval()
    model, _, _, processor = load_model(run)
    ids = torch.tensor([processor.read("the dog number 4 is blue")])
    mask = torch.ones_like(ids, dtype=torch.bool)
    torch.testing.assert_close(theirs(ids).last_hidden_state, model.text(ids, mask).tokens, **CLOSE)
    told = Predictor.open(run.folder).predict({"text": "the dog number 4 is blue"})
    assert told[0].value in ("red", "blue", "tan")


def test_a_decoder_that_only_reads_has_the_family_without_a_head(table: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    run = learn(recipe(table, TOWERS["qwen3"], "classify"), tmp_path / "run", log=lambda _: None, quiet=True)
    config = run.read_json("config.json")
    assert (config["model_type"], config["architectures"]) == ("qwen3", ["Qwen3Model"])
    _, report = AutoModel.from_pretrained(run.folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


@pytest.mark.parametrize("name", TOWERS)
def test_a_run_comes_back_to_the_bit_and_may_be_saved_again(runs: dict[str, Run], name: str, tmp_path: Path) -> None:
    model, settings, tasks, processor = load_model(runs[name])
    again = Run(tmp_path / "again")
    again.folder.mkdir()
    (again.folder / "recipe.yaml").write_text(settings.save_text(), encoding="utf-8")
    save_model(again.folder, model, settings, tasks, processor)
    second = load_model(again)[0].state_dict()
    assert second.keys() == model.state_dict().keys()
    assert all(torch.equal(second[key], tensor) for key, tensor in model.state_dict().items())
    assert (again.folder / "heads.safetensors").exists() is (name == "bert")
    assert not (again.folder / "preprocessor_config.json").exists()


def test_a_run_opens_in_bfloat16(runs: dict[str, Run]) -> None:
    model, *_ = load_model(runs["qwen3"], torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in load_model(runs["qwen3"])[0].parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["qwen3", "bert"])
def test_rows_beyond_the_tokenizers_ids_are_kept(table: Path, tmp_path: Path, name: str) -> None:
    from transformers import AutoModel

    made = recipe(table, TOWERS[name], "classify")
    made = made.replace({"model.text.rows": 384})
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    model, settings, tasks, processor = load_model(run)
    saved = saved_model(model, settings, tasks, processor)
    assert saved is not None
    assert processor.tokenizer.vocab_size < saved.spec.rows == 384 == settings.model.text.rows
    assert run.read_json("config.json")["vocab_size"] == 384
    assert AutoModel.from_pretrained(run.folder).get_input_embeddings().weight.shape[0] == 384


def test_towers_that_no_family_has_are_saved_in_rebus_own_layout(table: Path, tmp_path: Path) -> None:
    made = recipe(table, {"kind": "decoder", "qk_norm": True, "bias": "all"}, "classify")
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    assert run.read_json("config.json")["model_type"] == "rebus"
    assert saved_model(*load_model(run)) is None


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_a_damaged_run_is_told(runs: dict[str, Run], tmp_path: Path, name: str) -> None:
    import shutil

    for number, (damage, kind) in enumerate(
        [
            (lambda f: (f / "heads.safetensors").write_bytes(b"x"), WeightsError),
            (lambda f: (f / "heads.safetensors").unlink(), WeightsError),
            (lambda f: (f / "model.safetensors").write_bytes(b"x"), WeightsError),
            (lambda f: (f / "config.json").write_text('{"model_type": "bert", "rebus": {}}'), RebusError),
            (lambda f: (f / "config.json").write_text('{"model_type": "bert", "rebus": 3}'), RebusError),
        ]
    ):
        copy = tmp_path / str(number)
        shutil.copytree(runs[name].folder, copy, ignore=shutil.ignore_patterns("checkpoints", "events"))
        if not (copy / "heads.safetensors").exists() and number < 2:
            continue  # a Run that writes has no head beside
        damage(copy)
        with pytest.raises(kind) as caught:
            load_model(Run.open(copy))
        assert all(caught.value.as_dict().values())


def test_a_run_that_guesses_words_loads_in_transformers(table: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    made = recipe(table, TOWERS["bert"], "classify")
    made = made.replace(tasks=[*made.tasks, TaskSettings(name="mlm", columns={"text": "text"})])
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    config = run.read_json("config.json")
    assert (config["model_type"], config["architectures"]) == ("bert", ["BertForMaskedLM"])
    theirs, report = AutoModelForMaskedLM.from_pretrained(run.folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    model, _, _, processor = load_model(run)
    ids = torch.tensor([processor.read("the dog number 4 is blue")])
    tower = model.text
    with torch.no_grad():
        hidden = tower(ids, torch.ones_like(ids, dtype=torch.bool)).tokens
        ours = model.heads["mlm"].outputs(hidden[0], tower.words.weight)
    torch.testing.assert_close(theirs.eval()(ids).logits[0], ours, **CLOSE)
    assert AutoTokenizer.from_pretrained(run.folder).mask_token_id == processor.tokenizer.mask_id
