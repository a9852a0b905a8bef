"""What a finished run says of itself in the terminal, and where its time went."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rebus.checkpoints.run_folder import Run
from rebus.demo import DemoFigures, part_of_report
from rebus.report import labels
from rebus.report.compose import results_of_score
from rebus.report.contents import Example, ReportData, Result
from rebus.report.html import render_report
from rebus.report.parts import PARTS, add_part, kept_part
from rebus.report.sections.about import beside_plain
from rebus.report.sections.machine import time_line
from rebus.report.summary import summary_lines


def evaluation(**training: Any) -> dict[str, Any]:
    score = {
        "metrics": {"accuracy": 0.623, "macro_f1": 0.5},
        "intervals": {"accuracy": [0.579, 0.666]},
        "baseline": {"accuracy": 0.344},
        "gains": {"accuracy": [0.279, 0.2, 0.35]},
        "baseline_name": "majority class",
        "by_type": {},
        "others": {
            "linear model on TF-IDF": {
                "metrics": {"accuracy": 0.693},
                "gains": {"accuracy": [-0.07, -0.12, -0.02]},
                "rows": 900,
                "of": 900,
                "seconds": 2.2,
            },
            "nearest row": {"metrics": {"accuracy": 0.62}, "gains": {"accuracy": [0.003, -0.1, 0.1]}},
        },
    }
    times = {"seconds": 178.2, "validating": 12.0, "saving": 5.4, "reading": 10.0, "judging": 31.0}
    trained = {"steps": 4512, "stopped_because": "time", "judged_on": "test", "weights_step": 4100, **times, **training}
    return {"tasks": {"classify": score}, "rows": {"classify": 1260}, "training": trained}


def test_figures_stand_beside_every_baseline() -> None:
    line = summary_lines(evaluation())[0]
    assert line.startswith("classify, 1,260 test rows: Accuracy 62.3% (57.9 – 66.6%); ")
    assert "majority class 34.4%, +27.9 points ▲; " in line
    assert "linear model on TF-IDF 69.3%, −7.0 points ▼" in line
    assert line.endswith("nearest row 62.0%, +0.3 points ≈")


def test_the_end_and_the_time_are_told() -> None:
    line = summary_lines(evaluation(time_limit=180.0), report=11.6)[-1]
    assert line == (
        "4,512 steps (the time limit was reached, weights of step 4,100); limit 3:00; reading and preparing 0:10; "
        "training 2:58 (validation 0:12, checkpoints 0:05); evaluation 0:31; report 0:12"
    )
    line = summary_lines(evaluation(stopped_because="finished", weights_step=4512))[-1]
    assert line.startswith("4,512 steps (all of them); reading and preparing 0:10; ")


def test_in_chinese() -> None:
    told = summary_lines(evaluation(time_limit=180.0), "zh")
    assert "准确率 62.3%" in told[0]
    assert "最多的类别" in told[0]
    assert "TF-IDF上的线性模型 69.3%" in told[0]
    assert "时限 3:00；" in time_line(evaluation(time_limit=180.0)["training"], "zh")


def test_a_plain_model_that_is_better_is_named_among_the_limits_and_in_the_headline() -> None:
    score = evaluation()["tasks"]["classify"]
    said = beside_plain("classify", score, "accuracy", "en")
    assert said == [
        "classify: a linear model on TF-IDF, fitted in 2 s on 900 rows, is surely better (Accuracy 69.3% "
        "against 62.3%): use that, or train longer, with more rows, or from a base (--from)."
    ]
    score["others"]["linear model on TF-IDF"]["gains"]["accuracy"] = [0.01, -0.02, 0.03]
    assert "is not surely better than a linear model" in beside_plain("classify", score, "accuracy", "en")[0]
    score["others"]["linear model on TF-IDF"]["gains"]["accuracy"] = [0.1, 0.02, 0.2]
    assert beside_plain("classify", score, "accuracy", "en") == []
    results = results_of_score("classify", evaluation()["tasks"]["classify"])
    page = render_report(ReportData("a report", results=results))
    assert re.search(r"linear model on TF-IDF 69.3%: <b>−7.0 points</b>\s*<span class=.worse.", page)


def retrieval(value: float, base: float) -> Result:
    metric = "text_to_image_median_rank"
    return Result(metric, value, (300.0, 410.5), base, value - base, (-80.0, -20.0), "random order", "retrieve")


def test_a_rank_is_a_rank() -> None:
    one = retrieval(356.0, 403.0)
    assert labels.figure(one.value, one.metric) == "356"
    assert labels.interval(one.interval, one.metric) == "300 – 410.5"
    assert labels.difference(one, "en") == "−47 places"
    assert one.verdict == 1, "a lower rank is better"
    assert labels.figure(12345.0, one.metric) == "12,345"
    page = render_report(ReportData("a report", results=[one]))
    assert "35600" not in page


def test_every_figure_of_a_task_is_known_and_no_other_is_taken_for_a_share() -> None:
    for shares in ("accuracy", "map", "ece", "mean_recall", "exact_match", "f1", "auroc"):
        assert labels.is_share(shares)
    for others in ("rmse", "image_to_text_median_rank", "perplexity", "bleu", "a_plug_ins_figure"):
        assert not labels.is_share(others)


def test_a_run_keeps_what_was_added_to_its_report(tmp_path: Path) -> None:
    figures = DemoFigures(
        unseen={"count": 0.9},
        seen={"count": 0.95},
        baseline={"count": 0.4},
        blind={"count": 0.5},
        languages={"en": 0.9, "zh": 0.9},
        counts={"unseen": 30, "seen": 40},
    )
    examples = [Example("one", "one", "How many?", "images/0.jpg", True, "", 0.9, "images/0.jpg")]
    run = Run(tmp_path)
    parts = {lang: kept_part(part_of_report(figures, examples, lang)) for lang in ("en", "zh")}
    run.write_json(PARTS, {"report": parts})
    for lang, title, group in (("en", "never saw", "unseen artists"), ("zh", "没见过", "没见过的画家")):
        data = ReportData("plain", results=[])
        add_part(data, run, lang)
        assert title in data.title
        assert data.examples[0].group == group
        assert data.tables[0].rows[0] == ["count", 0.9, 0.95, 0.4, 0.5]
        assert "30" in data.judged_on
        assert Path(str(data.plots[0].image)).exists()
        assert render_report(data, lang)
    other = ReportData("plain")
    add_part(other, Run(tmp_path / "none"), "en")
    assert other == ReportData("plain")
