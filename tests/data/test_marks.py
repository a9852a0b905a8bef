from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES, Entities

from rebus.data.check import check_table
from rebus.data.kinds import infer
from rebus.data.marks import Marks, answers_of, find_answer, wrong_answer
from rebus.data.readers import read_table
from rebus.data.tagging import cut_for, spans_of, strict_spans_of, style_of, tags_of, units_of
from rebus.errors import DataError
from rebus.recipe import Data, TaskSettings


def shown(text: str, cut: str = "script") -> list[str]:
    units = units_of(text, cut)  # type: ignore[arg-type]
    return [units.text[start:end] for start, end in units.offsets]


@pytest.mark.parametrize(("scheme", "rules", "letters"), [("BIO", IOB2, "BI"), ("BIOES", IOBES, "BIES")])
def test_spans_are_those_of_seqeval(scheme: Any, rules: Any, letters: str) -> None:
    rng = random.Random(0)
    kinds = ["O", *(f"{letter}-{label}" for letter in letters for label in ("PER", "LOC"))]
    for _ in range(3000):
        tags = [rng.choice(kinds) for _ in range(rng.randint(1, 9))]
        assert spans_of(tags) == [(start, end + 1, label) for label, start, end in get_entities(tags)]
        strict = [(one.start, one.end, one.tag) for one in Entities([tags], rules).entities[0]]
        assert strict_spans_of(tags, scheme) == strict


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_tags_and_spans_say_the_same(scheme: Any) -> None:
    spans = [(0, 2, "PER"), (2, 3, "LOC"), (4, 7, "PER")]
    assert spans_of(tags_of(spans, 8, scheme)) == spans
    assert strict_spans_of(tags_of(spans, 8, scheme), scheme) == spans


@pytest.mark.parametrize(
    ("tags", "style", "spans"),
    [
        ("B-A M-A E-A S-B O", "prefix", [(0, 3, "A"), (3, 4, "B")]),
        ("B-A I-A L-A U-B O", "prefix", [(0, 3, "A"), (3, 4, "B")]),
        ("B E S B M E", "bare", [(0, 2, "span"), (2, 3, "span"), (3, 6, "span")]),
        ("PER PER O LOC", "plain", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("NN NN VB", "single", [(0, 1, "NN"), (1, 2, "NN"), (2, 3, "VB")]),
    ],
)
def test_every_way_to_write_tags(tags: str, style: str, spans: list[Any]) -> None:
    assert style_of(tags.split()) == style
    assert spans_of(tags.split(), style_of(tags.split())) == spans


def test_units_are_words_and_chinese_characters() -> None:
    assert shown("U.S. won 3-1, 北京ok！") == ["U", ".", "S", ".", "won", "3", "-", "1", ",", "北", "京", "ok", "！"]
    assert shown("cafe\u0301 नमस्ते") == ["cafe\u0301", "नमस्ते"]
    assert shown("hi 👩\u200d👩\u200d👧!") == ["hi", "👩\u200d", "👩\u200d", "👧", "!"]
    assert shown("北京 ab", "characters") == ["北", "京", "a", "b"]


def test_words_are_joined_as_their_script_writes_them() -> None:
    units = units_of(["我", "在", "New", "York", "。"])
    assert units.text == "我在 New York 。"
    assert [units.text[a:b] for a, b in units.offsets] == ["我", "在", "New", "York", "。"]
    assert units.given


def test_a_text_is_cut_as_its_tags_count() -> None:
    assert cut_for("I live in Paris .", 5) == "words"
    assert cut_for("我在北京", 4) == "characters"
    assert cut_for("I live", 3) is None


@pytest.mark.parametrize(
    ("text", "cell", "found"),
    [
        (["a", "b"], ["O"], "1 tags"),
        ("a b c", "O O", "2 tags"),
        (["a", ""], ["O", "O"], "an empty one"),
        (["a"], ["PER-B"], "'PER-B'"),
        (["a"], ["X-PER"], "'X-PER'"),
    ],
)
def test_what_is_wrong_with_tags_is_said(text: Any, cell: Any, found: str) -> None:
    marks = Marks.of([text, ["x", "y"]], [cell, ["B-PER", "O"]])
    told = marks.wrong(text, cell)
    assert told is not None
    assert found in told[1]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ([{"start": 0, "end": 99, "label": "X"}], "0 to 99"),
        ([{"start": 4, "end": 4, "label": "X"}], "4 to 4"),
        ([{"start": 0, "end": 4, "label": "X"}, {"start": 2, "end": 6, "label": "Y"}], "'Anna' and 'na a'"),
        ([{"start": 0, "end": 4, "label": " "}], "none for 0 to 4"),
        ([{"start": "x", "end": 4, "label": "X"}], "{'start': 'x'"),
        ([{"start": 4, "end": 5, "label": "X"}], "blanks from 4 to 5"),
    ],
)
def test_what_is_wrong_with_spans_is_said(cell: Any, found: str) -> None:
    marks = Marks.of(["Anna ate"], [cell])
    assert marks.spans
    told = marks.wrong("Anna ate", cell)
    assert told is not None
    assert found in told[1]


