"""A Run's report from end to end: every section, both languages, the same in the card; what may be wrong with a Run."""

from __future__ import annotations

import errno
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rebus import atomic
from rebus.checkpoints.run_folder import Run
from rebus.cli.app import app
from rebus.errors import RebusError, RunError
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.report.compose import describe_run, write_outputs
from rebus.report.contents import Section
from rebus.report.sections import SECTIONS
from rebus.training.train import learn

COLOURS = {"红": (220, 30, 30), "绿": (30, 200, 60), "蓝": (40, 60, 220)}
VOID = {"meta", "link", "img", "br"}
# names of code, formats and measures, which are the same in every language
NAMES = {"TF", "IDF", 
    "Simonyan",
    "CPU", "GPU", "GiB", "RAPL", "SHA", "Wh", "Rebus", "Run", "JSON", "JPEG", "PNG", "Python", "Linux", "torch",
    "classify", "answer", "lm", "mlm", "convnet", "decoder", "unified", "none", "fp32", "bf16", "KIND", "COLUMN",
    "NAME", "ROLE", "TASK", "F1", "AUROC", "ECE", "Chefer", "GFLOP", "kB", "MB", "gzip", "bzip2",
    "xz", "Abnar", "Zuidema", "ms", "nano",
}  # fmt: skip


class Page(HTMLParser):
    """The words of a page that are neither code, nor data, nor drawn: and what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.sections: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [str(found[name]) for name in ("src", "srcset", "data", "poster", "action") if name in found]
        self.links += [str(found["href"]) for _ in range(1) if "href" in found]
        if tag == "section":
            self.sections.append(str(found["id"]))
        self.words += [str(found[name]) for name in ("alt", "title", "aria-label") if name in found]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "pre", "code"} & set(self.open):
            self.words.append(data)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run whose data are all Chinese, with a column that describes rows and is not learned from."""
    folder = tmp_path_factory.mktemp("数据")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(32):
        colour = list(COLOURS)[number % 3]
        array = np.full((32, 32, 3), 90, dtype=np.uint8)
        side = int(rng.integers(10, 24))
        array[4 : 4 + side, 2 : 2 + side] = COLOURS[colour]
        Image.fromarray(array).save(folder / f"图{number}.png")
        rows.append(
            {
                "图片": f"图{number}.png",
                "问题": ["方块是什么颜色？", "这是什么颜色的方块？"][number % 2],
                "颜色": colour,
                "来源": ["甲", "乙"][number // 2 % 2],
                "split": "train" if number < 18 else "test",
            }
        )
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "方块.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data.path": str(folder / "方块.jsonl"),
            "data.kinds": {"图片": "image", "问题": "text", "颜色": "category", "来源": "ignore"},
            "data.split.column": "split",
            "image.size": 32,
            "text.vocab_size": 320,
            "text.max_length": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2),
            "model.text": Tower(kind="decoder", width=24, depth=1, heads=2),
            "model.fusion": Fusion(kind="unified", depth=1, heads=2),
        }
    )
    columns = {"image": "图片", "text": "问题", "label": "颜色"}
    recipe = recipe.replace(
        {
            "tasks": [TaskSettings(name="classify", columns=columns)],
            "train.steps": 6,
            "train.batch_size": 8,
            "train.precision": "fp32",
            "report.explained": 2,
        }
    )
    learn(recipe, folder / "跑", log=lambda _: None, quiet=True)
    return folder / "跑"


