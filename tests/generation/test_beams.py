"""Beam search against transformers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rebus.errors import DataError
from rebus.generation.decoders import EagerDecoder
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.models.towers.decoder import Decoder

Make = Callable[..., Decoder]


@pytest.mark.parametrize(("beams", "n"), [(2, 1), (4, 4), (5, 2)])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("ends", [[1], [1, 20, 33]])
def test_beams_equal_transformers(
    beams: int,
    n: int,
    penalty: float,
    ends: list[int],
    decoder_of: Make,
    reference_of: Callable[[Decoder], Any],
    prompts: list[list[int]],
) -> None:
    decoder = decoder_of()
    with torch.no_grad():
        decoder.embed_tokens.weight[ends] *= 2.5  # so that texts end at all sorts of lengths
    longest = max(map(len, prompts))
    told = reference_of(decoder).generate(
        torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts]),
        attention_mask=torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
        max_new_tokens=12,
        num_beams=beams,
        num_return_sequences=n,
        length_penalty=penalty,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=0,
    )
    texts = Engine(EagerDecoder(decoder), ends).write(prompts, Sampling(12, beams=beams, n=n, length_penalty=penalty))
    expected = []
    for row in told[:, longest:].tolist():
        stop = next((at for at, token in enumerate(row) if token in ends), len(row))
        expected.append(row[:stop])
    assert [text.ids for text in texts] == expected


def test_beams_do_not_depend_on_the_batch_or_the_layout(decoder_of: Make, prompts: list[list[int]]) -> None:
    decoder, sampling = decoder_of("qwen3"), Sampling(10, beams=3, n=2, repetition_penalty=1.2)
    together = Engine(EagerDecoder(decoder), [1]).write(prompts, sampling)
    apart = Engine(PackedDecoder(decoder), [1], max_running=1).write(prompts, sampling)
    assert [text.ids for text in together] == [text.ids for text in apart]
    assert len(together) == 2 * len(prompts)


def test_the_log_probability_told_is_the_texts_own(decoder_of: Make, prompts: list[list[int]]) -> None:
    decoder = decoder_of()
    for prompt in prompts:
        (text,) = Engine(EagerDecoder(decoder), []).write([prompt], Sampling(8, beams=4))
        ids = torch.tensor([[*prompt, *text.ids]])
        with torch.inference_mode():
            hidden = decoder.forward_embeds(decoder.embed(ids), torch.arange(ids.shape[1])[None])
            scores = decoder.logits(hidden).log_softmax(-1)[0, len(prompt) - 1 : -1]
        own = scores.gather(1, torch.tensor(text.ids)[:, None]).mean()
        assert text.logprob == pytest.approx(float(own), abs=1e-4)


def test_stop_sequences_end_beams(decoder_of: Make, prompts: list[list[int]]) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [])
    free = engine.write(prompts[:1], Sampling(8, beams=3))[0].ids
    stop = tuple(free[2:4])
    found = engine.write(prompts[:1], Sampling(8, beams=3, n=3, stop=(stop,)))
    assert any(text.end == "eos" for text in found)
    for text in found:
        assert all(tuple(text.ids[at : at + 2]) != stop for at in range(len(text.ids)))


def test_beams_take_no_constraint(decoder_of: Make) -> None:
    with pytest.raises(DataError, match="constraint"):
        Engine(EagerDecoder(decoder_of()), []).write([[4]], Sampling(3, beams=2), constraint=object())  # type: ignore[arg-type]
