"""What is said of figures, in both languages: what helps, what does not, what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rebus.comparison.figures import Difference
from rebus.comparison.outputs import markdown, page
from rebus.comparison.outputs import tables as shown_tables
from rebus.comparison.pool import pooled
from rebus.comparison.result import ArmResult, Comparison
from rebus.comparison.verdict import verdict
from rebus.tasks.metrics.intervals import Interval

from .conftest import pretended, settle

Tables = Callable[[str], Path]
BOTH = {"text": 0.6, "image": 0.55, "joint": 0.6, "joint-concat": 0.88, "unified": 0.9, "cross": 0.75}


def compared(table: Path, skill: dict[str, float], **how: object) -> Comparison:
    setup = settle(table, **(how or {"folds": 3}))
    return pooled(setup, pretended(setup, skill))


def test_both_are_needed(tables: Tables) -> None:
    found = compared(tables("both"), BOTH)
    assert (found.best_single, found.best, found.rows, found.splits) == ("text", "unified", 130, 3)
    said = verdict(found, "en")
    gain = found.gain(found.arm("unified"))
    assert gain is not None
    assert gain.sure
    assert gain.t is not None
    assert said.startswith(
        f"Images add {100 * gain.value:.1f} points ({100 * gain.low:.1f} to {100 * gain.high:.1f}) over text"
    )
    assert "text adds" in said
    assert "unified is best but not distinguishable from joint-concat" in said
    assert "joint-sum" not in said
    chinese = verdict(found, "zh")
    assert chinese.startswith(f"与只用文字相比，加上图片提高 {100 * gain.value:.1f} 个百分点（{100 * gain.low:.1f} 至")
    assert "unified 最好，但与 joint-concat 没有可辨别的差别" in chinese


@pytest.mark.parametrize(
    ("kind", "english", "other"),
    [
        ("image", "Text adds nothing", "加上文字没有带来可辨别的好处"),
        ("text", "Images add nothing", "加上图片没有带来可辨别的好处"),
    ],
)
def test_one_modality_says_it_all(tables: Tables, kind: str, english: str, other: str) -> None:
    single = {"text": 0.5, "image": 0.5, kind: 0.95}
    found = compared(tables(kind), {**single, "joint": 0.94, "unified": 0.95, "cross": 0.93})
    assert found.best_single == kind
    assert verdict(found, "en").startswith(english)
    assert "that can be told from chance" in verdict(found, "en")
    assert other in verdict(found, "zh")


def test_nothing_was_learned(tables: Tables) -> None:
    found = compared(tables("none"), {})
    assert "nothing was learned: no strategy beats majority class" in verdict(found, "en").lower()
    assert verdict(found, "zh").startswith("什么也没有学到")


def test_joining_harms(tables: Tables) -> None:
    found = compared(tables("text"), {"text": 0.95, "joint": 0.7, "unified": 0.75, "cross": 0.6})
    assert verdict(found, "en").startswith("Joining harms here: unified")
    assert "points" in verdict(found, "en")
    assert verdict(found, "zh").startswith("融合在这里有害")


def test_only_some_strategies(tables: Tables) -> None:
    assert "cannot say whether joining helps" in verdict(
        compared(tables("both"), {"text": 0.9, "image": 0.8}, folds=2, only=["text", "image"]), "en"
    )
    ranked = verdict(compared(tables("both"), {"unified": 0.9, "cross": 0.6}, folds=2, only=["unified", "cross"]), "en")
    assert "no single modality was trained" in ranked.lower()
    assert "unified is best, ahead of every other strategy" in ranked
    alone = verdict(compared(tables("both"), {"text": 0.6, "cross": 0.95}, folds=2, only=["text", "cross"]), "en")
    assert alone.endswith("joined by cross.")


def test_one_split_has_no_t_test_and_given_rows_neither(tables: Tables) -> None:
    found = compared(tables("both"), BOTH, repeats=1)
    gain = found.gain(found.arm("unified"))
    assert gain is not None
    assert gain.t is None


def test_a_gain_that_splits_do_not_agree_on_is_doubted() -> None:
    found = Comparison(
        "classify",
        "accuracy",
        False,
        [
            ArmResult("text", True, Interval(0.8, 0.75, 0.85), [0.8] * 3, {}),
            ArmResult(
                "cross",
                False,
                Interval(0.86, 0.8, 0.9),
                [0.86] * 3,
                {},
                {"text": Difference(0.061, 0.04, 0.082, 0.001, 0.001, 0.2)},
            ),
        ],
        best_single="text",
        best="cross",
        splits=3,
    )
    said = verdict(found, "en")
    assert said.startswith("Images add 6.1 points (4.0 to 8.2) over text alone")
    assert "which finds little in so few, gives p = 0.20" in said
    assert "p = 0.20" in verdict(found, "zh")
    found.splits = 2
    assert "t-test" not in verdict(found, "en")


def test_a_figure_of_which_less_is_better() -> None:
    def of(gain: Difference) -> Comparison:
        arms = [
            ArmResult("text", True, Interval(1.2, 1.1, 1.3), [1.2], {}),
            ArmResult("unified", False, Interval(0.9, 0.8, 1.0), [0.9], {}, {"text": gain}),
        ]
        return Comparison("regress", "rmse", True, arms, best_single="text", best="unified")

    sure = of(Difference(0.3, 0.2, 0.4, 0.001, 0.001))
    assert verdict(sure, "en").startswith(
        "Images lower the root mean squared error by 0.300 (0.200 to 0.400) over text alone"
    )
    assert "加上图片使均方根误差降低 0.300（0.200 至 0.400）" in verdict(sure, "zh")
    unsure = verdict(of(Difference(0.1, -0.2, 0.4, 0.4, 0.4)), "en")
    assert "is at \u22120.100 (\u22120.400 to 0.200)" in unsure  # the error itself is lower


def test_page_table_and_json_tell_the_same(tables: Tables) -> None:
    for language in ("en", "zh"):
        found = compared(tables("both"), BOTH)
        found.language, found.verdict = language, verdict(found, language)
        table = shown_tables(found)[0]
        assert [row[0] for row in table.rows][:8] == [arm.name for arm in found.arms]
        assert len({len(row) for row in [*table.rows, table.columns]}) == 1
        data = page(found, "seed: 0", "rebus compare x", Path("compare.png"))
        assert found.verdict in markdown(found, data)
        assert data.results[0].value == found.arms[0].figure.value
        plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
        assert plain["arms"][0]["figure"] == list(found.arms[0].figure)
        assert found.verdict in found._repr_html_()
