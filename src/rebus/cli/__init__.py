"""The command line: one file a verb, which parses, calls one function and prints. It knows nothing of tensors."""

from __future__ import annotations

import signal
import sys
import warnings
from types import FrameType
from typing import NoReturn

from rebus.cli import interruption


def main() -> None:
    """Run the ``rebus`` command; Ctrl-C ends it with status 130, also while it is imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody wants it ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from rebus.cli.streams import write_what_can_be

        write_what_can_be()
        from rebus.cli.app import app

        warnings.showwarning = _tell
        app(prog_name="rebus")
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        raise SystemExit(130) from None


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    interruption.happened = True
    raise KeyboardInterrupt


def _tell(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    print(f"{category.__name__}: {message}", file=sys.stderr)  # where in our code it was raised helps nobody
