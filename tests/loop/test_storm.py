"""A short form of the storm of kills; ``python -m tests.storm kills`` is the long one."""

from __future__ import annotations

import re

import pytest

from storm import kills


@pytest.mark.slow
def test_killed_at_any_instant_it_ends_as_if_nothing_had_happened():
    line = kills.run(1.0, seed=3, names=["texts, AdamW, fp32, two workers"], lanes=1)
    found = re.fullmatch(r"kills: (\d+) kills in 3 trainings over 1 settings, .*", line)
    assert found, line
    assert int(found[1]) >= 1


def test_the_storm_sees_a_run_that_is_not_finished(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(AssertionError, match="not finished"):
        kills.facts(tmp_path)
    with pytest.raises(ValueError, match="no such setting"):
        kills.run(0.0, names=["calm"])
