"""Metrics: pure functions of predictions and references, each figure with a bootstrap interval.

A figure is higher-is-better, but for those in ``LOWER_IS_BETTER``; names in ``COUNTS`` are no figures but say over how
many classes or rows a figure was taken.
"""

from rebus.tasks.metrics.answers import AnswerFigures, answer_metrics, answer_scores, answer_statistics, vqa_scores
from rebus.tasks.metrics.classification import classify_metrics, classify_statistics, tag_metrics, tag_statistics
from rebus.tasks.metrics.intervals import (
    Comparison,
    Interval,
    Statistic,
    bootstrap_interval,
    compare,
    paired_difference,
)
from rebus.tasks.metrics.likelihood import bits_per_byte, perplexity
from rebus.tasks.metrics.overlap import chrf, translation_statistics, word_f1, writing_statistics
from rebus.tasks.metrics.regression import regress_metrics, regress_statistics
from rebus.tasks.metrics.text_generation import caption_metrics, caption_statistics
from rebus.tasks.metrics.words import normalise_answer, words

LOWER_IS_BETTER = frozenset(
    {
        "alignment", "bits_per_byte", "ece", "mae", "perplexity", "image_to_text_median_rank", "rmse",
        "text_to_image_median_rank", "uniformity",
    }
)  # fmt: skip
COUNTS = frozenset({"auroc_classes", "map_classes", "unknown_labels"})

__all__ = [
    "COUNTS",
    "LOWER_IS_BETTER",
    "AnswerFigures",
    "Comparison",
    "Interval",
    "Statistic",
    "answer_metrics",
    "answer_scores",
    "answer_statistics",
    "bits_per_byte",
    "bootstrap_interval",
    "caption_metrics",
    "caption_statistics",
    "chrf",
    "classify_metrics",
    "classify_statistics",
    "compare",
    "normalise_answer",
    "paired_difference",
    "perplexity",
    "regress_metrics",
    "regress_statistics",
    "tag_metrics",
    "tag_statistics",
    "translation_statistics",
    "vqa_scores",
    "word_f1",
    "words",
    "writing_statistics",
]
