"""Tasks whose head gives numbers for each piece of a text: how a text becomes pieces, windows and a batch.

A text longer than the model reads is cut into windows that overlap, so that nothing of it is lost.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.data.tagging import Offset, Units
from rebus.generation.sampling import Sampling
from rebus.models.layout import IGNORED
from rebus.tasks.base import ExampleKey, Item, Prediction, Task, Values
from rebus.tasks.cells import pad_texts
from rebus.tasks.explanation import Example
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

MOST_PIECES = 32  # of one unit, say an address of 200 characters; its label stands on the first
MOST_WINDOWS = 8  # of one row in one training batch; which of them, the epoch decides


@dataclass(frozen=True)
class Pieces:
    """A text as the text tower reads it.

    Attributes:
        ids: one a piece.
        offsets: where in the text each piece stands, in characters.
        firsts: for each unit, its first piece. Units never share a piece.
    """

    ids: list[int]
    offsets: list[Offset]
    firsts: list[int]


def pieces_of(processor: TextProcessor, units: Units, *, most: int = MOST_PIECES) -> Pieces:
    """Cut a text into pieces so that every unit has at least one of its own.

    A piece that holds several units, as a common Chinese word does, is cut into these; a unit that leaves no trace,
    as signs do among word vectors, gets a piece that says "unknown".
    """
    reader = processor.reader or processor.tokenizer
    ids, offsets = reader.encode_with_offsets(units.text)
    starts, ends = [start for start, _ in units.offsets], [end for _, end in units.offsets]
    reached = [(bisect_right(ends, start), bisect_left(starts, end)) for start, end in offsets]
    shared = [False] * len(units.offsets)
    for first, last in reached:
        if last - first > 1:
            shared[first:last] = [True] * (last - first)
    entries: list[tuple[int, int, int, Offset, int]] = []  # start, order, id, offset, unit (-1: between units)
    counts = [0] * len(units.offsets)
    for (first, last), id, offset in zip(reached, ids, offsets, strict=True):
        unit = first if last > first else -1
        if unit >= 0 and (shared[unit] or counts[unit] == most):
            continue
        if unit >= 0:
            counts[unit] += 1
        entries.append((offset[0], len(entries), id, offset, unit))
    for unit, offset in enumerate(units.offsets):
        if not counts[unit]:
            alone = _alone(reader, units.text[offset[0] : offset[1]]) or (_unknown(processor),)
            entries += [(offset[0], len(entries) + i, id, offset, unit) for i, id in enumerate(alone[:most])]
    entries.sort(key=lambda entry: entry[:2])
    firsts = [-1] * len(units.offsets)
    for place in range(len(entries) - 1, -1, -1):
        if entries[place][4] >= 0:
            firsts[entries[place][4]] = place
    return Pieces([entry[2] for entry in entries], [entry[3] for entry in entries], firsts)


@lru_cache(maxsize=50_000)
def _alone(reader: Any, text: str) -> tuple[int, ...]:
    return tuple(reader.encode(text))


def _unknown(processor: TextProcessor) -> int:
    return int(processor.tokenizer.eos_id if processor.reader is None else processor.reader.unknown_id)


def windows_of(firsts: Sequence[int], count: int, room: int) -> list[tuple[int, int]]:
    """Which pieces each window holds, [start, end): all of them together, a quarter of a window twice.

    Args:
        firsts: first pieces of units, rising; a window begins with one.
        count: pieces.
        room: most pieces of a window.
    """
    windows = [(0, min(room, count))]
    while windows[-1][1] < count:
        start, end = windows[-1]
        later = bisect_right(firsts, start)
        chosen = bisect_right(firsts, end - room // 4) - 1
        begin = firsts[max(chosen, later)] if later < len(firsts) else end
        begin = min(begin, end) if begin > start else end
        windows.append((begin, min(begin + room, count)))
    return windows


class WordsTask(Task):
    """A task whose head gives C numbers for each piece of its text: ner, extract."""

    padding: ClassVar[dict[str, Any]] = {}  # further arrays (L,) of an item, and what fills their rows

    @abstractmethod
    def windows(self, values: Values, row: int, processor: TextProcessor, *, learn: bool) -> list[Item]:
        """A row's windows, at least one: ``text_ids`` (L,), what ``padding`` names, and what ``predict_row`` needs."""

    @abstractmethod
    def predict_row(self, values: Values, row: int, windows: list[Item], outputs: list[NDArray[np.float32]]) -> Any:
        """The Prediction for a row, from the (L, C) numbers of each of its windows."""

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """A prediction a row; a long text is several windows, ``batch_size`` of them a pass."""
        windows = [self.windows(values, row, session.processor, learn=False) for row in portion.rows]
        flat = [(place, window) for place, several in enumerate(windows) for window in several]
        outputs: list[list[NDArray[np.float32]]] = [[] for _ in portion.rows]
        for start in range(0, len(flat), session.batch_size):
            some = flat[start : start + session.batch_size]
            part = self.collate([window for _, window in some], [int(portion.owner[place]) for place, _ in some])
            numbers = session.outputs(self.name, part, portion.batch).float().cpu().numpy()  # (R, L, C)
            for (place, _), number in zip(some, numbers, strict=True):
                outputs[place].append(number)
        return [self.predict_row(values, row, windows[i], outputs[i]) for i, row in enumerate(portion.rows)]

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """The windows of the rows; in training, of a very long text a few that change from epoch to epoch."""
        result: list[Item] = []
        for row in rows:
            if key is not None and not self.usable(values, row):
                continue
            built = self.windows(values, row, processor, learn=key is not None)
            if key is not None and len(built) > MOST_WINDOWS:
                chosen = np.random.default_rng((*key, row)).permutation(len(built))[:MOST_WINDOWS]
                built = [built[place] for place in sorted(chosen)]
            result += built
        return result

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many texts are longer than the model reads at once."""
        long = [row for row in rows if len(self.long_text(values, row)) > processor.max_length]
        cut = sum(len(self.windows(values, row, processor, learn=False)) > 1 for row in long)
        if not cut:
            return []
        return [
            f"task {self.name}: {cut} rows are longer than {processor.max_length} tokens and are read in windows that "
            "overlap; otherwise: --set text.max_length=TOKENS"
        ]

    @abstractmethod
    def long_text(self, values: Values, row: int) -> str:
        """The text that windows are cut from."""

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Pad windows to one length."""
        part = {"owner": torch.tensor(owner, dtype=torch.long)}
        part["text_ids"], part["text_mask"] = pad_texts([item["text_ids"] for item in items])
        for name, filler in self.padding.items():
            if name in items[0]:
                rows = torch.full(part["text_ids"].shape, filler, dtype=torch.as_tensor(items[0][name]).dtype)
                for place, item in enumerate(items):
                    rows[place, : len(item[name])] = torch.as_tensor(item[name])
                part[name] = rows
        return part


