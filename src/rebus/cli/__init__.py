"""The command line: one file a verb, which parses, calls one function and prints. It knows nothing of tensors."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the ``rebus`` command."""
    import warnings

    from rebus.cli.streams import write_what_can_be

    write_what_can_be()
    from rebus.cli.app import app

    def tell(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        print(f"{category.__name__}: {message}", file=sys.stderr)  # where in our code it was raised helps nobody

    warnings.showwarning = tell
    app(prog_name="rebus")
