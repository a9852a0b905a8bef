from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

from rebus.data.tagging import spans_of, strict_spans_of, units_of
from rebus.errors import DataError
from rebus.recipe import TaskSettings
from rebus.tasks import TextProcessor
from rebus.tasks.metrics.intervals import figures
from rebus.tasks.metrics.spans import span_metrics, span_statistics
from rebus.tasks.ner import Ner, best_path, legal_steps
from rebus.tasks.reading import pieces_of, windows_of
from rebus.text.tokenizer import Tokenizer
from rebus_words.reader import WordTokenizer

TEXTS = ["Anna Lee went to New York .", "王芳昨天去了北京市。", "cafe\u0301 🦊 costs 5 yuan"]
TOKENIZER = Tokenizer.train(TEXTS * 5, 420)
PROCESSORS = [
    TextProcessor(TOKENIZER, max_length=64),
    TextProcessor(TOKENIZER, WordTokenizer.train(TEXTS, 60, "none"), max_length=64),
]
COLUMNS = {"tokens": "tokens", "tags": "tags"}


def task_on(tokens: list[Any], tags: list[Any], **more: Any) -> tuple[Ner, dict[str, list[Any]]]:
    values = {"tokens": tokens, "tags": tags}
    task = Ner(TaskSettings(name="ner", columns=COLUMNS, **more))
    task.fit(values, range(len(tokens)))
    return task, values


def sure_of(task: Ner, windows: list[Any], tags: list[str]) -> list[np.ndarray[Any, Any]]:
    """The numbers of a model that is sure of these tags, one a unit; anything elsewhere."""
    outputs = []
    for window in windows:
        numbers = np.random.default_rng(0).normal(size=(len(window["text_ids"]), len(task.tags))).astype(np.float32)
        for unit, place in zip(window["units"], window["at"], strict=True):
            numbers[place] = -20
            numbers[place, task.index[tags[unit]]] = 20
        outputs.append(numbers)
    return outputs


@pytest.mark.parametrize("processor", PROCESSORS, ids=["pieces", "words"])
@pytest.mark.parametrize("text", [*TEXTS, "北京市", "...", "", "x" * 90, "a\u200bb 👩\u200d👩\u200d👧 नमस्ते ﬁne"])
def test_every_unit_has_a_first_piece_of_its_own(text: str, processor: TextProcessor) -> None:
    units = units_of(text)
    pieces = pieces_of(processor, units)
    assert len(set(pieces.firsts)) == len(units.offsets) == len(pieces.firsts)
    assert pieces.firsts == sorted(pieces.firsts)
    for (start, end), first in zip(units.offsets, pieces.firsts, strict=True):
        at = pieces.offsets[first]
        assert at[0] < end
        assert at[1] > start  # the piece stands on the unit


def test_a_chinese_word_that_is_one_piece_is_read_by_character() -> None:
    tokenizer = Tokenizer.train(["北京市" * 50, "去北京市" * 50], 300)
    assert len(tokenizer.encode("北京市")) < 3 * len(tokenizer.encode("市"))
    pieces = pieces_of(TextProcessor(tokenizer), units_of("去北京市"))
    assert [pieces.offsets[first] for first in pieces.firsts] == [(0, 1), (1, 2), (2, 3), (3, 4)]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=60), st.integers(5, 40))
def test_windows_lose_no_unit(sizes: list[int], room: int) -> None:
    firsts = [0, *itertools.accumulate(sizes)][:-1]
    count = sum(sizes)
    windows = windows_of(firsts, count, room)
    assert {place for start, end in windows for place in range(start, end)} == set(range(count))
    assert all(0 < end - start <= room for start, end in windows)
    assert all(after[0] > before[0] for before, after in itertools.pairwise(windows))
    if count > room:  # neighbours overlap unless a unit is too long for that
        assert all(after[0] <= before[1] for before, after in itertools.pairwise(windows))


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_a_long_text_keeps_all_its_spans(scheme: Any) -> None:
    words = [f"word{i}" for i in range(200)]
    tags = (["O", "B-PER", "I-PER", "O", "B-LOC"] * 40)[:200]
    task, values = task_on([words], [tags], scheme=scheme)
    processor = TextProcessor(TOKENIZER, max_length=32)
    windows = task.windows(values, 0, processor, learn=True)
    assert len(windows) > 10
    assert all(len(window["text_ids"]) <= 32 for window in windows)
    taught = {
        int(unit): int(window["target"][place])
        for window in windows
        for unit, place in zip(window["units"], window["at"], strict=True)
    }
    inside = [task.tags[taught[unit]] for unit in range(200)]
    assert spans_of(inside) == spans_of(tags) == strict_spans_of(inside, scheme)
    told = task.predict_row(values, 0, windows, sure_of(task, windows, inside))
    assert [span["words"] for span in told.value] == [[start, end] for start, end, _ in spans_of(tags)]
    assert task.quick_score(values, [0], [told])["f1"] == 1.0


