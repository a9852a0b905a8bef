"""Name maps and configurations, both ways, against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from one_tower import one_tower, spec_of, tower_family
from rebus.checkpoints.export import quantising_notes
from rebus.checkpoints.hf_load import read_checkpoint
from rebus.errors import WeightsError
from rebus.formats.config import load_config
from rebus.formats.family import family_of
from rebus.formats.weights import load_weights, save_weights
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.encoder import Encoder
from rebus.models.towers.vit import ViT
from rebus.recipe import Tower
from tiny_checkpoints import DECODERS, V, our_decoder, reference_decoder, write_checkpoint

bert, gpt2, llama, qwen2, qwen3 = map(one_tower, ("bert", "gpt2", "llama", "qwen2", "qwen3"))
siglip = one_tower("siglip_vision_model")
SMALL: dict[str, Any] = {"width": 16, "depth": 2, "heads": 4, "hidden": 24}


def export(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_weights(folder, state)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_a_decoder_loads_in_transformers_and_comes_back(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model = our_decoder(reference_decoder(name))
    family = tower_family(model.settings)
    assert family is not None
    assert family.name == DECODERS[name][0]
    export(tmp_path, family.config_to_hf(model.settings, V, eos_token_id=2), family.to_hf(model.state_dict()))
    theirs, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert type(theirs).__name__ == load_config(tmp_path)["architectures"][0]
    assert theirs.config.eos_token_id == 2
    ids = torch.randint(0, V, (2, 90))
    ours = model.logits(model.forward_embeds(model.embed(ids), torch.arange(90)[None]))
    torch.testing.assert_close(theirs.eval()(ids).logits, ours, atol=1e-5, rtol=0)

    theirs.save_pretrained(tmp_path / "again")
    settings, rows = family.settings_from_hf(load_config(tmp_path / "again"))
    assert (settings, rows) == (model.settings, V)
    assert family.settings_from_hf(load_config(tmp_path)) == (model.settings, V)
    state = family.from_hf(load_weights(tmp_path / "again"), settings)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@torch.no_grad()
def test_shards_of_either_type_load_in_transformers_and_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    name = str(dtype).removeprefix("torch.")
    torch.manual_seed(0)
    model = Decoder(Tower(kind="decoder", width=256, depth=2, heads=4, bias="all"), 300).eval()
    config = qwen3.config_to_hf(model.settings.model_copy(update={"bias": "none"}), 300, dtype=name)
    state = {key: tensor for key, tensor in model.state_dict().items() if not key.endswith(".bias")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_weights(tmp_path, qwen3.to_hf(state), max_shard_mb=1, dtype=dtype)
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0].startswith("model-00001-of-")
    assert all(path.stat().st_size < 1_100_000 for path in tmp_path.glob("*.safetensors"))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.numel() for tensor in state.values()) * dtype.itemsize
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.dtype == dtype
    back = qwen3.from_hf(load_weights(tmp_path), model.settings)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor.to(dtype)) for key, tensor in state.items())


@torch.no_grad()
def test_an_encoder_loads_in_transformers_and_comes_back(tmp_path: Path) -> None:
    from transformers import BertModel

    torch.manual_seed(0)
    given = {"eps": 1e-7, "activation": "gelu_tanh", "context": 12, "segments": 3, "pool": "cls"}
    model = Encoder(Tower(kind="encoder", **SMALL, **given), V).eval()
    export(tmp_path, bert.config_to_hf(model.settings, V), bert.to_hf(model.state_dict()))
    theirs, report = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids, mask = torch.randint(0, V, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    out = theirs.eval()(ids, mask.long())
    torch.testing.assert_close(model(ids, mask).pooled, out.pooler_output, atol=1e-5, rtol=0)
    settings, rows = bert.settings_from_hf(load_config(tmp_path))
    assert settings.model_copy(update={"pool": "cls"}) == model.settings
    assert rows == V
    state = bert.from_hf(bert.to_hf(model.state_dict()), model.settings)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_a_chinese_berts_shapes_fit() -> None:
    """bert-base-chinese: 21,128 pieces, 512 positions, two segments; here with one thin layer."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=21128, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    theirs = BertForMaskedLM(config).eval()
    settings, rows = bert.settings_from_hf(config.to_dict())
    encoder = Encoder(settings, rows).eval()
    encoder.load_state_dict(bert.from_hf(theirs.state_dict(), settings))
    assert tuple(encoder.words.weight.shape) == (21128, 24)
    ids, mask = torch.randint(0, 21128, (1, 512)), torch.ones(1, 512, dtype=torch.bool)
    torch.testing.assert_close(encoder(ids, mask).tokens, theirs.bert(ids).last_hidden_state, atol=1e-5, rtol=0)


