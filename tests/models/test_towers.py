from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from rebus.errors import DataError, RecipeError
from rebus.models.features import Features
from rebus.models.towers import TOWERS, tower_kinds
from rebus.models.towers.convnet import stage_channels
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.encoder import Encoder
from rebus.nn.stages import BLOCKS, efficientnet_shape, resnet_shape
from rebus.recipe import Tower
from tiny_cache import TinyCache

IMAGE_TOWERS, TEXT_TOWERS = tower_kinds("image"), tower_kinds("text")
V, B, L, D = 40, 3, 6, 24


def tower(kind: str, **settings: Any) -> nn.Module:
    own = {"patch": 8} if kind in IMAGE_TOWERS else {"options": {"word_dropout": 0.0}} if kind == "wordvectors" else {}
    given = {"width": D, "depth": 2, "heads": 4, **own, **settings}
    torch.manual_seed(0)
    made: nn.Module = TOWERS.get(kind)(Tower(kind=kind, **given), size=32, vocab_size=V, max_length=16)
    return made


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()
    return torch.randint(0, V, (B, L)), mask


def test_the_names_are_those_of_the_recipe() -> None:
    assert set(IMAGE_TOWERS) | set(TEXT_TOWERS) <= set(TOWERS.names())
    with pytest.raises(RecipeError, match="did you mean 'convnet'"):
        TOWERS.get("convnets")


