"""A layer of a class that compiled code does not know is computed by its own forward, never by its parent's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rebus.generation.decoders import EagerDecoder, fast, supported
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.models.towers.decoder import Decoder
from rebus.nn.norms import RMSNorm

Make = Callable[..., Decoder]
PROMPT = [5, 9, 33, 8]


class Adapted(nn.Linear):
    """A linear layer with a low-rank part of its own."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=False)
        self.weight = base.weight
        torch.manual_seed(7)
        self.down, self.up = torch.randn(2, base.in_features), torch.randn(base.out_features, 2)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input @ self.down.T @ self.up.T


class ShiftedNorm(RMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.linspace(-2, 2, x.shape[-1])


class Mixer(nn.Module):
    """A layer that is no decoder layer."""

    def forward(self, x: Tensor, **ignored: Any) -> Tensor:
        return x.flip(-1) * 0.5 + x


def adapted(decoder: Decoder) -> None:
    decoder.layers[0].mlp.down_proj = Adapted(decoder.layers[0].mlp.down_proj)


def other_norm(decoder: Decoder) -> None:
    new = ShiftedNorm(32)
    new.weight = decoder.layers[1].input_layernorm.weight
    decoder.layers[1].input_layernorm = new


def last_norm(decoder: Decoder) -> None:
    decoder.norm = ShiftedNorm(32)


def extra_layer(decoder: Decoder) -> None:
    decoder.layers.append(Mixer())


def other_head(decoder: Decoder) -> None:
    decoder.lm_head = Adapted(decoder.lm_head)


def replaced_forward(decoder: Decoder) -> None:
    mlp = decoder.layers[1].mlp
    mlp.forward = lambda x: -2 * x


def hook(decoder: Decoder) -> None:
    decoder.layers[0].self_attn.register_forward_hook(lambda module, inputs, output: output * -3)


def other_epsilon(decoder: Decoder) -> None:
    decoder.layers[0].post_attention_layernorm.eps = 3.0


CHANGES = [other_epsilon, adapted, other_norm, last_norm, extra_layer, other_head, replaced_forward, hook]


@pytest.mark.parametrize("change", CHANGES)
@torch.inference_mode()
def test_it_is_computed_by_its_own_forward(change: Callable[[Decoder], None], decoder_of: Make) -> None:
    decoder = decoder_of("qwen2")  # whose head is not tied to its embeddings
    assert supported(decoder)
    before = fast(decoder)
    assert type(before) is not EagerDecoder
    known = Engine(before, []).write([PROMPT], Sampling(6))[0]
    change(decoder)
    changed = Engine(fast(decoder), []).write([PROMPT], Sampling(6))[0]
    ids = [*PROMPT, *changed.ids]
    hidden = decoder.forward_embeds(decoder.embed(torch.tensor([ids[:-1]])), torch.arange(len(ids) - 1)[None])
    logprobs = decoder.logits(hidden[0, len(PROMPT) - 1 :]).log_softmax(-1)
    assert changed.ids == logprobs.argmax(-1).tolist()
    assert [token.logprob for token in changed.tokens] == pytest.approx(logprobs.amax(-1).tolist(), abs=1e-4)
    assert changed.logprob != pytest.approx(known.logprob, abs=1e-3)  # the change matters


@pytest.mark.parametrize("change", CHANGES)
def test_other_layouts_refuse_it(change: Callable[[Decoder], None], decoder_of: Make) -> None:
    decoder = decoder_of("qwen2")
    change(decoder)
    with pytest.raises(TypeError, match="own forward"):
        PackedDecoder(decoder)
