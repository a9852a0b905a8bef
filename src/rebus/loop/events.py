"""What a run leaves to be read: metrics.jsonl and TensorBoard events. Knows no model.

Lines of metrics.jsonl, by ``kind``:

    train   step, progress, loss, lr (factor on the peak), grad_norm, examples_per_second or tokens_per_second, seconds,
            parts {name: value}, perhaps share_of_peak: of what a large product reaches on this machine
    valid   step, progress, seconds, metrics {name: value}, best (bool)
    sample  step, text
    skip    step, reason
    remark  step, name, text: something that goes wrong, with advice
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebus import atomic
from rebus.catalogue import to_json
from rebus.jsonl import json_lines
from rebus.loop.lines import append_line

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class Events:
    """Appends to ``metrics.jsonl`` and writes TensorBoard events under ``events/``.

    Args:
        folder: of the run.
        step: updates made so far: lines of later steps are from before a resume and are cut.
        active: False: write nothing (processes other than the first).
    """

    def __init__(self, folder: Path, step: int, *, active: bool = True) -> None:
        self.path, self.folder, self.active, self._first = folder / "metrics.jsonl", folder / "events", active, step
        self._board: SummaryWriter | None = None
        if active and self.path.exists():
            self._cut(step)

    def write(self, kind: str, step: int, **values: Any) -> None:
        """One line; numbers that are not finite become null.

        Raises:
            RunError: the disk is full, or the file cannot be written.
        """
        if not self.active:
            return
        append_line(self.path, json.dumps({"kind": kind, "step": step, **to_json(_finite(values))}, ensure_ascii=False))
        scalars = dict(_flat(values))
        if kind in ("train", "valid"):
            for name, value in scalars.items():
                self._writer().add_scalar(f"{kind}/{name}", value, step)
        elif kind == "sample":
            self._writer().add_text("sample", str(values.get("text", "")), step)

    def close(self) -> None:
        """Flush what TensorBoard has buffered."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _writer(self) -> SummaryWriter:
        if self._board is None:
            from torch.utils.tensorboard.writer import SummaryWriter

            try:
                self._board = SummaryWriter(str(self.folder), purge_step=self._first + 1)
            except OSError as error:
                raise atomic.explained(self.folder, error) from error
        return self._board

    def _cut(self, step: int) -> None:
        kept = []
        for _, text in json_lines(self.path.read_text(encoding="utf-8", errors="replace")):
            try:
                if json.loads(text)["step"] <= step and step:  # from the start, nothing was before
                    kept.append(text)
            except (ValueError, KeyError, TypeError):  # cut short by a kill
                continue
        atomic.write_text(self.path, "".join(f"{line}\n" for line in kept))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut short by a kill is left out."""
    path = folder / "metrics.jsonl"
    items = []
    for _, text in json_lines(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else ():
        try:
            items.append(dict(json.loads(text)))
        except (ValueError, TypeError):
            continue
    return items


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    result: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            result += _flat(value, prefix if name in ("metrics", "parts") else f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            result.append((prefix + name, float(value)))
    return result