def test_spans_of_characters_become_spans_of_units_and_back() -> None:
    text = "cafe\u0301 in 北京市 👩\u200d👧"
    cell = [{"start": 0, "end": 5, "label": "A"}, {"start": 9, "end": 11, "label": "B"}]
    cell += [{"start": 13, "end": 16, "label": "C"}]
    marks = Marks.of([text], [cell])
    assert marks.wrong(text, cell) is None
    _, inside, characters = marks.read(text, cell)
    triples = [[one["start"], one["end"], one["label"]] for one in cell]
    assert Marks.of([text], [triples]).read(text, triples)[1:] == (inside, characters)
    assert [text[start:end] for start, end, _ in characters] == ["cafe\u0301", "北京", "👩\u200d👧"]
    assert inside == [(0, 1, "A"), (2, 4, "B"), (5, 7, "C")]


def test_numbers_need_names() -> None:
    assert "names of tags" in (Marks.of([["a"]], [[1]]).wrong(["a"], [1]) or ("",))[0]
    marks = Marks.of([["a", "b"]], [[1, 0]], ["O", "B-PER"])
    assert marks.read(["a", "b"], [1, 0])[1] == [(0, 1, "PER")]
    assert "'7'" in (marks.wrong(["a"], [7]) or ("", ""))[1]


def test_answers_are_found_in_their_passage() -> None:
    passage = "The art of Artie is art."
    assert find_answer(passage, "art") == (4, 7)
    assert find_answer(passage, "artie") == (11, 16)
    assert find_answer(passage, "Art") == (11, 14)  # only inside a word, in these capitals
    assert find_answer(passage, "art", 20) == (20, 23)
    assert find_answer(passage, "art", 5) is None
    assert find_answer("他在北京市。", "北京") == (2, 4)
    assert answers_of({"text": ["a", "b"], "answer_start": [1, 5]}) == [("a", 1), ("b", 5)]
    assert answers_of(None) == answers_of([]) == answers_of("") == []
    assert answers_of("a", 3) == [("a", 3)]
    assert wrong_answer(passage, "", None) is None
    assert "'of'" not in str(wrong_answer(passage, "of", 8))
    assert "which does not" in str(wrong_answer(passage, "cake"))
    assert "at character 3" in str(wrong_answer(passage, "art", 3))


