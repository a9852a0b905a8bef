"""The whole measure on a model whose truth is known: it reads one patch of the image and one word of the text."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rebus.errors import RunError
from rebus.explain.faithfulness.figures import ENOUGH, Faithfulness
from rebus.explain.faithfulness.maps import Maps, on_pieces
from rebus.explain.faithfulness.measure import Effort, Measured, measure, spread
from rebus.explain.faithfulness.pointing import Named
from rebus.explain.faithfulness.scorer import Asked, filler_of
from rebus.explain.faithfulness.store import keep_faithfulness, kept_method, read_faithfulness
from rebus.explain.result import Explanation, TokenScore
from rebus.explain.subject import Subject
from rebus.report.faithfulness import faithfulness_section

SIDE, CELLS, SIZE = 8, 4, 32  # pixels of a cell, cells a side, pixels a side
TEXT = "where is it"
SPANS = [(0, 5), (6, 8), (9, 11)]
EFFORT = Effort(points=40, curves=6, sanity=3, steps=CELLS**2)


class Reader(nn.Module):
    """Sees whether one cell is bright and one word is there, by weights that can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(CELLS**2, 1, bias=False)
        self.heads = nn.Linear(CELLS**2, 1, bias=False)
        self.plan = SimpleNamespace(pooled=CELLS**2)
        self.device = torch.device("cpu")
        with torch.no_grad():
            for number, part in enumerate((self.image, self.heads)):
                part.weight.copy_(torch.arange(CELLS**2).float()[None] * (1 - 2 * number))


class Example(Subject):
    """A bright cell on a dark image; the score is the chance that it is there and that the last word is."""

    place = 0

    @classmethod
    def of(cls, model: Reader, row: int) -> Example:
        place = row % CELLS**2
        shown = np.full((SIZE, SIZE, 3), 20, dtype=np.uint8)
        y, x = divmod(place, CELLS)
        shown[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] = 250
        tokenizer = SimpleNamespace(specials={}, mask_id=None, pad_id=0)
        processor, recipe = (
            SimpleNamespace(tokenizer=tokenizer, reader=None),
            SimpleNamespace(image=SimpleNamespace(size=SIZE)),
        )
        predictor: Any = SimpleNamespace(model=model, processor=processor, recipe=recipe)
        made = cls(predictor, SimpleNamespace(name="answer"), {}, shown, text=TEXT)  # type: ignore[arg-type]
        made.part, made.places = {"input_ids": torch.tensor([[9, 5, 6, 7]])}, {"input_ids": [None, *SPANS]}
        made.place, made.goals = place, [SimpleNamespace(unit=None)]  # type: ignore[list-item]
        return made

    def scores(self, pixels: Tensor | None = None, ids: Any = None) -> Tensor:
        shown = self.pixels() if pixels is None else pixels
        words = self.part["input_ids"] if ids is None else ids["input_ids"]
        y, x = divmod(self.place, CELLS)
        cell = shown[:, :, y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE].mean((1, 2, 3))
        there = (cell > 240).float() * (words[:, 3] == 7).float()
        return (there * 80 - 40)[:, None]  # log-odds: certainly, or certainly not


def draw(subject: Any, method: str) -> Explanation:
    """Maps that are perfect, the opposite, the image's edges, or all alike."""
    perfect = np.zeros((CELLS, CELLS), dtype=np.float32)
    perfect.flat[subject.place] = 1.0
    # what was learned decides the order of the other cells
    learned = subject.model.heads.weight.detach().numpy().reshape(CELLS, CELLS) * 1e-3
    words = [0.0, 0.0, 1.0]
    if method == "edges":
        grey = subject.shown.mean(-1)
        steps = np.abs(np.diff(grey, axis=0, prepend=grey[:1])) + np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
        image = steps.reshape(CELLS, SIDE, CELLS, SIDE).mean((1, 3)).astype(np.float32)
    else:
        image = {"perfect": perfect + learned, "anti": -perfect + learned, "flat": perfect * 0}[method]
    words = [-one for one in words] if method == "anti" else words
    tokens = tuple(TokenScore(TEXT[a:b], one, a, b) for one, (a, b) in zip(words, SPANS, strict=True))
    return Explanation(method, "", 1.0, image, tokens)


