"""The signal-flow page: its shapes are those of the real tensors, for every fusion and many tasks; it speaks both
languages, and needs no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rebus.checkpoints.save_load import save_model, save_processor
from rebus.cli.app import app
from rebus.errors import DataError, RecipeError
from rebus.models.features import Features
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.report.flow import Flow, flow, flow_html, write_flow
from rebus.report.flow.drawing import anchors, heat, over
from rebus.tasks import PretrainImage
from rebus.training.train import Assembled, assemble

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
COLUMNS: dict[str, dict[str, str]] = {
    "answer": {"image": "image", "question": "question", "answer": "colour"},
    "caption": {"image": "image", "caption": "sentence"},
    "classify": {"image": "image", "text": "question", "label": "colour"},
    "tag": {"image": "image", "text": "question", "labels": "tags"},
    "regress": {"image": "image", "text": "question", "target": "size"},
    "patch_classify": {"image": "image", "boxes": "boxes"},
    "converse": {"messages": "talk"},
    "choose": {"question": "question", "choices": "choices", "answer": "colour"},
    "ner": {"image": "image", "tokens": "tokens", "tags": "marks"},
    "extract": {"image": "image", "question": "question", "passage": "sentence", "answer": "colour"},
    "similar": {"anchor": "twin", "positive": "sentence"},
    "pretrain_image": {"image": "image"},
    "retrieve": {"image": "image", "text": "sentence"},
    "match": {"image": "image", "text": "sentence"},
    "lm": {"text": "sentence"},
    "mlm": {"text": "sentence"},
}
FUSIONS = [
    ("joint", "concat"), ("joint", "weighted"), ("unified", "concat"), ("unified", "inline"), ("cross", "concat"),
]  # fmt: skip
TEXT_OF = {
    "patch_classify": "",
    "pretrain_image": "",
    "caption": "",
    "choose": "What colour?",
    "lm": "The square",
    "mlm": "A red box",
}
MORE: dict[str, dict[str, Any]] = {
    "extract": {"sentence": "The square is red."},
    "choose": {"choices": list(COLOURS)},
    "similar": {"sentence": "a red square"},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        colour = list(COLOURS)[number % 4]
        side = int(rng.integers(8, 20))
        array = np.full((24, 40, 3), 90, dtype=np.uint8)
        array[2 : 2 + side, 4 : 4 + side] = COLOURS[colour]
        Image.fromarray(array).save(folder / f"{number}.png")
        rows.append(
            {
                "image": f"{number}.png",
                "question": "方块是什么颜色？" if number % 2 else "What colour is the square?",
                "sentence": f"The square of row {number} is {colour}.",
                "twin": f"{number}: {side} dots of {colour}",
                "colour": colour,
                "tags": [colour, "big" if side > 13 else "small"],
                "size": side / 32,
                "boxes": [{"label": colour, "box": [0.1, 0.1, 0.5, 0.8]}],
                "choices": list(COLOURS),
                "tokens": ["The", "square", "is", colour],
                "marks": ["O", "B-shape", "O", "B-colour"],
                "talk": [{"role": "user", "content": "Colour?"}, {"role": "assistant", "content": colour}],
                "split": "train" if number < 10 else "test",
            }
        )
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def made(table: Path, task: str, fusion: str = "unified", how: str = "concat", image: str = "convnet", text: str = "decoder") -> Assembled:  # fmt: skip  # noqa: E501
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"boxes": "boxes", "tags": "labels"},
            "data.inputs": {"tabular": []},
            "image.size": 32,
            "text.vocab_size": 300,
            "text.max_length": 32,
            "model.image": Tower(kind=image, width=16, depth=1, heads=2, patch=8),
            "model.text": Tower(kind=text, width=16, depth=1, heads=2),
        }
    )
    inline = how == "inline"
    recipe = recipe.replace(
        {"model.fusion": Fusion(kind=fusion, layout="inline" if inline else "prefix", depth=1, heads=2)}
    )
    if not inline:
        recipe = recipe.replace({"model.fusion.how": how})
    recipe = recipe.replace(
        {"tasks": [TaskSettings(name=task, columns=COLUMNS[task], max_new_tokens=4)], "train.batch_size": 8}
    )
    return assemble(recipe, lambda _: None)


def follow(ready: Assembled, table: Path, **more: Any) -> Flow:
    task = ready.prepared.recipe.tasks[0].name
    sees = ready.model.image is not None
    given: dict[str, Any] = {
        "image": table.parent / "1.png" if sees else None,
        "text": TEXT_OF.get(task, "What colour is the square?"),
        "columns": MORE.get(task, {}),
    }
    return flow(ready.predictor, **{**given, **more})


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "code"):
            self.words.append(data)


def shapes_by_hooks(ready: Assembled, run: Any) -> dict[str, set[tuple[int, ...]]]:
    """The shapes of everything that any module of the model gave, by the module's name."""
    found: dict[str, set[tuple[int, ...]]] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, given: Any, out: Any) -> None:
            parts = [out.tokens, out.mask, out.pooled] if isinstance(out, Features) else [out]
            found.setdefault(name, set()).update(tuple(one.shape) for one in parts if isinstance(one, torch.Tensor))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in ready.model.named_modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