@pytest.mark.parametrize("kind", IMAGE_TOWERS)
@pytest.mark.parametrize("patch", [8, 16])
def test_image_towers_give_a_grid_of_tokens_and_learn(kind: str, patch: int) -> None:
    model = tower(kind, patch=patch)
    features = model(torch.randn(B, 3, 32, 32))
    assert isinstance(features, Features)
    assert features.tokens.shape == (B, (32 // patch) ** 2, D)
    assert features.tokens.shape[1] == model.num_tokens
    assert model.width == D
    assert features.pooled.shape == (B, D)
    assert bool(features.mask.all())
    step(model, lambda: model(torch.ones(B, 3, 32, 32)).tokens)


@pytest.mark.parametrize("kind", TEXT_TOWERS)
def test_text_towers_give_features_and_learn(kind: str) -> None:
    model, (ids, mask) = tower(kind), texts()
    features = model(ids, mask)
    assert features.tokens.shape == (B, L, D)
    assert features.pooled.shape == (B, D)
    assert torch.equal(features.mask, mask)
    assert model.width == D
    step(model, lambda: model(ids, mask).tokens[mask])
    step(model, lambda: model(ids, mask).pooled)


def step(model: nn.Module, output: Any) -> None:
    """A few steps towards a random target: the loss falls and no number is lost."""
    torch.manual_seed(2)
    target = torch.randn_like(output())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = (output() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("kind", "cell"), [*((kind, "gru") for kind in TEXT_TOWERS), ("recurrent", "lstm")])
@torch.no_grad()
def test_padding_changes_nothing(kind: str, cell: str) -> None:
    model, (ids, mask) = tower(kind, cell=cell).eval(), texts()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    batch = model(ids, mask)
    changed = model(ids.masked_fill(~mask, 7), mask)
    torch.testing.assert_close(batch.pooled, changed.pooled)
    torch.testing.assert_close(batch.tokens[mask], changed.tokens[mask])
    for i in range(B):
        if kind == "encoder" and i == 2:
            continue  # BERT's positions count the padding before a text
        alone = model(ids[i : i + 1, mask[i]], torch.ones(1, int(mask[i].sum()), dtype=torch.bool))
        torch.testing.assert_close(batch.tokens[i][mask[i]], alone.tokens[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(batch.pooled[i], alone.pooled[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", TEXT_TOWERS)
def test_a_text_without_a_token_is_finite(kind: str) -> None:
    model, (ids, mask) = tower(kind), texts()
    mask[1] = False
    features = model(ids, mask)
    features.pooled.square().sum().backward()
    assert bool(torch.isfinite(features.pooled).all())
    assert features.pooled[1].abs().max() == 0
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", [*IMAGE_TOWERS, *TEXT_TOWERS])
def test_every_parameter_gets_a_gradient_after_a_step_and_starts_from_the_seed(kind: str) -> None:
    first, second = tower(kind), tower(kind)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    optimizer = torch.optim.SGD(first.parameters(), lr=0.5)
    for _ in range(3):  # what starts at zero hides what is before it for a step
        optimizer.zero_grad()
        args = (torch.randn(2, 3, 32, 32),) if kind in IMAGE_TOWERS else texts()
        features = first(*args)
        pooled = (features.pooled * torch.randn_like(features.pooled)).sum()
        ((features.tokens * torch.randn_like(features.tokens)).sum() + pooled).backward()
        optimizer.step()
    silent = [name for name, p in first.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert [name for name in silent if not name.endswith("k_proj.bias")] == []  # softmax cancels a key's bias


@pytest.mark.parametrize("kind", [*IMAGE_TOWERS, *TEXT_TOWERS])
def test_bfloat16_autocast_runs_forward_and_backward(kind: str) -> None:
    model = tower(kind)
    with torch.autocast("cpu", torch.bfloat16):
        features = model(torch.randn(2, 3, 32, 32)) if kind in IMAGE_TOWERS else model(*texts())
    features.pooled.float().square().sum().backward()
    assert bool(torch.isfinite(features.pooled).all())


@torch.no_grad()
def test_one_image_does_not_change_another() -> None:
    for kind in IMAGE_TOWERS:
        model, pixels = tower(kind).eval(), torch.randn(B, 3, 32, 32)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
        torch.testing.assert_close(model(pixels).tokens[:1], model(pixels[:1]).tokens, atol=1e-5, rtol=0)


def test_stages_end_at_the_width() -> None:
    assert stage_channels(192, 3) == [32, 64, 192]
    assert stage_channels(192, 1) == [192]
    assert stage_channels(96, 4)[-1] == 96


@pytest.mark.parametrize(("kind", "patch"), [("convnet", 12), ("convnet", 64), ("vit", 5)])
def test_images_that_do_not_divide_into_patches_are_refused(kind: str, patch: int) -> None:
    with pytest.raises(RecipeError, match="patch"):
        tower(kind, patch=patch)


def test_an_odd_width_is_refused_by_the_recurrent_tower() -> None:
    with pytest.raises(RecipeError, match="use 26"):
        tower("recurrent", width=25)


def test_the_encoder_names_a_text_that_is_too_long() -> None:
    model = Encoder(Tower(width=D, depth=1, heads=4), V, max_length=4)
    with pytest.raises(DataError, match="at most 4 tokens"):
        model(torch.zeros(1, 5, dtype=torch.long), torch.ones(1, 5, dtype=torch.bool))


# the decoder as the writer of text


def decoder(**context: Any) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(Tower(width=D, depth=3, heads=4, kv_heads=2), V, **context).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def memory(width: int = 10) -> Features:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return Features(torch.randn(B, 4, width), mask, torch.zeros(B, width))


@pytest.mark.parametrize("cross", [False, True])
@torch.no_grad()
def test_with_a_cache_is_as_without(cross: bool) -> None:
    model, (ids, _) = decoder(cross=cross, memory_width=10), texts()
    seen = memory() if cross else None
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[0, :2] = False  # left padding
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    x = model.embed(ids)
    whole = model.forward_embeds(x, positions, mask, seen)
    cache, parts = TinyCache(), []
    for start, end in ((0, 3), (3, 4), (4, 6)):
        part = model.forward_embeds(x[:, start:end], positions[:, start:end], mask[:, :end], seen, cache)
        parts.append(part)
    assert cache.length == L
    torch.testing.assert_close(torch.cat(parts, 1)[mask], whole[mask], atol=1e-5, rtol=0)


@torch.no_grad()
def test_items_of_a_cache_can_be_dropped_and_repeated() -> None:
    model, (ids, _) = decoder(cross=True, memory_width=10), texts()
    seen, positions = memory(), torch.arange(L)[None]
    x = model.embed(ids)
    cache = TinyCache()
    model.forward_embeds(x[:, :4], positions[:, :4], memory=seen, cache=cache)
    chosen = torch.tensor([2, 2, 0])
    cache.select(chosen)
    last = model.forward_embeds(x[chosen, 4:5], positions[:, 4:5], memory=seen.select(chosen), cache=cache)
    whole = model.forward_embeds(x[:, :5], positions[:, :5], memory=seen)
    torch.testing.assert_close(last[:, 0], whole[chosen, 4], atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_prefix_is_seen_both_ways_when_the_mask_says_so() -> None:
    model = decoder()
    x, positions = torch.randn(1, 5, D), torch.arange(5)[None]
    rule = torch.ones(5, 5, dtype=torch.bool).tril()
    rule[:3, :3] = True
    both = model.forward_embeds(x, positions, rule[None])
    x2 = x.clone()
    x2[:, 2] += 1
    changed = model.forward_embeds(x2, positions, rule[None])
    assert (both[0, 0] - changed[0, 0]).abs().max() > 1e-3  # the first prefix token sees the third
    causal = model.forward_embeds(x, positions) - model.forward_embeds(x2, positions)
    assert causal[0, :2].abs().max() == 0


@torch.no_grad()
def test_texts_that_share_a_prefix_do_not_see_one_another() -> None:
    model = decoder()
    prefix, one, two = torch.randn(1, 3, D), torch.randn(1, 2, D), torch.randn(1, 4, D)
    blocks = torch.tensor([-1, -1, -1, 0, 0, 1, 1, 1, 1])
    own = blocks[:, None] == blocks[None, :]
    rule = (own & torch.ones(9, 9, dtype=torch.bool).tril()) | (blocks[None, :] == -1)
    rule[:3, :3] = True
    positions = torch.tensor([[0, 1, 2, 3, 4, 3, 4, 5, 6]])
    together = model.forward_embeds(torch.cat([prefix, one, two], 1), positions, rule[None])
    for text, part in ((one, together[:, 3:5]), (two, together[:, 5:])):
        length = 3 + text.shape[1]
        alone_rule = torch.ones(length, length, dtype=torch.bool).tril()
        alone_rule[:3, :3] = True
        alone = model.forward_embeds(torch.cat([prefix, text], 1), torch.arange(length)[None], alone_rule[None])
        torch.testing.assert_close(part, alone[:, 3:], atol=1e-5, rtol=0)


@torch.no_grad()
def test_cross_attention_is_closed_at_first_skipped_without_memory_and_heeds_the_memorys_mask() -> None:
    torch.manual_seed(0)
    model = Decoder(Tower(width=D, depth=3, heads=4), V, cross=True, memory_width=10, zero_init=False).eval()
    x, positions, seen = model.embed(texts()[0]), torch.arange(L)[None], memory()
    without = model.forward_embeds(x, positions)
    torch.testing.assert_close(model.forward_embeds(x, positions, memory=seen), without)
    for name, parameter in model.named_parameters():
        if name.endswith("cross_gate"):
            parameter.fill_(1.0)
    opened = model.forward_embeds(x, positions, memory=seen)
    assert (opened - without).abs().max() > 1e-3
    torch.testing.assert_close(model.forward_embeds(x, positions), without)
    padded = Features(seen.tokens.masked_fill(~seen.mask[..., None], 9.0), seen.mask, seen.pooled)
    torch.testing.assert_close(model.forward_embeds(x, positions, memory=padded), opened)


def test_the_gate_of_a_new_decoder_gets_a_gradient() -> None:
    model = Decoder(Tower(width=D, depth=2, heads=4), V, cross=True)  # memory as wide as the decoder
    model.forward_embeds(model.embed(texts()[0]), torch.arange(L)[None], memory=memory(D)).square().mul(
        torch.randn(B, L, D)
    ).sum().backward()
    gates = [p.grad for name, p in model.named_parameters() if name.endswith("cross_gate")]
    assert len(gates) == 2
    assert all(grad is not None and grad.abs().item() > 0 for grad in gates)


def test_layers_start_as_the_identity_and_the_option_turns_it_off() -> None:
    for zero_init in (True, False):
        model = Decoder(Tower(width=D, depth=2, heads=4), V, zero_init=zero_init)
        x = torch.randn(1, 3, D)
        out = model.forward_embeds(x, torch.arange(3)[None])
        assert torch.allclose(out, model.norm(x)) is zero_init


def test_tied_and_untied_output_weights() -> None:
    tied, untied = (Decoder(Tower(width=D, depth=1, heads=4, tied=one), V) for one in (True, False))
    assert "lm_head.weight" not in tied.state_dict()
    assert "lm_head.weight" in untied.state_dict()
    hidden = torch.randn(2, 3, D)
    torch.testing.assert_close(tied.logits(hidden), hidden @ tied.embed_tokens.weight.T)
    assert untied.lm_head is not None
    torch.testing.assert_close(untied.logits(hidden), hidden @ untied.lm_head.weight.T)


# convolutional towers with batch norms, and the layouts of vision transformers


@pytest.mark.parametrize("kind", ["resnet", "efficientnet"])
def test_frozen_batch_norms_keep_what_they_have_seen(kind: str) -> None:
    model = tower(kind).train()
    pixels = torch.randn(B, 3, 32, 32)
    kept = {name: one.clone() for name, one in model.named_buffers()}
    model(pixels)
    assert any(not torch.equal(one, kept[name]) for name, one in model.named_buffers())  # it learns
    model.requires_grad_(False)
    kept = {name: one.clone() for name, one in model.named_buffers()}
    trained = model(pixels).tokens
    assert all(torch.equal(one, kept[name]) for name, one in model.named_buffers())
    torch.testing.assert_close(trained, model.eval()(pixels).tokens)
    torch.testing.assert_close(trained[:1], model.train()(pixels[:1]).tokens, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "resnet", "patch": 12}, "a power of two"),
        ({"kind": "resnet", "stages": [1, 1, 1]}, "stages.*the 2 stages of a patch of 8"),
        ({"kind": "resnet", "channels": [8, 8]}, "channels of the stem and of 2 stages"),
        ({"kind": "resnet", "channels": [8, 8, 8]}, r"the last one the width \(24\)"),
        ({"kind": "resnet", "block": "bottleneck", "channels": [8, 6, 24]}, "multiples of 4"),
        ({"kind": "efficientnet", "patch": 64}, "4, 8, 16 or 32"),
        ({"kind": "efficientnet", "stages": [1, 1]}, "each of 7 stages"),
        ({"kind": "efficientnet", "channels": [1, 1]}, "7 stages"),
        ({"kind": "vit", "pool": "cls"}, "a class token"),
        ({"kind": "vit", "pool": "probe", "last_norm": "pooled"}, "with a probe"),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        tower(**settings)
    assert all(caught.value.as_dict().values())


def test_stages_and_channels_follow_from_the_width_and_the_patch() -> None:
    given: dict[str, Any] = {"width": 64, "depth": 2, "heads": 4}
    assert resnet_shape(Tower(kind="resnet", patch=16, **given)) == ([2, 2, 2], [16, 16, 32, 64])
    bottleneck = Tower(kind="resnet", patch=8, block="bottleneck", **given)
    assert resnet_shape(bottleneck) == ([2, 2], [8, 32, 64])
    assert efficientnet_shape(Tower(kind="efficientnet", width=1280, depth=4, heads=4, patch=32))[0] == [*BLOCKS]
    blocks, channels = efficientnet_shape(Tower(kind="efficientnet", patch=8, **given))
    assert blocks == [1, 2, 2, 2, 2, 2, 1]
    assert channels == [8, 8, 8, 8, 8, 8, 8, 16]


VITS: dict[str, dict[str, Any]] = {
    "clip": {"class_token": True, "patch_bias": False, "pre_norm": True, "pool": "cls", "last_norm": "pooled"},
    "vit": {"class_token": True, "pool": "pooler"},
    "dinov2": {"class_token": True, "pool": "cls", "layer_scale": 0.1},
    "siglip": {"pool": "probe"},
}


@pytest.mark.parametrize("name", VITS)
def test_every_layout_of_a_vit_learns_from_scratch(name: str) -> None:
    model = tower("vit", **VITS[name])
    features = model(torch.randn(B, 3, 32, 32))
    assert features.tokens.shape == (B, 16, D)
    assert model.num_tokens == 16
    step(model, lambda: model(torch.ones(B, 3, 32, 32)).pooled)
    scales = [one for key, one in model.named_parameters() if ".scale" in key]
    assert len(scales) == (4 if name == "dinov2" else 0)
    if name == "dinov2":
        assert any(bool((one != 0.1).any()) for one in scales)


@torch.no_grad()
def test_layer_scale_starts_where_it_is_told_to() -> None:
    plain, scaled = (tower("vit", layer_scale=value) for value in (0, 0.25))
    assert not any(".scale" in name for name, _ in plain.named_parameters())
    for name, one in plain.named_parameters():
        nn.init.normal_(one, std=0.1)
        scaled.get_parameter(name).copy_(one)
    for layer in scaled.layers:  # type: ignore[union-attr]
        for part in (layer.attention.o_proj, layer.mlp.fc2):
            part.weight *= 4
            part.bias *= 4
    pixels = torch.randn(B, 3, 32, 32)
    torch.testing.assert_close(scaled(pixels).tokens, plain(pixels).tokens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_beyond_the_positions_is_no_text() -> None:
    torch.manual_seed(0)
    given: dict[str, Any] = {"norm_first": True, "causal": True, "segments": 0, "pool": "last"}
    for settings in ({}, given, {**given, "causal": False, "filler": 0}):
        model = Encoder(Tower(width=D, depth=2, heads=4, **settings), V, max_length=5).eval()
        ids, mask = torch.randint(1, V, (2, 8)), torch.zeros(2, 8, dtype=torch.bool)
        mask[0, :5], mask[1, :2] = True, True
        features = model(ids, mask)
        alone = model(ids[:, :5], mask[:, :5])
        assert features.tokens.shape == (2, 8, D)
        torch.testing.assert_close(features.tokens[:, :5], alone.tokens)
        torch.testing.assert_close(features.pooled, alone.pooled)
        mask[1, 5] = True
        with pytest.raises(DataError, match="at most 5"):
            model(ids, mask)