@pytest.mark.parametrize("processor", PROCESSORS, ids=["pieces", "words"])
def test_spans_come_back_in_characters_of_the_text_as_given(processor: TextProcessor) -> None:
    text = "  cafe\u0301 🦊 in 北京市１ "
    cell = [
        {"start": 2, "end": 7, "label": "A"},
        {"start": 8, "end": 9, "label": "B"},
        {"start": 13, "end": 16, "label": "C"},
    ]
    task, values = task_on([text], [cell])
    windows = task.windows(values, 0, processor, learn=True)
    units = task.marks.read(text, cell)
    tags = task._inside(units[1], len(units[0].offsets))
    told = task.predict_row({"tokens": [text]}, 0, windows, sure_of(task, windows, tags))
    assert [(span["text"], span["label"]) for span in told.value] == [("cafe\u0301", "A"), ("🦊", "B"), ("北京市", "C")]
    assert [(span["start"], span["end"]) for span in told.value] == [(2, 7), (8, 9), (13, 16)]
    assert all(span["score"] > 0.99 for span in told.value)


@given(st.integers(0, 10_000), st.sampled_from(["BIO", "BIOES"]), st.integers(1, 12))
@settings(max_examples=60)
def test_what_is_decoded_is_legal_and_the_best_of_what_is(seed: int, scheme: Any, count: int) -> None:
    tags = ["O", *(f"{letter}-{label}" for label in "XY" for letter in ("BI" if scheme == "BIO" else "BIES"))]
    steps = legal_steps(tags)
    chances = np.random.default_rng(seed).normal(size=(count, len(tags))) * 3
    path = best_path(chances, steps)
    said = [tags[number] for number in path]
    assert strict_spans_of(said, scheme) == spans_of(said)
    if count > 4 or (scheme == "BIOES" and count > 3):
        return

    def score(numbers: tuple[int, ...]) -> float:
        edges = [len(tags), *numbers, len(tags)]
        moves = sum(steps[one, other] for one, other in itertools.pairwise(edges))
        return float(moves + sum(chances[place, number] for place, number in enumerate(numbers)))

    assert score(tuple(path)) == max(map(score, itertools.product(range(len(tags)), repeat=count)))


def test_figures_are_those_of_seqeval() -> None:
    rng = random.Random(1)
    kinds = ["O", "O", *(f"{letter}-{label}" for letter in "BI" for label in ("PER", "LOC", "ORG"))]
    for _ in range(60):
        truth = [[rng.choice(kinds) for _ in range(rng.randint(1, 12))] for _ in range(6)]
        told = [[tag if rng.random() < 0.6 else rng.choice(kinds) for tag in row] for row in truth]
        mine = span_metrics([spans_of(row) for row in truth], [spans_of(row) for row in told])
        for average, prefix in (("micro", ""), ("macro", "macro_")):
            for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
                expected = function(truth, told, average=average, zero_division=0)
                assert mine[prefix + name] == pytest.approx(expected, abs=1e-12), (average, name)
        report = classification_report(truth, told, output_dict=True, zero_division=0)
        for label in ("PER", "LOC", "ORG"):
            if f"f1 {label}" in mine:
                assert mine[f"f1 {label}"] == pytest.approx(report[label]["f1-score"])


