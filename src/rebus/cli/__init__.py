"""The command line: one file a verb, which parses, calls one function and prints. It knows nothing of tensors."""

from __future__ import annotations


def main() -> None:
    """Run the ``rebus`` command."""
    from rebus.cli.streams import write_what_can_be

    write_what_can_be()
    from rebus.cli.app import app

    app(prog_name="rebus")
