"""Tests that may not be left out: with ``REBUS_REQUIRE_BROWSER=1`` a test of the pages that is skipped has failed."""

from __future__ import annotations

import os

import pytest

VARIABLE = "REBUS_REQUIRE_BROWSER"
_NEEDS = ("browser", "font", "chromium", "playwright", "gradio")  # words of the reasons that count


def required() -> bool:
    """Whether tests of the pages must run."""
    return os.environ.get(VARIABLE, "0") not in ("", "0")


def refuse_skip(report: pytest.TestReport) -> None:
    """Make a failure of a test that was skipped because a browser or a font is missing, where it may not be."""
    if not (report.skipped and required() and isinstance(report.longrepr, tuple)):
        return
    reason = str(report.longrepr[2])
    if any(word in reason.lower() for word in _NEEDS):
        report.outcome = "failed"
        report.longrepr = f"{VARIABLE} is set, and this test was left out: {reason}"
