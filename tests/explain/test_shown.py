"""Explanations as images, pages and files, and the verb that makes them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from makers import QUESTION, shown, tiny
from PIL import Image
from typer.testing import CliRunner

import rebus
from rebus.catalogue import Note, is_known, rendered, translate
from rebus.checkpoints.save_load import save_model, save_processor
from rebus.cli.app import app
from rebus.errors import DataError, RecipeError
from rebus.explain import METHODS, Explanation, TokenScore, explain, fonts
from rebus.explain.draw import SIDE, overlay, strengths, word_sheet
from rebus.explain.page import page_html


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished model in a folder, as ``rebus train`` leaves it."""
    folder = tmp_path_factory.mktemp("run")
    model = tiny(table, "answer", "unified", "convnet", "decoder")
    save_processor(folder, model.processor)
    (folder / "recipe.yaml").write_text(model.recipe.save_text(), encoding="utf-8")
    save_model(folder, model.model, model.recipe, model.tasks, model.processor)
    return folder


def made(image: np.ndarray | None = None, **changes: object) -> Explanation:
    square = np.full((32, 32, 3), 128, dtype=np.uint8)
    given: dict[str, object] = {
        "method": "occlusion",
        "target": Note("target.label", name="red"),
        "score": 0.75,
        "image": image,
        "tokens": (TokenScore("红", 1.0, 0, 1), TokenScore("bus", -0.5, 3, 6)),
        "shown": square,
        "text": "红  bus </script><b>",
        "answer": "red",
    }
    return Explanation(**(given | changes))  # type: ignore[arg-type]


def test_colours_stand_where_the_map_says() -> None:
    grid = np.zeros((4, 4), np.float32)
    grid[0, 3], grid[3, 0] = 2.0, -2.0
    drawn = np.asarray(overlay(made(grid), side=False), dtype=np.int64)
    assert drawn.shape == (SIDE, SIDE, 3)
    edge = SIDE // 8
    red, blue, none = drawn[edge, -edge], drawn[-edge, edge], drawn[edge, edge]
    assert red[0] - red[2] > 80
    assert blue[2] - blue[0] > 80
    assert np.ptp(none) < 30
    beside = overlay(made(grid))
    assert beside.height == SIDE
    assert (np.asarray(beside)[:, :SIDE] == 128).all()  # the original
    assert (np.asarray(beside)[:, -SIDE:] == drawn).all()
    with pytest.raises(DataError, match="says nothing of any"):
        overlay(made(None))


def test_strengths_keep_signs_and_bear_odd_maps() -> None:
    assert strengths(np.array([[1.0, 3.0]], np.float32)).tolist() == [[0, 1]]
    assert strengths(np.array([[-1.0, 0.5]], np.float32)).tolist() == [[-1, 0.5]]
    assert strengths(np.array([[np.nan, 0.0]], np.float32)).tolist() == [[0, 0]]
    assert strengths(np.full((2, 2), 7.0, np.float32)).tolist() == [[0, 0], [0, 0]]


def test_where_the_peak_is() -> None:
    grid = np.zeros((2, 4), np.float32)
    grid[1, 2] = 1
    assert made(grid).peak() == (0.625, 0.75)
    assert made(np.ones((2, 2), np.float32)).peak() is None
    assert made(None).peak() is None


@pytest.mark.skipif(not fonts.has_chinese(), reason="this machine has no font with Chinese glyphs")
def test_chinese_words_are_drawn_with_glyphs_of_their_own() -> None:
    letters = fonts.font(24)
    drawn = {bytes(letters.getmask(sign)) for sign in "红色公车\U0010fffd"}
    assert len(drawn) == 5
    grid = np.eye(4, dtype=np.float32)
    red, bus = (
        word_sheet(made(grid, words=(made(grid, target=f"word 1 '{word}'"),)), "zh") for word in ("红色", "公车")
    )
    assert red.size == bus.size
    assert red.tobytes() != bus.tobytes()
    assert fonts.lacking("红") == ""


def test_a_machine_without_chinese_glyphs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "chinese_font", lambda: None)
    assert "fonts-noto-cjk" in fonts.lacking("红色")
    assert fonts.lacking("red") == ""
    assert not fonts.has_chinese()
    assert fonts.font(12) is not None


