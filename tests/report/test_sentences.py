"""Sentences that training leaves have a Chinese form: those that the sources can say, read from the sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import rebus
from rebus.recipe import Kind
from rebus.report.sentences import _REASONS, kind_name, knows, naive_name, place_name, sentence

SOURCE = Path(rebus.__file__).parent
SAID = [
    "column 'a b' is image (names of image files); otherwise: --kind 'a b'=KIND",
    "not learned from: 'type' (its name says that it describes the row), 'x' (lists of numbers); otherwise: "
    "--kind COLUMN=KIND",
    "task answer (a question and an answer column), reading image 'p', question 'q', answer 'a'; otherwise: --task "
    "NAME, or --set tasks.0.columns.ROLE=COLUMN",
    "task lm (text files and nothing else); otherwise: --task mlm",
    "1,234 rows of at most 48 tokens, 3.1% of them padding",
    "column 'n': 3 values are not finite numbers",
    "task patch_classify: 12 rows hold nothing for it",
    "column 't' names the row's own 'label' in 61% of rows: the model may read the answer instead of learning it",
    "column 'l': 3 of 9 labels have fewer than 5 rows",
    "column 'l': the most frequent label has 100 rows, the rarest 2",
    "column 'l': 2 labels are in no training row (a, b)",
    "no row is in the split 'valid'",
    "3 left out while reading; the first: x.csv, line 3",
    "4 rows repeat an earlier row",
    "5 rows outside training hold an image that training rows hold too, or one that looks the same; keep them "
    "together with --set data.split.group=COLUMN",
    "column 'p': 7 rows have no image",
    "column 'p': all 12500 headers were read, 4000 images were decoded (a sample): damage and near-duplicates among "
    "the others are not known",
    "task a: the tokens that are learned are the same for all 8 texts of a batch, though the answers differ: the chat "
    "template seems to leave them out; set tasks.0.layout=plain, or mend the template",
    "task a: the loss is nearly nothing (0.0010) after 3 steps: in 80% of the rows the answer stands in the prompt; "
    "leave it out of the question's column",
    "task a: the loss is nearly nothing (0.0010) after 3 steps: the answers are known already, or what is learned is "
    "not the answer; compare the chat template with `rebus tokenizer`, and look at the answers' column",
    "task a: the loss has not fallen by 40% of the run (2.000 at first, 2.100 now): lower train.lr and train.muon_lr, "
    "and see whether train.tune, train.learns and train.rates leave enough to learn",
    "task a: the same output for 64 validation rows whose truths differ ('{no}' 64 times): the model has settled on "
    "what is said most. Train longer or with a lower train.lr, give it more rows, or another model.fusion.kind",
    "task a: 97% of the answers stay the same when images are shuffled among the rows: the model does not look at "
    "them; look at the images with `rebus data check`, raise image.size, or train longer",
    "task a: 97% of the answers are those of the majority class, which never looks at an image; look at the images "
    "with `rebus data check`, raise image.size, or train longer",
    "corpus: 10 documents of 1,000 characters read; 9 kept (900 characters, 950 bytes)",
    "size nano: 1 layers of width 16, about 3,072 weights in them",
    "5,000 training tokens, read about 2.5 times; 8 rows of 48 tokens a step",
]


@pytest.mark.parametrize("text", SAID)
def test_a_sentence_has_a_chinese_form_that_keeps_its_facts(text: str) -> None:
    assert knows(text)
    assert sentence(text, "en") == text
    said = sentence(text, "zh")
    assert re.search("[\u4e00-\u9fff]", said)
    for number in re.findall(r"\d[\d,.]*%?", text.split(": Train")[0]):
        assert number.rstrip(".,") in said or number.startswith(("5 ", "0.001")) or number == "5", (number, said)
    assert "\\" not in said
    assert not re.search(r"\{(kind|part|list):", said)


def literals(file: str, function: str, place: int) -> set[str]:
    """Texts that a source file hands to a function as one of its arguments."""
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == function and len(node.args) > place:
            found |= {
                one.value
                for one in ast.walk(node.args[place])
                if isinstance(one, ast.Constant) and len(str(one.value)) > 3
            }
    return {text for text in found if isinstance(text, str)}


def returned(file: str) -> set[str]:
    """The reasons among pairs of a task's turn and a reason that a source file gives back."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((SOURCE / file).read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Tuple)
            and len(node.elts) == 2
            and all(isinstance(one, ast.Constant) for one in node.elts)
        ):
            turn, why = (one.value for one in node.elts if isinstance(one, ast.Constant))
            if isinstance(turn, int) and " " in str(why):
                found.add(str(why))
    return found


def test_every_reason_that_the_sources_give_is_known() -> None:
    reasons = literals("data/column_kind.py", "Guess", 1) | literals("data/kinds.py", "Guess", 1)
    reasons |= set().union(*(returned(f"tasks/{path.name}") for path in (SOURCE / "tasks").glob("*.py")))
    assert len(reasons) > 40
    known = [re.compile(pattern) for pattern, _ in _REASONS]
    parts = {
        "values of type ",
        " are not learned from",
        "few different values (",
        "its name, and few different values (",
        " rows)",
        " in ",
        " of ",
        "its name; ",
        "free text, ",
        "labels divided by ",
        ", which come back in other cells",
        " numbers that come back",
        " whole numbers that come back",
        " whole numbers differ, and they lie far apart",
        " different whole numbers stand for classes",
    }  # of formatted ones
    assert {text for text in reasons - parts if not any(one.fullmatch(text) for one in known)} == set()
    for whole in (
        "its name; 5 numbers that come back",
        "its name; 5 different whole numbers stand for classes",
        "9 of 12 whole numbers differ, and they lie far apart",
        "4 whole numbers that come back",
        "its name, and few different values (3 in 40 rows)",
        "labels divided by ',', which come back in other cells",
    ):
        assert any(one.fullmatch(whole) for one in known), whole


def test_kinds_and_baselines_have_chinese_names() -> None:
    from typing import get_args

    for kind in get_args(Kind):
        assert kind_name(kind, "zh") != kind
    named: set[str] = set()
    for file in (SOURCE / "tasks").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name in ("naive", "from_counts"):
                named |= {
                    str(one.value.elts[1].value)
                    for one in ast.walk(node)
                    if isinstance(one, ast.Return)
                    and isinstance(one.value, ast.Tuple)
                    and isinstance(one.value.elts[1], ast.Constant)
                }
    assert len(named) > 12
    assert {name for name in named if naive_name(name, "zh") == name} == set()


def test_what_no_pattern_knows_stays() -> None:
    assert sentence("something quite new", "zh") == "something quite new"
    assert not knows("something quite new")
    assert place_name("a.csv, line 12", "zh") == "a.csv，第 12 行"
    assert place_name("a.csv, line 12", "en") == "a.csv, line 12"
