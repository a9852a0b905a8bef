"""``python -m rebus``: the same command, for torchrun and for where no script is on the path."""

from __future__ import annotations

from rebus.cli import main

if __name__ == "__main__":
    main()