class Page(HTMLParser):
    """What a page asks of others, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_stands_alone_and_nothing_escapes_from_it(lang: str) -> None:
    grid = np.eye(4, dtype=np.float32)
    words = (made(grid, target="word 1 '<i>'", answer="<i> red", span=(0, 3), weights={"image": 0.25, "text": 0.75}),)
    page = page_html(made(grid, words=words, answer="<i> red", weights={"image": 0.5, "text": 0.5}), lang)  # type: ignore[arg-type]
    parser = Page()
    parser.feed(page)
    assert all(one.startswith("data:image/png;base64,") for one in parser.asked)
    assert not re.search(r"https?://|@import|url\(", page)
    assert parser.tags.count("script") == 2  # data and code: the text's own ended nothing
    assert "b" not in parser.tags
    data = re.search(r'id="views">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    views = json.loads(data[1])
    assert [view["name"] for view in views][1] == "<i>"
    assert views[1]["weights"][0]["percent"] == 25
    assert "".join(piece["text"] for piece in views[0]["pieces"]) == "红  bus </script><b>"
    place = lang == "zh"
    assert translate("explain_page.title", lang) in page
    assert translate("explain_page.title", "en" if place else "zh") not in page
    assert ("类别“red”" in page) == place
    with pytest.raises(RecipeError, match="en or zh"):
        page_html(made(grid), "fr")  # type: ignore[arg-type]


def test_a_page_of_text_alone() -> None:
    page = page_html(made(None, shown=None))
    assert "<canvas" not in page
    assert translate("explain_page.no_image", "en") in page
    empty = page_html(made(np.eye(4, dtype=np.float32), tokens=()))
    assert translate("explain_page.no_text", "en") in empty


def test_all_that_is_said_is_said_in_chinese(table: Path) -> None:
    """Targets and remarks of real explanations, not of a list."""
    notes: set[str] = set()
    for task, text in (("answer", "decoder"), ("classify", "encoder"), ("tag", "encoder"), ("ner", "encoder")):
        predictor = tiny(table, task, "unified", "convnet", text)
        for method in ("attention", "gradcam"):
            found = explain(predictor, image=shown(table), text=QUESTION, task=task, method=method)
            notes |= {found.target, *found.remarks, *(word.target for word in found.words)}
    assert notes
    for note in notes:
        assert re.search("[\u4e00-\u9fff]", rendered(note, "zh")), note
        assert rendered(note, "en") == note
    assert all(is_known(f"method.{name}") for name in METHODS.names())


def test_the_verb_writes_files(table: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = str(table.parent / "13.png")
    asked = ["explain", str(run), "--image", image, "--text", "方块是什么颜色？"]
    result = CliRunner().invoke(app, [*asked, "--lang", "zh"])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "explanations" / "1"
    assert {one.name for one in folder.iterdir()} == {
        "explanation.html", "explanation.json", "image.png", "words.png"}  # fmt: skip
    assert "模型的回答" in result.output
    assert Image.open(folder / "image.png").size == (2 * SIDE + 12, SIDE)
    told = json.loads((folder / "explanation.json").read_text(encoding="utf-8"))
    assert np.asarray(told["image"]).shape == (4, 4)
    assert "".join(token["text"] for token in told["tokens"]) == "方块是什么颜色？"
    again = CliRunner().invoke(app, [*asked, "--json", "--method", "occlusion", "--target", "1"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["target"].startswith("word 1 ")
    assert not (tmp_path / "explanations" / "2").exists()  # JSON alone writes nothing
    model = rebus.load(run)
    same = model.explain(image, "方块是什么颜色？", method="occlusion", target=1)
    assert json.loads(again.stdout)["image"] == pytest.approx(np.asarray(same.to_json()["image"]))
    assert "occlusion" in model.methods()


@pytest.mark.parametrize(("words", "told"), [
    (["--column", "passage"], "NAME=VALUE"),
    (["--method", "magic"], "a method of explanation"),
    (["--task", "caption"], "a task 'caption'"),
    (["--image", "nowhere.png"], "nowhere.png"),
    (["--text", "a", "--target", "1000"], "number 1000"),
])  # fmt: skip
def test_a_mistake_is_told_in_one_paragraph(
    table: Path, run: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    image = [] if "--image" in words else ["--image", str(table.parent / "13.png")]
    text = [] if "--text" in words else ["--text", "a"]
    result = CliRunner().invoke(app, ["explain", str(run), *image, *text, *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert told in result.output
    assert "What to do" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "signed"),
    [("occlusion", True), ("gradients", True), ("saliency", False), ("rollout", False), ("relevance", False)],
)
def test_a_legend_tells_for_from_against_only_where_the_method_does(method: str, signed: bool) -> None:
    tokens = (TokenScore("红", 1.0, 0, 1), TokenScore("bus", 0.5, 3, 6))
    page = page_html(made(np.eye(4, dtype=np.float32), method=method, tokens=tokens))
    assert ("blue: speaks against it" in page) == signed
    assert ("does not tell for from against" in page) != signed
