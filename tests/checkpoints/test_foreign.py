"""Checkpoints of other projects, opened as they are; and those that cannot be, named clearly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rebus.checkpoints.hf_load import is_checkpoint, is_hub_id, open_checkpoint, read_checkpoint, recipe_of
from rebus.errors import MissingPackageError, RebusError, WeightsError
from rebus.models.towers.decoder import Decoder, positions_of
from rebus.recipe import load_recipe
from tiny_checkpoints import DECODERS, V, reference_decoder, write_bert, write_checkpoint, write_tokenizer

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_every_family_opens_and_gives_the_same_logits(tmp_path: Path, name: str) -> None:
    reference = write_checkpoint(tmp_path, name, chat=True)
    model, settings, tasks, processor = open_checkpoint(tmp_path)
    assert list(tasks) == ["converse"]
    assert isinstance(model.decoder, Decoder)
    assert not model.training
    assert (settings.model.text.rows, model.decoder.vocab_size, processor.tokenizer.vocab_size) == (V, V, 24)
    ids = torch.tensor([processor.tokenizer.chat([{"role": "user", "content": "the cat was red"}], prompt=True)] * 2)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :3] = False
    positions = positions_of(mask)
    hidden = model.decoder.forward_embeds(model.decoder.embed(ids), positions, mask)
    expected = reference(ids, attention_mask=mask.long(), position_ids=positions).logits
    torch.testing.assert_close(model.decoder.logits(hidden)[mask], expected[mask], **CLOSE)


def test_a_model_without_a_chat_template_goes_on_a_text(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "gpt2")
    _, settings, tasks, _ = open_checkpoint(tmp_path)
    assert list(tasks) == ["lm"]
    assert [entry.name for entry in settings.tasks] == ["lm"]


@pytest.mark.parametrize(("head", "task"), [(True, "mlm"), (False, "similar")])
@torch.no_grad()
def test_an_encoder_guesses_words_or_gives_vectors(tmp_path: Path, head: bool, task: str) -> None:
    reference = write_bert(tmp_path, head=head)
    model, _, tasks, processor = open_checkpoint(tmp_path)
    assert list(tasks) == [task]
    ids = torch.tensor([processor.read("the cat was red")])
    assert ids[0, 0] == 1
    assert ids[0, -1] == 2
    features = model.text(ids, torch.ones_like(ids, dtype=torch.bool))
    bert = reference.bert if head else reference
    torch.testing.assert_close(features.tokens, bert(ids).last_hidden_state, **CLOSE)  # type: ignore[operator]


def test_a_checkpoint_is_told_from_a_run_and_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").rename(tmp_path / "kept.json")
    assert not is_checkpoint(tmp_path / "hf")
    (tmp_path / "kept.json").rename(tmp_path / "hf" / "config.json")
    assert is_checkpoint(tmp_path / "hf")
    assert is_checkpoint(str(tmp_path / "hf"))
    (tmp_path / "hf" / "recipe.yaml").write_text("{}")
    assert not is_checkpoint(tmp_path / "hf")
    assert not is_checkpoint(tmp_path / "nothing")
    assert is_checkpoint("model.gguf")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text('{"model_type": "rebus"}')
    assert not is_checkpoint(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("HuggingFaceTB/SmolLM2-135M")
    assert not is_hub_id("own/run-1")  # the folder is there: a Run that is not
    assert not is_hub_id("gpt2")
    assert not is_hub_id("/a/b")
    assert not is_hub_id("a/b/c")
    assert not is_hub_id("../b")


def test_the_recipe_of_a_checkpoint_holds_its_tower_exactly(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama 3 positions")
    made = recipe_of(tmp_path)
    tower = made.model.text
    assert (tower.kind, tower.width, tower.head_dim, tower.kv_heads, tower.rows) == ("decoder", 24, 8, 2, V)
    assert tower.rope_scaling is not None
    assert tower.rope_scaling["rope_type"] == "llama3"
    assert made.model.image.kind == "none"
    assert made.text.max_length == 512
    (tmp_path / "recipe.yaml").write_text(made.save_text(), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == made


def test_ids_beyond_the_embeddings_get_rows_and_it_is_told(tmp_path: Path) -> None:
    reference = write_checkpoint(tmp_path, "llama tied", chat=True)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"] |= {f"word{n}": 24 + n for n in range(30)}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    told: list[str] = []
    model, *_ = open_checkpoint(tmp_path, told.append)
    assert any("4 ids" in line for line in told)
    assert model.decoder is not None
    weight = model.decoder.embed_tokens.weight
    assert tuple(weight.shape) == (54, 24)
    torch.testing.assert_close(weight[:V], reference.model.embed_tokens.weight)  # type: ignore[union-attr]
    torch.testing.assert_close(weight[V:], weight[:V].mean(0).expand(4, -1))


@torch.no_grad()
def test_a_checkpoint_in_bfloat16_opens_in_either_type(tmp_path: Path) -> None:
    reference = reference_decoder("qwen2").bfloat16()
    reference.save_pretrained(tmp_path)  # type: ignore[operator]
    write_tokenizer(tmp_path, chat=True)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    for dtype in (None, torch.bfloat16):
        model, *_ = open_checkpoint(tmp_path, dtype=dtype)
        assert model.decoder is not None
        assert {parameter.dtype for parameter in model.parameters()} == {dtype or torch.float32}
        same = model.decoder.norm.weight.float() == reference.model.norm.weight.float()  # type: ignore[union-attr]
        assert bool(same.all())
    assert torch.get_default_dtype() == torch.float32


def test_opening_draws_no_random_weights_and_training_does(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, chat=True)
    first, second = (open_checkpoint(tmp_path)[0].state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    torch.manual_seed(0)
    assert torch.nn.Linear(64, 64).weight.std() > 0.01  # the shortcut ended with the opening


# checkpoints that cannot be opened


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NORM, Q = "model.norm.weight", "model.layers.0.self_attn.q_proj.weight"
BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a tensor missing": (lambda f: edit_weights(f, lambda s: s.pop(NORM)), r"1 missing: 'decoder\.norm\.weight'"),
    "a tensor too many": (lambda f: edit_weights(f, lambda s: s.update(extra=torch.zeros(1))), "llama layout.*'extra'"),
    "a tensor of another shape": (
        lambda f: edit_weights(f, lambda s: s.update({Q: s[Q][:8].clone()})),
        r"expected \(32, 24\), received \(8, 24\) for 'decoder\.layers\.0\.self_attn\.q_proj\.weight'",
    ),
    "weights cut short": (lambda f: half(f / "model.safetensors"), "whole safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors.*neither"),
    "only pickles": (pickled, r"pytorch_model\.bin.*may run code"),
    "another vocabulary": (lambda f: edit_config(f, vocab_size=60), r"'vocab_size' 50.*found 60"),
    "another width": (lambda f: edit_config(f, intermediate_size=48), r"expected \(48, 24\), received \(40, 24\)"),
    "code of its own": (
        lambda f: edit_config(f, model_type="phi-msft", auto_map={"AutoConfig": "configuration.C"}),
        r"auto_map.*never run",
    ),
    "an unknown family": (
        lambda f: edit_config(f, model_type="mamba"),
        r"bert, clip, .*llama, llava, .*vit\).*'mamba'",
    ),
    "no family": (lambda f: edit_config(f, model_type=None), "family that Rebus knows"),
    "a configuration cut short": (lambda f: half(f / "config.json"), "settings in JSON"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json"),
    "a tokenizer cut short": (lambda f: half(f / "tokenizer.json"), r"tokenizer\.json"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_bad_checkpoint_is_told_in_four_parts(tmp_path: Path, case: str) -> None:
    write_checkpoint(tmp_path, chat=True)
    damage, said = BREAKS[case]
    damage(tmp_path)
    with pytest.raises(RebusError, match=said) as caught:
        open_checkpoint(tmp_path)
    assert all(caught.value.as_dict().values())
    assert "\n" not in str(caught.value)


def test_a_known_family_opens_although_it_names_code(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, chat=True)
    edit_config(tmp_path, auto_map={"AutoModelForCausalLM": "modeling.Evil"})
    (tmp_path / "modeling.py").write_text("raise SystemExit('ran')")
    open_checkpoint(tmp_path)
    assert "modeling" not in sys.modules


# the hub


def test_a_repository_is_fetched_as_safetensors_json_and_templates_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    write_checkpoint(tmp_path / "fetched", chat=True)
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetch(name: str, **how: Any) -> str:
        asked.append((name, how))
        return str(tmp_path / "fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    found = read_checkpoint("someone/tiny-a", told.append)
    assert found.tower.width == 24
    ((name, how),) = asked
    assert name == "someone/tiny-a"
    left = ["*/*.safetensors", "*/*.jinja", "onnx/*", "openvino/*"]
    assert how == {"allow_patterns": ["*.safetensors", "*.json", "*.jinja"], "ignore_patterns": left}
    assert "hub" in told[0]


def test_being_offline_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="offline") as caught:
        open_checkpoint("someone/tiny-b")
    assert "\n" not in str(caught.value)


def test_a_repository_that_is_not_there_and_a_missing_library_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.chdir(tmp_path)

    def fetch(name: str, **how: Any) -> str:
        raise OSError("404 Client Error.\n\nRepository Not Found")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(WeightsError, match="Repository Not Found") as caught:
        open_checkpoint("someone/tiny-c")
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'rebus-vlm\[hub\]'"):
        open_checkpoint("someone/tiny-d")


def test_a_gguf_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RebusError, match=r"none\.gguf"):
        open_checkpoint(tmp_path / "none.gguf")


# GGUF and adapters, which other tests look at more closely


@torch.no_grad()
def test_a_gguf_file_opens_with_the_same_logits(tmp_path: Path) -> None:
    from rebus.formats.gguf import write_gguf
    from rebus.text.tokenizer import Tokenizer

    reference = reference_decoder("llama tied")
    texts = ["the cat was red", "the dog was blue"] * 3
    tokenizer = Tokenizer.train(texts, 300, pattern="gpt-2")
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**reference.config.to_dict(), "vocab_size": tokenizer.vocab_size})  # type: ignore[union-attr, operator]
    torch.manual_seed(0)
    reference = LlamaForCausalLM(config).eval()
    write_gguf(tmp_path / "m.gguf", reference.config.to_dict(), reference.state_dict(), tokenizer, precision="f32")
    model, settings, tasks, processor = open_checkpoint(tmp_path / "m.gguf")
    assert list(tasks) == ["converse"]
    assert settings.model.text.rows == tokenizer.vocab_size
    ids = torch.tensor([processor.tokenizer.encode("the cat was blue")])
    assert model.decoder is not None
    hidden = model.decoder.forward_embeds(model.decoder.embed(ids), torch.arange(ids.shape[1])[None])
    torch.testing.assert_close(model.decoder.logits(hidden), reference(ids).logits, **CLOSE)


@torch.no_grad()
def test_an_adapter_opens_as_its_base_with_it_added(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    reference = write_checkpoint(tmp_path / "base", chat=True)
    adapted = get_peft_model(
        reference, LoraConfig(target_modules=["q_proj", "down_proj"], r=2, init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(str(tmp_path / "adapter"))
    assert is_checkpoint(tmp_path / "adapter")
    model, _, _, processor = open_checkpoint(tmp_path / "adapter")
    ids = torch.tensor([processor.tokenizer.encode("the cat was blue")])
    assert model.decoder is not None
    hidden = model.decoder.forward_embeds(model.decoder.embed(ids), torch.arange(ids.shape[1])[None])
    torch.testing.assert_close(model.decoder.logits(hidden), adapted.eval()(ids).logits, **CLOSE)


def test_a_image_tower_alone_is_told_with_the_option_for_it(tmp_path: Path) -> None:
    from tiny_images import saved

    saved(tmp_path, "vit")
    with pytest.raises(WeightsError, match=r"'vit', an image tower alone.*--vision"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(("window", "opens"), [(None, True), (512, True), (511, False), ("left out", False)])
def test_mistral_opens_where_no_layer_has_a_window(tmp_path: Path, window: Any, opens: bool) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, model_type="mistral", sliding_window=window)
    if window == "left out":  # then it is 4096, and the context 131072
        config = json.loads((tmp_path / "config.json").read_text())
        kept = {key: one for key, one in config.items() if key not in ("sliding_window", "max_position_embeddings")}
        (tmp_path / "config.json").write_text(json.dumps(kept))
    if opens:
        assert read_checkpoint(tmp_path).tower.width == 24
    else:
        with pytest.raises(WeightsError, match="sliding_window"):
            read_checkpoint(tmp_path)