@pytest.mark.parametrize(("fusion", "how"), FUSIONS)
@pytest.mark.parametrize("task", ["answer", "classify", "ner"])
def test_the_shapes_told_are_those_of_the_models_tensors(table: Path, task: str, fusion: str, how: str) -> None:
    ready = made(table, task, fusion, how, text="encoder" if task == "ner" else "decoder")
    told: list[Flow] = []
    real = shapes_by_hooks(ready, lambda: told.append(follow(ready, table)))
    stations = {one.name: one for one in told[0].stations}
    assert list(stations) == [
        "image", "transformed", "patches", "image_tower", "tokens", "text_tower", "fusion", "answer",
    ]  # fmt: skip
    assert stations["image"].shapes[0].sizes == (24, 40, 3)
    assert stations["transformed"].shapes[0].sizes == (1, 3, 32, 32)
    for one in stations["image_tower"].shapes:
        assert one.sizes in real["image"], one
    where = "decoder.embed_tokens" if task == "answer" else "text" if task == "ner" else "decoder.norm"
    for one in stations["text_tower"].shapes:
        if one.name in ("embedded text", "tokens"):
            assert one.sizes in real[where], one
    if task != "answer":
        for one in stations["fusion"].shapes:
            if one.letters.startswith("(R"):
                assert one.sizes in real["fusion"] or one.name == "mask", one
        assert stations["answer"].shapes[0].sizes in real[f"heads.{task}"]
    else:
        logits = stations["answer"].shapes[0].sizes
        assert logits == (len(stations["answer"].steps), ready.model.decoder.vocab_size)  # type: ignore[union-attr]
        assert stations["fusion"].shapes[0].sizes in real["decoder.norm"]
    for station in stations.values():
        for one in station.shapes:
            letters = [part for part in one.letters.strip("()").split(",") if part.strip()]
            assert len(letters) == len(one.sizes), one


@pytest.mark.parametrize("task", [name for name in COLUMNS if name not in ("answer", "classify", "ner")])
def test_every_task_can_be_followed_in_both_languages(table: Path, tmp_path: Path, task: str) -> None:
    text = {"mlm": "encoder", "match": "encoder", "extract": "encoder", "similar": "wordvectors"}.get(task, "decoder")
    ready = made(table, task, "cross", image="vit", text=text)
    found = follow(ready, table)
    assert found.task == task
    assert found.stations[-1].name == "answer"
    for lang in ("en", "zh"):
        page = Page(write_flow(tmp_path / f"{lang}.html", found, lang).read_text(encoding="utf-8"))
        items = [attributes for tag, attributes in page.tags if "data-station" in attributes and tag == "li"]
        assert len(items) == len(found.stations)
        words = " ".join(page.words)
        assert "{" not in words
        assert ("模型" in words) == (lang == "zh")


def test_the_answers_told_are_the_models_own(table: Path) -> None:
    ready = made(table, "classify", "joint", "weighted")
    found = follow(ready, table)
    row = {"image": str(table.parent / "1.png"), "question": "What colour is the square?"}
    told = ready.predictor.predict(row)[0]
    station = found.station("answer")
    assert station is not None
    assert found.answer == told.value
    for name, share in station.bars[0].values:
        assert share == pytest.approx(told.scores[name], abs=1e-5)
    meeting = found.station("fusion")
    assert meeting is not None
    assert sum(share for _, share in meeting.bars[0].values) == pytest.approx(1.0, abs=1e-5)
    assert dict(meeting.bars[0].values).keys() == {"image", "text"}


def test_each_written_token_is_the_likeliest_at_its_place(table: Path) -> None:
    ready = made(table, "answer", "unified")
    found = follow(ready, table)
    station = found.station("answer")
    assert station is not None
    told = ready.predictor.ask(table.parent / "1.png", "What colour is the square?")
    assert found.answer == told.value
    for step in station.steps:
        assert step.values[0][0] == step.names["token"]
        assert [share for _, share in step.values] == sorted((share for _, share in step.values), reverse=True)


