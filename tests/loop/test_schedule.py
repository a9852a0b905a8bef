from __future__ import annotations

from itertools import pairwise

import pytest

from rebus.loop.schedule import rate_factor


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd", "constant"])
def test_warm_up_rises_linearly_to_the_peak(shape):
    assert rate_factor(0.0, shape, warmup=0.1) == 0.0
    assert rate_factor(0.05, shape, warmup=0.1) == pytest.approx(0.5)
    assert rate_factor(0.1, shape, warmup=0.1) == 1.0
    assert rate_factor(0.0, shape) == 1.0


@pytest.mark.parametrize("shape", ["cosine", "linear", "wsd"])
def test_falls_to_the_floor_and_never_rises_after_the_warm_up(shape):
    values = [rate_factor(step / 200, shape, warmup=0.1, final=0.02) for step in range(20, 201)]
    assert values[-1] == pytest.approx(0.02)
    assert all(later <= earlier for earlier, later in pairwise(values))


def test_the_shapes_differ_where_they_should():
    assert rate_factor(0.5, "cosine", final=0.0) == pytest.approx(0.5)
    assert rate_factor(0.25, "cosine", final=0.0) == pytest.approx(0.5 + 0.5 * 2**-0.5)
    assert rate_factor(0.25, "linear", final=0.0) == pytest.approx(0.75)
    assert rate_factor(0.69, "wsd", decay=0.3) == 1.0
    assert rate_factor(0.85, "wsd", decay=0.3, final=0.0) == pytest.approx(0.5)
    assert rate_factor(1.0, "constant", final=0.1) == 1.0


def test_odd_settings_stay_within_bounds():
    for shape in ("cosine", "linear", "wsd", "constant"):
        for warmup in (0.0, 0.5, 0.99):
            for decay in (0.0, 1.0):
                for progress in (-1.0, 0.0, 0.3, 0.995, 1.0, 2.0):
                    assert 0.0 <= rate_factor(progress, shape, warmup=warmup, decay=decay, final=0.1) <= 1.0
