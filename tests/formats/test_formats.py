from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from rebus.errors import WeightsError
from rebus.formats import bert, llama, qwen3, siglip
from rebus.formats.config import load_config
from rebus.formats.weights import check_state, load_weights
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.encoder import Encoder
from rebus.models.towers.vit import ViT
from rebus.recipe import Tower

V = 30
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 4, "hidden": 24}


def decoder(family: str, tied: bool) -> tuple[Decoder, dict[str, Any]]:
    torch.manual_seed(0)
    context = {"vocab_size": V, "max_length": 40, "rope_theta": 700.0, "eps": 1e-5, "head_dim": 8, "bias": tied}
    settings = Tower(kind="decoder", kv_heads=2, qk_norm=family == "qwen3", tied=tied, **SMALL)
    return Decoder(settings, **context, zero_init=False).eval(), context


def export(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_a_decoder_loads_in_transformers_and_comes_back(tmp_path: Path, family: str, tied: bool) -> None:
    from transformers import AutoModelForCausalLM

    adapter = llama if family == "llama" else qwen3
    model, context = decoder(family, tied)
    export(tmp_path, adapter.config_to_hf(model.settings, **context), adapter.to_hf(model.state_dict()))
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.randint(0, V, (2, 7))
    ours = model.logits(model.forward_embeds(model.embed(ids), torch.arange(7)[None]))
    torch.testing.assert_close(theirs.eval()(ids).logits, ours, atol=1e-5, rtol=0)

    theirs.save_pretrained(tmp_path / "again")
    settings, back = adapter.settings_from_hf(load_config(tmp_path / "again"))
    assert settings == model.settings
    assert {key: back[key] for key in context} == context
    state = adapter.from_hf(load_weights(tmp_path / "again"), tied=settings.tied)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_an_encoder_loads_in_transformers_and_comes_back(tmp_path: Path) -> None:
    from transformers import BertModel

    torch.manual_seed(0)
    context = {"vocab_size": V, "max_length": 12, "type_vocab_size": 2, "eps": 1e-7, "activation": "gelu"}
    model = Encoder(Tower(kind="encoder", **SMALL), **context, pool="cls").eval()
    export(tmp_path, bert.config_to_hf(model.settings, **context), bert.to_hf(model.state_dict()))
    theirs, report = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, mask = torch.randint(0, V, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    out = theirs.eval()(ids, mask.long())
    torch.testing.assert_close(model(ids, mask).pooled, out.pooler_output, atol=1e-5, rtol=0)
    settings, back = bert.settings_from_hf(load_config(tmp_path))
    assert settings.model_copy(update={"kv_heads": None}) == model.settings
    assert back == context
    state = bert.from_hf(bert.to_hf(model.state_dict()))
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("head", [True, False])
@torch.no_grad()
def test_a_vit_loads_in_transformers_and_comes_back(tmp_path: Path, head: bool) -> None:
    from transformers import SiglipVisionModel

    torch.manual_seed(0)
    context = {"size": 32, "head": head, "activation": "gelu_tanh", "eps": 1e-5}
    model = ViT(Tower(kind="vit", patch=8, **SMALL), **context, zero_init=False).eval()
    export(tmp_path, siglip.config_to_hf(model.settings, **context), siglip.to_hf(model.state_dict()))
    theirs, report = SiglipVisionModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(pixels).tokens, theirs.eval()(pixels).last_hidden_state, atol=1e-5, rtol=0)
    settings, back = siglip.settings_from_hf(load_config(tmp_path))
    assert settings == model.settings
    assert back == context
    state = siglip.from_hf(siglip.to_hf(model.state_dict()))
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_checkpoints_of_the_base_model_or_with_a_head_load_too() -> None:
    model, _ = decoder("llama", False)
    bare = {name.removeprefix("model."): tensor for name, tensor in llama.to_hf(model.state_dict()).items()}
    bare["rotary_emb.inv_freq"] = torch.zeros(4)
    assert llama.from_hf(bare).keys() == model.state_dict().keys()
    encoder = Encoder(Tower(kind="encoder", **SMALL), V)
    headed = {f"bert.{name}": tensor for name, tensor in bert.to_hf(encoder.state_dict()).items()}
    headed["bert.embeddings.LayerNorm.gamma"] = headed.pop("bert.embeddings.LayerNorm.weight")
    headed["cls.predictions.bias"] = torch.zeros(3)
    headed["bert.pooler.dense.weight"] = torch.zeros(16, 16)
    assert bert.from_hf(headed, pooler=False).keys() == encoder.state_dict().keys()
    vit = ViT(Tower(kind="vit", patch=8, **SMALL), size=16)
    whole = {**siglip.to_hf(vit.state_dict()), "text_model.head.weight": torch.zeros(1), "logit_scale": torch.zeros(1)}
    assert siglip.from_hf(whole).keys() == vit.state_dict().keys()


def test_a_copy_of_tied_embeddings_is_left_out() -> None:
    model, _ = decoder("llama", True)
    state = {**llama.to_hf(model.state_dict()), "lm_head.weight": model.embed_tokens.weight}
    assert llama.from_hf(state, tied=True).keys() == model.state_dict().keys()


def test_names_of_another_family_are_refused() -> None:
    qwen, _ = decoder("qwen3", True)
    with pytest.raises(WeightsError, match="q_norm"):
        llama.to_hf(qwen.state_dict())
    with pytest.raises(WeightsError, match="q_norm"):
        llama.from_hf(qwen3.to_hf(qwen.state_dict()))
    crossed = Decoder(Tower(**SMALL), V, cross=True)
    with pytest.raises(WeightsError, match=r"memory_norm|cross"):
        qwen3.to_hf(crossed.state_dict())
    with pytest.raises(WeightsError, match="bert layout"):
        bert.from_hf(llama.to_hf(decoder("llama", True)[0].state_dict()))


BASE = {
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "vocab_size": V,
    "image_size": 32,
    "patch_size": 8,
}


@pytest.mark.parametrize(
    ("adapter", "config", "said"),
    [
        (llama, {"model_type": "mistral"}, "model_type"),
        (llama, {"model_type": "llama", "mlp_bias": True}, "mlp_bias"),
        (llama, {"model_type": "llama", "hidden_act": "gelu"}, "hidden_act"),
        (llama, {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8}}, "rope_type"),
        (llama, {"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}}, "rope_type"),
        (llama, {"model_type": "llama", "hidden_size": None}, "hidden_size"),
        (llama, {"model_type": "llama", "vocab_size": "30"}, "vocab_size"),
        (qwen3, {"model_type": "qwen3", "use_sliding_window": True}, "use_sliding_window"),
        (bert, {"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        (bert, {"model_type": "bert", "hidden_act": "mish"}, "hidden_act"),
        (siglip, {"model_type": "clip"}, "model_type"),
        (siglip, {"model_type": "siglip", "vision_config": {"num_channels": 1}}, "num_channels"),
    ],
)
def test_other_variants_are_refused(adapter: Any, config: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        adapter.settings_from_hf({**BASE, **config})


def test_older_configurations_are_read() -> None:
    settings, context = llama.settings_from_hf({**BASE, "model_type": "llama", "rope_theta": 5e5, "rope_scaling": None})
    assert context["rope_theta"] == 5e5
    assert settings.kv_heads == 4
    assert context["head_dim"] == 4
    settings, context = siglip.settings_from_hf({"model_type": "siglip", "vision_config": {"image_size": 384}})
    assert (settings.width, context["size"], context["head"]) == (768, 384, True)


# reading files


def shards(folder: Path) -> dict[str, torch.Tensor]:
    state = {"a": torch.randn(2), "b": torch.randn(3), "c": torch.randn(1)}
    save_file({"a": state["a"], "b": state["b"]}, folder / "one.safetensors")
    save_file({"c": state["c"]}, folder / "two.safetensors")
    places = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return state


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    state = shards(tmp_path)
    loaded = load_weights(tmp_path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert load_weights(tmp_path / "two.safetensors").keys() == {"c"}


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(WeightsError, match="same folder"):
        load_weights(tmp_path)


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="neither"):
        load_weights(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin.*convert"):
        load_weights(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="weight_map"):
        load_weights(tmp_path)
    shards(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(WeightsError, match=r"one\.safetensors.*1 missing: 'b'"):
        load_weights(tmp_path)
    (tmp_path / "two.safetensors").unlink()
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(WeightsError, match=r"two\.safetensors"):
        load_weights(tmp_path)
    save_file({"a": torch.zeros(100)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\xff" * 64):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="whole safetensors"):
            load_weights(tmp_path)


@pytest.mark.parametrize("content", [None, "[]", "not json"])
def test_a_broken_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_config(tmp_path)


def test_check_state_lists_what_does_not_fit() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    state = model.state_dict()
    check_state(model, state)
    state["0.weight"] = state["0.weight"].T
    state["extra"] = state.pop("1.bias")
    with pytest.raises(WeightsError) as caught:
        check_state(model, state)
    told = str(caught.value)
    assert "1 missing: '1.bias'" in told
    assert "1 left over: 'extra'" in told
    assert "expected (3, 2), received (2, 3) for '0.weight'" in told


def test_a_long_list_is_cut_short() -> None:
    with pytest.raises(WeightsError, match="and 14 more"):
        check_state(nn.Sequential(*[nn.Linear(1, 1) for _ in range(10)]), {})
