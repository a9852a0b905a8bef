from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rebus.errors import RecipeError
from rebus.report import ReportData, Result, Table, write_card
from rebus.report.card import render_card


def example(title: str = "Pets") -> ReportData:
    return ReportData(
        title=title,
        summary="Knows *pets* | <b>all</b>",
        results=[
            Result("exact_match", 0.5321, (0.5, 0.56), 0.36, 0.1721, (0.14, 0.2), "most frequent answer", "answer"),
            Result("bleu", 38.04, task="caption"),
        ],
        tables=[Table("By type", ["type", "seen"], [["count|s", 0.25], ["other", None]])],
        splits={"train": 10},
        commands=[("Ask", "rebus ask run a.png '```'")],
        limits=["Flat drawings only."],
        licence="apache-2.0",
        languages=["en", "zh"],
        tags=["vqa", "rebus"],
        dataset="pets",
        hub={"library_name": "rebus", "pipeline_tag": "visual-question-answering"},
    )


def front(text: str) -> dict[str, object]:
    assert text.startswith("---\n")
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_front_matter_parses_and_holds_the_same_figures(tmp_path: Path) -> None:
    text = write_card(tmp_path / "README.md", example()).read_text(encoding="utf-8")
    found = front(text)
    assert found["license"] == "apache-2.0"
    assert found["language"] == ["en", "zh"]
    assert found["tags"] == ["rebus", "vqa"]
    index = found["model-index"]
    assert isinstance(index, list)
    assert [result["task"]["name"] for result in index[0]["results"]] == ["answer", "caption"]
    assert index[0]["results"][0]["metrics"][0] == {"type": "exact_match", "name": "Exact match", "value": 0.5321}
    assert "| answer | Exact match | 53.2% | 50.0 – 56.0% | 36.0% (most frequent answer) | +17.2 points |" in text


def test_text_is_not_markup() -> None:
    text = render_card(example())
    assert r"Knows \*pets\* \| &lt;b&gt;all&lt;/b&gt;" in text
    assert r"| count\|s | 25.0% |" in text
    assert "````sh\nrebus ask run a.png '```'\n````" in text


@pytest.mark.parametrize(
    "title", ["a: b", "--- x", "'quoted' \"twice\"", "训练 #1", "line\nbreak", "{x}", "!!python/none", "-"]
)
def test_any_title_keeps_the_front_matter_whole(title: str) -> None:
    text = render_card(example(title))
    index = front(text)["model-index"]
    assert isinstance(index, list)
    assert index[0]["name"] == title


def test_an_empty_card_has_front_matter_and_says_so() -> None:
    text = render_card(ReportData("Run"), "zh")
    assert front(text) == {"library_name": "rebus", "tags": ["rebus"]}
    assert "尚未评估" in text
    assert "## 局限" not in text


def test_an_unknown_language_is_told() -> None:
    with pytest.raises(RecipeError):
        render_card(ReportData("Run"), "de")
