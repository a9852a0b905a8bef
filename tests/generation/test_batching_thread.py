"""The engine in its own thread: many ask at once, some leave, a step fails, the server stops."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from rebus.errors import EngineClosedError
from rebus.generation.decoders import EagerDecoder
from rebus.generation.engine import Engine
from rebus.generation.requests import Done, Request, Step
from rebus.generation.sampling import Sampling
from rebus.generation.thread import EngineThread
from rebus.models.towers.decoder import Decoder

Make = Callable[..., Decoder]
pytestmark = pytest.mark.timeout(60)


class Slow(EagerDecoder):
    """Takes its time, and fails where a text holds a certain token."""

    def __init__(self, decoder: Decoder, seconds: float = 0.0, poison: int | None = None) -> None:
        super().__init__(decoder)
        self.seconds, self.poison = seconds, poison

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        if self.poison is not None and bool((input_ids == self.poison).any()):
            raise RuntimeError("a broken kernel")
        return super().embed(input_ids)


@pytest.fixture
def started() -> Iterator[Callable[..., EngineThread]]:
    threads: list[EngineThread] = []

    def start(writer: Any, eos: list[int] = [], **sizes: Any) -> EngineThread:  # noqa: B006 - it is not changed
        threads.append(EngineThread(Engine(writer, eos, **sizes)).start())
        return threads[-1]

    yield start
    for thread in threads:
        thread.stop()
        assert not thread.alive


def test_many_ask_at_once(
    decoder_of: Make, started: Any, requested: Any, told_by: Any, expects: Any, leaks_nothing: Any, offline: Any
) -> None:
    writer = EagerDecoder(decoder_of())
    thread = started(writer, [1], blocks=24, block_size=4, max_running=5, chunk=6)
    found: queue.Queue[Any] = queue.Queue()

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(4):
            request = requested(rng, list(range(10, 30)))
            ticket = thread.submit(request)
            if rng.random() < 0.2:
                next(iter(ticket), None)
                ticket.cancel()
            else:
                found.put((request, told_by(ticket)))

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(5)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert thread.drain(20)
    assert found.qsize() > 10
    while not found.empty():
        request, told = found.get()
        expects(told, offline(writer, request))
    leaks_nothing(thread.engine)


@pytest.mark.parametrize("again", [False, True])
def test_a_step_that_fails_takes_no_other_with_it(
    again: bool, decoder_of: Make, started: Any, told_by: Any, leaks_nothing: Any, offline: Any
) -> None:
    writer = Slow(decoder_of(), poison=33)
    thread = started(writer, [1])
    requests = [Request([5, 6 + seed], Sampling(8)) for seed in range(4)]
    bad = Request([5, 33], Sampling(8, n=2))
    known = [offline(EagerDecoder(writer.decoder), request) for request in requests]
    for _ in range(1 + again):
        tickets = [thread.submit(request) for request in (*requests[:2], bad, *requests[2:])]
        with pytest.raises(RuntimeError, match="a broken kernel"):
            told_by(tickets[2])
        del tickets[2]
        for ticket, texts in zip(tickets, known, strict=True):
            held = any(33 in text.ids for text in texts)
            if not held:
                assert told_by(ticket).ids == [text.ids for text in texts]
    assert thread.alive
    assert thread.drain(10)
    leaks_nothing(thread.engine)


def test_a_fault_outside_a_pass_fails_what_there_is_and_no_more(
    decoder_of: Make, started: Any, told_by: Any, leaks_nothing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = started(Slow(decoder_of(), seconds=0.002))
    scheduler, ticket = thread.engine._scheduler, thread.submit(Request([5, 6], Sampling(1000)))
    assert isinstance(ticket.get(5), Step)
    whole = scheduler.plan

    def broken() -> None:
        monkeypatch.setattr(scheduler, "plan", whole)
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(scheduler, "plan", broken)
    with pytest.raises(KeyError):
        told_by(ticket)
    assert len(told_by(thread.submit(Request([5, 6], Sampling(3)))).ids[0]) == 3
    assert thread.drain(5)
    leaks_nothing(thread.engine)


def test_draining_finishes_what_it_has(decoder_of: Make, started: Any, told_by: Any) -> None:
    thread = started(Slow(decoder_of(), seconds=0.002))
    tickets = [thread.submit(Request([5, seed], Sampling(20))) for seed in range(2, 5)]
    assert thread.drain(20)
    assert not thread.alive
    assert [len(told_by(ticket).ids[0]) for ticket in tickets] == [20] * 3
    with pytest.raises(EngineClosedError):
        thread.submit(Request([5], Sampling(3)))


def test_draining_ends_at_its_deadline(decoder_of: Make, started: Any, told_by: Any, leaks_nothing: Any) -> None:
    thread = started(Slow(decoder_of(), seconds=0.01), max_running=1)
    tickets = [thread.submit(Request([5, 6], Sampling(100_000))) for _ in range(3)]
    began = time.monotonic()
    assert not thread.drain(0.2)
    assert time.monotonic() - began < 5
    for ticket in tickets:
        with pytest.raises(EngineClosedError):
            told_by(ticket)
        assert ticket.done.reason == "failed"
    leaks_nothing(thread.engine)


def test_one_who_leaves_makes_room(decoder_of: Make, started: Any) -> None:
    thread = started(Slow(decoder_of(), seconds=0.001), max_running=1)
    first = thread.submit(Request([5, 6], Sampling(100_000)))
    assert isinstance(first.get(5), Step)
    second = thread.submit(Request([5, 6], Sampling(2)))
    with pytest.raises(queue.Empty):
        second.get(0.05)
    first.cancel()
    assert isinstance(second.get(5), Step)


def test_events_come_in_order_to_a_listener(decoder_of: Make, started: Any) -> None:
    thread, heard, over = started(EagerDecoder(decoder_of())), list[Any](), threading.Event()

    def hear(event: Step | Done) -> None:
        heard.append(event)
        if isinstance(event, Done):
            over.set()

    ticket = thread.submit(Request([5, 6], Sampling(7)), hear)
    assert over.wait(10)
    assert [isinstance(event, Done) for event in heard] == [False] * 7 + [True]
    assert ticket.done is heard[-1]
    assert ticket.done.new_tokens == 7


def test_it_sleeps_when_there_is_nothing_to_do(decoder_of: Make, started: Any) -> None:
    thread = started(EagerDecoder(decoder_of()))
    thread.submit(Request([5, 6], Sampling(3))).get(5)
    time.sleep(0.2)
    before = time.thread_time(), time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before[1] < 0.1
