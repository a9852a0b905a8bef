from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rebus.errors import RecipeError, RunError
from rebus.report import Example, Plot, ReportData, Result, Table, results_of, table_of, write_report
from rebus.report.html import render_report
from rebus.report.labels import difference, figure, interval, metric_name, number
from rebus.tasks.metrics import compare
from rebus.tasks.metrics.intervals import mean_of

ATTACK = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\" style=\"}{{ 7*7 }}"
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects what a browser would act on, and refuses unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def has(self, tag: str) -> bool:
        return any(name == tag for name, _ in self.tags)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(buffer, "PNG")
    return buffer.getvalue()


def full(word: str = "word", root: Path | str = ".") -> ReportData:
    return ReportData(
        title=word,
        summary=word,
        facts=[(word, word)],
        data=[(word, word)],
        splits={"train": 1234, word: 5},
        kinds={word: word},
        notes=[word],
        warnings=[word],
        results=[
            Result("exact_match", 0.5321, (0.5, 0.56), 0.36, 0.1721, (0.14, 0.2), word, word),
            Result("rmse", 3.2, (3.1, 3.3), 4.4, -1.2, (-1.5, -0.9), word, "regress"),
            Result(word, 0.5),
        ],
        judged_on=word,
        tables=[Table(word, [word, word], [[word, 0.25], [word, None], [word, 3]], word)],
        plots=[Plot(word, png()), Plot(word, "nowhere.png")],
        examples=[
            Example(word, word, word, np.zeros((9, 9, 3), dtype=np.uint8), True, word, 0.931, word),
            Example(word, word, image=png(), right=False),
            Example(word, image="missing.png"),
        ],
        hardware=[(word, word)],
        commands=[(word, word)],
        limits=[word],
        recipe=word,
        created=word,
        version=word,
        root=root,
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_attack_stays_text(language: str, tmp_path: Path) -> None:
    page = Page(render_report(full(ATTACK, tmp_path), language))
    assert not page.has("script")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "alert('x')" in page.words()
    assert "49" not in page.words()
    styles = [str(attributes["style"]) for _, attributes in page.tags if "style" in attributes]
    assert styles
    assert all("{" not in style for style in styles)


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    text = render_report(full("https://example.org/a.png", tmp_path))
    page = Page(text)
    loads = [
        str(attributes[name])
        for tag, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action", "poster")
        if name in attributes
    ]
    assert len([load for load in loads if load.startswith("data:image/")]) == 3
    assert all(load.startswith(("data:", "#")) for load in loads)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_an_empty_report_is_a_page_that_says_so() -> None:
    words = Page(render_report(ReportData("Run"))).words()
    assert "Nothing has been measured yet." in words
    for missing in ("Examples", "Limits", "The data", "Curves"):
        assert missing not in words


@pytest.mark.parametrize(
    "part",
    ["facts", "data", "splits", "kinds", "notes", "warnings", "results", "tables", "plots", "examples", "hardware",
     "commands", "limits", "recipe"],
)  # fmt: skip
def test_each_part_may_be_alone_or_missing(part: str, tmp_path: Path) -> None:
    whole, alone = full(root=tmp_path), ReportData("Run", root=tmp_path)
    setattr(alone, part, getattr(whole, part))
    setattr(whole, part, type(getattr(whole, part))())
    for data in (whole, alone):
        page = Page(render_report(data))
        links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
        assert links == [attributes["id"] for tag, attributes in page.tags if tag == "section"]


def test_figures_are_shown_with_interval_baseline_and_verdict(tmp_path: Path) -> None:
    words = Page(render_report(full(root=tmp_path))).words()
    for shown in ("53.2%", "50.0 – 56.0%", "36.0%", "+17.2 points", "14.0 – 20.0", "3.20", "−1.20", "25.0%", "1,234"):
        assert shown in words, shown
    assert words.count("▲") == 3  # once each for both figures, once in the note
    assert "▼" not in words.replace("▲ better and ▼ worse", "")


def test_wrong_answers_show_the_truth_and_right_ones_do_not() -> None:
    def page(right: bool) -> str:
        return Page(render_report(ReportData("Run", examples=[Example("3", "2", "How many?", right=right)]))).words()

    assert "✗ 3 True answer: 2" in page(False)
    assert "✓ 3" in page(True)
    assert "True answer" not in page(True)


def test_images_that_cannot_be_shown_are_told_and_do_not_stop_the_report(tmp_path: Path) -> None:
    page = Page(render_report(full(root=tmp_path)))
    assert page.words().count("This image cannot be shown") == 2
    assert "missing.png" in page.words()


def test_images_are_made_small_again_from_their_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (2000, 1500, 3)).astype(np.uint8)
    text = render_report(ReportData("Run", examples=[Example("a", image=noise)]))
    assert "data:image/webp;base64," in text
    assert len(text) < 200_000


def test_write_report(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", ReportData("训练报告"), "zh")
    text = path.read_text(encoding="utf-8")
    assert '<html lang="zh-Hans">' in text
    assert "尚未评估" in text
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="en or zh"):
        write_report(tmp_path / "report.html", ReportData("Run"), "fr")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        write_report(tmp_path / "file" / "report.html", ReportData("Run"))


def test_metrics_have_names_in_both_languages() -> None:
    assert metric_name("accuracy", "zh") == "准确率"
    assert metric_name("my_own", "zh") == "my own"


def test_numbers_as_people_read_them() -> None:
    assert [figure(0.53249, "accuracy"), figure(38.04, "bleu"), figure(None, "bleu")] == ["53.2%", "38.0", ""]
    assert interval((-0.011, 0.02), "accuracy") == "−1.1 – 2.0%"
    assert [number(value) for value in (0.0, 1234.5, 12.34, 1.234, 0.1234, 0.01234, 1e-9, -2.0)] == [
        "0.000", "1,234", "12.3", "1.23", "0.123", "0.01234", "1e-09", "−2.00",
    ]  # fmt: skip
    assert difference(Result("mae", 1.0, baseline=1.5, difference=-0.5), "en") == "−0.500"


def test_verdict_knows_which_way_is_better() -> None:
    assert Result("accuracy", 0.5, difference_interval=(0.1, 0.2)).verdict == 1
    assert Result("accuracy", 0.5, difference_interval=(-0.2, -0.1)).verdict == -1
    assert Result("rmse", 0.5, difference_interval=(-0.2, -0.1)).verdict == 1
    assert Result("accuracy", 0.5, difference_interval=(-0.1, 0.1)).verdict == 0


def test_results_of_comparisons_and_of_plain_dicts() -> None:
    found = compare({"accuracy": mean_of([1.0, 1, 0, 1])}, {"accuracy": mean_of([0.0, 1, 0, 0])}, 4)
    one, *rest = results_of({"accuracy": 0.75, "unknown_labels": 1}, baseline={"accuracy": 0.25}, comparisons=found)
    assert rest == []
    assert one.difference == 0.5
    assert one.interval == found["accuracy"].value[1:]
    assert one.difference_interval is not None
    plain = results_of({"map": 0.5}, intervals={"map": [0.4, 0.6]}, task="tag")[0]
    assert (plain.interval, plain.baseline, plain.difference, plain.task) == ((0.4, 0.6), None, None, "tag")


def test_table_of_keeps_order_and_marks_gaps() -> None:
    table = table_of("By type", {"unseen": {"b": 0.1, "a": 0.2}, "seen": {"c": 0.3}}, "type")
    assert table.columns == ["type", "unseen", "seen"]
    assert table.rows == [["b", 0.1, None], ["a", 0.2, None], ["c", None, 0.3]]
