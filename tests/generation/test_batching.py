"""Texts that come and go together: each is what it would be alone, whatever else runs and however small the cache."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebus.errors import DataError, EngineClosedError, QueueFullError
from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.decoders.compiled import CompiledDecoder
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.requests import Done, Request, Step
from rebus.generation.sampling import Sampling
from rebus.models.towers.decoder import Decoder

Make = Callable[..., Decoder]
EOS = 1
WRITERS: dict[str, Callable[[Decoder], Any]] = {"plain": EagerDecoder, "prepared": PackedDecoder, "fast": fast}
LOOSE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("name", list(WRITERS))
def test_each_text_is_what_it_is_alone(
    name: str, kind: str, decoder_of: Make, requested: Any, told_by: Any, expects: Any, settled: Any,
    leaks_nothing: Any, offline: Any,
) -> None:  # fmt: skip
    writer = WRITERS[name](decoder_of(kind))
    rng = random.Random(kind)
    common = [rng.randrange(2, 60) for _ in range(20)]
    requests = [requested(rng, common) for _ in range(11)]
    engine = Engine(writer, [EOS], blocks=15, block_size=4, max_running=9, chunk=7)
    tickets = []
    for request in requests:
        tickets.append(engine.submit(request))
        engine.run_once()  # they join while others run
    settled(engine)
    for request, ticket in zip(requests, tickets, strict=True):
        told = told_by(ticket)
        expects(told, offline(writer, request), exact=isinstance(writer, CompiledDecoder))
        done = ticket.done
        assert (done.reason, done.error, done.prompt_tokens) == ("written", None, len(request.ids))
        assert done.new_tokens >= sum(map(len, told.ids))
    stats = engine.stats()
    assert stats.preemptions > 0
    assert stats.reused_tokens > 0
    assert stats.finished == stats.requests == len(requests)
    leaks_nothing(engine)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_in_bfloat16_compiled_texts_are_the_same_to_the_last_bit(
    kind: str, decoder_of: Make, requested: Any, told_by: Any, expects: Any, settled: Any, offline: Any
) -> None:
    writer = fast(decoder_of(kind).bfloat16())
    if not isinstance(writer, CompiledDecoder):
        pytest.skip("no C compiler")
    rng = random.Random(8)
    requests = [requested(rng, [7] * 20) for _ in range(12)]
    engine = Engine(writer, [EOS], blocks=16, block_size=4, max_running=9, chunk=5)
    tickets = [engine.submit(request) for request in requests]
    settled(engine)
    assert engine.stats().preemptions > 0
    for request, ticket in zip(requests, tickets, strict=True):
        expects(told_by(ticket), offline(writer, request), exact=True)


@pytest.mark.timeout(240)
@settings(LOOSE, max_examples=25)
@given(data=st.data())
def test_any_schedule(
    data: st.DataObject, decoder_of: Make, requested: Any, told_by: Any, expects: Any, settled: Any,
    leaks_nothing: Any, offline: Any,
) -> None:  # fmt: skip
    """Arrivals, cancels, sizes of everything: no text is changed by it, no block is lost, and all of it ends."""
    writer = fast(decoder_of("llama"))
    size = data.draw(st.integers(1, 6), "block size")
    engine = Engine(
        writer,
        [EOS],
        blocks=data.draw(st.integers(-(-60 // size), -(-90 // size)), "blocks"),  # room for the longest
        block_size=size,
        max_running=data.draw(st.integers(1, 8), "running"),
        chunk=data.draw(st.integers(1, 40), "chunk"),
        max_queue=64,
    )
    rng = random.Random(data.draw(st.integers(0, 10**6), "seed"))
    common = [rng.randrange(2, 60) for _ in range(20)]
    tickets, gone = [], {}
    for what in data.draw(st.lists(st.sampled_from(["ask", "ask", "step", "step", "cancel", "end"]), max_size=40)):
        if what == "ask":
            tickets.append(engine.submit(requested(rng, common)))
        elif what == "step":
            engine.run_once()
        elif tickets and what == "cancel":
            ticket = rng.choice(tickets)
            ticket.cancel()
        elif tickets:
            ticket = rng.choice(tickets)
            number = rng.randrange(ticket.request.sampling.n)
            gone.setdefault(ticket.number, set()).add(number)
            ticket.cancel(number)
    settled(engine)
    leaks_nothing(engine)
    for ticket in tickets:
        told, known = told_by(ticket), offline(writer, ticket.request)
        cut = set(range(len(known))) if ticket.cancelled else gone.get(ticket.number, set())
        for number, text in enumerate(known):
            if number in told.ends or number not in cut:
                assert told.ids[number] == text.ids
                assert told.ends[number] == text.end
            else:
                assert text.ids[: len(told.ids[number])] == told.ids[number]
        assert ticket.done.reason in ("written", "cancelled" if ticket.cancelled else "written")


def test_texts_that_begin_alike_are_read_once(decoder_of: Make, told_by: Any, settled: Any, offline: Any) -> None:
    writer = EagerDecoder(decoder_of())
    engine = Engine(writer, [EOS], blocks=64, block_size=4, chunk=64)
    common = list(range(10, 31))  # 21 tokens: five blocks and one token
    requests = [Request([*common, 40 + i], Sampling(3)) for i in range(4)]
    tickets = [engine.submit(request) for request in requests]
    settled(engine)
    assert [ticket.done.reused_tokens for ticket in tickets] == [0, 20, 20, 20]
    assert engine.stats().prompt_tokens == 22 + 3 * 2
    later = engine.submit(requests[0])
    settled(engine)
    assert later.done.reused_tokens == 20
    assert [told_by(ticket).ids for ticket in [*tickets, later]] == [
        [text.ids for text in offline(writer, request)] for request in [*requests, requests[0]]
    ]


def test_a_conversation_goes_on_from_what_was_written(decoder_of: Make, told_by: Any, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], blocks=64, block_size=4)
    first = engine.submit(Request([5, 6, 7], Sampling(12)))
    settled(engine)
    said = told_by(first).ids[0]
    second = engine.submit(Request([5, 6, 7, *said, 8, 9], Sampling(2)))
    settled(engine)
    assert second.done.reused_tokens == 12  # three prompt tokens and eleven written ones were read: three blocks


def test_several_texts_of_one_prompt_share_the_reading_of_it(decoder_of: Make, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [EOS], blocks=64, block_size=4, chunk=64)
    engine.submit(Request(list(range(2, 43)), Sampling(4, temperature=1.0, n=5)))
    settled(engine)
    assert engine.stats().prompt_tokens == 41 + 4 * 1
    assert engine.stats().reused_tokens == 4 * 40


def test_what_depends_on_other_tokens_is_not_shared(decoder_of: Make, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [EOS], blocks=64, block_size=4)
    for ids in ([3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 4, 5, 7, 7, 8, 9, 10, 11], [7, 8, 9, 10, 11]):
        ticket = engine.submit(Request(ids, Sampling(2)))
        settled(engine)
        assert ticket.done.reused_tokens == 0


def test_a_cancelled_text_leaves_at_once(decoder_of: Make, told_by: Any, leaks_nothing: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], blocks=32, block_size=4)
    ticket, other = (engine.submit(Request([5, 6, seed], Sampling(40, n=2))) for seed in (7, 8))
    for _ in range(5):
        engine.run_once()
    held = engine.stats().blocks_used
    ticket.cancel()
    engine.run_once()
    assert engine.stats().blocks_used < held
    assert engine.stats().running == 2
    assert ticket.done.reason == "cancelled"
    assert 0 < len(told_by(ticket).ids[0]) < 40
    other.cancel()
    engine.run_once()
    assert engine.stats().cancelled == 2
    leaks_nothing(engine)


def test_a_request_that_waits_can_be_cancelled(decoder_of: Make, told_by: Any, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], max_running=1)
    first, second = (engine.submit(Request([5, 6], Sampling(4))) for _ in range(2))
    engine.run_once()
    second.cancel()
    settled(engine)
    assert (first.done.reason, second.done.reason) == ("written", "cancelled")
    assert told_by(second).ids == [[]]


def test_users_take_turns(decoder_of: Make, settled: Any) -> None:
    """One who asks much does not keep waiting the one who asks little."""
    engine = Engine(EagerDecoder(decoder_of()), [], max_running=2, max_queue=100)
    ends: list[str] = []

    def asked(user: str) -> None:
        request = Request([5, 6], Sampling(4), user=user)
        engine.submit(request, lambda event: ends.append(user) if isinstance(event, Done) else None)

    for _ in range(30):
        asked("busy")
    engine.run_once()
    for _ in range(3):
        asked("rare")
    settled(engine)
    assert max(place for place, user in enumerate(ends) if user == "rare") <= 8
    assert ends.count("busy") == 30


def test_a_long_prompt_stops_nobody(decoder_of: Make, settled: Any) -> None:
    """Texts that are being written get a token a step, and a short prompt is read while a long one still is."""
    engine = Engine(EagerDecoder(decoder_of(context=700)), [], blocks=200, block_size=4, chunk=8)
    steps: dict[str, list[int]] = {"running": [], "long": [], "short": []}
    now = 0

    def ask(name: str, ids: list[int], new: int) -> None:
        engine.submit(Request(ids, Sampling(new), user=name), lambda event: steps[name].append(now))

    ask("running", [4, 5], 60)
    while engine.run_once():
        now += 1
        if now == 4:
            ask("long", list(range(2, 58)) * 7, 3)
        if now == 6:
            ask("short", [9, 8, 7], 3)
    assert steps["running"][:60] == list(range(60))  # a token in each step
    assert steps["short"][0] <= 8
    assert steps["long"][0] > 40


def test_a_large_text_is_not_passed_for_ever(decoder_of: Make) -> None:
    """Small ones may pass one that finds no room, but only so often."""
    engine = Engine(EagerDecoder(decoder_of()), [], blocks=12, block_size=4, max_queue=500)
    ends: list[str] = []

    def ask(name: str, length: int) -> None:
        ids = [(7 * length + place * len(ends)) % 50 + 3 for place in range(length)]
        engine.submit(
            Request(ids, Sampling(3), user=name), lambda event: ends.append(name) if isinstance(event, Done) else None
        )

    for _ in range(4):
        ask("small", 6)
    engine.run_once()
    ask("large", 40)
    for _ in range(150):
        ask("small", 6)
        engine.run_once()
        if "large" in ends:
            break
    assert "large" in ends
    assert len(ends) < 60


def test_the_queue_is_bounded(decoder_of: Make, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], max_queue=4, max_running=1)
    for _ in range(2):
        engine.submit(Request([5], Sampling(2, n=2)))
    with pytest.raises(QueueFullError, match="at most 4 texts in the queue; found 4") as caught:
        engine.submit(Request([5], Sampling(2)))
    assert 1 <= caught.value.retry_after <= 60
    assert engine.stats().refused == 1
    engine.run_once()  # one has left the queue
    engine.submit(Request([5], Sampling(2)))
    settled(engine)
    assert engine.stats().finished == 3
    assert engine.stats().requests == 3


@pytest.mark.parametrize(
    ("ids", "sampling", "expected"),
    [
        ([], Sampling(3), "at least one token"),
        ([5] * 65, Sampling(3), "at most 64 tokens"),
        ([5, 61], Sampling(3), "ids from 0 to 60"),
        ([-1], Sampling(3), "found -1"),
        ([5], Sampling(3, beams=2), "set beams to 1"),
        ([5], Sampling(3, n=300), "at most 256 texts"),
    ],
)
def test_what_can_never_be_written_is_refused(
    decoder_of: Make, ids: list[int], sampling: Sampling, expected: str
) -> None:
    engine = Engine(EagerDecoder(decoder_of("gpt2")), [], max_queue=256)
    with pytest.raises(DataError, match=expected):
        engine.submit(Request(ids, sampling))
    assert engine.idle


def test_a_text_longer_than_the_cache_is_cut(decoder_of: Make, told_by: Any, settled: Any, leaks_nothing: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [], blocks=4, block_size=4)
    tickets = [engine.submit(Request([5, 6, 7], Sampling(60, seed=seed))) for seed in range(2)]
    settled(engine)
    for ticket in tickets:
        told = told_by(ticket)
        assert told.ends == {0: "length"}
        assert len(told.ids[0]) == 14  # 16 places, of which the last token needs none
    leaks_nothing(engine)


def test_learned_positions_end_where_the_table_does(decoder_of: Make, told_by: Any, settled: Any, offline: Any) -> None:
    writer = EagerDecoder(decoder_of("gpt2", context=16))
    engine = Engine(writer, [], blocks=8, block_size=4)
    request = Request([5, 6, 7], Sampling(60))
    ticket = engine.submit(request)
    settled(engine)
    assert told_by(ticket).ids == [text.ids for text in offline(writer, request)]


class Even:
    """Texts of even ids."""

    def __init__(self, fails_at: int = 99) -> None:
        self.made, self.fails_at = 0, fails_at

    def allowed(self) -> torch.Tensor:
        return torch.arange(61) % 2 == 0

    def advance(self, token: int) -> None:
        self.made += 1
        if self.made == self.fails_at:
            raise ValueError("too complex")

    def fork(self) -> Even:
        return Even(self.fails_at)


def test_constraints_are_each_texts_own(decoder_of: Make, told_by: Any, settled: Any, offline: Any) -> None:
    writer = EagerDecoder(decoder_of())
    engine = Engine(writer, [EOS])
    free, even = Request([5, 6], Sampling(9)), Request([5, 6], Sampling(9, n=2, temperature=1.0), constraint=Even())
    broken = Request([5, 6], Sampling(9), constraint=Even(fails_at=3))
    tickets = [engine.submit(request) for request in (free, even, broken)]
    settled(engine)
    assert told_by(tickets[0]).ids == [text.ids for text in offline(writer, free)]
    told = told_by(tickets[1]).ids
    assert told == [text.ids for text in offline(writer, even)]
    assert all(token % 2 == 0 for ids in told for token in ids)
    steps = []
    with pytest.raises(ValueError, match="too complex"):
        steps.extend(tickets[2])
    assert len(steps) == 2
    assert tickets[2].done.reason == "failed"
    assert engine.stats().failed == 1


def test_a_constraint_that_cannot_begin_fails_its_own_request(decoder_of: Make, told_by: Any, settled: Any) -> None:
    class Broken(Even):
        def fork(self) -> Even:
            raise MemoryError

    engine = Engine(EagerDecoder(decoder_of()), [])
    bad, good = (engine.submit(Request([5, 6], Sampling(3), constraint=one)) for one in (Broken(), Even()))
    settled(engine)
    with pytest.raises(MemoryError):
        told_by(bad)
    assert len(told_by(good).ids[0]) == 3
    assert (engine.stats().failed, engine.stats().finished) == (1, 1)


def test_a_listener_that_raises_is_gone(decoder_of: Make, settled: Any, leaks_nothing: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [])

    def gone(event: Step | Done) -> None:
        raise ConnectionError

    ticket, other = engine.submit(Request([5], Sampling(30)), gone), engine.submit(Request([6], Sampling(3)))
    settled(engine)
    assert (ticket.done.reason, other.done.reason) == ("cancelled", "written")
    leaks_nothing(engine)


def test_a_closed_engine_finishes_what_it_has(decoder_of: Make, told_by: Any, settled: Any) -> None:
    engine = Engine(EagerDecoder(decoder_of()), [])
    ticket = engine.submit(Request([5], Sampling(3)))
    engine.close()
    with pytest.raises(EngineClosedError):
        engine.submit(Request([5], Sampling(3)))
    settled(engine)
    assert len(told_by(ticket).ids[0]) == 3
