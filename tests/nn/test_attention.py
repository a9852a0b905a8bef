from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from rebus.errors import RecipeError
from rebus.nn.attention import Attention, fused_with_empty_rows, recording
from rebus.nn.rotary import rotary_tables
from tiny_cache import TinyCache

B, L, D, H = 2, 7, 16, 4


def naive(module: Attention, x: Tensor, source: Tensor, allowed: Tensor) -> Tensor:
    """The formula with loops: softmax(q k / sqrt(K)) v, head by head and row by row; rows that see nothing give 0."""
    q, k, v = module.q_proj(x), module.k_proj(source), module.v_proj(source)
    size, group = module.head_dim, module.heads // module.kv_heads
    out = torch.zeros_like(q)
    for b in range(x.shape[0]):
        for h in range(module.heads):
            g = h // group
            for i in range(x.shape[1]):
                seen = [j for j in range(source.shape[1]) if allowed[b, i, j]]
                if not seen:
                    continue
                query = q[b, i, h * size : (h + 1) * size]
                scores = [float(query @ k[b, j, g * size : (g + 1) * size]) / math.sqrt(size) for j in seen]
                total = sum(math.exp(score) for score in scores)
                for j, score in zip(seen, scores, strict=True):
                    share = math.exp(score) / total
                    out[b, i, h * size : (h + 1) * size] += share * v[b, j, g * size : (g + 1) * size]
    return module.o_proj(out)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_self_attention_is_the_formula(kv_heads: int, causal: bool) -> None:
    module, x = Attention(D, H, kv_heads, bias=True), torch.randn(B, L, D)
    mask = torch.rand(B, L, L) < 0.7
    mask[0, 3] = False  # a row that sees nothing
    allowed = mask & torch.ones(L, L, dtype=torch.bool).tril() if causal else mask
    out = module(x, mask=mask[:, None], causal=causal)
    torch.testing.assert_close(out, naive(module, x, x, allowed), atol=1e-5, rtol=0)


@torch.no_grad()
def test_cross_attention_is_the_formula() -> None:
    module = Attention(D, H, 2, head_dim=6, memory_width=10)
    x, memory = torch.randn(B, L, D), torch.randn(B, 5, 10)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    out = module(x, memory=memory, mask=mask[:, None, None, :])
    allowed = mask[:, None, :].expand(B, L, 5)
    torch.testing.assert_close(out, naive(module, x, memory, allowed), atol=1e-5, rtol=0)


@torch.no_grad()
def test_equals_torch_multihead_attention() -> None:
    ours, theirs = Attention(D, H, bias=True), nn.MultiheadAttention(D, H, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]))
    theirs.out_proj.weight.copy_(ours.o_proj.weight)
    theirs.out_proj.bias.copy_(ours.o_proj.bias)
    x, real = torch.randn(B, L, D), torch.ones(B, L, dtype=torch.bool)
    real[0, 5:] = False
    with recording() as seen:
        out = ours(x, mask=real[:, None, None, :])
    reference, weights = theirs(x, x, x, key_padding_mask=~real, average_attn_weights=False)
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].weights, weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_recorded_weights_times_values_are_the_fused_output(masked: bool) -> None:
    module, x = Attention(D, H, 2, qk_norm=True), torch.randn(B, L, D)
    rotary = rotary_tables(torch.arange(L)[None], D // H)
    mask = torch.rand(B, 1, L, L) < 0.6 if masked else None
    fused = module(x, mask=mask, causal=True, rotary=rotary)
    with recording() as seen:
        explicit = module(x, mask=mask, causal=True, rotary=rotary)
    assert len(seen) == 1
    assert seen[0].module is module
    assert not seen[0].cross
    rebuilt = module.o_proj((seen[0].weights @ seen[0].values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(rebuilt, fused, atol=1e-5, rtol=0)
    torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=0)
    sums = seen[0].weights.sum(-1)
    assert bool(((sums - 1).abs() < 1e-5).logical_or(sums == 0).all())
    module(x)
    assert len(seen) == 1  # nothing is kept after the context


def test_recorded_weights_carry_gradients() -> None:
    module = Attention(D, H)
    with recording() as seen:
        out = module(torch.randn(B, L, D))
    (grad,) = torch.autograd.grad(out.square().sum(), seen[0].weights)
    assert grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_sees_nothing_is_zero_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    module = Attention(D, H).to(dtype)
    x = torch.randn(B, L, D, dtype=dtype, requires_grad=True)
    mask = torch.ones(B, 1, L, L, dtype=torch.bool)
    mask[0, :, 2], mask[1] = False, False
    out = module(x, mask=mask)
    assert out[0, 2].abs().max() == 0
    assert out[1].abs().max() == 0
    assert out[0, 1].abs().max() > 0
    out.float().square().sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert x.grad[1].abs().max() == 0
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)


@torch.no_grad()
def test_the_road_of_other_devices_gives_the_same() -> None:
    query, key, value = (torch.randn(B, H, L, 4) for _ in range(3))
    mask = torch.rand(B, 1, L, L) < 0.5
    mask[0, :, 2], mask[1] = False, False
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(fused_with_empty_rows(query, key, value, mask), expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_autocast_is_close_to_float32() -> None:
    module, x = Attention(D, H, qk_norm=True), torch.randn(B, L, D)
    with torch.autocast("cpu", torch.bfloat16):
        low = module(x, causal=True)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), module(x, causal=True), atol=0.03, rtol=0.05)


