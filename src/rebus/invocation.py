"""How this installation is started from a shell, for commands that people paste."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def invocation() -> str:
    """What starts Rebus in this shell: ``rebus`` where the path leads to this installation, else the interpreter."""
    script = shutil.which("rebus")
    here = Path(sys.executable).parent
    if script is not None and Path(script).parent == here:
        return "rebus"
    beside = here / "rebus"
    program = beside if beside.exists() else Path(sys.executable)
    try:
        shown = program.relative_to(Path.cwd())
    except ValueError:
        shown = program
    quoted = shlex.quote(str(shown))
    return quoted if beside.exists() else f"{quoted} -m rebus"
