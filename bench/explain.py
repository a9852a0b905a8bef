"""Whether the demo model's maps can be believed: the pointing game and the rest, on artists it never saw and on others.

    rebus demo --out demo                                    # trains the model, once
    python bench/explain.py demo --rows 200                  # about ten minutes on two cores; --methods takes less

Asked "where is the ...", in English and in Chinese, does the map's maximum lie on the thing that was named? Printed for
unseen and seen artists: each method's pointing rate with its 95% interval (scenes resampled), over all answers and over
the right ones; the areas under the deletion and insertion curves; the rank correlation with maps of random weights; the
time of one map. Last, whether the target is met: the default method's pointing rate on unseen artists at least 0.8, and
at least 2.5 times that of a random point. Nothing is written into the Run.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rebus.data.readers import read_table
from rebus.explain import methods_for
from rebus.explain.faithfulness import Effort, Faithfulness, measure_rows
from rebus.explain.faithfulness.checking import matching
from rebus.inference.predictor import Predictor
from rebus.inference.session import chosen_rows
from rebus.report.faithfulness import faithfulness_points, faithfulness_tables

TARGET, TIMES = 0.8, 2.5  # pointing rate, and how many times that of a random point


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="the folder of `rebus demo`")
    parser.add_argument("--rows", type=int, default=200, help="questions for each group of artists")
    parser.add_argument("--methods", default="", help="comma-separated; else all that fit")
    parser.add_argument("--groups", default="unseen,seen", help="unseen, seen or both")
    given = parser.parse_args()
    predictor = Predictor.open(given.demo / "run")
    data = predictor.recipe.data.model_copy(update={"path": str(given.demo / "scenes" / "answer.jsonl")})
    table, task = read_table(data), predictor.task("answer")
    test = chosen_rows(table, predictor.recipe, "test")
    methods = [name for name in given.methods.split(",") if name] or methods_for(predictor, "answer")
    found: dict[str, Faithfulness] = {}
    for group in given.groups.split(","):
        rows = matching(table, test, {"type": "where", "seen": str(group == "seen")})
        effort = Effort.of_rows(given.rows)
        found[group] = measure_rows(predictor, table, task, rows, methods, effort=effort, log=log)
        found[group].table = f"{group} artists"
        show(found[group])
    if "unseen" in found:
        judge(found["unseen"])


def log(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def show(found: Faithfulness) -> None:
    """The tables of the report, as text."""
    for table in faithfulness_tables("answer", found.as_dict(), "en"):
        print(f"\n{table.title}")
        for row in [table.columns, *table.rows]:
            print(" | ".join("" if cell is None else str(cell) for cell in row))
        print(table.note)
    print(
        *faithfulness_points("answer", found.as_dict(), "en"), f"It took {found.seconds:.0f} s.", sep="\n", flush=True
    )


def judge(found: Faithfulness) -> None:
    """Whether the target is met."""
    rate, low, high = found.methods[found.method].figures["pointing"]
    chance = found.random["pointing"].value
    met = "met" if rate >= TARGET and rate >= TIMES * chance else "NOT met"
    print(f"\nTarget ({TARGET} and {TIMES} x random): {met}: {found.method} {rate:.3f} ({low:.3f} to {high:.3f}), ")
    print(f"{rate / chance:.1f} times the {chance:.3f} of a random point, {found.rows['pointing']} questions.")


if __name__ == "__main__":
    main()
