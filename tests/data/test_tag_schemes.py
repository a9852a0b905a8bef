"""Every scheme of tags gives the same spans, and what was recognised is said."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rebus import api
from rebus.data.marks import Marks
from rebus.data.readers import read_table
from rebus.data.tagging import writing_of
from rebus.errors import DataError
from rebus.recipe import Data, TaskSettings
from rebus.tasks.ner import Ner

WORDS = ["Ann", "Lee", "saw", "London", "City", "and", "Bob", "Rome", "Tom"]
SPANS = [(0, 2, "PER"), (3, 5, "LOC"), (6, 7, "PER"), (7, 8, "LOC"), (8, 9, "PER")]
BIO = "B-PER I-PER O B-LOC I-LOC O B-PER B-LOC B-PER"
BIOES = "B-PER E-PER O B-LOC E-LOC O S-PER S-LOC S-PER"
WAYS = {
    "BIO": BIO,
    "BIOES": BIOES,
    "BILOU": BIOES.replace("E-", "L-").replace("S-", "U-"),
    "BMEWO": BIOES.replace("S-", "W-"),
    "IOB1": "I-PER I-PER O I-LOC I-LOC O I-PER I-LOC I-PER",
    "underscore": BIO.replace("-", "_"),
    "colon": BIO.replace("-", ":"),
    "suffix": " ".join("-".join(reversed(tag.split("-"))) for tag in BIO.split()),
    "suffix of five": " ".join("_".join(reversed(tag.split("-"))) for tag in BIOES.split()),
    "joined": BIO.replace("-", ""),
    "outside 0": BIO.replace("O ", "0 ").replace("L0", "LO"),
    "outside _": BIO.replace(" O ", " _ "),
    "outside -": BIO.replace(" O ", " - "),
    "small": BIO.lower(),
    "small suffix": " ".join("-".join(reversed(tag.lower().split("-"))) for tag in BIO.split()),
    "labels alone": "PER PER O LOC LOC O PER LOC PER",
}


def marks_of(ways: list[str]) -> Marks:
    return Marks.of([WORDS] * len(ways), [way.split() for way in ways])


@pytest.mark.parametrize("name", WAYS)
def test_every_scheme_gives_the_same_spans(name: str) -> None:
    marks = marks_of([WAYS[name]] * 3)
    assert marks.wrong(WORDS, WAYS[name].split()) is None
    spans = [(start, end, label.upper()) for start, end, label in marks.read(WORDS, WAYS[name].split())[1]]
    assert spans == SPANS
    assert Marks.from_dict(marks.as_dict()) == marks
    assert marks.keeps_rules(WAYS[name].split())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("BIO", "BIO (B-LABEL, O outside)"),
        ("BILOU", "BILOU (B-LABEL"),
        ("BMEWO", "BMEWO"),
        ("IOB1", "IO"),
        ("suffix", "BIO (LABEL-B"),
        ("joined", "BLABEL"),
        ("outside _", "_ outside"),
        ("small", "o outside"),
    ],
)
def test_what_was_recognised_is_said(name: str, said: str) -> None:
    assert said in marks_of([WAYS[name]]).said()


def test_iob1_is_known_by_its_begins() -> None:
    marks = Marks.of([["a", "b", "c", "d"]], [["I-X", "B-X", "O", "I-X"]])
    assert marks.writing.scheme == "IOB1"
    assert marks.read(["a", "b", "c", "d"], ["I-X", "B-X", "O", "I-X"])[1] == [(0, 1, "X"), (1, 2, "X"), (3, 4, "X")]


@pytest.mark.parametrize(
    ("tags", "style", "doubt"),
    [
        ("NN VB NN DT", "single", ""),
        ("e-mail web e-mail phone", "single", ""),
        ("NN-S NN VB_B", "single", ""),
        ("_ _ _ LOC _ PER", "plain", "67% of words"),
        ("NN VB - DT NN", "single", "read as a label"),
        ("BIG SMALL O", "plain", ""),
        ("B-X I-X L-X S-X E-X U-X O", "prefix", "mixed"),
        ("B E S B M E", "bare", ""),
        ("b e s b m e", "bare", ""),
    ],
)
def test_what_is_no_scheme_is_not_taken_for_one(tags: str, style: str, doubt: str) -> None:
    words = [f"w{i}" for i in range(len(tags.split()))]
    marks = Marks.of([words], [tags.split()])
    assert marks.style == style
    assert doubt in marks.writing.doubt
    assert bool(doubt) == bool(marks.writing.doubt)


def test_numbers_of_tags_still_need_their_names() -> None:
    marks = Marks.of([["a", "b", "c"]], [["0", "1", "2"]])
    assert marks.wrong(["a", "b", "c"], ["0", "1", "2"]) is not None
    assert writing_of(Counter(["0", "B-X", "I-X"])).outside == "0"


def test_begins_that_are_missing_are_warned_of() -> None:
    rows = [["I-X", "O"], ["B-X", "O"], ["B-X", "O"]]
    marks = Marks.of([["a", "b"]] * 3, rows)
    assert "1 of 3 spans begin with I" in marks.writing.doubt


@pytest.mark.parametrize("name", [name for name in WAYS if name not in ("BIO", "IOB1")])
def test_a_held_out_table_in_another_scheme_has_the_same_spans(name: str) -> None:
    task = Ner(TaskSettings(name="ner", columns={"tokens": "tokens", "tags": "tags"}))
    training: dict[str, Any] = {"tokens": [WORDS] * 4, "tags": [BIO.split()] * 4}
    task.fit(training, range(4))
    other: dict[str, Any] = {"tokens": [WORDS] * 4, "tags": [WAYS[name].split()] * 4}
    assert task._read(other, 0)[1] == SPANS
    assert task._read(training, 0)[1] == SPANS


def read(path: Path, text: str, **data: Any) -> Any:
    (path / "a.conll").write_text(text, encoding="utf-8")
    return read_table(Data(path=str(path / "a.conll"), **data))


def test_the_check_says_the_scheme(tmp_path: Path) -> None:
    text = "".join(f"london b-loc\ncity i-loc\nis o\nbig o\n{i} o\n\n" for i in range(20))
    table = read(tmp_path, text)
    assert table.column("tags")[0] == ["b-loc", "i-loc", "o", "o", "o"]
    report = api.check(tmp_path / "a.conll")
    assert any("BIO (B-LABEL, o outside)" in note for note in report.notes)
    assert not report.bad_rows


@pytest.mark.parametrize("gap", [" ", "\t"])
def test_a_token_that_begins_with_a_hash_is_no_comment(tmp_path: Path, gap: str) -> None:
    text = "".join(f"# O\n#Rome B-LOC\n## O\n# text = of {i}\nnice O\n\n" for i in range(9)).replace(
        "# text", "\n# text"
    )
    table = read(tmp_path, text.replace(" O", f"{gap}O").replace(" B", f"{gap}B"))
    assert table.column("tokens")[:2] == [["#", "#Rome", "##"], ["nice"]]
    assert len(table) == 18
    assert not table.warnings


def test_comments_are_told_from_tokens_by_their_tag(tmp_path: Path) -> None:
    table = read(tmp_path, "#begin document (a);\n# newdoc\nLondon B-LOC\n# O\nis O\n#end document\n\nnice O\n")
    assert table.column("tokens") == [["London", "#", "is"], ["nice"]]
    assert any("# newdoc" in warning for warning in table.warnings)


def test_conll_u_gives_words_and_parts_of_speech(tmp_path: Path) -> None:
    rows = [
        "1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_",
        "1\tdo\tdo\tAUX\t_\t_\t3\taux\t_\t_",
        "2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_",
    ]
    rows += ["3\tgo\tgo\tVERB\t_\t_\t0\troot\t_\t_", "3.1\tnow\tnow\tADV\t_\t_\t_\t_\t_\t_"]
    table = read(tmp_path, "# sent_id = 1\n# text = don't go\n" + "\n".join(rows) + "\n\n" + "\n".join(rows) + "\n")
    assert table.column("tokens") == [["do", "n't", "go"]] * 2
    assert table.column("tags") == [["AUX", "PART", "VERB"]] * 2
    assert any("4 lines of words joined" in note for note in table.notes)
    assert any("column 4 of 10" in note for note in table.notes)
    assert read(tmp_path, "\n".join(rows) + "\n", tag_column=8).column("tags") == [["aux", "advmod", "root"]]


def test_tokens_and_blank_lines_of_odd_letters(tmp_path: Path) -> None:
    table = read(tmp_path, "New York\tB-LOC\n\u2028\tO\n\xa0\u3000\n \t \n-DOCSTART-\tO\n\nc\x85d\tO\r\n")
    assert table.column("tokens") == [["New York", "\u2028"], ["c\x85d"]]


def test_several_columns_of_tags_are_said_and_can_be_chosen(tmp_path: Path) -> None:
    text = "1\tSchartau\tB-PER\tO\n2\tsagte\tO\tO\n3\tBonn\tB-LOC\tB-ORG\n\n1\tda\tO\tO\n2\tRom\tI-LOC\tO\n"
    table = read(tmp_path, text)
    assert table.column("tokens")[1] == ["da", "Rom"]
    assert table.column("tags")[0] == ["B-PER", "O", "B-LOC"]
    assert any("columns 3, 4 all look like tags" in warning for warning in table.warnings)
    assert read(tmp_path, text, tag_column=4).column("tags")[0] == ["O", "O", "B-ORG"]
    with pytest.raises(DataError, match="tag_column"):
        read(tmp_path, text, tag_column=9)


def test_lines_without_a_tag(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2"):
        read(tmp_path, "a\tO\nb\t\nc\tO\n")
    assert read(tmp_path, "a\nb\n\nc\n").columns == ["tokens"]
    with pytest.raises(DataError, match="2012"):
        read(tmp_path, "\n".join(f"bc/a/b 0 {i} w NN * - - - - * -" for i in range(4)))


@pytest.mark.parametrize("tags", ["START-LOC END-LOC O O", "LOC_1 LOC_2 O O", "(LOC* *) * *"])
def test_labels_that_say_beginning_and_end_are_warned_of(tags: str) -> None:
    doubt = Marks.of([["new", "city", "is", "big"]] * 9, [tags.split()] * 9).writing.doubt
    assert "not as the beginning and the end of one" in doubt
    fine = ["person-actor", "person-artist", "O", "B"]
    assert not Marks.of([["new", "city", "is", "big"]] * 9, [fine] * 9).writing.doubt


def test_words_and_tags_together_are_refused() -> None:
    pairs = [["EU", "B-ORG"], ["says", "O"]]
    marks = Marks.of([["EU", "says"]] * 3, [pairs] * 3)
    assert "a word and its tag together" in str(marks.wrong(["EU", "says"], pairs))
