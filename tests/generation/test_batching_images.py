"""Texts about images in the engine for many: every fusion, each image made once, shared by all who ask about it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from batches import image_batch
from rebus import recipe
from rebus.generation.conditioning import Conditioning, ConditioningCache
from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.engine import Engine
from rebus.generation.requests import Request, Source, Written
from rebus.generation.sampling import Sampling
from rebus.generation.write import decoder_of, sources_of
from rebus.models.fusion import Condition
from rebus.models.heads import HeadSpec
from rebus.models.vlm import VisionLanguageModel

VOCAB, EOS, MARK = 40, 1, 3
NAMES = (((4,), (5, 6)), ((7,),))


def model_of(kind: str) -> VisionLanguageModel:
    torch.manual_seed(0)
    settings = recipe.Model().replace(
        {
            "image": recipe.Tower(kind="convnet" if kind != "inline" else "vit", width=16, depth=1, heads=4, patch=8),
            "text": recipe.Tower(kind="encoder" if kind == "encoder" else "decoder", width=24, depth=2, heads=4),
            "fusion.kind": {"inline": "unified", "named": "unified", "encoder": "cross"}.get(kind, kind),
            "fusion.layout": "inline" if kind == "inline" else "prefix",
        }
    )
    heads = {"answer": HeadSpec("write", reads=("image",))}
    if kind == "named":
        heads["patch_classify"] = HeadSpec("tokens", 2, options={"names": NAMES})
    made = VisionLanguageModel(settings, recipe.Image(size=32), heads, vocab_size=VOCAB, max_length=64, image_id=MARK)
    for name, parameter in made.named_parameters():
        if "gate" in name:
            nn.init.ones_(parameter)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return made.eval()


class Album:
    """Images by number, and how often each was looked at; number 9 is a row without one."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self.model, self.made = model, list[int]()

    @torch.inference_mode()
    def condition(self, number: int) -> Condition:
        torch.manual_seed(number)
        batch = image_batch(torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8), [number != 9])
        part = {"owner": torch.zeros(1, dtype=torch.long)}
        if self.model.text is not None:
            part["text_ids"] = torch.randint(4, VOCAB, (1, 3 + number))
            part["text_mask"] = torch.ones(1, 3 + number, dtype=torch.bool)
        return self.model.condition(self.model.see(batch), part)

    def source(self, number: int) -> Source:
        def make() -> Condition:
            self.made.append(number)
            return self.condition(number)

        return Source(f"image {number}", self.model, make)

    def marked(self, ids: list[int]) -> list[int]:
        """With the image's marks after the first id, where images stand inside the text."""
        return [ids[0], *[MARK] * self.model.plan.inside, *ids[1:]] if self.model.inline is not None else ids

    def alone(self, request: Request, number: int | None) -> list[Written]:
        sources = None if number is None else sources_of(self.model, self.condition(number), 1)
        engine = Engine(EagerDecoder(decoder_of(self.model)), [EOS])
        return engine.write([request.ids], request.sampling, sources=sources)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["joint", "unified", "named", "inline", "cross", "encoder"])
def test_every_fusion_together_equals_each_alone(
    kind: str, compiled: bool, told_by: Any, expects: Any, settled: Any, leaks_nothing: Any
) -> None:
    model = model_of(kind)
    album, rng = Album(model), random.Random(kind)
    decoder = decoder_of(model)
    blocks = 14 if kind in ("unified", "named") else 12 if kind == "inline" else 9
    engine = Engine(
        fast(decoder) if compiled else EagerDecoder(decoder), [EOS], blocks=blocks, block_size=4, max_running=9, chunk=9
    )
    asked: list[tuple[Request, int | None]] = []
    for turn in range(11):
        number = rng.choice([0, 1, 9] if kind in ("encoder", "inline") else [None, 0, 1, 2, 9])
        ids = album.marked([rng.randrange(4, VOCAB) for _ in range(rng.randrange(1, 7))])
        heat, texts = rng.choice([0.0, 1.0]), rng.choice([1, 2])
        sampling = Sampling(rng.randrange(4, 20), temperature=heat, seed=turn, n=texts)
        asked.append((Request(ids, sampling, None if number is None else album.source(number)), number))
    tickets = []
    for request, _ in asked:
        tickets.append(engine.submit(request))
        engine.run_once()
    settled(engine)
    for (request, number), ticket in zip(asked, tickets, strict=True):
        expects(told_by(ticket), album.alone(request, number))
    assert len(album.made) == len(set(album.made))  # none was looked at twice
    stats = engine.stats()
    assert stats.images_made == len(album.made)
    assert stats.images_reused > 0
    assert stats.preemptions > 0
    leaks_nothing(engine)


