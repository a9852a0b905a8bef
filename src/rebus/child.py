"""What a process that was forked to work for another does first. It does not know the work."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1  # Linux's prctl: the signal that a process gets when its parent's thread ends


def begin_child(parent: int) -> None:
    """End with the process that forked this one, however that ends; leave Ctrl-C to it, and let it end this one.

    Call it in the child of a thread that lives as long as the child is needed.

    Args:
        parent: number of the process that forked this one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died already
        os._exit(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """For systems that tell a process nothing of its parent's death."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