def test_a_masked_head_goes_both_ways() -> None:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=V, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    theirs = BertForMaskedLM(config)
    settings, _ = bert.settings_from_hf(config.to_dict())
    spec = spec_of(settings, V, architecture="BertForMaskedLM")
    state = bert.family.from_hf(theirs.state_dict(), spec)
    head = [name.removeprefix("heads.mlm.") for name in state if name.startswith("heads.mlm.")]
    assert sorted(head) == ["bias", "norm.bias", "norm.weight", "transform.bias", "transform.weight"]
    written = bert.family.to_hf(state, spec)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert written.keys() == theirs.state_dict().keys() - tied
    assert all(torch.equal(theirs.state_dict()[name], tensor) for name, tensor in written.items())
    assert not any("mlm" in name for name in bert.family.from_hf(theirs.bert.state_dict(), spec))


def test_checkpoints_of_the_base_model_or_with_a_head_load_too() -> None:
    model = our_decoder(reference_decoder("llama"))
    bare = {name.removeprefix("model."): tensor for name, tensor in llama.to_hf(model.state_dict()).items()}
    bare["rotary_emb.inv_freq"] = torch.zeros(4)
    assert llama.from_hf(bare, model.settings).keys() == model.state_dict().keys()
    old = our_decoder(reference_decoder("gpt2"))
    bare = {name.removeprefix("transformer."): tensor for name, tensor in gpt2.to_hf(old.state_dict()).items()}
    bare["h.0.attn.bias"], bare["h.1.attn.masked_bias"] = torch.zeros(4), torch.zeros(1)
    assert gpt2.from_hf(bare, old.settings).keys() == old.state_dict().keys()
    encoder = Encoder(Tower(kind="encoder", **SMALL), V)
    headed = {f"bert.{name}": tensor for name, tensor in bert.to_hf(encoder.state_dict()).items()}
    headed["bert.embeddings.LayerNorm.gamma"] = headed.pop("bert.embeddings.LayerNorm.weight")
    headed["cls.predictions.bias"] = torch.zeros(3)
    headed["bert.pooler.dense.weight"] = torch.zeros(16, 16)
    assert bert.from_hf(headed, encoder.settings).keys() == encoder.state_dict().keys()
    vit = ViT(Tower(kind="vit", patch=8, **SMALL), size=16)
    whole = {**siglip.to_hf(vit.state_dict()), "text_model.head.weight": torch.zeros(1), "logit_scale": torch.zeros(1)}
    assert siglip.from_hf(whole, vit.settings).keys() == vit.state_dict().keys()


def test_a_copy_of_tied_embeddings_is_left_out() -> None:
    model = our_decoder(reference_decoder("llama tied"))
    state = {**llama.to_hf(model.state_dict()), "lm_head.weight": model.embed_tokens.weight}
    assert llama.from_hf(state, model.settings).keys() == model.state_dict().keys()


