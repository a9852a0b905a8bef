from __future__ import annotations

import numpy as np
import pytest
import torch

from rebus.errors import DataError
from rebus.tasks.metrics import classify_metrics, regress_metrics, tag_metrics
from rebus.tasks.metrics.classification import (
    auroc,
    average_precision,
    calibration_bins,
    classify_statistics,
    confusion_matrix,
    tag_statistics,
)
from rebus.tasks.metrics.regression import regress_statistics


def test_classify_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]])
    found = classify_metrics(probabilities, [0, 1, 1, 0])
    assert found["accuracy"] == 0.75
    # class 0: precision 2/3, recall 1 -> 0.8; class 1: precision 1, recall 1/2 -> 2/3
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    # both positives of class 1 (0.4, 0.7) rank above both negatives (0.2, 0.1)
    assert found["auroc"] == pytest.approx(1.0)
    # every item in a bin of its own: gaps 0.2, 0.6, 0.3, 0.1
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.3 + 0.1) / 4)
    assert "top5" not in found
    assert found["auroc_classes"] == 2


def test_auroc_by_hand_with_a_tie() -> None:
    of = auroc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert of(np.ones((1, 4)))[0] == pytest.approx((1 + 1 + 0.5 + 1) / 4)


def test_average_precision_by_hand() -> None:
    of = average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    assert of(np.ones((1, 3)))[0] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_absent_and_unknown_classes_are_handled_and_counted() -> None:
    probabilities = np.eye(4)[[0, 1, 0, 1]] * 0.6 + 0.1
    found = classify_metrics(probabilities, [0, 1, -1, 1])
    assert found["accuracy"] == 0.75
    assert found["unknown_labels"] == 1
    assert found["auroc_classes"] == 2
    assert 0 < found["auroc"] < 1
    # classes 2 and 3 are neither predicted nor present; class 0 has one false positive
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_one_class_only_has_no_auroc() -> None:
    found = classify_metrics(np.array([[0.7, 0.3], [0.6, 0.4]]), [0, 0])
    assert "auroc" not in found
    assert found["auroc_classes"] == 0
    assert found["accuracy"] == 1.0


def test_top5() -> None:
    probabilities = np.tile(np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.07]), (2, 1))
    assert classify_metrics(probabilities, [4, 5])["top5"] == 0.5


def test_calibration_bins_include_their_upper_bound() -> None:
    assert calibration_bins(np.array([0.0, 0.1, 0.11, 1.0]), 10).tolist() == [0, 0, 1, 9]


def test_tag_by_hand() -> None:
    found = tag_metrics([[0.9, 0.2, 0.1], [0.6, 0.7, 0.1]], [[1, 0, 0], [0, 1, 0]])
    # label 0: ranked 0.9 (right), 0.6: AP 1; label 1: AP 1; label 2 does not occur
    assert found["map"] == pytest.approx(1.0)
    assert found["map_classes"] == 2
    # true positives 2, false positive 1 (label 0 of row 2)
    assert found["micro_f1"] == pytest.approx(4 / 5)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)


def test_tags_that_never_occur() -> None:
    assert tag_metrics([[0.1], [0.2]], [[0], [0]]) == {"map_classes": 0}


def test_against_torchmetrics() -> None:
    from torchmetrics import functional as reference

    random = np.random.default_rng(1)
    logits = np.round(random.normal(size=(200, 7)) * 2)  # rounding makes ties
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = random.integers(0, 7, size=200)
    chance, truth = torch.tensor(probabilities), torch.tensor(labels)
    found = classify_metrics(probabilities, labels)
    assert found["auroc"] == pytest.approx(float(reference.auroc(chance, truth, "multiclass", num_classes=7)), abs=1e-6)
    f1 = reference.f1_score(chance, truth, "multiclass", num_classes=7, average="macro")
    assert found["macro_f1"] == pytest.approx(float(f1), abs=1e-6)
    ece = reference.calibration_error(chance, truth, "multiclass", num_classes=7, n_bins=15)
    assert found["ece"] == pytest.approx(float(ece), abs=1e-6)

    scores = np.round(random.random((200, 5)), 1)
    targets = (random.random((200, 5)) < scores).astype(int)
    chance, truth = torch.tensor(scores), torch.tensor(targets)
    tags = tag_metrics(scores, targets)
    precision = reference.average_precision(chance, truth, "multilabel", num_labels=5, average="macro")
    assert tags["map"] == pytest.approx(float(precision), abs=1e-6)


def test_weights_equal_repeated_items() -> None:
    random = np.random.default_rng(2)
    probabilities, labels = random.dirichlet(np.ones(6), size=40), random.integers(0, 6, size=40)
    scores, targets = random.random((40, 3)), random.random((40, 3)) < 0.4
    weights = random.multinomial(40, np.full(40, 1 / 40)).astype(float)
    rows = np.repeat(np.arange(40), weights.astype(int))
    for statistics, repeated in (
        (classify_statistics(probabilities, labels), classify_metrics(probabilities[rows], labels[rows])),
        (tag_statistics(scores, targets), tag_metrics(scores[rows], targets[rows])),
        (regress_statistics(scores[:, 0], scores[:, 1]), regress_metrics(scores[rows, 0], scores[rows, 1])),
    ):
        for name, statistic in statistics.items():
            assert statistic(weights[None])[0] == pytest.approx(repeated[name]), name


def test_confusion_matrix_leaves_unknown_labels_out() -> None:
    assert confusion_matrix([0, 1, 1, 0], [0, 0, 1, -1], 2).tolist() == [[1, 1], [0, 1]]


def test_regress_by_hand() -> None:
    found = regress_metrics([1.0, 2.0, 6.0], [1.0, 2.0, 3.0])
    assert found["mae"] == pytest.approx(1.0)
    assert found["rmse"] == pytest.approx(3**0.5)
    assert found["r2"] == pytest.approx(1 - 9 / 2)


def test_r2_of_large_numbers_and_of_constant_targets() -> None:
    found = regress_metrics(np.array([1.0, 2.0, 6.0]) + 1e9, np.array([1.0, 2.0, 3.0]) + 1e9)
    assert found["r2"] == pytest.approx(1 - 9 / 2)
    assert "r2" not in regress_metrics([1.0, 2.0], [3.0, 3.0])


@pytest.mark.parametrize("metrics", [classify_metrics, tag_metrics])
def test_no_rows_is_a_users_mistake(metrics: object) -> None:
    empty = np.zeros((0, 3))
    with pytest.raises(DataError):
        metrics(empty, np.zeros(0, dtype=int) if metrics is classify_metrics else empty)  # type: ignore[operator]
    with pytest.raises(DataError):
        regress_metrics([], [])
