"""Columns alone against scikit-learn: what `rebus.train` makes of a table of numbers, with no setting changed.

    python bench/tabular.py                     # 10 splits of breast cancer and of diabetes, some minutes
    python bench/tabular.py --splits 3 --set train.epochs=20

Each split deals 20% of the rows to the test and 10% to validation. HistGradientBoosting, with its own defaults, and a
linear model learn from the other 80%, validation rows included; Rebus learns from 70% and chooses its weights by the
10%. Differences are paired by split; their 95% intervals are those of the corrected resampled t-test (Nadeau and
Bengio 2003, "Inference for the Generalization Error").
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rebus
from rebus.comparison.t_test import t_quantile

TEST, VALID = 0.2, 0.1
TABLES: dict[str, tuple[Callable[..., Any], bool]] = {
    "breast cancer": (load_breast_cancer, True),
    "diabetes": (load_diabetes, False),
}


def dealt(goals: Any, classes: bool, seed: int) -> list[str]:
    """train, valid or test for each row; shares of the classes are the same in all."""
    rows = np.arange(len(goals))
    rest, test = train_test_split(rows, test_size=TEST, random_state=seed, stratify=goals if classes else None)
    share = VALID / (1 - TEST)
    _, valid = train_test_split(rest, test_size=share, random_state=seed, stratify=goals[rest] if classes else None)
    names = np.full(len(goals), "train", dtype=object)
    names[test], names[valid] = "test", "valid"
    return list(names)


def figures(goals: Any, said: Any, classes: bool) -> dict[str, float]:
    """Of the test rows; ``said``: chances of class 1, or numbers."""
    if classes:
        return {"accuracy": float(np.mean((said > 0.5) == goals)), "auroc": float(roc_auc_score(goals, said))}
    error = float(np.mean((said - goals) ** 2))
    return {"rmse": error**0.5, "r2": 1 - error / float(np.var(goals))}


def rebus_figures(table: Any, splits: list[str], classes: bool, settings: list[str]) -> tuple[dict[str, float], float]:
    """What a Run says of its own test rows, and the seconds it took."""
    names = list(table.feature_names)
    rows = [
        {**dict(zip(names, map(float, row), strict=True)), "target": float(goal), "split": split}
        for row, goal, split in zip(table.data, table.target, splits, strict=True)
    ]
    for row in rows if classes else ():
        row["target"] = str(table.target_names[int(row["target"])])
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run = rebus.train(rows, out=Path(folder) / "run", settings=settings, quiet=True)
        metrics = next(iter(run.evaluation["tasks"].values()))["metrics"]
    return metrics, time.monotonic() - started


def spread(values: list[float]) -> tuple[float, float]:
    """The mean over the splits, and half its 95% interval."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    error = float(np.std(values, ddof=1)) * (1 / n + TEST / (1 - TEST)) ** 0.5
    return float(np.mean(values)), t_quantile(0.95, n - 1) * error


def main() -> None:
    """Print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kept: dict[str, Any] = {}
    for name in given.tables:
        load, classes = TABLES[name]
        table = load()
        x, y = table.data, table.target
        kinds = (HistGradientBoostingClassifier, LogisticRegression) if classes else (
            HistGradientBoostingRegressor, Ridge)  # fmt: skip
        found: dict[str, list[dict[str, float]]] = {"rebus": [], "hist_gradient_boosting": [], "linear": []}
        seconds = []
        for seed in range(given.splits):
            splits = np.asarray(dealt(y, classes, seed), dtype=object)
            learn, test = splits != "test", splits == "test"
            trees = kinds[0](random_state=0)
            for key, model in (
                ("hist_gradient_boosting", trees),
                ("linear", make_pipeline(StandardScaler(), kinds[1]())),
            ):
                model.fit(x[learn], y[learn])
                said = model.predict_proba(x[test])[:, 1] if classes else model.predict(x[test])
                found[key].append(figures(y[test], said, classes))
            metrics, took = rebus_figures(table, list(splits), classes, given.set)
            found["rebus"].append({key: metrics[key] for key in found["linear"][0]})
            seconds.append(took)
        kept[name] = found | {"seconds": seconds}
        print(f"{name}: {len(y)} rows, {x.shape[1]} columns, {given.splits} splits, {np.mean(seconds):.1f} s a run")
        for metric in found["linear"][0]:
            parts = []
            for key, rows in found.items():
                mean, half = spread([row[metric] for row in rows])
                parts.append(f"{key} {mean:.4f} ± {half:.4f}")
            pairs = zip(found["rebus"], found["hist_gradient_boosting"], strict=True)
            mean, half = spread([ours[metric] - theirs[metric] for ours, theirs in pairs])
            parts.append(f"rebus - trees {mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]")
            print(f"  {metric}: " + "; ".join(parts), flush=True)
    if given.out:
        given.out.write_text(json.dumps(kept, indent=2))


if __name__ == "__main__":
    main()