def test_names_of_another_family_are_refused() -> None:
    qwen = our_decoder(reference_decoder("qwen3"))
    with pytest.raises(WeightsError, match="q_norm"):
        llama.to_hf(qwen.state_dict())
    with pytest.raises(WeightsError, match="q_norm"):
        llama.from_hf(qwen3.to_hf(qwen.state_dict()), qwen.settings)
    crossed = Decoder(Tower(**SMALL), V, cross=True)
    with pytest.raises(WeightsError, match=r"memory_norm|cross"):
        qwen3.to_hf(crossed.state_dict())
    with pytest.raises(WeightsError, match="bert layout"):
        bert.from_hf(llama.to_hf(our_decoder(reference_decoder("llama")).state_dict()), qwen.settings)
    with pytest.raises(WeightsError, match="gpt2 layout"):
        gpt2.to_hf(qwen.state_dict())


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
        (llama, {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8}}, "low_freq_factor"),
        (llama, {"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 8}}, "rope_type"),
        (llama, {"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}}, "rope_type"),
        (llama, {"model_type": "llama", "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        (llama, {"model_type": "llama", "rope_theta": "far"}, "rope_theta"),
        (llama, {"model_type": "llama", "hidden_size": None}, "hidden_size"),
        (llama, {"model_type": "llama", "vocab_size": "30"}, "vocab_size"),
        (qwen2, {"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window"),
        (qwen2, {"model_type": "qwen2", "layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        (qwen3, {"model_type": "qwen3", "use_sliding_window": True}, "use_sliding_window"),
        (gpt2, {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (gpt2, {"model_type": "gpt2", "activation_function": "mish"}, "activation_function"),
        (gpt2, {"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention"),
        (bert, {"model_type": "bert", "position_embedding_type": "relative_key"}, "position_embedding_type"),
        (bert, {"model_type": "bert", "hidden_act": "mish"}, "hidden_act"),
        (bert, {"model_type": "bert", "is_decoder": True}, "is_decoder"),
        (siglip, {"model_type": "clip_vision_model"}, "model_type"),
        (one_tower("siglip"), {"model_type": "siglip", "vision_config": {"num_channels": 1}}, "num_channels"),
    ],
)
def test_other_variants_are_refused(adapter: Any, config: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        adapter.settings_from_hf({**BASE, **config})


def test_older_configurations_are_read() -> None:
    settings, rows = llama.settings_from_hf({**BASE, "model_type": "llama", "rope_theta": 5e5, "rope_scaling": None})
    assert settings.rope_theta == 5e5
    assert (settings.kv_heads, settings.head_dim, settings.tied, rows) == (4, None, False, V)
    assert qwen3.settings_from_hf({**BASE, "model_type": "qwen3"})[0].head_dim == 128
    settings, rows = gpt2.settings_from_hf({"model_type": "gpt2", "n_ctx": 1024})  # GPT-2 small leaves much unsaid
    assert (settings.width, settings.depth, settings.heads, settings.context, rows) == (768, 12, 12, 1024, 50257)
    assert settings.tied
    settings, size = one_tower("siglip").settings_from_hf(
        {"model_type": "siglip", "vision_config": {"image_size": 384}}
    )
    assert (settings.width, size, settings.pool) == (768, 384, "probe")


def test_configurations_speak_to_old_and_new_libraries() -> None:
    settings = Tower(kind="decoder", width=256, depth=1, heads=4, qk_norm=False, rope_theta=5e5, context=4096)
    scaling = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 512}
    settings = settings.replace(rope_scaling={"rope_type": "llama3", **scaling})
    config = llama.config_to_hf(settings, 320, dtype="bfloat16", eos_token_id=2, pad_token_id=None)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 5e5
    assert config["rope_scaling"]["rope_type"] == config["rope_parameters"]["rope_type"] == "llama3"
    assert config["rope_scaling"]["original_max_position_embeddings"] == 512
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    assert config["head_dim"] == 64
    assert config["max_position_embeddings"] == 4096
    assert config["eos_token_id"] == 2
    assert "pad_token_id" not in config


def test_the_family_of_a_tower_and_of_a_checkpoint() -> None:
    def name(**settings: Any) -> str | None:
        found = tower_family(Tower(kind="decoder", **{"width": 16, "depth": 1, "heads": 4, **settings}))
        return found.name if found else None

    assert name() == "qwen3"
    assert name(qk_norm=False) == "llama"
    assert name(qk_norm=False, bias="qkv") == "qwen2"
    assert name(bias="attention") == "qwen3"
    assert name(bias="all") is None
    older = {"norm": "layer", "feedforward": "mlp", "positions": "learned", "bias": "all", "qk_norm": False}
    assert name(**older) == "gpt2"
    assert name(**older, kv_heads=2) is None
    assert name(**{**older, "positions": "rotary"}) is None
    assert name(qk_norm=False, feedforward="mlp") is None
    encoder = tower_family(Tower(kind="encoder"))
    assert encoder is not None
    assert encoder.name == "bert"
    assert tower_family(Tower(kind="recurrent")) is None
    with pytest.raises(WeightsError, match=r"auto_map.*never run"):
        family_of({"model_type": "phi-msft", "auto_map": {"AutoConfig": "configuration.Config"}})
    with pytest.raises(WeightsError, match=r"bert, clip.*found 'qwen'"):
        family_of({"model_type": "qwen"})
    assert family_of({"model_type": "llama", "auto_map": {"AutoConfig": "x.y"}}).name == "llama"


def test_a_vocabulary_that_differs_from_the_embeddings_is_told(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    config = load_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": V - 1}))
    with pytest.raises(WeightsError, match=rf"'vocab_size' {V}.*found {V - 1}"):
        read_checkpoint(tmp_path)


def test_sizes_that_k_quants_cannot_cut_are_noted() -> None:
    assert quantising_notes(Tower(kind="decoder", width=256, heads=4, hidden=768)) == []
    (note,) = quantising_notes(Tower(kind="decoder", width=192, heads=6, hidden=512))
    assert "width 192" in note
    assert "hidden" not in note