@torch.no_grad()
def test_cache_gives_what_the_whole_row_gives() -> None:
    module, x = Attention(D, H, 2), torch.randn(B, L, D)
    positions = torch.arange(L)[None]
    whole = module(x, causal=True, rotary=rotary_tables(positions, D // H))
    cache, out = TinyCache(), []
    for start, end in ((0, 3), (3, 4), (4, 7)):  # several new tokens at once, too
        rotary = rotary_tables(positions[:, start:end], D // H)
        out.append(module(x[:, start:end], causal=True, rotary=rotary, cache=cache[0]))
    torch.testing.assert_close(torch.cat(out, 1), whole, atol=1e-5, rtol=0)
    assert cache.length == L


@torch.no_grad()
def test_items_of_a_cache_are_selected() -> None:
    module, x = Attention(D, H), torch.randn(3, 4, D)
    new = torch.randn(2, 1, D)
    cache = TinyCache()
    module(x[:, :3], causal=True, cache=cache[0])
    cache.select(torch.tensor([2, 0]))
    out = module(new, causal=True, cache=cache[0])
    expected = module(torch.cat([x[[2, 0], :3], new], 1), causal=True)[:, -1:]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_cached_memory_is_read_once_and_follows_select() -> None:
    module, memory, x = Attention(D, H, memory_width=6), torch.randn(B, 3, 6), torch.randn(B, 1, D)
    cache = TinyCache()
    first = module(x, memory=memory, cache=cache[0])
    torch.testing.assert_close(first, module(x, memory=memory))
    kept = module(x, memory=torch.zeros_like(memory), cache=cache[0])  # not looked at again
    torch.testing.assert_close(kept, first)
    cache.select(torch.tensor([1]))
    torch.testing.assert_close(module(x[1:], memory=memory, cache=cache[0]), first[1:])


@torch.no_grad()
def test_blocks_of_a_packed_row_do_not_see_one_another() -> None:
    module, x = Attention(D, H), torch.randn(1, 6, D)
    blocks = torch.tensor([[0, 0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]])
    rotary = rotary_tables(positions, D // H)
    mask = (blocks[:, :, None] == blocks[:, None, :])[:, None]
    packed = module(x, mask=mask, causal=True, rotary=rotary)
    alone = module(x[:, 3:], causal=True, rotary=rotary_tables(positions[:, 3:], D // H))
    torch.testing.assert_close(packed[:, 3:], alone, atol=1e-5, rtol=0)


def test_dropout_is_for_training_only() -> None:
    module, x = Attention(D, H, dropout=0.5), torch.randn(B, L, D)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, None), (4, 3)])
def test_heads_that_do_not_fit_are_refused(heads: int, kv_heads: int | None) -> None:
    with pytest.raises(RecipeError, match="multiple"):
        Attention(D, heads, kv_heads)
