"""Damaged files: each is opened by a worker that has little memory and little time.

What must hold, whatever the damage: the file opens, or an error of Rebus' own says what is wrong with it; never another
exception, a dead process, 10 s or 500 MiB.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

LONGEST = 10.0  # seconds of the processor; other programs may slow the clock down
_PATIENCE = 60.0  # seconds by the clock, after which the worker hangs
LARGEST = 500  # MiB
_MIB = 2**20


def run(seconds: float, seed: int = 0, *, most: int | None = None, runs: bool = True) -> str:
    """Damage and open files for so many seconds, or until there were ``most``.

    Args:
        seconds: for all of them.
        seed: of what is damaged, and how.
        most: damaged files.
        runs: whether Runs are among the files; they are trained first.

    Raises:
        AssertionError: what must hold did not; every kind of violation is listed with one damaged file.
    """
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    violations: dict[str, str] = {}
    kept = Path(tempfile.gettempdir()) / "rebus-fuzz"
    with tempfile.TemporaryDirectory() as name:
        from storm.samples import make_samples

        samples = make_samples(Path(name), runs=runs)
        worker = Worker()
        for how, place in samples.values():
            outcome, text = worker.open(how, place)
            assert outcome in ("opened", "slow", "large"), f"{place.name} whole: {text}"  # libraries are loaded here
        longest, highest, names = 0.0, 0, sorted(samples)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and (most is None or sum(counts.values()) < most):
            how, place = samples[rng.choice(names)]
            idle = _IDLE if how == "run" else ()
            file = rng.choice([one for one in sorted(place.iterdir()) if one.is_file() and one.suffix not in idle])
            whole = file.read_bytes()
            from storm.mutations import damage

            file.write_bytes(damage(file, whole, rng))
            outcome, text = worker.open(how, place)
            longest, highest = max(longest, worker.seconds), max(highest, worker.growth)
            counts[outcome] += 1
            if outcome not in ("opened", "refused") and text not in violations:
                violations[text] = f"{place.name}/{file.name}, number {sum(counts.values())}"
                shutil.copytree(place, kept / f"{seed}-{sum(counts.values())}", dirs_exist_ok=True)
            file.write_bytes(whole)
        worker.close()
    line = f"fuzz: {sum(counts.values())} damaged files ({', '.join(f'{n} {k}' for k, n in sorted(counts.items()))}), "
    line += f"at most {longest:.1f} s and {highest} MiB"
    told = "\n\n".join(f"{where}: {text}" for text, where in violations.items())
    assert not violations, f"{line}; copies in {kept}:\n{told}"
    return line


_IDLE = (".html", ".md", ".jsonl", ".lock")  # of a Run: what is only looked at by people


class Worker:
    """A process that opens one file after the other, and is replaced when it dies or takes too long."""

    def __init__(self) -> None:
        self.growth = 0  # MiB above what the process had before the last file
        self.seconds = 0.0  # of the processor, for the last file
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there,), daemon=True)
        self._process.start()
        there.close()
        assert self._here.poll(120), "the worker does not start"
        self._here.recv()

    def open(self, how: str, place: Path) -> tuple[str, str]:
        """``opened``, ``refused``, ``foreign``, ``slow``, ``large`` or ``dead``, and what was said."""
        self._here.send((how, place))
        if not self._here.poll(_PATIENCE):
            self.close()
            self._start()
            return "slow", f"{how}: no end"
        try:
            outcome, text, self.growth, self.seconds = self._here.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._start()
            return "dead", f"{how}: the process ended with {code}"
        if outcome in ("opened", "refused") and self.growth > LARGEST:
            return "large", f"{how}: {self.growth} MiB"
        if self.seconds > LONGEST:
            return "slow", f"{how}: {self.seconds:.0f} s"
        return str(outcome), str(text)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._here.close()


def _work(there: Connection) -> None:
    """Open what is asked for, until nobody asks."""
    tests = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(tests)]
    import torch

    from rebus.errors import RebusError
    from storm.samples import open_sample

    torch.set_num_threads(1)
    there.send(None)
    seen: set[str] = set()
    while True:
        try:
            how, place = there.recv()
        except EOFError:
            return
        if how in seen:  # libraries are loaded: what comes now is the file's own
            size = _status("VmSize") + (LARGEST + 300) * _MIB
            resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
        before, start = _status("VmRSS"), time.process_time()
        try:
            open_sample(how, place)
            outcome, text = "opened", ""
        except RebusError as error:
            short = "room in memory" in str(error)
            outcome, text = ("large", str(error)) if short else ("refused", str(error))
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [
                f"{frame.filename.rpartition('/rebus/')[2]}:{frame.lineno}"
                for frame in frames
                if "/rebus/" in frame.filename
            ]
            outcome, text = "foreign", f"{type(error).__name__}: {str(error)[:200]} at {' < '.join(reversed(own[-4:]))}"
        seen.add(how)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        there.send((outcome, text, (_status("VmHWM") - before) // _MIB, time.process_time() - start))


def _status(name: str) -> int:
    """Bytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main(words: list[str]) -> Any:
    """``python fuzz.py SECONDS [SEED]``."""
    print(run(float(words[0]), int(words[1]) if len(words) > 1 else 0))


if __name__ == "__main__":
    main(sys.argv[1:])
