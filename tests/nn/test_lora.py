from __future__ import annotations

import pytest
import torch
from torch import nn

from rebus.nn.block import EncoderLayer
from rebus.nn.lora import LoraLinear, adapters, add_lora, ends_with, inside_block, merged


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"layer": EncoderLayer(16, 2, 32, activation="gelu", norm_first=False), "head": nn.Linear(16, 3)}
    )


def stir(model: nn.Module) -> None:
    """Second factors other than zero, as after some training."""
    with torch.no_grad():
        for layer in adapters(model).values():
            layer.lora_B.normal_(std=0.1)


def test_a_new_adapter_changes_nothing_and_a_trained_one_does():
    model, x = block(), torch.randn(2, 5, 16)
    before = model.layer(x, None)
    add_lora(model, inside_block, rank=4, alpha=8)
    torch.testing.assert_close(model.layer(x, None), before, atol=0, rtol=0)
    stir(model)
    assert float((model.layer(x, None) - before).detach().abs().max()) > 0.01


def test_attention_and_feed_forward_get_adapters_heads_do_not():
    model = block()
    named = add_lora(model, inside_block, rank=2, alpha=2)
    parts = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2")
    assert set(named) == {f"layer.{part}" for part in parts}
    assert type(model.head) is nn.Linear
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learned if "_proj" in name or ".fc" in name} == {
        f"{name}.{factor}" for name in named for factor in ("lora_A", "lora_B")
    }


def test_targets_are_ends_of_names_from_a_dot_on():
    assert add_lora(block(), ends_with(["v_proj", "mlp.fc1"]), rank=2, alpha=2) == [
        "layer.attention.v_proj",
        "layer.mlp.fc1",
    ]
    assert add_lora(block(), ends_with(["proj", "c1"]), rank=2, alpha=2) == []


def test_merged_equals_unmerged():
    model, x = block(), torch.randn(2, 5, 16)
    add_lora(model, inside_block, rank=4, alpha=12)
    stir(model)
    plain = block()
    plain.load_state_dict(merged(model, model.state_dict()))  # strict: no factor is left, no tensor is missing
    torch.testing.assert_close(plain.layer(x, None), model.layer(x, None), atol=1e-5, rtol=0)


def test_the_formula_and_its_scale():
    base = nn.Linear(6, 4)
    layer, x = LoraLinear(base, 2, 0.5), torch.randn(3, 6)
    layer.lora_B.data.normal_()
    expected = base(x) + 0.5 * x @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.delta, 0.5 * layer.lora_B @ layer.lora_A)


def test_dropout_is_on_the_adapters_input_only():
    base = nn.Linear(6, 4)
    layer, x = LoraLinear(base, 2, 1.0, dropout=0.999999), torch.randn(3, 6)
    layer.lora_B.data.normal_()
    torch.testing.assert_close(layer.train()(x), base(x))
    assert not torch.allclose(layer.eval()(x), base(x))


@pytest.mark.parametrize(("one", "other", "same"), [(3, 3, True), (3, 4, False)])
def test_first_factors_follow_the_seed_and_leave_the_global_generator_alone(one, other, same):
    models = [block(), block()]
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    for model, seed in zip(models, (one, other), strict=True):
        add_lora(model, inside_block, rank=2, alpha=2, seed=seed)
    assert torch.equal(torch.rand(1), expected)
    first, second = (adapters(model)["layer.mlp.fc1"].lora_A for model in models)
    assert torch.equal(first, second) is same
