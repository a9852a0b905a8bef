"""Whoever makes a layer's product by itself counts its adapter too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.decoders.packed import PackedDecoder
from rebus.models.towers.decoder import Decoder
from rebus.nn.lora import adapters, add_lora, inside_block
from rebus.recipe import Tower
from tiny_cache import TinyCache


@pytest.mark.parametrize("made", [EagerDecoder, PackedDecoder, fast])
def test_a_writer_of_an_adapted_decoder_gives_its_numbers(made: Callable[[Decoder], Any]) -> None:
    torch.manual_seed(0)
    decoder = Decoder(Tower(kind="decoder", width=32, depth=2, heads=2, kv_heads=1), 50, zero_init=False).eval()
    ids, positions = torch.randint(50, (2, 6)), torch.arange(6)[None].expand(2, -1)
    with torch.no_grad():
        before = decoder.logits(decoder.forward_embeds(decoder.embed(ids), positions))
        add_lora(decoder, inside_block, rank=4, alpha=8)
        for layer in adapters(decoder).values():
            layer.lora_B.normal_(std=0.2)
        expected = decoder.logits(decoder.forward_embeds(decoder.embed(ids), positions))
    assert float((expected - before).abs().max()) > 0.01
    writer = made(decoder)
    with torch.inference_mode():
        cache, told = TinyCache(), []
        for part in (slice(0, 5), slice(5, 6)):
            x = writer.embed(ids[:, part])
            told.append(writer.logits(writer.forward_embeds(x, positions[:, part], None, None, cache)))
    torch.testing.assert_close(torch.cat(told, 1), expected, atol=1e-4, rtol=0)