def test_weights_count_rows_as_often_as_they_say() -> None:
    truth = [[(0, 1, "A")], [(0, 2, "B")], []]
    told = [[(0, 1, "A")], [(0, 1, "B")], [(1, 2, "A")]]
    weights = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
    repeated = [[0, 0, 1], [1, 1, 1, 2]]
    for name, statistic in span_statistics(truth, told).items():
        for line, rows in enumerate(repeated):
            there = figures(span_statistics([truth[r] for r in rows], [told[r] for r in rows]), len(rows))
            if name in there:
                assert statistic(weights)[line] == pytest.approx(there[name]), name


def test_the_dictionary_knows_what_training_said() -> None:
    tokens = [["Ann", "Lee", "May", "ran"], ["May", "is", "warm"], ["in", "May"], ["New", "York", "City"]]
    tags = [["B-P", "I-P", "B-P", "O"], ["O", "O", "O"], ["O", "O"], ["B-L", "I-L", "O"]]
    task, values = task_on(tokens, tags)
    asked = {"tokens": [["See", "Ann", "Lee", "in", "May", "or", "New", "York"]], "tags": [["O"] * 8]}
    told, name = task.naive(asked, [0], values, range(4))
    assert name == "dictionary of training spans"
    text = "See Ann Lee in May or New York"
    assert [(text[span["start"] : span["end"]], span["label"]) for span in told[0].value] == [
        ("Ann Lee", "P"),
        ("New York", "L"),
    ]


def test_parts_of_speech_are_a_label_for_each_word() -> None:
    task, values = task_on([["Ann", "ate", "cake"]], [["NN", "VB", "NN"]])
    assert task.tags == ["S-NN", "S-VB"]
    windows = task.windows(values, 0, PROCESSORS[0], learn=True)
    told = task.predict_row(values, 0, windows, sure_of(task, windows, ["S-NN", "S-VB", "S-NN"]))
    assert [span["label"] for span in told.value] == ["NN", "VB", "NN"]
    assert task.quick_score(values, [0], [told])["word_accuracy"] == 1.0


def test_a_task_comes_back_from_its_state() -> None:
    task, _ = task_on(["王 芳 去"], ["B-PER E-PER O"])
    again = Ner(task.settings)
    again.restore(task.state())
    assert (again.tags, again.marks) == (task.tags, task.marks)
    assert again.marks.units("去 北 京").offsets == [(0, 1), (2, 3), (4, 5)]


def test_the_loss_reads_first_pieces_only_and_no_padding() -> None:
    tokens = [["unseenlongword", "ran"], ["a", "b", "c", "d", "e", "f", "g", "h", "i"]]
    task, values = task_on(tokens, [["B-P", "O"], ["O"] * 9])
    items = [window for row in (0, 1) for window in task.windows(values, row, PROCESSORS[0], learn=True)]
    part = task.collate(items, [0, 1])
    outputs = torch.randn(*part["text_ids"].shape, len(task.tags))
    read = part["target"] != -100
    assert int(read.sum()) == 11
    garbage = torch.where(read[..., None], outputs, torch.randn_like(outputs) * 100)
    assert torch.equal(task.loss(outputs, part), task.loss(garbage, part))
    silent = {**part, "target": torch.full_like(part["target"], -100)}
    assert float(task.loss(outputs, silent)) == 0.0  # a batch of empty texts is no reason to stop


def test_wrong_rows_are_named() -> None:
    task, _ = task_on([["a", "b"]], [["B-P", "O"]])
    with pytest.raises(DataError, match=r"row 1, column 'tags'.*2 words"):
        task.statistics(
            {"tokens": [["a", "b"]], "tags": [["O"]]},
            [0],
            [task.naive({"tokens": [["a"]]}, [0], {"tokens": [], "tags": []}, [])[0][0]],
        )
    with pytest.raises(DataError, match="spans with labels"):
        task_on([["a"]], [["O"]])


def test_people_are_told_of_long_texts_and_loose_tags() -> None:
    task, values = task_on([["a"] * 90, ["b", "c"], ["d"]], [["O"] * 90, ["I-X", "I-X"], ["B-X"]])
    long, loose = task.notes(values, [0, 1], TextProcessor(TOKENIZER, max_length=32))
    assert "1 rows are longer than 32 tokens" in long
    assert "1 rows break the rules" in loose
    assert task.notes(values, [0], TextProcessor(TOKENIZER, max_length=200)) == []