@pytest.fixture(scope="module")
def language_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run on raw Chinese text."""
    folder = tmp_path_factory.mktemp("文本")
    lines = [f"第{number}个故事：小猫在第{number % 7}天看见了一只鸟，鸟飞走了，小猫很高兴。" for number in range(160)]
    (folder / "故事.txt").write_text("\n".join(lines), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data.path": str(folder / "故事.txt"),
            "corpus.document": "line",
            "corpus.block": 32,
            "text.vocab_size": 300,
            "model.text": Tower(kind="decoder", width=16, depth=1, heads=2),
            "tasks": [TaskSettings(name="lm")],
            "train.steps": 4,
            "train.batch_size": 4,
            "train.precision": "fp32",
            "report.explained": 1,
        }
    )
    learn(recipe, folder / "跑", log=lambda _: None, quiet=True)
    return folder / "跑"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are one dot: for what is not about them, since drawing is most of a report's time."""

    def dot(path: Any, draw: Any, language: str, size: Any) -> Path:
        atomic.write_with(Path(path), lambda beside: Image.new("RGB", (1, 1)).save(beside, "PNG"))
        return Path(path)

    monkeypatch.setattr("rebus.report.plots.save", dot)


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The Run in a folder of its own, whose table is the first one's."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_section_appears_and_nothing_is_loaded(run: Path, lang: str) -> None:
    page = read(write_outputs(Run(run), lang=lang))
    wanted = {
        "results", "groups", "ablation", "examples", "explanations", "plots", "about", "data", "leakage", "machine",
        "energy", "commands", "reproduce", "limits",
    }  # fmt: skip
    assert wanted <= set(page.sections)
    assert [link[1:] for link in page.links if link.startswith("#")] == page.sections
    assert all(load.startswith("data:") for load in page.loads)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    raw = (run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?(?:https?:)?//", raw)
    plots = {file.name for file in (run / "plots").iterdir()}
    assert {"curves.png", "figures.png", "classify-calibration.png", "classify-confusion.png"} <= plots


def english(page: Page, data: set[str]) -> set[str]:
    """Latin words of a page that are no names, no settings, no flags, no paths and no data."""
    words: set[str] = set()
    for text in page.words:
        plain = re.sub(r"[\w/.~-]*/[\w/.=-]+", " ", text)  # paths
        plain = re.sub(r"`[^`]*`", " ", plain)  # code
        plain = re.sub(r"--?[a-z][\w-]*|\b\w+(?:\.\w+)+(?:=\w+)?\b", " ", plain)  # flags, settings, file names
        words |= set(re.findall(r"[A-Za-z]{2,}\d*", plain))
    return {word for word in words if word not in NAMES | data and not re.fullmatch("[a-f0-9]+", word)}


@pytest.mark.usefixtures("undrawn")
def test_the_chinese_page_has_no_english_words(run: Path) -> None:
    page = read(write_outputs(Run(run), lang="zh"))
    machine = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["training"]["machine"]
    data = {"split", *re.findall(r"[A-Za-z]{2,}\d*", json.dumps(machine)), "rebus"}
    assert english(page, data) == set()
    assert "示例" in " ".join(page.words)


@pytest.mark.usefixtures("undrawn")
def test_the_chinese_page_of_a_language_model_has_no_english_words(language_run: Path) -> None:
    page = read(write_outputs(Run(language_run), lang="zh"))
    machine = json.loads((language_run / "evaluation.json").read_text(encoding="utf-8"))["training"]["machine"]
    samples = (language_run / "metrics.jsonl").read_text(encoding="utf-8")
    assert english(page, {*re.findall(r"[A-Za-z]{2,}\d*", json.dumps(machine) + samples), "rebus"}) == set()


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.usefixtures("undrawn")
def test_a_language_model_has_its_sections_too(language_run: Path, lang: str) -> None:
    page = read(write_outputs(Run(language_run), lang=lang))
    wanted = {
        "results", "documents", "ablation", "explanations", "plots", "about", "data", "leakage", "machine", "energy",
        "commands", "reproduce", "limits",
    }  # fmt: skip
    assert wanted <= set(page.sections)
    card = (language_run / "README.md").read_text(encoding="utf-8")
    for section in describe_run(Run(language_run), lang).sections:
        assert f"## {section.title}" in card


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.usefixtures("undrawn")
def test_the_card_says_the_same(run: Path, lang: str) -> None:
    write_outputs(Run(run), lang=lang)
    card, data = (run / "README.md").read_text(encoding="utf-8"), describe_run(Run(run), lang)
    plain = card.replace("\\", "")
    for section in data.sections:
        assert f"## {section.title}" in plain
        for point in section.points:
            assert point in plain
        for name, value in section.facts:
            assert f"- {name}: {value}" in plain
        for table in section.tables:
            assert table.title in plain
    assert "explained" not in plain.split("---")[1]


@pytest.mark.usefixtures("undrawn")
def test_groups_examples_and_energy_tell_what_is_so(run: Path) -> None:
    data = describe_run(Run(run), "en")
    sections = {one.name: one for one in data.sections}
    table = sections["groups"].tables[0]
    assert table.title == "classify: 来源"
    assert [row[0] for row in table.rows] == sorted(["甲", "乙"])
    counts = [int(row[3] or 0) for row in table.rows]
    judged = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert sum(counts) == judged["rows"]["classify"]
    shares = [float(row[1] or 0) for row in table.rows]
    assert all(0 <= share <= 1 for share in shares)
    if table.columns[1] == "Accuracy":
        whole = judged["tasks"]["classify"]["metrics"]["accuracy"]
        mean = sum(share * count for share, count in zip(shares, counts, strict=True)) / sum(counts)
        assert mean == pytest.approx(whole)
    used, seconds = judged["training"]["cores_used"], judged["training"]["seconds"]
    energy = dict(sections["energy"].facts)
    assert f"{used:.2f} cores" in energy["how it was found"] or "counters" in energy["how it was found"]
    if "joules" not in judged["training"]:
        told = float(energy["energy of training"].split()[1])
        assert told == pytest.approx(used * seconds / 3600 * 5.0, abs=0.002)
    for one in data.examples:
        assert one.right == (one.answer == one.truth)
    wrong = [one.confidence for one in data.examples if "most confident mistakes" in one.group]
    assert wrong == sorted(wrong, reverse=True, key=lambda share: share or 0.0)
    explained = sections["explanations"].examples
    assert len(explained) == 2
    assert any(one.image is not None and np.asarray(one.image).shape[1] > 40 for one in explained)


@pytest.mark.usefixtures("undrawn")
def test_what_must_be_the_same_is_told_and_a_changed_table_is_noticed(run: Path, copied: Path) -> None:
    recipe = Run(copied).recipe
    old = Path(recipe.data.path)
    elsewhere = copied.parent / "table"
    shutil.copytree(old.parent, elsewhere, ignore=shutil.ignore_patterns("跑"))
    recipe = recipe.replace({"data.path": str(elsewhere / old.name)})
    (copied / "recipe.yaml").write_text(recipe.save_text(), encoding="utf-8")

    def told() -> dict[str, str]:
        return dict({one.name: one for one in describe_run(Run(copied), "en").sections}["reproduce"].facts)

    assert told()["the data now"] == "the table is still the same"
    assert re.match(r"[0-9a-f]{32} ", told()["data fingerprint"])
    assert "torch 2" in told()["versions"]
    assert told()["seed"] == "0"
    assert "--set" not in dict(describe_run(Run(copied), "en").commands)["train it again"]
    recipe = recipe.replace({"train.precision": "auto"})  # was measured: another measurement may say otherwise
    (copied / "recipe.yaml").write_text(recipe.save_text(), encoding="utf-8")
    assert "--set train.precision=fp32" in dict(describe_run(Run(copied), "en").commands)["train it again"]
    table = elsewhere / old.name
    table.write_text(table.read_text(encoding="utf-8").replace("什么颜色", "哪种颜色", 1), encoding="utf-8")
    assert "CHANGED" in told()["the data now"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.usefixtures("undrawn")
def test_images_that_are_gone_are_told_and_the_report_is_written(run: Path, copied: Path, lang: str) -> None:
    recipe = Run(copied).recipe
    old = Path(recipe.data.path)
    elsewhere = copied.parent / "table"
    elsewhere.mkdir()
    shutil.copy(old, elsewhere / old.name)
    for number in range(18, 26):  # of 14 held-out images
        shutil.copy(old.parent / f"图{number}.png", elsewhere)
    recipe = recipe.replace({"data.path": str(elsewhere / old.name)})
    (copied / "recipe.yaml").write_text(recipe.save_text(), encoding="utf-8")
    words = " ".join(read(write_outputs(Run(copied), lang=lang)).words)
    assert ("6 of 14 images" if lang == "en" else "14 张图片有 6 张") in words
    for file in elsewhere.glob("*.png"):
        file.unlink()
    page = read(write_outputs(Run(copied), lang=lang))
    assert "examples" not in page.sections
    assert {"results", "groups", "energy", "limits"} <= set(page.sections)
    assert ("14 of 14" if lang == "en" else "14 张图片有 14 张") in " ".join(page.words)


@pytest.mark.usefixtures("undrawn")
def test_a_table_that_is_gone_is_told_and_the_report_is_written(copied: Path) -> None:
    recipe = Run(copied).recipe
    recipe = recipe.replace({"data.path": str(copied.parent / "nowhere.jsonl")})
    (copied / "recipe.yaml").write_text(recipe.save_text(), encoding="utf-8")
    page = read(write_outputs(Run(copied), lang="en"))
    words = " ".join(page.words)
    assert "the table that it was trained from cannot be read again" in words
    assert "the table is not there any more" in words
    assert {"results", "plots", "about", "limits"} <= set(page.sections)
    assert "没有示例" in " ".join(read(write_outputs(Run(copied), lang="zh")).words)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation.json", "{"),
        ("evaluation.json", "[]"),
        ("evaluation.json", '{"tasks": {"classify": {}}}'),
        ("evaluation.json", '{"tasks": {"classify": {"metrics": 3}}}'),
        ("evaluation.json", '{"training": 5}'),
        ("check.json", "[1]"),
        ("check.json", "{{"),
        ("inference.json", "3"),
        ("metrics.jsonl", '{"kind": "train", "step": 1}\n{"kind": broken\n{"kind": "train", "step": 2}\n'),
        ("config.json", "{}"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "{"),
        ("recipe.yaml", "train: ["),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_damaged_run_is_told_in_four_parts_and_the_old_report_stays(copied: Path, file: str, content: str) -> None:
    (copied / "report.html").write_text("the old report", encoding="utf-8")
    (copied / "README.md").write_text("the old card", encoding="utf-8")
    (copied / file).write_text(content, encoding="utf-8")
    with pytest.raises(RebusError) as told:
        write_outputs(Run.open(copied))
    assert all(told.value.as_dict().values())
    assert (copied / "report.html").read_text(encoding="utf-8") == "the old report"
    assert (copied / "README.md").read_text(encoding="utf-8") == "the old card"
    done = CliRunner().invoke(app, ["report", str(copied)])
    assert done.exit_code == 2
    assert "What to do:" in done.output


@pytest.mark.parametrize("what", ["report.html", "README.md", "curves.png"])
@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_is_told_and_nothing_is_lost(copied: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    write_outputs(Run(copied))
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    import os

    real, full = os.fsync, OSError(errno.ENOSPC, "No space left on device")

    def fsync(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}") if Path("/proc/self/fd").exists() else what
        if what in name:
            raise full
        real(handle)

    monkeypatch.setattr("rebus.atomic.os.fsync", fsync)
    with pytest.raises(RunError, match="room on the disk") as told:
        write_outputs(Run(copied), lang="zh")
    monkeypatch.undo()
    assert "the disk is full" in told.value.found
    for file, content in before.items():
        assert file.name != what or file.read_bytes() == content
        if file.name not in ("report.html", "README.md") and file.suffix != ".png":
            assert file.read_bytes() == content
    assert not [file for file in copied.rglob("*") if file.name.endswith(".tmp")]
    assert {file.name for file in copied.rglob("*")} == {file.name for file in before} | {
        folder.name for folder in copied.rglob("*") if folder.is_dir()
    }
    if what == "report.html":  # page first, then card: neither is of another language than the other
        assert (copied / "README.md").read_bytes() == before[copied / "README.md"]


@pytest.mark.usefixtures("undrawn")
def test_a_section_that_fails_does_not_stop_the_report(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(subject: Any) -> Section:
        raise RunError("somewhere", "this", "that", "mend it")

    monkeypatch.setattr("rebus.report.compose.SECTIONS", [broken, *SECTIONS])
    page = read(write_outputs(Run(copied)))
    assert "somewhere: expected this; found that" in " ".join(page.words)
    assert "energy" in page.sections


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_before_groups_and_meters_still_has_a_report(copied: Path) -> None:
    found = json.loads((copied / "evaluation.json").read_text(encoding="utf-8"))
    found.pop("groups")
    for name in ("machine", "cores_used", "metered", "processes", "joules"):
        found["training"].pop(name, None)
    (copied / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    check = json.loads((copied / "check.json").read_text(encoding="utf-8"))
    check.pop("fingerprint")
    (copied / "check.json").write_text(json.dumps(check), encoding="utf-8")
    words = " ".join(read(write_outputs(Run(copied))).words)
    assert "this Run was judged before groups were kept" in words
    assert "all cores are taken to be busy" in words
    assert "not kept by this Run" in words
