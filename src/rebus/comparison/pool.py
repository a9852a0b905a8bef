"""From what every run said to the figures of a comparison: the same rows for all, paired, all splits pooled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rebus.comparison.figures import Difference, chance_of_zero, corrected_t, drawn, holm, interval_of, over_splits
from rebus.comparison.result import ArmResult, Comparison
from rebus.comparison.setup import Setup
from rebus.comparison.strategies import IMAGE, TABULAR, TEXT
from rebus.comparison.trial import Trial, has_both
from rebus.errors import DataError
from rebus.tasks import TASKS, Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import missing
from rebus.tasks.metrics import LOWER_IS_BETTER
from rebus.tasks.metrics.intervals import Interval, Statistic, figures

Floats = NDArray[np.float64]
Told = Mapping[int, Mapping[int, Prediction]]  # split: row: what was said


@dataclass(frozen=True)
class Spread:
    """A figure and its values in the resamples."""

    value: float
    drawn: Floats

    def interval(self) -> Interval:
        """95%."""
        return interval_of(self.value, self.drawn)


class Pool:
    """Test items of all splits: an item is a row in a split.

    Args:
        setup: the comparison.
        rows: split: the rows that every strategy was judged on.
    """

    def __init__(self, setup: Setup, rows: Mapping[int, Sequence[int]]) -> None:
        self.setup, self.rows, self.values = setup, dict(rows), setup.values
        self.tasks = {split: _fitted(setup, split) for split in rows}
        self.groups = setup.groups()
        self.metric = setup.task.watch
        self.sign = -1.0 if self.metric in LOWER_IS_BETTER else 1.0
        if not any(self.rows.values()):
            raise DataError(setup.whole.table.name, "test rows that can be judged", "none", "give more rows")

    def spread(self, message: Told, keep: Callable[[int], bool] = lambda row: True) -> Spread | None:
        """The compared figure of predictions, on the rows that ``keep`` says; None where there is none."""
        parts: list[tuple[Statistic, list[int]]] = []
        keys: list[bytes] = []
        for split, rows in self.rows.items():
            rest = [row for row in rows if keep(row) and row in message[split]]
            if rest:
                place = range(len(keys), len(keys) + len(rest))
                parts.append((self._statistic(split, rest, message[split]), list(place)))
                keys += [self.groups[row] for row in rest]
        if not keys:
            return None
        return Spread(*drawn(over_splits(parts), len(keys), keys))

    def by_split(self, message: Told) -> list[float]:
        """The compared figure in each split."""
        result = []
        for split, rows in self.rows.items():
            with np.errstate(invalid="ignore", divide="ignore"):
                result.append(float(self._statistic(split, rows, message[split])(np.ones((1, len(rows))))[0]))
        return result

    def figures(self, message: Told) -> dict[str, float]:
        """Every figure of the task, the mean over splits."""
        each = []
        for split, rows in self.rows.items():
            own = self.tasks[split].statistics(self.values, rows, [message[split][row] for row in rows])
            each.append((figures(own, len(rows)), len(rows)))
        names = [name for name in each[0][0] if all(name in result for result, _ in each)]
        size = sum(count for _, count in each)
        return {name: sum(result[name] * count for result, count in each) / size for name in names}

    def naive(self) -> tuple[Told, str]:
        """What a predictor that never looks would say."""
        message, name = {}, ""
        for split, rows in self.rows.items():
            task = self.tasks[split]
            training = [row for row, dealt in enumerate(self.setup.names(split)) if dealt == "train"]
            known = [row for row in training if task.usable(self.values, row)]
            entries, name = task.naive(self.values, rows, self.values, known)
            message[split] = dict(zip(rows, entries, strict=True))
        return message, name

    def difference(self, item: Spread, other: Spread) -> Difference:
        """How much better ``item`` is, paired over the same resamples; p not corrected yet."""
        value = self.sign * (item.value - other.value)
        spread = self.sign * (item.drawn - other.drawn)
        low, high = interval_of(value, spread)[1:]
        p = chance_of_zero(spread)
        return Difference(value, low, high, p, p)

    def tested(self, difference: Difference, item: Sequence[float], other: Sequence[float], ratio: float) -> Difference:
        """The same with the corrected resampled t-test over splits; not where all splits test the same rows."""
        if self.setup.how == "given":
            return difference
        message = corrected_t([self.sign * (a - b) for a, b in zip(item, other, strict=True)], ratio)
        return difference if message is None else replace(difference, t=message[0], t_low=message[1], t_high=message[2])

    def _statistic(self, split: int, rows: Sequence[int], predictions: Mapping[int, Prediction]) -> Statistic:
        task = self.tasks[split]
        return task.statistics(self.values, rows, [predictions[row] for row in rows])[self.metric]


def pooled(setup: Setup, trials: Sequence[Trial]) -> Comparison:
    """The comparison of finished runs.

    Raises:
        DataError: no row was judged.
    """
    rows = {
        split: sorted(set.intersection(*(set(trial.rows) for trial in trials if trial.split == split)))
        for split in sorted({trial.split for trial in trials})
    }
    pool = Pool(setup, {split: rest for split, rest in rows.items() if rest})
    by_arm = {
        arm.name: {trial.split: trial for trial in trials if trial.arm == arm.name and trial.split in pool.rows}
        for arm in setup.arms
    }
    message = {name: {split: trial.predictions() for split, trial in own.items()} for name, own in by_arm.items()}
    spreads = {name: spread for name, entries in message.items() if (spread := pool.spread(entries)) is not None}
    naive, baseline_name = pool.naive()
    base = pool.spread(naive)
    by_split = {name: pool.by_split(entries) for name, entries in message.items()}
    trained = [trial.trained_on for trial in trials]
    ratio = np.mean([len(rest) for rest in pool.rows.values()]) / max(float(np.mean(trained)), 1.0)

    singles = [arm.name for arm in setup.arms if arm.single]
    fused = [arm.name for arm in setup.arms if not arm.single]
    best_single = max(singles, key=lambda name: pool.sign * spreads[name].value, default="")
    best = max(fused, key=lambda name: pool.sign * spreads[name].value, default="")

    def against(names: Sequence[str], other: str) -> dict[str, Difference]:
        """Each of the strategies against another one, corrected for their number."""
        result = {name: pool.difference(spreads[name], spreads[other]) for name in names}
        level = holm({name: item.p for name, item in result.items()})
        return {
            name: pool.tested(replace(item, holm=level[name]), by_split[name], by_split[other], float(ratio))
            for name, item in result.items()
        }

    gains = {other: against(fused, other) for other in singles}
    behind = against([name for name in fused if name != best], best) if best else {}
    columns, columns_over, tabular = None, "", setup.whole.recipe.data.inputs.get(TABULAR, [])
    bare = next((arm.name for arm in setup.arms if not arm.single and not arm.columns), IMAGE)
    if tabular:
        kind, how = setup.whole.recipe.model.fusion.kind, setup.whole.recipe.model.fusion.how
        whole = f"{kind}-{how}" if kind == "joint" else kind
        columns_over = bare
        if whole in spreads and columns_over in spreads:
            plain = pool.difference(spreads[whole], spreads[columns_over])
            columns = pool.tested(plain, by_split[whole], by_split[columns_over], float(ratio))
    over = {} if base is None else {name: pool.difference(spread, base) for name, spread in spreads.items()}
    level = holm({name: item.p for name, item in over.items()})
    results = []
    for arm in setup.arms:
        own = list(by_arm[arm.name].values())
        results.append(
            ArmResult(
                arm.name,
                arm.single,
                spreads[arm.name].interval(),
                by_split[arm.name],
                pool.figures(message[arm.name]),
                {other: result[arm.name] for other, result in gains.items() if arm.name in result},
                _turned(behind[arm.name]) if arm.name in behind else None,
                _without(pool, by_arm[arm.name]),
                round(float(np.mean([trial.parameters for trial in own]))),
                float(np.mean([trial.seconds for trial in own])),
                float(np.mean([trial.steps for trial in own])),
                float(np.mean([trial.rate for trial in own])),
            )
        )
    rest = [(split, row) for split, rows_of in pool.rows.items() for row in rows_of]
    return Comparison(
        task=setup.task.name,
        metric=pool.metric,
        lower_is_better=pool.sign < 0,
        arms=results,
        best_single=best_single,
        best=best,
        columns=columns,
        columns_over=columns_over,
        columns_read=list(tabular),
        baseline=None if base is None else base.value,
        baseline_name=baseline_name,
        beats_baseline={name: replace(item, holm=level[name]) for name, item in over.items()},
        rows=len(rest),
        images=len({pool.groups[row] for _, row in rest}),
        splits=len(pool.rows),
        how=setup.how,
        dropout=setup.whole.recipe.model.fusion.modality_dropout,
        skipped=sorted({line for trial in trials for line in trial.skipped}),
        table=setup.whole.table.name,
    )


def _turned(difference: Difference) -> Difference:
    """The best's lead over another, from the other's over the best."""
    t = (
        (None, None)
        if difference.t_low is None or difference.t_high is None
        else (-difference.t_high, -difference.t_low)
    )
    return replace(
        difference, value=-difference.value, low=-difference.high, high=-difference.low, t_low=t[0], t_high=t[1]
    )


def _without(pool: Pool, trials: Mapping[int, Trial]) -> dict[str, Interval]:
    """The figure on rows that have both modalities, on the same with one hidden, and on rows that lack one."""
    task, values = pool.setup.task, pool.values
    entries: dict[str, Told] = {"complete": {split: trial.predictions() for split, trial in trials.items()}}
    for name in (IMAGE, TEXT):
        if all(name in trial.without or not trial.complete for trial in trials.values()) and any(
            name in trial.without for trial in trials.values()
        ):
            entries[name] = {
                split: dict(zip(trial.complete, trial.without.get(name, []), strict=True))
                for split, trial in trials.items()
            }
    result = {name: pool.spread(message, lambda row: has_both(task, values, row)) for name, message in entries.items()}
    for name, keep in _lacking(task, values).items():
        result[name] = pool.spread(entries["complete"], keep)
    return {name: spread.interval() for name, spread in result.items() if spread is not None}


def _lacking(task: Task, values: Values) -> dict[str, Callable[[int], bool]]:
    result: dict[str, Callable[[int], bool]] = {"lacking_image": lambda row: missing(values[IMAGE][row])}
    if TEXT in values and TEXT in task.inputs:
        result["lacking_text"] = lambda row: missing(values[TEXT][row])
    return result


def _fitted(setup: Setup, split: int) -> Task:
    task = TASKS.get(setup.task.name)(setup.task.settings)
    task.fit(setup.values, [row for row, name in enumerate(setup.names(split)) if name == "train"])
    return task
