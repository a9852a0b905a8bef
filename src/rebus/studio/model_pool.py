"""Models that pages talk with: each loaded once, asked by one thread at a time, however many people have the page open.

It knows no page.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rebus.checkpoints.run_folder import Run
from rebus.errors import StudioError
from rebus.inference.predictor import Predictor

if TYPE_CHECKING:
    from rebus.serve.loading import Served

T = TypeVar("T")
_KEPT = 2  # models in memory beside the served one


@dataclass
class Seat:
    """One model and the one thread that asks it.

    Attributes:
        predictor: the model.
        folder: its Run.
        desk: the thread.
    """

    predictor: Predictor
    folder: Path
    desk: Executor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="rebus-studio"))

    def ask(self, work: Callable[[Predictor], T]) -> T:
        """What ``work`` makes of the model; waits for its turn."""
        return self.desk.submit(work, self.predictor).result()

    def stream(self, work: Callable[[Predictor, Callable[[], bool]], Iterator[str]]) -> Iterator[str]:
        """What ``work`` yields, made in the model's thread; it is told to end when nobody takes it any more."""
        result: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        left = threading.Event()

        def write() -> None:
            try:
                for text in work(self.predictor, left.is_set):
                    result.put(text)
                    if left.is_set():
                        break
                result.put(None)
            except BaseException as error:  # told where it is read
                result.put(error)

        self.desk.submit(write)
        try:
            while (text := result.get()) is not None:
                if isinstance(text, BaseException):
                    raise text
                yield text
        finally:
            left.set()

    def gone(self) -> StudioError | None:
        """That the folder is no longer there, while the model in memory still answers."""
        if (self.folder / "config.json").exists():
            return None
        return StudioError.of("problem.gone", folder=str(self.folder))


class Seats:
    """The models that were asked last.

    Args:
        served: the server's own model, which is not loaded twice; None: there is none.
    """

    def __init__(self, served: Served | None = None) -> None:
        self.served = served
        self._kept: OrderedDict[Path, tuple[float, Seat]] = OrderedDict()
        self._lock = threading.Lock()

    def seat(self, folder: Path | None) -> Seat:
        """The model of a Run, loaded if it is not yet, or if the Run was trained anew.

        Raises:
            RunError: it is missing, unfinished or damaged. StudioError: none is chosen, or it is being loaded.
        """
        if folder is None:
            raise StudioError.of("problem.no_run")
        folder = folder.resolve()
        if self.served is not None and self.served.path is not None and Path(self.served.path).resolve() == folder:
            return self._from_server(self.served, folder)
        with self._lock:
            kept = self._kept.get(folder)
            changed = _changed(folder)
            if kept is not None and changed in (None, kept[0]):  # one whose folder is gone still answers
                self._kept.move_to_end(folder)
                return kept[1]
            Run.open(folder)
            seat = Seat(Predictor.open(folder), folder)
            seat.predictor.model.eval()
            self._kept[folder] = (changed or 0.0, seat)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return seat

    def _from_server(self, served: Served, folder: Path) -> Seat:
        if served.state == "loading":
            raise StudioError.of("problem.loading", folder=str(folder))
        if served.error is not None:
            raise served.error
        return Seat(served.predictor, folder, served.desk)


def _changed(folder: Path) -> float | None:
    """When its weights were written; None: they are gone."""
    try:
        return (folder / "model.safetensors").stat().st_mtime
    except OSError:
        return None
