"""Columns of numbers, categories and dates as strategies of a comparison."""

from __future__ import annotations

import pytest

from rebus.comparison.figures import Difference
from rebus.comparison.result import ArmResult, Comparison
from rebus.comparison.strategies import arms_of
from rebus.comparison.verdict import verdict
from rebus.errors import DataError
from rebus.recipe import Data, Recipe, TaskSettings
from rebus.tasks import Classify
from rebus.tasks.metrics.intervals import Interval


def settings(*roles: str, columns: tuple[str, ...] = ("cell_type",)) -> Recipe:
    named = {role: role for role in (*roles, "label")}
    return Recipe(data=Data(inputs={"tabular": list(columns)}), tasks=[TaskSettings(name="classify", columns=named)])


def test_columns_are_arms_beside_images_and_texts() -> None:
    recipe = settings("image", "text")
    arms = {arm.name: arm.recipe(recipe) for arm in arms_of(Classify(recipe.tasks[0]), recipe)}
    assert {"text", "image", "columns", "unified", "unified-no-columns"} <= set(arms)
    assert arms["unified"].data.inputs == {"tabular": ["cell_type"]}
    assert arms["unified-no-columns"].data.inputs == arms["text"].data.inputs == {"tabular": []}
    alone = arms["columns"].model
    assert (alone.image.kind, alone.text.kind, alone.fusion.kind) == ("none", "none", "none")


def test_an_image_beside_columns_is_enough() -> None:
    recipe = settings("image")
    names = [arm.name for arm in arms_of(Classify(recipe.tasks[0]), recipe)]
    assert names[:2] == ["image", "columns"]
    assert not {"text", "unified-no-columns"} & set(names)
    bare = settings("image", columns=())
    with pytest.raises(DataError, match="a text column beside the image"):
        arms_of(Classify(bare.tasks[0]), bare)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Difference(0.012, 0.004, 0.02, 0.01, 0.01), "cell_type adds 1.2 points (0.4 to 2.0) over unified-no-columns"),
        (Difference(0.003, -0.01, 0.02, 0.6, 0.6), "cell_type adds nothing that can be told from chance"),
    ],
)
def test_the_verdict_says_what_columns_add(gain: Difference, said: str) -> None:
    arms = [ArmResult(name, False, Interval(0.9, 0.8, 1.0), [0.9], {}) for name in ("unified", "unified-no-columns")]
    found = Comparison("classify", "accuracy", False, arms, best="unified", columns=gain)
    found.columns_over, found.columns_read = "unified-no-columns", ["cell_type"]
    assert said in verdict(found, "en")
    assert "cell_type" in verdict(found, "zh")
