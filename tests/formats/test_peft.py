"""Adapters in PEFT's layout: PEFT loads ours, we merge PEFT's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from one_tower import one_tower
from rebus.errors import WeightsError
from rebus.formats.peft import is_adapter, merge_adapter, read_adapter, write_adapter
from rebus.models.towers.decoder import Decoder, positions_of
from rebus.models.towers.encoder import Encoder
from rebus.nn.lora import adapters, add_lora, ends_with, inside_block

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
MASK = torch.ones_like(IDS, dtype=torch.bool)


def tiny(family: str) -> nn.Module:
    """A small model of transformers'."""
    torch.manual_seed(0)
    if family.startswith("llama"):
        more = {"intermediate_size": 32, "num_key_value_heads": 1, "tie_word_embeddings": family == "llama tied"}
        config = transformers.LlamaConfig(**SIZES, **more)
        return transformers.LlamaForCausalLM(config).eval()
    if family == "gpt2":
        config = transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32)
        return transformers.GPT2LMHeadModel(config).eval()
    config = transformers.BertConfig(**SIZES, intermediate_size=32, max_position_embeddings=32)
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def ours(family: str, model: nn.Module) -> nn.Module:
    """The same model as our tower."""
    module = one_tower(family.split()[0])
    settings, rows = module.settings_from_hf(model.config.to_dict())
    tower = (Encoder if family == "bert" else Decoder)(
        settings.model_copy(update={"dropout": 0.0}), rows, max_length=32
    )
    state = {name: tensor for name, tensor in model.state_dict().items() if "position_ids" not in name}
    tower.load_state_dict(module.from_hf(state, settings))
    return tower.eval()


def told(tower: nn.Module) -> Tensor:
    if isinstance(tower, Encoder):
        return tower(IDS, MASK).tokens
    return tower.logits(tower.forward_embeds(tower.embed(IDS), positions_of(MASK)))


def theirs(model: nn.Module) -> Tensor:
    out = model(IDS)
    return out.logits if hasattr(out, "logits") else out.last_hidden_state


TARGETS = [
    ("llama", []),
    ("llama", ["q_proj", "down_proj"]),
    ("bert", []),
    ("bert", ["v_proj", "fc2"]),
    ("gpt2", []),
    ("gpt2", ["o_proj"]),
    ("gpt2", ["q_proj", "v_proj"]),
]


@pytest.mark.parametrize(("family", "targets"), TARGETS)
def test_peft_loads_ours_and_gives_the_same_numbers(tmp_path: Path, family: str, targets: list[str]) -> None:
    model = tiny(family)
    tower = ours(family, model)
    with torch.no_grad():
        before = theirs(model)
        torch.testing.assert_close(told(tower), before, atol=2e-5, rtol=0)
        add_lora(tower, ends_with(targets) if targets else inside_block, rank=3, alpha=6, seed=1)
        for layer in adapters(tower).values():
            layer.lora_B.normal_(std=0.2)
        expected = told(tower)
        assert float((expected - before).abs().max()) > 0.01
        factors = {name: (layer.lora_A, layer.lora_B) for name, layer in adapters(tower).items()}
        rename = one_tower(family).to_hf
        task = "FEATURE_EXTRACTION" if family == "bert" else "CAUSAL_LM"
        write_adapter(tmp_path, factors, alpha=6, dropout=0.1, base="base", task=task, rename=rename)
        loaded = peft.PeftModel.from_pretrained(model, tmp_path).eval()
        torch.testing.assert_close(theirs(loaded), expected, atol=2e-5, rtol=0)
    # and what we wrote we also merge
    base = tiny(family)
    base.load_state_dict(merge_adapter(base.state_dict(), read_adapter(tmp_path)))
    with torch.no_grad():
        torch.testing.assert_close(theirs(base), expected, atol=2e-5, rtol=0)