def box_of(row: int) -> Named:
    y, x = divmod(row % CELLS**2, CELLS)
    return Named("it", (x / CELLS, y / CELLS, (x + 1) / CELLS, (y + 1) / CELLS))


@pytest.fixture(scope="module")
def found() -> Faithfulness:
    model = Reader()
    copied = copy.deepcopy(model)
    what = Measured(
        rows=range(64),
        things={row: box_of(row) for row in range(0, 64, 2)},
        right=lambda rows: np.array([row % 4 == 0 for row in rows]),
        types=lambda rows: ["even" if row % 4 == 0 else "odd" for row in rows],
    )
    maps, other = Maps(lambda row: Example.of(model, row), draw), Maps(lambda row: Example.of(copied, row), draw)
    methods = ["anti", "edges", "flat", "perfect"]
    before = model.heads.weight.clone()
    faithfulness = measure("answer", what, maps, (copied, other), methods, effort=EFFORT)  # type: ignore[arg-type]
    assert torch.equal(model.heads.weight, before)  # the model itself is as it was
    return faithfulness


def test_a_perfect_map_points_and_its_opposite_is_worse_than_chance(found: Faithfulness) -> None:
    assert found.rows == {"pointing": 32, "pointing_right": 16, "curves": 6, "sanity": 3}
    rates = {name: one.figures["pointing"].value for name, one in found.methods.items()}
    assert rates["perfect"] == 1.0
    assert found.random["pointing"].value == pytest.approx(1 / 16)  # of the area
    assert rates["flat"] == pytest.approx(1 / 16)  # ties share the hit
    assert rates["anti"] < found.random["pointing"].value
    assert found.methods["perfect"].by_type["even"] == {"pointing": 1.0, "random": 1 / 16, "count": 16.0}
    assert found.methods["perfect"].figures["pointing_right"] == (1.0, 1.0, 1.0)


def test_areas_are_those_known_by_hand(found: Faithfulness) -> None:
    perfect, anti = found.methods["perfect"].figures, found.methods["anti"].figures
    assert perfect["deletion"].value == pytest.approx(1 / 32, abs=1e-6)
    assert perfect["insertion"].value == pytest.approx(31 / 32, abs=1e-6)
    assert anti["deletion"].value == pytest.approx(31 / 32, abs=1e-6)
    assert anti["insertion"].value == pytest.approx(1 / 32, abs=1e-6)
    assert perfect["text_deletion"].value == pytest.approx(1 / 6, abs=1e-6)  # the last of three words goes first
    assert anti["text_deletion"].value == pytest.approx(5 / 6, abs=1e-6)
    assert perfect["deletion"].value < found.random["deletion"].value < anti["deletion"].value
    assert found.random["deletion"].value == pytest.approx(0.5, abs=1e-6)  # each order with its reverse
    gap = found.methods["perfect"].gap
    assert gap == pytest.approx((30 / 32 + 4 / 6) / 2, abs=1e-6)


def test_maps_that_do_not_depend_on_the_weights_are_flagged(found: Faithfulness) -> None:
    edges, perfect = found.methods["edges"], found.methods["perfect"]
    assert list(edges.sanity.values()) == [1.0, 1.0]
    assert edges.insane
    assert found.methods["flat"].insane
    assert list(perfect.sanity) == ["heads and decoder", "image tower"]
    assert not perfect.insane
    assert (found.method, found.why) == ("perfect", "pointing")
    assert found.rows["pointing"] >= ENOUGH


