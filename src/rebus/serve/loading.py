"""The model that a server answers with: loaded in the background, asked from any thread, put away at the end.

It knows nothing of HTTP.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rebus.errors import RebusError
from rebus.serve.errors import NotReadyError
from rebus.serve.settings import ServeSettings
from rebus.serve.turns import Turns

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor
    from rebus.serve.writer import StreamingWriter

State = Literal["loading", "ready", "failed", "draining"]
T = TypeVar("T")


class Served:
    """One model and what asks it.

    Args:
        source: a Run, a Hugging Face folder, a .gguf file, a hub id, or a model that is loaded already.
        settings: the server's.
        log: prints a line for people.

    Attributes:
        name: as clients call the model.
        path: where it came from; None: it was given loaded.
        state: ``loading`` until it can answer; ``failed``: it cannot be loaded; ``draining``: the server stops.
        error: why it failed.
        since: when it began to load, in seconds since 1970.
    """

    def __init__(
        self,
        source: str | Path | Predictor,
        settings: ServeSettings | None = None,
        *,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings or ServeSettings()
        self._tell = log or (lambda _: None)
        self.path: str | None = str(source) if isinstance(source, str | Path) else None
        self.name = self.settings.name or (Path(self.path).resolve().name if self.path else "rebus") or "rebus"
        self.state: State = "loading"
        self.error: Exception | None = None
        self.since = int(time.time())
        self._on_disk = self.path is not None and os.path.exists(self.path)
        self._predictor: Predictor | None = None
        self._writer: StreamingWriter | None = None
        self._source: Predictor | None = None if isinstance(source, str | Path) else source
        self._thread: threading.Thread | None = None
        self.desk = Turns(1, "rebus-desk")  # predictions, vectors, explanations
        self.aides = Turns(2, "rebus-aide")  # tokens, images, grammars

    def load(self) -> None:
        """Load the model; gives when it is ready.

        Raises:
            RebusError: it cannot be loaded; ``state`` is ``failed`` then.
        """
        from rebus.inference.predictor import Predictor
        from rebus.serve.writer import StreamingWriter

        try:
            predictor = self._source
            if predictor is None:
                predictor = Predictor.open(str(self.path), precision=self.settings.precision, log=self._tell)
            predictor.model.eval()
            writer = StreamingWriter.of(predictor, self.settings)
            if writer is not None:
                writer.start()
        except Exception as error:
            self.error, self.state = error, "failed"
            raise
        gc.collect()
        gc.freeze()  # a full collection would go through all of torch's objects while everybody waits
        self._predictor, self._writer = predictor, writer
        if self.state == "loading":
            self.state = "ready"

    def start(self, after: Callable[[Exception | None], None] | None = None) -> None:
        """Load in the background; ``after`` is then called with None, or with why it failed."""

        def work() -> None:
            try:
                self.load()
            except Exception as error:
                if after is not None:
                    after(error)
                return
            if after is not None:
                after(None)

        self._thread = threading.Thread(target=work, name="rebus-load", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether it answers new requests."""
        return self.state == "ready"

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory, whether or not it still takes requests."""
        return self._predictor is not None

    @property
    def predictor(self) -> Predictor:
        """The model. Raises NotReadyError while it is loading, or when it could not be loaded."""
        if self._predictor is None:
            detail = str(self.error) if isinstance(self.error, RebusError) else ""
            raise NotReadyError("failed" if self.state == "failed" else "loading", detail)
        return self._predictor

    @property
    def writer(self) -> StreamingWriter | None:
        """What writes texts; None: the model writes none. Raises NotReadyError as ``predictor``."""
        _ = self.predictor
        return self._writer

    @property
    def still_there(self) -> bool:
        """Whether the folder or file it was loaded from is; without, it goes on answering from memory."""
        return not self._on_disk or Path(str(self.path)).exists()

    def ask(self, work: Callable[..., T], *given: Any, **named: Any) -> T:
        """Do something with the model in its own thread, and wait: for callers without an event loop."""
        return self.desk.submit(work, *given, **named).result()

    def drain(self) -> None:
        """Take no new requests."""
        self.state = "draining"

    def close(self) -> None:
        """Stop what runs in the background. Texts that are being written end."""
        self.drain()
        if self._writer is not None:
            self._writer.stop()
        for pool in (self.desk, self.aides):
            pool.shutdown(wait=False, cancel_futures=True)
