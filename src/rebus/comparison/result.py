"""What a comparison found, as plain values: for people, for JSON, for a notebook. Knows no table and no model."""

from __future__ import annotations

import html
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rebus.comparison.figures import Difference
from rebus.report import labels
from rebus.report.differences import signed
from rebus.tasks.metrics.intervals import Interval


@dataclass(frozen=True)
class ArmResult:
    """One strategy's figures over all splits.

    Attributes:
        name: ``text``, ``image``, ``joint-concat``, ``unified``, ...
        single: whether it sees one modality only.
        figure: the figure that is compared, with its 95% interval.
        by_split: the figure in each split.
        figures: every figure of the task.
        gains: name of a single modality: how much better this strategy is than that.
        behind: how much better the best strategy is than this one; None for the best, and for single modalities.
        without: the figure on rows that have both: ``complete``; with the ``image`` or the ``text`` hidden; and on
            rows that lack one in the table: ``lacking_image``, ``lacking_text``.
        parameters: numbers that are learned.
        seconds: of training, the mean over splits.
        steps: updates, the mean over splits.
        rate: examples a second in training.
    """

    name: str
    single: bool
    figure: Interval
    by_split: list[float]
    figures: dict[str, float]
    gains: dict[str, Difference] = field(default_factory=dict)
    behind: Difference | None = None
    without: dict[str, Interval] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    steps: float = 0.0
    rate: float = 0.0


@dataclass
class Comparison:
    """Strategies side by side, each trained on the same rows with the same budget.

    Attributes:
        task: what was learned.
        metric: the figure that is compared.
        lower_is_better: whether a smaller figure is better. Differences are positive where something is better.
        arms: the strategies.
        best_single: the best single modality's name; empty where none was trained.
        best: the best strategy that joins; empty where none was trained.
        columns: how much better a strategy is with columns of numbers, categories and dates than ``columns_over``,
            which has none; None where there are no columns.
        columns_over: the strategy without columns.
        columns_read: the columns.
        baseline: the naive predictor's figure.
        baseline_name: what that is.
        beats_baseline: name: how much better each is than the naive predictor.
        rows: test rows judged, over all splits.
        images: different images (or texts, where there are none) among them: witnesses.
        splits: how often each strategy was trained.
        how: ``folds``, ``repeats`` or ``given``.
        budget: of each training, for people.
        dropout: ``model.fusion.modality_dropout`` of the strategies that join.
        verdict: in plain words.
        notes: what else people should know.
        skipped: test rows whose image cannot be read.
        table: the data's name.
        folder: where everything is.
        language: of the verdict and the notes.
    """

    task: str
    metric: str
    lower_is_better: bool
    arms: list[ArmResult]
    best_single: str = ""
    best: str = ""
    columns: Difference | None = None
    columns_over: str = ""
    columns_read: list[str] = field(default_factory=list)
    baseline: float | None = None
    baseline_name: str = ""
    beats_baseline: dict[str, Difference] = field(default_factory=dict)
    rows: int = 0
    images: int = 0
    splits: int = 1
    how: str = "folds"
    budget: str = ""
    dropout: float = 0.0
    verdict: str = ""
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    table: str = ""
    folder: Path = Path()
    language: str = "en"

    def arm(self, name: str) -> ArmResult:
        """A strategy by name. Raises KeyError."""
        return {arm.name: arm for arm in self.arms}[name]

    @property
    def singles(self) -> list[ArmResult]:
        """Those that see one modality."""
        return [arm for arm in self.arms if arm.single]

    @property
    def fused(self) -> list[ArmResult]:
        """Those that join."""
        return [arm for arm in self.arms if not arm.single]

    def gain(self, arm: ArmResult) -> Difference | None:
        """How much better a strategy is than the best single modality."""
        return arm.gains.get(self.best_single)

    def as_dict(self) -> dict[str, Any]:
        """JSON values; what is not a number is None."""
        result = asdict(self) | {"folder": str(self.folder)}
        for arm in result["arms"]:
            arm["figure"] = list(arm["figure"])
            arm["without"] = {name: list(values) for name, values in arm["without"].items()}
        return {key: _finite(value) for key, value in result.items()}

    def __str__(self) -> str:
        return self.verdict

    def _repr_html_(self) -> str:
        rows = []
        for arm in self.arms:
            gain = self.gain(arm)
            cells = [
                arm.name,
                labels.figure(arm.figure.value, self.metric),
                labels.interval(arm.figure[1:], self.metric),
                "" if gain is None else signed(gain.value, self.metric),
            ]
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        return f"<p>{html.escape(self.verdict)}</p><table>{''.join(rows)}</table>"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