def test_the_figures_live_in_the_run_and_in_the_report(found: Faithfulness, tmp_path: Path) -> None:
    assert read_faithfulness(tmp_path) == {}
    assert kept_method(tmp_path, "answer") is None
    keep_faithfulness(tmp_path, "caption", {"method": "rollout", "methods": {}})
    path = keep_faithfulness(tmp_path, "answer", found.as_dict())
    again = read_faithfulness(tmp_path)
    assert sorted(again) == ["answer", "caption"]
    assert again["answer"] == found.as_dict() == json.loads(path.read_text("utf-8"))["answer"]
    assert kept_method(tmp_path, "answer") == "perfect"
    assert kept_method(tmp_path, "classify") is None
    assert [one.name for one in tmp_path.iterdir()] == ["explain.json"]  # nothing is left beside
    for lang, words in (("en", ("edges", "16.0 times")), ("zh", ("随机化检验", "16.0 倍"))):
        section = faithfulness_section({"answer": again["answer"]}, lang)
        assert section is not None
        first = section.tables[0]
        assert [row[0] for row in first.rows][:2] == ["perfect ✓", "anti"]
        assert first.rows[0][1] == "100.0% (100.0%–100.0%)"
        assert str(first.rows[-1][1]).startswith("6.2%")
        assert len({len(row) for row in [first.columns, *first.rows]}) == 1
        text = " ".join([*section.points, *section.text, first.note])
        assert all(word in text for word in words)
        assert "flat" in section.points[-1]
        assert section.tables[1].rows == [["even", "100.0%", "6.2%", "16"], ["odd", "100.0%", "6.2%", "16"]]
    assert faithfulness_section({}, "en") is None


@pytest.mark.parametrize(
    "content",
    ["{", "[1, 2]", '{"answer": {"methods": {}}}', '{"answer": {"method": 3, "methods": {}}}', '{"answer": 1}', "\xff"],
)
def test_a_damaged_file_is_told_in_four_parts_and_kept(content: str, tmp_path: Path) -> None:
    path = tmp_path / "explain.json"
    path.write_text(content, encoding="latin-1")
    for call in (
        lambda: read_faithfulness(tmp_path),
        lambda: kept_method(tmp_path, "answer"),
        lambda: keep_faithfulness(tmp_path, "answer", {"method": "x", "methods": {}}),
    ):
        with pytest.raises(RunError) as told:
            call()
        assert told.value.where == str(path)
        assert "rebus explain RUN --check DATA" in told.value.do
    assert path.read_text(encoding="latin-1") == content


def test_a_score_is_the_mean_over_the_words_and_a_text_loses_its_pieces() -> None:
    class Words(Example):
        def scores(self, pixels: Tensor | None = None, ids: Any = None) -> Tensor:
            there = (ids["input_ids"][:, 1:3] != 0).double()  # two words, each of which one token decides
            return torch.logit(0.25 + 0.5 * there)

    asked = Asked(Words.of(Reader(), 0))
    assert asked.spans == SPANS
    kept = np.array([[True, True, False], [False, True, True], [False, False, True]])
    assert asked.score(kept=kept) == pytest.approx([0.75, (0.75 * 0.25) ** 0.5, 0.25])


def test_what_stands_for_a_token_that_is_gone() -> None:
    tokenizer = SimpleNamespace(specials={"<unk>": 4}, mask_id=3, pad_id=0)
    assert filler_of(tokenizer) == 4
    assert filler_of(SimpleNamespace(specials={}, mask_id=3, pad_id=0)) == 3
    assert filler_of(SimpleNamespace(specials={}, mask_id=None, pad_id=0)) == 0
    assert filler_of(SimpleNamespace(unknown_id=1)) == 1  # of words


def test_pieces_take_the_relevance_of_the_token_they_share_most_with() -> None:
    tokens = (TokenScore("where is", 2.0, 0, 8), TokenScore("it", 5.0, 9, 11))
    told = on_pieces(Explanation("m", "", 1.0, tokens=tokens), [*SPANS, (20, 22)])
    assert told.tolist() == [2.0, 2.0, 5.0, 0.0]


def test_rows_are_spread_evenly() -> None:
    assert spread(range(100), 5) == [0, 25, 50, 74, 99]
    assert spread([3, 4], 5) == [3, 4]
    assert Effort.of_rows(200) == Effort(points=200, curves=25, sanity=8)
    assert Effort.of_rows(5) == Effort(points=5, curves=5, sanity=4)
