"""A text with more tokens than the model reads: of a question the end is kept, and somebody is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rebus.checkpoints.run_folder import Run
from rebus.errors import TextLengthError
from rebus.explain import explain
from rebus.inference.generate import refuse_long
from rebus.inference.predict_table import predict_table
from rebus.inference.predictor import Predictor
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Converse, TextProcessor
from rebus.tasks.cuts import CutWarning, counting, cut, refusing
from rebus.tasks.layout import answer_ids, prompt_ids
from rebus.text.tokenizer import Tokenizer
from tiny_server import write_run

LONG = "A sentence about nothing. " * 30
QUESTION = "How many things are there?"


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return TextProcessor(Tokenizer.train([LONG, QUESTION] * 3, 330), max_length=32)


@pytest.mark.parametrize("layout", ["chat", "plain"])
@pytest.mark.parametrize("role", ["user", "system"])
def test_of_a_long_question_the_end_is_kept_where_the_question_stands(
    processor: TextProcessor, layout: str, role: str
) -> None:
    ids = prompt_ids([{"role": role, "content": LONG + QUESTION}], processor, layout)
    assert QUESTION in processor.tokenizer.decode(ids)
    assert len(ids) <= processor.max_length + 3


def test_of_a_long_answer_the_start_is_kept(processor: TextProcessor) -> None:
    assert processor.tokenizer.decode(answer_ids([], "Two. " + LONG, processor)).startswith("Two.")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("answer", {"question": [LONG + QUESTION], "answer": ["two"]}),
        ("classify", {"text": [LONG], "label": ["a"]}),
        ("regress", {"text": [LONG], "target": [1.0]}),
        ("tag", {"text": [LONG], "labels": ["a|b"]}),
        ("similar", {"anchor": [LONG], "positive": ["short"], "score": [1.0]}),
        ("retrieve", {"image": ["a.png"], "text": [LONG]}),
        ("match", {"image": ["a.png"], "text": [LONG], "label": ["yes"]}),
        ("generate", {"prompt": [LONG], "output": ["two"]}),
    ],
)
def test_every_task_counts_the_training_rows_that_are_cut(
    processor: TextProcessor, name: str, values: dict[str, list[Any]]
) -> None:
    task = TASKS.get(name)
    settings = TaskSettings(name=name, columns={role: role for role in values if role in task.roles})
    assert set(settings.columns) == set(values)
    made = task(settings)
    notes = [note for note in made.notes(values, [0], processor) if "32 tokens" in note]
    assert len(notes) == 1
    assert "1 of 1 rows" in notes[0]
    short = {role: [cells[0] if cells[0] != LONG else "short"] for role, cells in values.items()}
    short = {role: [QUESTION if cells[0] == LONG + QUESTION else cells[0]] for role, cells in short.items()}
    assert not [note for note in made.notes(short, [0], processor) if "tokens" in note]


def test_the_outermost_block_decides() -> None:
    with counting() as cuts, refusing():
        assert cut([1, 2, 3], 2, "abc", "start") == [1, 2]
        assert cut([1, 2, 3], 2, "abc", "end") == [2, 3]
    assert str(cuts) == "a text has 3 tokens, of which 2 were read"
    with refusing("the question"), counting() as cuts, pytest.raises(TextLengthError, match="the question: expected"):
        cut([1, 2, 3], 2, "abc", "end")
    assert not cuts.texts
    assert cut([1, 2], 0, "", "end") == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run whose texts have at most 32 tokens."""
    return write_run(tmp_path_factory.mktemp("cuts"), "answer", "classify")


def test_a_question_that_does_not_fit_is_an_error_and_a_table_is_told_of(run: Path, tmp_path: Path) -> None:
    predictor = Predictor.open(run)
    with pytest.raises(TextLengthError, match="at most 32 tokens"):
        predictor.ask(None, LONG + QUESTION)
    with pytest.warns(CutWarning, match="of which 32 were read"):
        predictor.predict([{"question": LONG, "image": None}], task="classify")
    with pytest.warns(CutWarning):
        predictor.embed([LONG])
    why = explain(predictor, text=LONG, task="classify", method="occlusion")
    assert any("32 were read" in remark for remark in why.remarks)
    table = tmp_path / "table.csv"
    table.write_text(f'image,question\n,"{LONG}"\n,"{LONG} again"\n,short\n')
    summary = predict_table(Run.open(run), table, tmp_path / "out.csv")
    assert "2 texts have more than 32 tokens" in summary.cut


def test_a_long_conversation_says_that_it_lost_its_oldest_turns(processor: TextProcessor) -> None:
    task = Converse(TaskSettings(name="converse", columns={"messages": "messages"}))
    turn = {"role": "user", "content": QUESTION}
    turns = [turn, {"role": "assistant", "content": "Two."}] * 8 + [turn]
    with counting() as cuts:
        task.ask({"messages": [turns[-3:]]}, 0, processor)
        assert not cuts.texts
        task.ask({"messages": [turns]}, 0, processor)
    assert cuts.longest > cuts.most
    with pytest.raises(TextLengthError), refusing():
        task.ask({"messages": [turns]}, 0, processor)
    refuse_long(turns, processor)
    with pytest.raises(TextLengthError, match="the last message"):
        refuse_long([*turns, {"role": "user", "content": LONG}], processor)