@pytest.mark.parametrize("kind", ["joint", "unified", "inline", "cross"])
def test_questions_on_one_image_share_its_reading_and_on_others_do_not(kind: str, settled: Any) -> None:
    model = model_of(kind)
    album = Album(model)
    engine = Engine(fast(decoder_of(model)), [EOS], blocks=90, block_size=2, chunk=200)
    ids = album.marked([5, 9, 11, 12, 13, 14])
    reused = []
    for number, question in ((0, ids), (0, [*ids[:-1], 30]), (1, ids)):
        ticket = engine.submit(Request(question, Sampling(2), album.source(number)))
        settled(engine)
        reused.append(ticket.done.reused_tokens)
        assert ticket.done.prompt_tokens == len(ids) + (16 if kind == "unified" else 0)
    assert reused == [0, (ticket.done.prompt_tokens - 1) // 2 * 2, 0]  # all blocks before the last token
    assert album.made == [0, 1]


def test_the_text_before_a_image_is_shared_by_all_images(settled: Any) -> None:
    model = model_of("inline")
    album = Album(model)
    engine = Engine(fast(decoder_of(model)), [EOS], blocks=90, block_size=2)
    ids = [5, 6, 7, 8, 9, *[MARK] * model.plan.inside, 11]
    tickets = []
    for number in (0, 1):
        tickets.append(engine.submit(Request(ids, Sampling(2), album.source(number))))
        settled(engine)
    assert [ticket.done.reused_tokens for ticket in tickets] == [0, 4]


def test_sixteen_questions_at_once_encode_their_image_once(settled: Any) -> None:
    album = Album(model_of("unified"))
    engine = Engine(fast(decoder_of(album.model)), [EOS], blocks=200, block_size=4)
    for question in range(16):
        engine.submit(Request([5, 20 + question], Sampling(3), album.source(4), user=str(question)))
    settled(engine)
    assert album.made == [4]
    assert engine.stats().reused_tokens == 15 * 16  # the image's sixteen tokens, read once


def test_a_image_that_cannot_be_made_fails_its_request_alone(told_by: Any, settled: Any, leaks_nothing: Any) -> None:
    album = Album(model_of("unified"))
    engine = Engine(fast(decoder_of(album.model)), [EOS])

    def broken() -> Condition:
        raise MemoryError("too large")

    request = Request([5, 6], Sampling(4, n=3), Source("broken", album.model, broken))
    bad, good = engine.submit(request), engine.submit(Request([5, 6], Sampling(4), album.source(0)))
    settled(engine)
    with pytest.raises(MemoryError):
        told_by(bad)
    assert (bad.done.reason, good.done.reason) == ("failed", "written")
    assert engine.stats().failed == 1
    leaks_nothing(engine)


def test_a_prompt_that_is_too_long_with_its_image_fails(told_by: Any, settled: Any) -> None:
    album = Album(model_of("unified"))
    engine = Engine(fast(decoder_of(album.model)), [EOS], blocks=5, block_size=4)
    ticket = engine.submit(Request([5] * 6, Sampling(4), album.source(0)))
    settled(engine)
    with pytest.raises(ValueError, match="at most 4 tokens"):
        told_by(ticket)


def test_images_are_kept_as_far_as_they_fit() -> None:
    album = Album(model_of("unified"))
    size = Conditioning(album.source(0)).bytes
    assert size == 16 * 24 * 4  # sixteen float32 vectors
    kept = ConditioningCache(2 * size)
    for number in (0, 1):
        kept.compute(album.source(number))
    assert kept.find("image 0") is not None  # asked for last
    kept.compute(album.source(2))
    assert kept.find("image 1") is None
    assert kept.find("image 0") is not None
    assert kept.find("image 2") is not None


@pytest.mark.parametrize("kind", ["unified", "cross"])
def test_a_image_that_was_let_go_is_made_again(kind: str, told_by: Any, expects: Any, settled: Any) -> None:
    """Its keys may still be in the cache, while what attention made of it is not."""
    album = Album(model_of(kind))
    engine = Engine(fast(decoder_of(album.model)), [EOS], blocks=100, block_size=1, image_bytes=1)
    requests = [Request([5, 6, 7], Sampling(5), album.source(number)) for number in (0, 1, 0)]
    told = []
    for request in requests:
        ticket = engine.submit(request)
        other = engine.submit(Request([8, 9], Sampling(9), album.source(2)))
        settled(engine)
        told.append((ticket, other))
    for (ticket, other), request, number in zip(told, requests, (0, 1, 0), strict=True):
        expects(told_by(ticket), album.alone(request, number))
        expects(told_by(other), album.alone(other.request, 2))
    assert album.made.count(0) == 2


@pytest.mark.parametrize(("kind", "attends"), [("joint", False), ("cross", True)])
def test_a_fast_writer_is_used_where_it_can_be(
    kind: str, attends: bool, monkeypatch: pytest.MonkeyPatch, settled: Any
) -> None:
    album, seen = Album(model_of(kind)), list[int]()
    engine = Engine(fast(decoder_of(album.model)), [EOS])
    plain = engine._runner.attending
    whole = plain.forward_embeds

    def watched(*args: Any, **more: Any) -> torch.Tensor:
        seen.append(1)
        return whole(*args, **more)

    monkeypatch.setattr(plain, "forward_embeds", watched)
    engine.submit(Request([5, 6], Sampling(3), album.source(0)))
    settled(engine)
    assert bool(seen) is attends
    assert type(engine.backend) is type(fast(decoder_of(album.model)))
