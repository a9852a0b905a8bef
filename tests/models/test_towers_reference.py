"""Towers against Hugging Face's models: tiny, random weights, float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rebus.formats import bert, llama, qwen3, siglip
from rebus.formats.weights import check_state
from rebus.models.towers.decoder import Decoder, positions_of
from rebus.models.towers.encoder import Encoder
from rebus.models.towers.vit import ViT

V, B, L = 50, 2, 9
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}


def reference_decoder(family: str, kv_heads: int, tied: bool, **more: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    make, model = (LlamaConfig, LlamaForCausalLM) if family == "llama" else (Qwen3Config, Qwen3ForCausalLM)
    config = make(
        vocab_size=V,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=8,  # not 24 / 4
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        attn_implementation="eager",
        **more,
    )
    torch.manual_seed(1)
    made: nn.Module = model(config).eval()
    return loud(made)


def loud(model: nn.Module) -> nn.Module:
    """Larger weights than Hugging Face starts with, and norms that are not ones: small ones would hide mistakes."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def our_decoder(family: str, reference: nn.Module) -> Decoder:
    adapter = llama if family == "llama" else qwen3
    settings, context = adapter.settings_from_hf(reference.config.to_dict())  # type: ignore[union-attr, operator]
    decoder = Decoder(settings, **context).eval()
    state = adapter.from_hf(reference.state_dict(), tied=settings.tied)
    check_state(decoder, state)
    decoder.load_state_dict(state)
    return decoder


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize(("kv_heads", "tied", "bias"), [(4, False, False), (2, True, False), (1, False, True)])
@torch.no_grad()
def test_decoder_equals_transformers(family: str, kv_heads: int, tied: bool, bias: bool) -> None:
    reference = reference_decoder(family, kv_heads, tied, attention_bias=bias)
    decoder = our_decoder(family, reference)
    ids = torch.randint(0, V, (B, L))
    logits = decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(L)[None]))
    torch.testing.assert_close(logits, reference(ids).logits, **CLOSE)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@torch.no_grad()
def test_decoder_equals_transformers_with_left_padding(family: str) -> None:
    reference = reference_decoder(family, 2, True)
    decoder = our_decoder(family, reference)
    ids, mask = torch.randint(0, V, (B, L)), torch.ones(B, L, dtype=torch.bool)
    mask[0, :4] = False
    expected = reference(ids, attention_mask=mask.long(), position_ids=positions_of(mask)).logits
    features = decoder(ids, mask)
    torch.testing.assert_close(decoder.logits(features.tokens)[mask], expected[mask], **CLOSE)
    torch.testing.assert_close(features.pooled, features.tokens[:, -1], **CLOSE)
    alone = decoder(ids[:1, 4:], mask[:1, 4:])
    torch.testing.assert_close(features.tokens[0, 4:], alone.tokens[0], **CLOSE)


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
    settings, context = bert.settings_from_hf(config.to_dict())
    encoder = Encoder(settings, **context, pool=pool).eval()
    state = bert.from_hf(reference.state_dict(), pooler=pool == "cls")
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
    settings, context = siglip.settings_from_hf({**config.to_dict(), "vision_use_head": head})
    vit = ViT(settings, **context).eval()
    state = siglip.from_hf(reference.state_dict())
    check_state(vit, state)
    vit.load_state_dict(state)
    pixels: Tensor = torch.randn(B, 3, 32, 32)
    expected, features = reference(pixels), vit(pixels)
    torch.testing.assert_close(features.tokens, expected.last_hidden_state, **CLOSE)
    pooled = expected.pooler_output if head else expected.last_hidden_state.mean(1)
    torch.testing.assert_close(features.pooled, pooled, **CLOSE)
