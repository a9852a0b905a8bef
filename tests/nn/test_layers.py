from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rebus.errors import RecipeError
from rebus.nn.convolution import ChannelNorm, Downsample, ResidualBlock, Stem
from rebus.nn.feedforward import MLP, SwiGLU, swiglu_hidden
from rebus.nn.norms import RMSNorm
from rebus.nn.rotary import apply_rotary, rotary_tables


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@torch.no_grad()
def test_rms_norm_is_the_formula_and_torch() -> None:
    norm, x = RMSNorm(8, eps=1e-3), 3 * torch.randn(2, 5, 8)
    norm.weight.copy_(torch.randn(8))
    formula = norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(norm(x), formula, atol=1e-5, rtol=0)
    theirs = nn.RMSNorm(8, eps=1e-3)
    theirs.weight.copy_(norm.weight)
    torch.testing.assert_close(norm(x), theirs(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_rms_norm_computes_in_float32() -> None:
    x = torch.randn(4, 64).to(torch.bfloat16) * 1e4  # squares of these are coarse in bfloat16
    out = RMSNorm(64)(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, RMSNorm(64)(x.float()).to(torch.bfloat16))


def test_rotary_equals_transformers() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    positions = torch.tensor([[0, 1, 2, 3, 4], [7, 0, 300, 2, 2]])
    query, key = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    rope = {"rope_type": "default", "rope_theta": 500.0}
    config = LlamaConfig(hidden_size=24, num_attention_heads=3, rope_parameters=rope)
    cos, sin = LlamaRotaryEmbedding(config)(query, positions)
    reference = apply_rotary_pos_emb(query, key, cos, sin)
    ours = rotary_tables(positions, 8, theta=500.0)
    torch.testing.assert_close(apply_rotary(query, ours), reference[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(apply_rotary(key, ours), reference[1], atol=1e-5, rtol=0)


def test_rotary_depends_on_distance_only() -> None:
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i: int, j: int) -> torch.Tensor:
        turned = [apply_rotary(x, rotary_tables(torch.tensor([[n]]), 8)) for x, n in ((query, i), (key, j))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(5, 2), score(105, 102), atol=1e-4, rtol=0)
    assert (score(5, 2) - score(5, 3)).abs() > 1e-4


def test_rotary_refuses_odd_heads() -> None:
    with pytest.raises(RecipeError, match="even head size"):
        rotary_tables(torch.zeros(1, 1), 7)


@torch.no_grad()
def test_feed_forward_layers_are_their_formulas() -> None:
    x = torch.randn(2, 3, 8)
    glu = SwiGLU(8, 12)
    gate, up = x @ glu.gate_proj.weight.T, x @ glu.up_proj.weight.T
    torch.testing.assert_close(glu(x), (gate * torch.sigmoid(gate) * up) @ glu.down_proj.weight.T, atol=1e-5, rtol=0)
    for name, function in (
        ("gelu", F.gelu),
        ("gelu_tanh", lambda y: F.gelu(y, approximate="tanh")),
        ("quick_gelu", lambda y: y * torch.sigmoid(1.702 * y)),
    ):
        mlp = MLP(8, 12, name)
        torch.testing.assert_close(mlp(x), mlp.fc2(function(mlp.fc1(x))), atol=1e-6, rtol=0)


def test_an_unknown_activation_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'gelu'"):
        MLP(8, 8, "glu")


def test_swiglu_hidden() -> None:
    assert swiglu_hidden(192) == 512
    assert swiglu_hidden(100) % 32 == 0


@torch.no_grad()
def test_channel_norm_normalises_each_place() -> None:
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    out = ChannelNorm(8)(x)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_convolution_shapes_and_the_identity_at_the_start() -> None:
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(ResidualBlock(8)(x), x)
    assert Downsample(8, 12)(x).shape == (2, 12, 3, 3)
    assert Stem(16)(torch.randn(2, 3, 32, 32)).shape == (2, 16, 8, 8)


@torch.no_grad()
def test_a_image_does_not_change_another_even_in_training() -> None:
    block = ResidualBlock(8).train()
    nn.init.normal_(block.conv2.weight, std=0.1)
    x = torch.randn(3, 8, 6, 6)
    torch.testing.assert_close(block(x)[:1], block(x[:1]), atol=1e-6, rtol=0)