def window_around(windows: list[dict[str, np.ndarray]], unit: int) -> dict[str, np.ndarray]:
    """The window of a long text in which most stands around a unit."""
    held = [window for window in windows if unit in window["units"]]

    def around(window: dict[str, np.ndarray]) -> int:
        at = int(window["at"][list(window["units"]).index(unit)])
        return min(at, len(window["text_ids"]) - 1 - at)

    return max(held or windows[:1], key=around if held else (lambda window: 0))


def give_window(example: Example, window: dict[str, np.ndarray]) -> None:
    """Put a window into the part as what the text tower reads."""
    device = example.model.device
    example.part["owner"] = torch.zeros(1, dtype=torch.long, device=device)
    ids = torch.from_numpy(np.asarray(window["text_ids"]))[None].to(device)
    example.part |= {"text_ids": ids, "text_mask": torch.ones_like(ids, dtype=torch.bool)}
    if "segment_ids" in window:
        example.part["segment_ids"] = torch.from_numpy(np.asarray(window["segment_ids"]))[None].to(device)


def frame_of(processor: TextProcessor) -> tuple[list[int], list[int]]:
    """What the text tower expects before and after a text."""
    before, after = ((), ()) if processor.reader is not None else processor.tokenizer.frame
    return list(before), list(after)


__all__ = ["IGNORED", "Pieces", "WordsTask", "frame_of", "pieces_of", "windows_of"]
