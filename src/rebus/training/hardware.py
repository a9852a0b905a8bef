"""What a run was made on and what it used: processor, memory, versions, processor time, energy where it can be read.

It names no owner of the machine: no paths, no host names.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from rebus._version import __version__
from rebus.catalogue import Note

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "datasets", "pyarrow", "pillow")
ONE, LONG = 0.6, 10.0  # cores, of one that is needed; seconds below which loading and writing count for too much
RAPL = Path("/sys/class/powercap")
OFTEN = 30.0  # seconds between readings of counters that start over after some minutes at full power


class Meter:
    """Processor time and, where the machine's counters can be read, energy, from now until it is read.

    Energy is that of whole processor packages, so of everything that ran on them (Intel's RAPL counters, which AMD has
    too). On most machines only root may read them.

    Args:
        counters: the folder of these counters.
    """

    def __init__(self, counters: Path = RAPL) -> None:
        self._began, self._used = time.monotonic(), _processor_seconds()
        self._domains = _domains(counters)
        self._last = {domain: _number(domain / "energy_uj") for domain in self._domains}
        self._joules = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        if self._domains:
            threading.Thread(target=self._watch, daemon=True).start()

    def read(self) -> dict[str, Any]:
        """``cores_used`` on average, ``metered`` seconds and, where they are known, ``joules``; ends the reading."""
        self._ended.set()
        wall = max(time.monotonic() - self._began, 1e-9)
        used: dict[str, Any] = {
            "cores_used": round((_processor_seconds() - self._used) / wall, 3),
            "metered": round(wall, 1),
        }
        if self._domains:
            self._count()
            used["joules"] = round(self._joules, 1)
        return used

    def _watch(self) -> None:
        while not self._ended.wait(OFTEN):
            self._count()

    def _count(self) -> None:
        with self._lock:
            for domain in self._domains:
                now, before = _number(domain / "energy_uj"), self._last[domain]
                if now is None or before is None:
                    continue
                gone = now - before if now >= before else now + (_number(domain / "max_energy_range_uj") or 0) - before
                self._joules += max(gone, 0) / 1e6
                self._last[domain] = now


def starvation(trained: Mapping[str, Any]) -> str | None:
    """A sentence where a training got much less of the processor than it could have used; None where it did not."""
    used = trained.get("cores_used")
    if used is None or used >= ONE or trained.get("metered", 0.0) < LONG or trained.get("machine", {}).get("gpu"):
        return None
    return Note("watch.starved", used=used)


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory, GPU, system and versions, for evaluation.json."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}",
        "versions": {
            "rebus": __version__,
            "python": platform.python_version(),
            **{name: result for name in PACKAGES if (result := _version(name)) is not None},
        },
    }
    memory = _memory()
    if memory is not None:
        facts["memory_gib"] = memory
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _domains(counters: Path) -> list[Path]:
    """Whole packages whose counter can be read."""
    items = []
    for folder in sorted(counters.glob("intel-rapl:*")):
        named = folder.name.count(":") == 1  # deeper ones are parts of a package
        if named and _number(folder / "energy_uj") is not None:
            items.append(folder)
    return items


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware"))]
    return next((name for name in names if name), platform.processor() or platform.machine())


def _memory() -> float | None:
    """GiB, where the system tells it."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
