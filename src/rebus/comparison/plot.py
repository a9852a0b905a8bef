"""The plot of a comparison: strategies as points with their intervals, the naive baseline as a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rebus.comparison.result import Comparison
from rebus.report import labels
from rebus.report.canvas import COLOURS, save, spoken

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rebus.catalogue import Translator


def plot_strategies(path: Path, comparison: Comparison) -> Path:
    """Draw; where no font draws Chinese, in English. Raises RunError where the file cannot be written."""
    language = spoken(comparison.language)
    scale = 100.0 if labels.is_share(comparison.metric) else 1.0
    shown = comparison.arms[::-1]

    def draw(figure: Figure, texts: Translator) -> None:
        axes = figure.subplots()
        for name, colour, single in (("single", COLOURS[1], True), ("fused", COLOURS[0], False)):
            at = [place for place, arm in enumerate(shown) if arm.single is single]
            if not at:
                continue
            values = [scale * shown[place].figure.value for place in at]
            low = [max(0.0, value - scale * shown[place].figure.low) for value, place in zip(values, at, strict=True)]
            high = [max(0.0, scale * shown[place].figure.high - value) for value, place in zip(values, at, strict=True)]
            axes.errorbar(values, at, xerr=[low, high], fmt="o", color=colour, capsize=3, label=texts(name))
        if comparison.baseline is not None:
            axes.axvline(scale * comparison.baseline, color=COLOURS[2], linestyle="--", label=texts("baseline"))
        if comparison.best_single:
            axes.axvline(
                scale * comparison.arm(comparison.best_single).figure.value, color=COLOURS[1], linewidth=0.8, alpha=0.6
            )
        axes.set_yticks(range(len(shown)), [arm.name for arm in shown])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(visible=False, axis="y")
        unit = f", {texts('percent')}" if labels.is_share(comparison.metric) else ""
        axes.set_xlabel(f"{labels.metric_name(comparison.metric, language)}{unit} ({texts('interval')})")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    return save(path, draw, comparison.language, (7.0, 1.8 + 0.36 * max(1, len(shown))))
