"""A prediction and its confidence."""

from __future__ import annotations

import pytest

from rebus.tasks import TASKS, Prediction


def test_a_prediction_without_confidence_shows_none() -> None:
    assert "confidence" not in Prediction(3.5)._repr_html_()
    assert "87.5%" in Prediction("cat", 0.875)._repr_html_()


@pytest.mark.parametrize("name", ["regress", "similar", "retrieve", "patch_classify", "pretrain_image"])
def test_tasks_that_are_never_sure_have_no_column_of_confidence(name: str) -> None:
    assert not TASKS.get(name).says_confidence
