"""Kills, damaged files and attacks for a given time: ``python -m tests.storm --minutes 10 [part ...]``.

Each part is a module beside this one with ``run(seconds, seed) -> str``: one line about what was tried, or an
AssertionError. A part that is not there, or whose libraries are not installed, is named as such and fails the storm.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

PARTS = ("kills", "fuzz", "attacks", "paths")


def main(words: list[str]) -> int:
    """Run the parts one after the other. Returns the exit status: 0, or 1 where one did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; none: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried")
    asked = parser.parse_args(words)
    names = asked.parts or list(PARTS)
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        parser.error(f"no part '{unknown[0]}'; there are {', '.join(PARTS)}")
    tests = Path(__file__).resolve().parent.parent
    sys.path[:0] = [str(tests), str(tests.parent)]  # the helpers that tests share
    failed = []
    for name in names:
        start = time.monotonic()
        try:
            line = importlib.import_module(f"storm.{name}").run(60 * asked.minutes / len(names), asked.seed)
        except Exception as error:
            failed.append(name)
            line = f"{name}: FAILED: {type(error).__name__}: {error}"
        print(f"{line} ({time.monotonic() - start:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
