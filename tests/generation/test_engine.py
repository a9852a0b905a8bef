"""The engine against doing the same without it: no cache, no batch, no sharing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from rebus.errors import DataError, RecipeError
from rebus.generation import engine as engine_module
from rebus.generation import paging
from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.requests import Written
from rebus.generation.sampling import Sampling
from rebus.models.towers.decoder import Decoder
from tiny_cache import TinyCache

EOS = 1
WRITERS = {"plain": EagerDecoder, "prepared": PackedDecoder, "fast": fast}
Make = Callable[..., Decoder]


@torch.inference_mode()
def without_cache(decoder: Decoder, prompt: Sequence[int], new: int) -> tuple[list[int], list[float]]:
    """Greedy, the whole text read again for every token."""
    ids, scores = list(prompt), []
    for _ in range(new):
        x = decoder.embed(torch.tensor([ids]))
        hidden = decoder.forward_embeds(x, torch.arange(len(ids))[None])
        told = decoder.logits(hidden[0, -1]).log_softmax(-1)
        ids.append(int(told.argmax()))
        scores.append(float(told.max()))
        if ids[-1] == EOS:
            break
    written = ids[len(prompt) :]
    return (written[:-1] if written[-1] == EOS else written), scores


def ids_of(texts: Sequence[Written]) -> list[list[int]]:
    return [text.ids for text in texts]


class Counting:
    """A writer that notes how many texts and tokens each call reads."""

    def __init__(self, writer: Any) -> None:
        self._writer, self.calls = writer, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def forward_embeds(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.calls.append((x.shape[0], x.shape[1]))
        told: Tensor = self._writer.forward_embeds(x, *args, **kwargs)
        return told

    @property
    def tokens(self) -> int:
        return sum(rows * length for rows, length in self.calls)


@pytest.mark.parametrize("writer", WRITERS)
def test_cached_equals_uncached_token_for_token(
    kind: str, writer: str, decoder_of: Make, prompts: list[list[int]]
) -> None:
    decoder = decoder_of(kind)
    texts = Engine(WRITERS[writer](decoder), [EOS]).write(prompts, Sampling(24))
    for prompt, text in zip(prompts, texts, strict=True):
        ids, scores = without_cache(decoder, prompt, 24)
        assert text.ids == ids
        assert [token.logprob for token in text.tokens] == pytest.approx(scores[: len(ids)], abs=1e-4)
        assert text.logprob == pytest.approx(sum(scores) / len(scores), abs=1e-4)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("sampling", [Sampling(20), Sampling(20, temperature=1.0, top_p=0.9, seed=4)])
def test_a_text_does_not_depend_on_its_batch(
    kind: str, writer: str, sampling: Sampling, decoder_of: Make, prompts: list[list[int]]
) -> None:
    made = WRITERS[writer](decoder_of(kind))
    together = Engine(made, [EOS]).write(prompts, sampling)
    alone = Engine(made, [EOS], max_running=1).write(prompts, sampling)
    in_chunks = Engine(made, [EOS], chunk=3).write(prompts, sampling)
    assert ids_of(together) == ids_of(alone) == ids_of(in_chunks)
    assert together[0].ids == Engine(made, [EOS]).write(prompts[:1], sampling)[0].ids


def test_greedy_equals_transformers(
    kind: str, decoder_of: Make, reference_of: Callable[[Decoder], Any], prompts: list[list[int]]
) -> None:
    decoder = decoder_of(kind)
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    told = reference_of(decoder).generate(
        padded, attention_mask=mask, max_new_tokens=30, do_sample=False, eos_token_id=EOS, pad_token_id=0
    )
    for writer in WRITERS.values():
        texts = Engine(writer(decoder), [EOS]).write(prompts, Sampling(30))
        for text, row in zip(texts, told[:, longest:].tolist(), strict=True):
            assert text.ids == (row[: row.index(EOS)] if EOS in row else row)


@pytest.mark.parametrize("writer", [PackedDecoder, fast])
def test_in_bfloat16_it_is_as_near_as_bfloat16_is(decoder_of: Make, kind: str, writer: Any) -> None:
    decoder = decoder_of(kind)
    ids, places = torch.randint(0, 60, (3, 9)), torch.arange(9)[None].expand(3, -1)
    with torch.inference_mode():
        exact = decoder.logits(decoder.forward_embeds(decoder.embed(ids), places))
        rough = writer(decoder.to(torch.bfloat16))
        plain = decoder.logits(decoder.forward_embeds(decoder.embed(ids), places)).float()
        cache, parts = TinyCache(), []
        for part in (slice(0, 5), slice(5, 6), slice(6, 7), slice(7, 9)):
            x = rough.embed(ids[:, part])
            parts.append(rough.forward_embeds(x, places[:, part], None, None, cache).float())
        told = rough.logits(torch.cat(parts, dim=1).to(rough.dtype)).float()
    assert (told - exact).abs().mean() < 1.5 * (plain - exact).abs().mean()


def test_what_prompts_have_in_common_is_read_once(decoder_of: Make) -> None:
    decoder = decoder_of()
    shared = list(range(4, 24))
    prompts = [[*shared, 30, 31], [*shared, 32], [*shared, 30, 40, 41, 42]]
    alone = [Engine(EagerDecoder(decoder), [EOS]).write([prompt], Sampling(8))[0].ids for prompt in prompts]
    counted = Counting(EagerDecoder(decoder))
    engine = Engine(counted, [EOS], block_size=4)
    assert ids_of(engine.write(prompts, Sampling(8))) == alone
    assert counted.calls[:3] == [(1, 22), (2, 1), (1, 4)]  # the first; its next token and the rests of the others
    counted.calls.clear()
    assert ids_of(engine.write(prompts, Sampling(8))) == alone
    assert max(length for _, length in counted.calls) < 6  # a later call finds what they share
    unlike = [[4, 5, 6, 50, 51], [4, 5, 60]]  # less than a block in common
    assert ids_of(engine.write(unlike, Sampling(8))) == ids_of(
        Engine(EagerDecoder(decoder), [EOS], max_running=1).write(unlike, Sampling(8))
    )


def test_a_conversation_is_read_on_from_where_it_was(decoder_of: Make) -> None:
    counted = Counting(PackedDecoder(decoder_of()))
    engine = Engine(counted, [], block_size=4)
    first = engine.write([[4, 5, 6, 7]], Sampling(5))[0].ids
    counted.calls.clear()
    second = [4, 5, 6, 7, *first, 20, 21, 22]
    again = engine.write([second], Sampling(5))[0].ids
    assert counted.calls[0] == (1, 4)  # the last token of the answer was never read, and three are new
    fresh = Engine(PackedDecoder(decoder_of()), [], block_size=4)
    assert again == fresh.write([second], Sampling(5))[0].ids
    other = [4, 5, 50, 51]
    assert engine.write([other], Sampling(5))[0].ids == fresh.write([other], Sampling(5))[0].ids


def test_samples_of_one_prompt_share_its_reading(decoder_of: Make, prompts: list[list[int]]) -> None:
    counted = Counting(EagerDecoder(decoder_of()))
    sampling = Sampling(6, temperature=1.5, n=3, seed=2)
    texts = Engine(counted, [], block_size=2).write(prompts[:2], sampling)
    assert counted.tokens <= 7 + 2 + 2 * 3 + 6 * 5  # each prompt once, of the samples what is no whole block
    assert len({tuple(text.ids) for text in texts}) > 3
    # text i of a call draws from (seed, i), however it came to be number i
    repeated = [prompt for prompt in prompts[:2] for _ in range(3)]
    apart = Engine(counted, [], max_running=1).write(repeated, Sampling(6, temperature=1.5, seed=2))
    assert ids_of(texts) == ids_of(apart)


def test_a_cache_that_grows_loses_nothing(decoder_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "GROWTH", 1)
    decoder = decoder_of()
    prompts = [[4 + row, 5, 6] for row in range(5)]
    for backend in WRITERS.values():
        engine = Engine(backend(decoder), [], block_size=2, max_running=3)
        for sampling in (Sampling(30), Sampling(12, beams=3)):
            alone = [Engine(EagerDecoder(decoder), []).write([prompt], sampling)[0].ids for prompt in prompts]
            assert ids_of(engine.write(prompts, sampling)) == alone
            assert engine.stats().blocks_used == 0
    assert engine.stats().blocks > 3 * 16


def test_a_large_cache_is_given_back(decoder_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [])
    first = ids_of(engine.write([[4, 5, 6]], Sampling(40)))
    assert engine.stats().blocks_cached > 0
    monkeypatch.setattr(engine_module, "KEPT", 1)
    assert ids_of(engine.write([[4, 5, 6]], Sampling(40))) == first
    assert (engine.stats().blocks, engine._pool.bytes) == (0, 0)
    assert ids_of(engine.write([[4, 5, 6]], Sampling(40))) == first


def test_several_threads_may_ask_one_engine(decoder_of: Make) -> None:
    decoder = decoder_of()
    engine = Engine(EagerDecoder(decoder), [], block_size=4)
    texts: dict[int, list[list[int]]] = {}

    def ask(number: int) -> None:
        texts[number] = ids_of(engine.write([[4, 5, 6 + number], [9, number]], Sampling(15)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(4):
        alone = Engine(EagerDecoder(decoder), []).write([[4, 5, 6 + number], [9, number]], Sampling(15))
        assert texts[number] == ids_of(alone)


def test_seeds(decoder_of: Make, prompts: list[list[int]]) -> None:
    engine = Engine(PackedDecoder(decoder_of()), [])
    one, same, other = (ids_of(engine.write(prompts, Sampling(12, temperature=1.0, seed=seed))) for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_texts_that_end_leave_the_batch(decoder_of: Make, prompts: list[list[int]]) -> None:
    decoder = decoder_of()
    free = Engine(EagerDecoder(decoder), []).write(prompts, Sampling(12))
    ends = free[0].ids[2]
    counted = Counting(EagerDecoder(decoder))
    texts = Engine(counted, [ends]).write(prompts, Sampling(12))
    for text, longer in zip(texts, free, strict=True):
        stops = longer.ids.index(ends) if ends in longer.ids else None
        assert text.ids == longer.ids[:stops]
        assert (text.finished, text.end) == ((True, "eos") if stops is not None else (False, "length"))
    assert counted.calls[-1][0] < len(prompts)


def test_stop_sequences_end_texts_and_are_held_back(decoder_of: Make, prompts: list[list[int]]) -> None:
    engine = Engine(PackedDecoder(decoder_of()), [])
    free = engine.write(prompts[:1], Sampling(12))[0].ids
    stop = (tuple(free[3:6]), (free[0], 60, 60))
    steps = list(engine.steps(prompts[:1], Sampling(12, stop=stop)))
    told = [token.id for step in steps for token in step.tokens]
    first = next(at for at in range(13) if tuple(free[at : at + 3]) == stop[0])
    assert told == free[:first]
    assert steps[-1].end == "stop"
    assert steps[0].tokens == ()  # the first token may have begun the second stop sequence
    text = engine.write(prompts[:1], Sampling(12, stop=stop))[0]
    assert (text.ids, text.end, text.finished) == (free[:first], "stop", True)


def test_the_caller_may_end_a_text(decoder_of: Make, prompts: list[list[int]]) -> None:
    engine, ended, seen = Engine(EagerDecoder(decoder_of()), []), set(), [0] * 4
    for step in engine.steps(prompts, Sampling(10), ended=ended):
        seen[step.text] += 1
        if step.text == 2 and seen[2] == 3:
            ended.add(2)
    assert seen == [10, 10, 3, 10]


def test_alternatives_are_the_likeliest(decoder_of: Make, prompts: list[list[int]]) -> None:
    decoder = decoder_of()
    text = Engine(EagerDecoder(decoder), []).write(prompts[:1], Sampling(3, temperature=2.0, alternatives=4))[0]
    ids = list(prompts[0])
    for token in text.tokens:
        with torch.inference_mode():
            hidden = decoder.forward_embeds(decoder.embed(torch.tensor([ids])), torch.arange(len(ids))[None])
            told = decoder.logits(hidden[0, -1]).log_softmax(-1)
        best = told.topk(4)
        assert [one for one, _ in token.alternatives] == best.indices.tolist()
        assert [one for _, one in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert token.logprob == pytest.approx(float(told[token.id]), abs=1e-4)
        ids.append(token.id)


def test_ids_without_text_are_never_written(decoder_of: Make, prompts: list[list[int]]) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], vocab_size=9)
    texts = engine.write(prompts, Sampling(20, temperature=3.0))
    assert max(max(text.ids) for text in texts) < 9


def test_a_text_ends_where_the_model_has_no_more_places(decoder_of: Make) -> None:
    for writer in WRITERS.values():
        engine = Engine(writer(decoder_of("gpt2", context=16)), [])
        texts = engine.write([[5] * 12, [5] * 3], Sampling(40))
        assert [len(text.ids) for text in texts] == [5, 14]
        assert len(engine.write([[5] * 16], Sampling(3))[0].ids) == 1
        with pytest.raises(DataError, match="at most 16 tokens"):
            engine.write([[5] * 17], Sampling(3))


def test_what_cannot_be_written_is_told(decoder_of: Make) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [])
    with pytest.raises(DataError, match="at least one token"):
        engine.write([[4], []], Sampling(3))
    with pytest.raises(DataError, match="beam"):
        next(engine.steps([[4]], Sampling(3, beams=2)))
    assert engine.write([], Sampling(3)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"stop": ((),)},
        {"n": 0},
        {"beams": 0},
        {"n": 3, "beams": 2},
        {"alternatives": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Sampling(**wrong)
