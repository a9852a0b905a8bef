from __future__ import annotations

import pytest
import torch

from rebus.loop.frozen import FeatureCache


def cache_of(rows=10, **settings):
    asked = []

    def compute(numbers):
        asked.append(list(numbers))
        values = torch.tensor([float(number) for number in numbers], requires_grad=True)
        return values * 2, values.unsqueeze(1).expand(-1, 3)

    return FeatureCache(compute, rows, **settings), asked


def test_each_row_is_computed_once_in_chunks_that_do_not_depend_on_the_order():
    cache, asked = cache_of(chunk=4)
    doubled, wide = cache.get([9, 0, 9])
    assert doubled.tolist() == [18, 0, 18]
    assert wide.shape == (3, 3)
    assert not doubled.requires_grad
    cache.get([1, 2, 3, 8])
    assert sorted(asked) == [[0, 1, 2, 3], [8, 9]]


def test_beyond_the_memory_limit_it_computes_anew():
    cache, asked = cache_of(chunk=4, limit_mb=0)
    assert cache.get([1])[0].tolist() == cache.get([1])[0].tolist() == [2.0]
    assert len(asked) == 2


def test_a_row_that_does_not_exist():
    with pytest.raises(IndexError, match="row 10 of 10"):
        cache_of()[0].get([10])
