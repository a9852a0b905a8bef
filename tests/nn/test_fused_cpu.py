"""The lean forms give what the plain ones give, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rebus.nn import fused_cpu
from rebus.nn.attention import Attention
from rebus.nn.norms import RMSNorm
from rebus.nn.rotary import apply_rotary, rotary_tables


def gradients(out: Tensor, inputs: list[Tensor], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.autograd.grad(out, inputs, torch.randn(out.shape, generator=generator).to(out.dtype)))


def leaves(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def off_by(found: Tensor, wanted: Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def test_rms_norm_and_its_gradients() -> None:
    inputs = leaves((3, 5, 24), (24,))
    found, wanted = fused_cpu.rms_norm(*inputs, 1e-5), F.rms_norm(inputs[0], (24,), inputs[1], 1e-5)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_norm_and_turn_is_norm_then_rotary(rows: int) -> None:
    inputs = leaves((2, 7, 3, 8), (8,))
    positions = torch.arange(7)[None].expand(rows, 7) + torch.arange(rows)[:, None] * 3
    rotary = rotary_tables(positions, 8)
    found = fused_cpu.norm_and_turn(*inputs, 1e-6, *rotary)
    wanted = apply_rotary(F.rms_norm(inputs[0], (8,), inputs[1], 1e-6).transpose(1, 2), rotary)
    torch.testing.assert_close(found, wanted)
    for one, other in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 9, 128, 200, 300])
def test_causal_attention_is_the_fused_one(length: int) -> None:
    inputs = leaves(*[(2, 3, length, 16)] * 3)
    found = fused_cpu.causal_attention(*inputs)
    wanted = F.scaled_dot_product_attention(*inputs, is_causal=True)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients(found, inputs), gradients(wanted, inputs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_causal_attention_in_bfloat16_is_near_float32() -> None:
    inputs = leaves(*[(2, 2, 160, 32)] * 3, dtype=torch.bfloat16)
    wide = [one.detach().float().requires_grad_() for one in inputs]
    found, wanted = fused_cpu.causal_attention(*inputs), F.scaled_dot_product_attention(*wide, is_causal=True)
    assert off_by(found, wanted) < 0.01
    for one, other in zip(gradients(found, inputs), gradients(wanted, wide), strict=True):
        assert off_by(one, other) < 0.01


def test_layers_in_training_agree_with_layers_that_do_not_learn() -> None:
    """What is trained is what is later used: the same weights give the same numbers on both roads."""
    torch.manual_seed(0)
    attention, norm = Attention(32, 4, 2, qk_norm=True), RMSNorm(32)
    x, rotary = torch.randn(2, 40, 32), rotary_tables(torch.arange(40)[None], 8)
    learning = attention(norm(x), causal=True, rotary=rotary)
    with torch.no_grad():
        torch.testing.assert_close(learning, attention(norm(x), causal=True, rotary=rotary), atol=1e-6, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_half = attention(norm(x), causal=True, rotary=rotary)
    assert in_half.dtype == torch.bfloat16
    assert off_by(in_half, learning) < 0.02


def test_a_token_sees_no_later_one() -> None:
    query, key, value = leaves(*[(1, 2, 140, 8)] * 3)
    out = fused_cpu.causal_attention(query, key, value)
    seen = torch.autograd.grad(out[:, :, 130].sum(), [key, value])
    assert all(float(one[:, :, 131:].abs().max()) == 0.0 for one in seen)
    assert all(float(one[:, :, :131].abs().min(-1).values.max()) > 0.0 for one in seen)


@pytest.mark.parametrize(("rows", "scale"), [(3, 1.0), (700, 1.0), (5, 100.0)])
def test_cross_entropy_is_torchs(rows: int, scale: float) -> None:
    (logits,) = leaves((rows, 11))
    wide = (logits * scale).detach().requires_grad_()
    labels = torch.arange(rows) % 11
    found, wanted = fused_cpu.cross_entropy(wide, labels), F.cross_entropy(wide, labels)
    torch.testing.assert_close(found, wanted)
    for factor in (1.0, 0.25):
        (one,) = torch.autograd.grad(factor * found, wide, retain_graph=True)
        (other,) = torch.autograd.grad(factor * wanted, wide, retain_graph=True)
        torch.testing.assert_close(one, other)


def test_cross_entropy_in_bfloat16_is_near_float32() -> None:
    (logits,) = leaves((40, 300), dtype=torch.bfloat16)
    wide, labels = logits.detach().float().requires_grad_(), torch.arange(40)
    found, wanted = fused_cpu.cross_entropy(logits, labels), F.cross_entropy(wide, labels)
    torch.testing.assert_close(found, wanted)
    assert found.dtype == torch.float32
    assert off_by(torch.autograd.grad(found, logits)[0], torch.autograd.grad(wanted, wide)[0]) < 0.01
