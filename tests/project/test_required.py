"""That a test of the pages which is left out counts as failed where it must run."""

from __future__ import annotations

import pytest

from required import VARIABLE, refuse_skip


def skipped(reason: str) -> pytest.TestReport:
    told = ("tests/x.py", 1, f"Skipped: {reason}")
    return pytest.TestReport("tests/x.py::test", ("tests/x.py", 1, "test"), {}, "skipped", told, "setup")


@pytest.mark.parametrize(
    ("reason", "value", "outcome"),
    [
        ("no browser test: chromium is not installed", "1", "failed"),
        ("this machine has no font with Chinese glyphs", "1", "failed"),
        ("no C compiler", "1", "skipped"),
        ("no browser test: chromium is not installed", "0", "skipped"),
        ("no browser test: chromium is not installed", None, "skipped"),
    ],
)
def test_a_skip_for_want_of_a_browser_fails_where_it_is_required(
    monkeypatch: pytest.MonkeyPatch, reason: str, value: str | None, outcome: str
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    report = skipped(reason)
    refuse_skip(report)
    assert report.outcome == outcome
