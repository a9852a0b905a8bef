"""Strategies and baselines side by side: which way of joining images and text helps on your data, if any."""

from rebus.comparison.result import ArmResult, Comparison
from rebus.comparison.run import compare

__all__ = ["ArmResult", "Comparison", "compare"]
