"""Towers against Hugging Face's models: tiny, random weights, float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from one_tower import one_tower
from rebus.errors import DataError
from rebus.formats.weights import check_state
from rebus.models.towers.decoder import positions_of
from rebus.models.towers.encoder import Encoder
from rebus.models.towers.vit import ViT
from tiny_cache import TinyCache
from tiny_checkpoints import DECODERS, V, loud, our_decoder, reference_decoder

B, L = 2, 9
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoder_equals_transformers_with_and_without_a_cache(name: str) -> None:
    reference = reference_decoder(name)
    decoder = our_decoder(reference)
    ids, positions = torch.randint(0, V, (B, L)), torch.arange(L)[None]
    expected = reference(ids).logits
    x = decoder.embed(ids)
    torch.testing.assert_close(decoder.logits(decoder.forward_embeds(x, positions)), expected, **CLOSE)
    cache, parts = TinyCache(), []
    for start, end in ((0, 5), (5, 6), (6, L)):
        parts.append(decoder.forward_embeds(x[:, start:end], positions[:, start:end], cache=cache))
    torch.testing.assert_close(decoder.logits(torch.cat(parts, 1)), expected, **CLOSE)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoder_equals_transformers_with_left_padding(name: str) -> None:
    reference = reference_decoder(name)
    decoder = our_decoder(reference)
    ids, mask = torch.randint(0, V, (B, L)), torch.ones(B, L, dtype=torch.bool)
    mask[0, :4] = False
    expected = reference(ids, attention_mask=mask.long(), position_ids=positions_of(mask)).logits
    features = decoder(ids, mask)
    torch.testing.assert_close(decoder.logits(features.tokens)[mask], expected[mask], **CLOSE)
    torch.testing.assert_close(features.pooled, features.tokens[:, -1], **CLOSE)
    alone = decoder(ids[:1, 4:], mask[:1, 4:])
    torch.testing.assert_close(features.tokens[0, 4:], alone.tokens[0], **CLOSE)


@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_decoder_equals_transformers_far_into_a_text(name: str) -> None:
    reference = reference_decoder(name)
    decoder = our_decoder(reference)
    length = 96 if name.startswith("gpt2") else 400
    ids = torch.randint(0, V, (1, length))
    ours = decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(length)[None]))
    torch.testing.assert_close(ours, reference(ids).logits, **CLOSE)


def test_a_text_beyond_the_learned_positions_is_refused() -> None:
    decoder = our_decoder(reference_decoder("gpt2"))
    with pytest.raises(DataError, match=r"at most 96 tokens.*97"):
        decoder.forward_embeds(decoder.embed(torch.zeros(1, 1, dtype=torch.long)), torch.tensor([[96]]))


@pytest.mark.parametrize("pool", ["mean", "cls"])
@torch.no_grad()
def test_encoder_equals_bert(pool: Any) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=V,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    reference = loud(BertModel(config).eval())
    settings, rows = one_tower("bert").settings_from_hf(config.to_dict())
    settings = settings.replace(pool=pool)
    encoder = Encoder(settings, rows).eval()
    state = one_tower("bert").from_hf(reference.state_dict(), settings)
    check_state(encoder, state)
    encoder.load_state_dict(state)
    ids, segments = torch.randint(0, V, (B, L)), torch.randint(0, 2, (B, L))
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[1, 6:] = False
    expected = reference(ids, attention_mask=mask.long(), token_type_ids=segments)
    features = encoder(ids, mask, segments)
    torch.testing.assert_close(features.tokens[mask], expected.last_hidden_state[mask], **CLOSE)
    if pool == "cls":
        torch.testing.assert_close(features.pooled, expected.pooler_output, **CLOSE)
    else:
        torch.testing.assert_close(features.pooled[1], expected.last_hidden_state[1, :6].mean(0), **CLOSE)


@pytest.mark.parametrize("head", [True, False])
@torch.no_grad()
def test_vit_equals_siglip(head: bool) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(1)
    config = SiglipVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        vision_use_head=head,
    )
    reference = loud(SiglipVisionModel(config).eval())
    settings, size = one_tower("siglip_vision_model").settings_from_hf({**config.to_dict(), "vision_use_head": head})
    vit = ViT(settings, size=size).eval()
    state = one_tower("siglip_vision_model").from_hf(reference.state_dict(), settings)
    check_state(vit, state)
    vit.load_state_dict(state)
    pixels: Tensor = torch.randn(B, 3, 32, 32)
    expected, features = reference(pixels), vit(pixels)
    torch.testing.assert_close(features.tokens, expected.last_hidden_state, **CLOSE)
    pooled = expected.pooler_output if head else expected.last_hidden_state.mean(1)
    torch.testing.assert_close(features.pooled, pooled, **CLOSE)
