"""Class names in sentences of two languages, averaged and brought back to length one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rebus.errors import DataError, RecipeError
from rebus.evaluation.class_prompts import TEMPLATES, chances, class_vectors, sentences


def unit(count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


class Stub:
    """A predictor whose texts have fixed vectors, each its own."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(pairs=SimpleNamespace(scale=lambda: torch.tensor(20.0)))
        self.asked: list[str] = []

    def embed(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.concatenate([unit(1, sum(text.encode()) * 31 + len(text)) for text in texts])


def test_each_language_has_several_sentences() -> None:
    assert set(TEMPLATES) == {"en", "zh"}
    for templates in TEMPLATES.values():
        assert len(templates) >= 6
        assert len(set(templates)) == len(templates)
        assert all(template.count("{}") == 1 for template in templates)


def test_a_name_gets_sentences_of_its_own_language() -> None:
    assert "a photo of a ankle boot." in sentences("ankle_boot")
    assert "一张猫的照片。" in sentences("猫")
    assert "a photo of a 猫." in sentences("猫", "en")
    assert sentences("cat", templates=["my {}"]) == ["my cat"]
    with pytest.raises(RecipeError, match="where the name goes"):
        sentences("cat", templates=["my cat"])
    with pytest.raises(RecipeError, match="en or zh"):
        sentences("cat", "de")  # type: ignore[arg-type]


def test_a_class_is_the_mean_of_its_sentences_at_length_one() -> None:
    stub: Any = Stub()
    found = class_vectors(stub, ["cat", "猫"])
    assert stub.asked == sentences("cat") + sentences("猫")
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    mean = np.stack([stub.embed([text])[0] for text in sentences("cat")]).mean(0)
    assert np.allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_chances_are_the_models_own_scale_in_a_softmax() -> None:
    stub: Any = Stub()
    images, classes = unit(5, 1), unit(3, 2)
    told = chances(stub, images, classes)
    expected = torch.from_numpy(20.0 * images @ classes.T).softmax(-1).numpy()
    assert np.allclose(told, expected, atol=1e-5)


def test_names_that_cannot_be_told_apart_are_refused() -> None:
    stub: Any = Stub()
    for labels in (["cat"], [], ["cat", "cat"], ["cat", " "]):
        with pytest.raises(DataError, match="at least two different names"):
            class_vectors(stub, labels)
    stub.model.pairs = None
    with pytest.raises(DataError, match="one space"):
        class_vectors(stub, ["cat", "dog"])
