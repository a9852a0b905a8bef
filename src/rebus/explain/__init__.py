"""Why a model answered: where it looked in the image, and which words mattered, for one output of any task.

It explains what a Predictor says; it knows no report, no server and no command line. What it explains is never changed:
predictions before and after are the same.
"""

from __future__ import annotations

from rebus.explain import (  # noqa: F401 - they register
    attention,
    gradcam,
    gradients,
    occlusion,
    relevance,
    rollout,
    saliency,
)
from rebus.explain.explaining import ExplainOptions, explain, explain_with, methods_for
from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.result import Explanation, TokenScore

__all__ = [
    "METHODS",
    "ExplainOptions",
    "Explanation",
    "Method",
    "Scores",
    "TokenScore",
    "explain",
    "explain_with",
    "methods_for",
]