def test_attention_maps_are_those_of_the_written_tokens(table: Path) -> None:
    for fusion, how in FUSIONS:
        found = follow(made(table, "answer", fusion, how), table)
        meeting = found.station("fusion")
        assert meeting is not None
        steps = found.stations[-1].steps
        looked = [one.names["token"] for one in meeting.images if one.caption == "looked"]
        assert len(looked) == (0 if fusion == "joint" else len(steps)), fusion


def test_a_model_without_one_of_the_two_has_no_station_for_it(table: Path) -> None:
    text = follow(made(table, "lm"), table)
    assert [one.name for one in text.stations] == ["tokens", "text_tower", "fusion", "answer"]
    images = follow(made(table, "pretrain_image"), table)
    assert [one.name for one in images.stations] == ["image", "transformed", "patches", "image_tower", "answer"]
    blind = follow(made(table, "classify"), table, image=None)
    assert blind.stations[0].kind == "none"
    assert blind.station("transformed") is None
    assert "没有图片" in flow_html(blind, "zh")


def test_what_cannot_be_followed_is_told(table: Path) -> None:
    ready = made(table, "classify")
    with pytest.raises(DataError, match="classify"):
        follow(ready, table, task="clasify")
    with pytest.raises(RecipeError, match="en or zh"):
        follow(ready, table, lang="fr")
    with pytest.raises(RecipeError, match="en or zh"):
        flow_html(follow(ready, table), "fr")
    only = made(table, "pretrain_image")
    assert isinstance(only.prepared.tasks["pretrain_image"], PretrainImage)
    with pytest.raises(DataError, match="an image, and nothing else"):
        follow(only, table, text="words")


def test_nothing_comes_from_the_network_and_an_attack_stays_text(table: Path, tmp_path: Path) -> None:
    attack = '<script>alert(1)</script><img src="https://example.org/x.png">'
    found = follow(made(table, "classify"), table, text=attack)
    raw = write_flow(tmp_path / "flow.html", found).read_text(encoding="utf-8")
    page = Page(raw)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    loads = [str(value) for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert loads
    assert all(load.startswith("data:") for load in loads)
    assert "url(" not in raw
    assert "@import" not in raw
    assert "default-src 'none'" in raw


def test_the_chinese_page_is_chinese(table: Path, tmp_path: Path) -> None:
    """No English is left but for names of code: shapes' letters, tasks, kinds, tokens (which are data here)."""
    found = follow(made(table, "answer", "unified"), table, text="方块是什么颜色？")
    page = Page(write_flow(tmp_path / "flow.html", found, "zh").read_text(encoding="utf-8"))
    data = " ".join(token.text for station in found.stations for token in station.tokens)
    data += " ".join(name for bars in found.stations[-1].steps for name, _ in bars.values) + found.answer
    allowed = {"answer", "unified", "convnet", "decoder", "pooled", "Rebus", "flow"}
    words = {word for text in page.words for word in re.findall(r"[A-Za-z]{2,}", text)}
    assert {word for word in words if word not in data} <= allowed


def test_from_the_shell(table: Path, tmp_path: Path) -> None:
    ready = made(table, "classify")
    run = tmp_path / "run"
    run.mkdir()
    save_processor(run, ready.processor)
    (run / "recipe.yaml").write_text(ready.prepared.recipe.save_text(), encoding="utf-8")
    save_model(run, ready.model, ready.prepared.recipe, ready.prepared.tasks, ready.processor)
    out = tmp_path / "page.html"
    words = ["flow", str(run), "--image", str(table.parent / "0.png"), "--text", "颜色？", "--lang", "zh"]
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert '<html lang="zh-Hans">' in out.read_text(encoding="utf-8")
    done = CliRunner().invoke(app, ["flow", str(run), "--image", "nowhere.png", "--text", "?"])
    assert done.exit_code == 2
    assert "nowhere.png" in done.output


def test_heat_and_the_tokens_that_differ_most() -> None:
    colours = heat(np.array([[0.0, 1.0], [0.5, 0.25]], dtype=np.float32))
    assert colours.shape == (2, 2, 3)
    assert colours[0, 1].sum() > colours[1, 0].sum() > colours[0, 0].sum()
    assert (heat(np.zeros((2, 2), dtype=np.float32)) == heat(np.zeros((1, 1), dtype=np.float32))).all()
    assert over(np.eye(2, dtype=np.float32), np.zeros((8, 8, 3), dtype=np.uint8)).shape == (192, 192, 3)
    alike = np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.2], [0.1, 0.2, 1.0]], dtype=np.float32)
    assert anchors(alike, 0, 2) == [0, 2]
    assert anchors(alike, 0, 9) == [0, 2, 1]
