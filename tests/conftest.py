"""What every test stands on: one thread a process, no network, no colour, the same examples every time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_checkpoints.py, which several rooms' tests share
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    MPLBACKEND="Agg",
    NO_COLOR="1",
    COLUMNS="100",
)

import pytest
from hypothesis import HealthCheck, settings  # after the environment is set

from required import refuse_skip

settings.register_profile("rebus", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rebus")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where tests of the pages must run, one that is skipped has failed."""
    outcome = yield
    refuse_skip(outcome.get_result())  # type: ignore[attr-defined]