def save(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_conll_file_is_a_table_of_sentences(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\n# one\nEU NNP B-ORG\nrejects VBZ O\n\n\n北 x B-LOC\n京 x I-LOC\n"
    table = read_table(Data(path=str(save(tmp_path / "a.conll", text))))
    assert table.column("tokens") == [["EU", "rejects"], ["北", "京"]]
    assert table.column("tags") == [["B-ORG", "O"], ["B-LOC", "I-LOC"]]
    assert table.where(1) == "a.conll, line 8"
    found = infer(table)
    assert [task.name for task in found.tasks] == ["ner"]
    assert found.tasks[0].columns == {"tokens": "tokens", "tags": "tags"}


def test_a_broken_conll_line_is_named_or_its_sentence_left_out(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bio", "a\tO\nb\n\nc\tB-X\n")
    with pytest.raises(DataError, match=r"a\.bio, line 2"):
        read_table(Data(path=str(path)))
    table = read_table(Data(path=str(path), on_bad="skip"))
    assert table.column("tokens") == [["c"]]
    assert len(table.skipped) == 1


def test_squads_own_json_is_a_table_of_questions(tmp_path: Path) -> None:
    asked = [
        {"question": "Who?", "id": "1", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"question": "Why?", "id": "2", "answers": [], "is_impossible": True},
    ]
    other = {"context": "Bob slept.", "qas": [{"question": "Who slept?", "answers": [{"text": "Bob"}]}]}
    content = {"version": "2", "data": [{"title": "t", "paragraphs": [{"context": "Ann ate.", "qas": asked}, other]}]}
    table = read_table(Data(path=str(save(tmp_path / "squad.json", content))))
    assert table.column("answers") == [["Ann"], [], ["Bob"]]
    assert table.column("answer_start") == [[0], [], [None]]
    found = infer(table)
    assert [task.name for task in found.tasks] == ["extract"]
    columns = {"question": "question", "passage": "context", "answer": "answers", "start": "answer_start"}
    assert found.tasks[0].columns == columns
    with pytest.raises(DataError, match="another layout"):
        read_table(
            Data(path=str(save(tmp_path / "b.json", [{"context": "a", "qas": [{"question": "b"}]}, {"context": "c"}])))
        )


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([{"tokens": ["a", "b"], "ner_tags": ["O"]}], "ner", "1 tags"),
        ([{"text": "abc", "spans": [{"start": 1, "end": 9, "label": "X"}]}], "ner", "1 to 9"),
        ([{"question": "q?", "context": "c", "answer": "zzz", "answer_start": 0}], "extract", "zzz"),
    ],
)
def test_the_check_names_the_row(tmp_path: Path, rows: list[Any], task: str, message: str) -> None:
    good = {
        "ner": {
            "tokens": ["x", "y"],
            "ner_tags": ["B-PER", "O"],
            "text": "x y",
            "spans": [{"start": 0, "end": 1, "label": "P"}],
        },
        "extract": {"question": "w?", "context": "d e", "answer": "d", "answer_start": 0},
    }[task]
    kept = {key: value for key, value in good.items() if key in rows[0]}
    several = [kept | ({"context": f"d e {number}"} if "context" in kept else {}) for number in range(4)]
    lines = "\n".join(json.dumps(row) for row in [*several, *rows])
    data = Data(path=str(save(tmp_path / "a.jsonl", lines)))
    table = read_table(data)
    found = infer(table)
    report = check_table(table, data, found.kinds, found.tasks, ["train"] * 5)
    assert [entry.name for entry in found.tasks] == [task]
    assert list(report.bad_rows) == [4]
    assert message in str(report.bad_rows[4])
    assert "line 5" in str(report.bad_rows[4])


def test_class_numbers_in_lists_carry_their_names(tmp_path: Path) -> None:
    import datasets

    names = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features(
        {"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": datasets.Sequence(names)}
    )
    made = datasets.Dataset.from_dict({"tokens": [["Ann", "ate"]], "ner_tags": [[1, 0]]}, features=features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    assert pq.read_table(tmp_path / "a.parquet").column("ner_tags").to_pylist() == [[1, 0]]
    assert read_table(Data(path=str(tmp_path / "a.parquet"))).column("ner_tags") == [["B-PER", "O"]]
    made.save_to_disk(str(tmp_path / "saved"))
    assert read_table(Data(path=str(tmp_path / "saved"))).column("ner_tags") == [["B-PER", "O"]]


def test_columns_of_pairs_and_of_text_with_spans_are_known(tmp_path: Path) -> None:
    pairs = [{"sentence1": f"text number {i} here", "sentence2": f"another {i} text", "score": i / 7} for i in range(8)]
    table = read_table(Data(path=str(save(tmp_path / "p.jsonl", "\n".join(map(json.dumps, pairs))))))
    assert infer(table).tasks == [
        TaskSettings(name="similar", columns={"anchor": "sentence1", "positive": "sentence2", "score": "score"})
    ]
    spans = [{"text": "Ann ate", "entities": [{"start": 0, "end": 3, "label": "PER"}]}, {"text": "no", "entities": []}]
    table = read_table(Data(path=str(save(tmp_path / "s.jsonl", "\n".join(map(json.dumps, spans))))))
    assert infer(table).tasks == [TaskSettings(name="ner", columns={"tokens": "text", "tags": "entities"})]
