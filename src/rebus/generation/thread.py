"""The engine in a thread of its own, so that whoever asks never waits for a step.

It knows nothing of what is written: it runs steps while there is something to do, and sleeps otherwise.
"""

from __future__ import annotations

import threading
import time

from rebus.generation.engine import Engine
from rebus.generation.requests import Listener, Request, Ticket


class EngineThread:
    """Runs an engine.

    Args:
        engine: which nothing else may run meanwhile.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._work, self._stopping = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="rebus-engine", daemon=True)

    def start(self) -> EngineThread:
        """Begin."""
        self._thread.start()
        return self

    def submit(self, request: Request, listener: Listener | None = None) -> Ticket:
        """As ``Engine.submit``, and wakes the engine."""
        ticket = self.engine.submit(request, listener)
        self._work.set()
        return ticket

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def drain(self, seconds: float) -> bool:
        """Take no more requests, finish what can be finished in that time, and stop. Gives whether all was finished."""
        self.engine.close()
        self._work.set()
        deadline = time.monotonic() + seconds
        while self.alive and not self.engine.idle and time.monotonic() < deadline:
            time.sleep(min(0.02, max(deadline - time.monotonic(), 0)))
        finished = self.engine.idle
        self.stop()
        return finished

    def stop(self) -> None:
        """Stop after the step that is being made; whatever is not finished fails with ``EngineClosedError``."""
        self.engine.close()
        self._stopping = True
        self._work.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self.engine.abandon()

    def _run(self) -> None:
        while not self._stopping:
            self._work.clear()
            try:
                busy = self.engine.run_once()
            except Exception as error:
                self.engine.abandon(error)
                continue
            if not busy and not self._stopping:
                self._work.wait(None if self.engine.idle else 0.01)
