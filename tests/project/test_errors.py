"""The error tree: one root, four parts, a hint that names the nearest right word."""

from __future__ import annotations

import pytest

from rebus import errors
from rebus.errors import MissingPackageError, RebusError, nearest

TREE = {
    "RebusError": "ValueError",
    "DataError": "RebusError",
    "ImageError": "DataError",
    "ImageSizeError": "ImageError",
    "TextLengthError": "DataError",
    "RecipeError": "RebusError",
    "RunError": "RebusError",
    "WeightsError": "RunError",
    "TrainingError": "RebusError",
    "StudioError": "RebusError",
    "EngineClosedError": "RebusError",
    "QueueFullError": "RebusError",
    "MissingPackageError": "RebusError",
}


def test_the_tree_is_the_one_in_the_docstring() -> None:
    classes = {
        name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name: value.__base__.__name__ for name, value in classes.items()} == TREE
    assert all(name in (errors.__doc__ or "") for name in TREE)


@pytest.mark.parametrize("name", sorted(set(TREE) - {"MissingPackageError", "ImageSizeError", "TextLengthError"}))
def test_every_error_has_four_parts_in_one_paragraph(name: str) -> None:
    error = getattr(errors, name)("pets.csv, row 12", "an image", "nothing", "add the file")
    assert error.as_dict() == {
        "where": "pets.csv, row 12",
        "expected": "an image",
        "found": "nothing",
        "do": "add the file",
    }
    assert str(error) == "pets.csv, row 12: expected an image; found nothing. What to do: add the file"
    assert error.exit_code == 2
    assert isinstance(error, RebusError)


def test_a_missing_package_names_the_line_that_installs_it() -> None:
    error = MissingPackageError("jieba", "zh", "Chinese word segmentation")
    assert error.do == "run: pip install 'rebus-vlm[zh]'"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("lrr", ["lr", "momentum"], "did you mean 'lr'?"),
        ("zzz", ["b", "a"], "there are: a, b"),
        ("x", [], "there are none"),
    ],
)
def test_nearest(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint
