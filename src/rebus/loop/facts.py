"""How the numbers of a run are made, kept from its beginning (loop.json), so that a resume uses the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rebus import atomic
from rebus.errors import RunError
from rebus.loop import parallel
from rebus.loop.probe import Precision, measure_peak, native_precision
from rebus.recipe import Train


@dataclass(frozen=True)
class Facts:
    """How the numbers of a run are made.

    Attributes:
        precision: of the forward and backward pass.
        muon: of Muon's products.
        peak: FLOP/s of a large product in this precision; 0: not measured.
    """

    precision: Precision
    muon: Precision
    peak: float = 0.0

    @property
    def muon_dtype(self) -> torch.dtype:
        """``muon`` as torch names it."""
        return torch.bfloat16 if self.muon == "bf16" else torch.float32


def settle(
    folder: Path,
    settings: Train,
    device: torch.device,
    *,
    resume: bool,
    note: Callable[[str], None],
    peak: bool = False,
) -> Facts:
    """Choose, or read what was chosen; the same in every process. ``peak``: also measure what the machine can do.

    Raises:
        RunError: the folder cannot be written, or its loop.json is damaged.
    """
    flags = [0.0, 0.0, 0.0]
    if parallel.is_first():
        facts = _read(folder / "loop.json", device, note) if resume else None
        facts = facts or _measure(folder / "loop.json", settings, device, peak)
        flags = [float(facts.precision == "bf16"), float(facts.muon == "bf16"), facts.peak]
    precision, muon, most = parallel.summed(flags, device)
    return Facts("bf16" if precision else "fp32", "bf16" if muon else "fp32", most)


def _measure(path: Path, settings: Train, device: torch.device, peak: bool) -> Facts:
    # one precision for everything, so that nothing is left to a measurement
    chosen = native_precision(device) if settings.precision == "auto" else settings.precision
    facts = Facts(chosen, chosen)
    settled: dict[str, Any] = {"precision": facts.precision, "muon": facts.muon}
    if peak:
        facts = replace(facts, peak=measure_peak(device, facts.precision))
        settled["peak_flops"] = facts.peak
    atomic.write_json(path, {**settled, **_machine(device)})
    return facts


def _read(path: Path, device: torch.device, note: Callable[[str], None]) -> Facts | None:
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        facts = Facts(content["precision"], content["muon"], float(content.get("peak_flops", 0.0)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        received = "a file that cannot be read"
        raise RunError(
            path, "what was measured when the run began", received, "restore the file or start a new run"
        ) from error
    for name, value in _machine(device).items():
        if content.get(name) != value:
            note(f"{name} was {content.get(name)} when the run began and is {value} now: the last bits may differ")
    return facts


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "processes": parallel.world(),
        "machine": platform.machine(),
    }