PATTERNS = {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"layers.0.self_attn.q_proj": 16}}
REGULAR = {
    "rank_pattern": {r"layers\.[1-9]\..*\.(q|k)_proj": 3, "proj": 1},
    "alpha_pattern": {r"model.layers.0.*": 16, r".*\.1\.self_attn.*": 5},
}
LORAS = [
    ("llama", {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8}),
    ("llama", {"target_modules": "all-linear", "r": 4, "lora_alpha": 3, "use_rslora": True}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "r": 4, **PATTERNS}),
    ("llama", {"target_modules": ["embed_tokens", "o_proj"], "r": 2, "modules_to_save": ["norm"]}),
    ("llama", {"target_modules": ["q_proj"], "r": 2, "modules_to_save": ["lm_head"]}),
    ("gpt2", {"target_modules": ["c_attn", "c_fc"], "r": 4, "fan_in_fan_out": True}),
    ("bert", {"target_modules": ["query", "dense"], "r": 4}),
    ("llama", {"target_modules": ["q_proj", "k_proj", "up_proj"], "r": 4, "lora_alpha": 3, **REGULAR}),
    ("llama", {"target_modules": ["q_proj", "up_proj"], "r": 4, "use_rslora": True, **REGULAR}),
    ("llama", {"target_modules": ["q_proj", "down_proj"], "r": 2, "use_dora": True}),
    ("llama", {"target_modules": ["q_proj"], "r": 2, "layers_to_transform": [1]}),
    ("llama", {"target_modules": ["q_proj"], "r": 2, "init_lora_weights": "gaussian"}),
    ("llama", {"target_modules": ["q_proj"], "r": 2, "init_lora_weights": "orthogonal"}),
    ("llama", {"target_modules": ["q_proj"], "r": 2, "trainable_token_indices": [1, 3, 39]}),
    ("llama", {"target_modules": ["q_proj", "lm_head"], "r": 2, "trainable_token_indices": {"embed_tokens": [4]}}),
    ("llama tied", {"target_modules": ["q_proj", "embed_tokens"], "r": 2}),
    ("llama tied", {"target_modules": ["q_proj", "lm_head"], "r": 2}),
    ("llama tied", {"target_modules": ["q_proj", "embed_tokens"], "r": 2, "ensure_weight_tying": True}),
    ("llama tied", {"target_modules": ["q_proj"], "r": 2, "modules_to_save": ["embed_tokens"]}),
    ("llama tied", {"target_modules": ["q_proj"], "r": 2, "modules_to_save": ["lm_head"]}),
    ("llama tied", {"target_modules": ["q_proj"], "r": 2, "trainable_token_indices": [1, 3]}),
    ("llama tied", {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [1], "embed_tokens": [2]}}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj"], "r": 4}),
    ("gpt2", {"target_modules": ["c_attn", "lm_head"], "r": 4, "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_attn", "wte"], "r": 4, "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_attn", "c_proj"], "r": 4, "use_dora": True, "fan_in_fan_out": True}),
    ("gpt2", {"target_modules": ["c_attn", "c_fc"], "r": 2, "bias": "all"}),
    ("gpt2", {"target_modules": ["c_fc"], "r": 2, "bias": "lora_only", "lora_bias": True}),
    ("bert", {"target_modules": ["query"], "r": 2, "bias": "all", "lora_bias": True}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "settings"), LORAS)
def test_we_merge_pefts(tmp_path: Path, family: str, settings: dict[str, object]) -> None:
    model = tiny(family)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.4)
        wrapped.eval()
        expected = theirs(wrapped)
    wrapped.peft_config["default"].base_model_name_or_path = "somewhere"
    wrapped.save_pretrained(tmp_path)
    assert is_adapter(tmp_path)
    adapter = read_adapter(tmp_path)
    assert adapter.base == "somewhere"
    plain = tiny(family)
    tied = bool(getattr(plain.config, "tie_word_embeddings", False)) and hasattr(plain, "lm_head")
    assert adapter.changes_embeddings == any(
        part in str(settings) for part in ("embed_tokens", "wte", "lm_head", "token_")
    )
    with torch.no_grad():
        assert float((theirs(plain) - expected).abs().max()) > 0.01
        if tied:  # as it was while the adapter was trained: two matrices
            start = {name: one for name, one in start.items() if name != "lm_head.weight"}
            plain.lm_head.weight = nn.Parameter(plain.lm_head.weight.detach().clone())
        merged = merge_adapter(start, adapter, tied=tied)
        assert ("lm_head.weight" in merged) == (adapter.changes_embeddings if tied else hasattr(plain, "lm_head"))
        if tied and not adapter.changes_embeddings:
            merged["lm_head.weight"] = next(one for name, one in merged.items() if name.endswith("wte.weight"))
        plain.load_state_dict(merged)
        torch.testing.assert_close(theirs(plain), expected, atol=1e-5, rtol=1e-5)


def written(folder: Path, **changes: object) -> Path:
    write_adapter(folder, {"a.b": (torch.ones(2, 3), torch.ones(4, 2))}, alpha=2, dropout=0, base="base", task=None)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_a_base_beside_the_adapter_is_found(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    assert read_adapter(written(tmp_path)).base == str(tmp_path / "base")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "a LoRA adapter; found 'IA3'"),
        ({"peft_type": "ADALORA"}, "found 'ADALORA'"),
        ({"use_qalora": True}, "found use_qalora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa', which changes the base's weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": ["gaussian"]}, "gaussian"),
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"rank_pattern": {"(": 2}}, "'rank_pattern' with regular expressions"),
        ({"alpha_pattern": {"a.b": "much"}}, "'alpha_pattern' with numbers"),
        ({"alpha_pattern": [1]}, "'alpha_pattern' with numbers"),
        ({"rank_pattern": {"b": 3}}, r"factors of 'a.b' of rank 3; found \(2, 3\)"),
        ({"r": None}, "the rank 'r'"),
        ({"lora_alpha": "many"}, "lora_alpha"),
        ({"base_model_name_or_path": None}, "the model that the adapter was trained on"),
    ],
)
def test_other_adapters_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        merge_adapter({"a.b.weight": torch.ones(4, 3)}, read_adapter(written(tmp_path, **changes)))


def test_a_missing_or_broken_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"adapter_config\.json"):
        read_adapter(tmp_path)
    (written(tmp_path) / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("base", "said"),
    [({"c.weight": torch.ones(4, 3)}, "'a.b.weight'"), ({"a.b.weight": torch.ones(3, 4)}, r"the base's \(3, 4\)")],
)
def test_an_adapter_of_another_model_is_refused(tmp_path: Path, base: dict[str, Tensor], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        merge_adapter(base, read_adapter(written(tmp_path)))


def test_one_factor_alone_is_refused(tmp_path: Path) -> None:
    adapter = read_adapter(written(tmp_path))
    del adapter.tensors["a.b.lora_B.weight"]
    with pytest.raises(WeightsError, match="both factors"):
        merge_adapter({"a.b.weight": torch.ones(4, 3)}, adapter)
