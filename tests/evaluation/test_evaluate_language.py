"""Language models judged: on what they learned, on what they did not, and checkpoints of other projects."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.cli.app import app
from rebus.data.readers import read_table
from rebus.errors import RebusError
from rebus.evaluation.evaluate import evaluate_run, packed_size
from rebus.inference.predictor import Predictor
from rebus.inference.zero_shot import settings_for, speaks, untrained_task
from rebus.recipe import Data
from rebus.report.compose import write_outputs
from rebus.tasks import Choose
from rebus.tasks.likelihood import score_texts
from tiny_checkpoints import write_checkpoint

SMALL = {
    "model.text.width": 32,
    "model.text.depth": 2,
    "model.text.heads": 2,
    "text.vocab_size": 330,
    "text.max_length": 48,
    "train.batch_size": 8,
    "train.precision": "fp32",
}
COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black", "天空": "蓝色", "雪": "白色"}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def chats() -> list[dict[str, Any]]:
    rows = []
    for number in range(48):
        thing, colour = list(COLOURS.items())[number % len(COLOURS)]
        asked = f"What colour is {thing}?" if thing.isascii() else f"{thing}是什么颜色？"
        greeting = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        turns = greeting if number // 6 % 2 else []
        turns = [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": colour}]
        rows.append({"messages": turns, "split": ["train", "valid", "test"][max(0, number // 6 - 5)]})
    return rows


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that knows the colours of six things."""
    folder = tmp_path_factory.mktemp("talker")
    data = write_rows(folder / "chat.jsonl", chats())
    return api.train(
        data, out=folder / "run", settings={**SMALL, "train.steps": 150, "train.lr": 4e-3}, quiet=True
    ).folder


@pytest.fixture(scope="module")
def quiz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = []
    for number, (thing, colour) in enumerate(COLOURS.items()):
        asked = f"What colour is {thing}?" if thing.isascii() else f"{thing}是什么颜色？"
        others = ["blue", "green", "white", "black"] if thing.isascii() else ["蓝色", "白色", "红色"]
        rows.append({"question": asked, "choices": others, "answer": others.index(colour), "hard": number % 2 == 0})
    return write_rows(tmp_path_factory.mktemp("quiz") / "quiz.jsonl", rows)


def test_a_model_that_learned_to_converse_is_judged_on_its_answers(talker: Path) -> None:
    found = Run(talker).evaluation["tasks"]["converse"]
    assert found["metrics"]["exact_match"] == 1.0
    assert found["metrics"]["perplexity"] < 1.5
    assert found["baseline"]["exact_match"] == 1.0  # the same words were asked in training
    assert "perplexity" not in found["baseline"]
    assert found["baseline_name"] == "most frequent answer"
    low, high = found["intervals"]["perplexity"]
    assert low <= found["metrics"]["perplexity"] <= high


def test_the_report_shows_it(talker: Path) -> None:
    write_outputs(Run(talker))
    page = (talker / "report.html").read_text(encoding="utf-8")
    for word in ("converse", "chrF", "Perplexity"):
        assert word in page
    assert "converse" in (talker / "README.md").read_text(encoding="utf-8")


def test_it_chooses_without_having_been_taught_to(talker: Path, quiz: Path) -> None:
    found = evaluate_run(talker, quiz, task="choose", by="hard")
    score = found.tasks["choose"]
    assert found.rows == {"choose": 6}
    assert score.metrics["accuracy"] == 1.0
    assert score.metrics["accuracy_norm"] == 1.0
    assert score.metrics["chance"] == pytest.approx((4 / 4 + 2 / 3) / 6)
    assert score.baseline["accuracy"] < 1.0
    assert score.baseline_name == "most frequent place"
    assert [group["count"] for group in found.by["choose"].values()] == [3, 3]


def test_it_generates_and_translates_from_columns(talker: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": f"What colour is {thing}?", "completion": colour} for thing, colour in COLOURS.items()]
    generated = evaluate_run(talker, write_rows(tmp_path / "g.jsonl", pairs), task="generate").tasks["generate"]
    assert generated.metrics["exact_match"] >= 4 / 6
    words = [{"en": en, "zh": zh} for en, zh in (("sky", "天空"), ("snow", "雪"), ("coal", "煤"))]
    translated = evaluate_run(talker, write_rows(tmp_path / "t.jsonl", words), task="translate").tasks["translate"]
    assert translated.baseline_name == "the source, copied"
    assert translated.baseline["chrf"] == 0.0
    assert set(translated.metrics) == {"bleu", "chrf", "exact_match"}


def test_a_translator_is_told_the_language(talker: Path, tmp_path: Path) -> None:
    predictor = Predictor.open(talker)
    assert speaks(predictor)
    wanted = {("en", "zh"): "Translate into Chinese:", ("zh", "en"): "把下面的文字翻译成英文："}
    for (source, target), said in wanted.items():
        texts = {"en": "open the file", "zh": "打开文件"}
        table = read_table(
            Data(path=str(write_rows(tmp_path / "t.jsonl", [{source: texts[source], target: texts[target]}])))
        )
        task = untrained_task(predictor, table, settings_for(table, "translate", {source: "text", target: "text"}))
        assert task.settings.instruction == said
        assert task.settings.layout == "chat"


def test_the_table_may_call_its_columns_otherwise(talker: Path, tmp_path: Path) -> None:
    turns = json.dumps([{"from": "human", "value": "What colour is sky?"}, {"from": "gpt", "value": "blue"}])
    path = tmp_path / "other.csv"
    path.write_text('dialogue\n"' + turns.replace('"', '""') + '"\n')
    assert evaluate_run(talker, path, task="converse").tasks["converse"].metrics["exact_match"] == 1.0


def test_rows_that_cannot_be_judged_are_counted(talker: Path, tmp_path: Path) -> None:
    good = {"question": "What colour is sky?", "choices": ["blue", "green"], "answer": "A"}
    rows = [good, {**good, "choices": ["blue"]}, {**good, "answer": "Z"}, {**good, "answer": None}]
    found = evaluate_run(talker, write_rows(tmp_path / "bad.jsonl", rows), task="choose")
    assert found.rows == {"choose": 1}
    assert len(found.skipped) == 3
    assert "line 2" in found.skipped[0]
    assert "a letter from A to B" in found.skipped[1]


def test_choices_are_scored_as_their_texts_are(talker: Path, quiz: Path) -> None:
    """By the definition: the choice whose log-probability a byte is highest, each scored by itself."""
    predictor, table = Predictor.open(talker), read_table(Data(path=str(quiz)))
    task = untrained_task(predictor, table, settings_for(table, "choose"))
    assert isinstance(task, Choose)
    values = task.values({name: table.column(name) for name in table.columns})
    told = predictor.run_task(task, values, range(len(table)), predictor.inputs_of(task, table))
    decoder = predictor.model.decoder
    assert decoder is not None
    for row, said in enumerate(told):
        prompt, each = task.ask(values, row, predictor.processor), []
        for choice, ids in zip(
            task.choices(values, row), task.continuations(values, row, predictor.processor), strict=True
        ):
            whole = torch.tensor([prompt + ids])
            with torch.no_grad():
                places = torch.arange(whole.shape[1])[None]
                logits = decoder.logits(decoder.forward_embeds(decoder.embed(whole), places))[0].log_softmax(-1)
            total = sum(float(logits[len(prompt) + at - 1, token]) for at, token in enumerate(ids))
            each.append(total / len(choice.encode()))
        assert said.extra["by_byte"] == max(range(len(each)), key=each.__getitem__)
        assert sum(said.scores.values()) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, "llama")
    return folder


def test_a_checkpoint_of_another_project_is_judged(checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor.open(checkpoint)
    assert not speaks(predictor)
    rows = [
        {"question": "the cat was", "choices": ["red", "not good", "bad dog here"], "answer": number % 3}
        for number in range(9)
    ]
    path = write_rows(tmp_path / "quiz.jsonl", rows)
    named, found = evaluate_run(checkpoint, path, task="choose"), evaluate_run(checkpoint, path)
    assert named.tasks["choose"].metrics == found.tasks["choose"].metrics
    assert found.tasks["choose"].metrics["accuracy"] == pytest.approx(1 / 3)  # it always says the same


def test_text_is_foreseen_as_transformers_foresees_it(checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    texts = ["the cat was red", "a good dog is not here and the mat is blue"]
    found = evaluate_run(checkpoint, write_rows(tmp_path / "t.jsonl", [{"text": text} for text in texts]), task="lm")
    predictor = Predictor.open(checkpoint)
    reference, nats = AutoModelForCausalLM.from_pretrained(checkpoint).eval(), 0.0
    size = predictor.processor.tokenizer.vocab_size
    for text in texts:
        ids = torch.tensor([[predictor.processor.tokenizer.eos_id, *predictor.processor.tokenizer.encode(text)]])
        with torch.no_grad():
            told = reference(ids).logits[0, :-1, :size].log_softmax(-1)
        nats -= float(told.gather(1, ids[0, 1:, None]).sum())
    score = found.tasks["lm"]
    expected = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    assert score.metrics["bits_per_byte"] == pytest.approx(expected, rel=1e-5)
    assert score.baseline == {"bits_per_byte": packed_size(texts)}


def test_windows_of_a_long_text_score_every_token_once(checkpoint: Path) -> None:
    predictor = Predictor.open(checkpoint)
    text = "the cat was red and the dog is not blue here a mat"
    (whole,), (cut,) = score_texts(predictor, [text]), score_texts(predictor, [text], most=5)
    assert cut.tokens == whole.tokens == 13
    assert cut.logprob != pytest.approx(whole.logprob)
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    tokenizer, parts = predictor.processor.tokenizer, 0.0
    ids = tokenizer.encode(text)
    for window in get_rolling_token_windows(ids, tokenizer.eos_id, max_seq_len=5, context_len=1):
        before, said = make_disjoint_window(window)
        from rebus.generation.score import score

        parts += score(predictor.model, [before], [[said]], vocab_size=tokenizer.vocab_size)[0][0].logprob
    assert cut.logprob == pytest.approx(parts, abs=1e-4)


BAD: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "a task that needs training": (
        [{"text": f"t{n}", "label": "ab"[n % 2]} for n in range(9)],
        "classify",
        "needs no training",
    ),
    "columns of no task": ([{"number": 1.5}, {"number": 2.5}], "", "columns that a task can be found from"),
    "no choices": ([{"question": "a b c", "answer": "x y"}, {"question": "d e", "answer": "z"}], "choose", "choices"),
    "nothing to judge": ([{"question": "a?", "choices": ["x"], "answer": "x"}] * 3, "choose", "at least two choices"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_judged_is_told(checkpoint: Path, tmp_path: Path, name: str) -> None:
    rows, task, told = BAD[name]
    with pytest.raises(RebusError) as caught:
        evaluate_run(checkpoint, write_rows(tmp_path / "x.jsonl", rows), task=task or None)
    assert told in str(caught.value)
    assert all(caught.value.as_dict().values())


def test_a_checkpoint_has_no_table_of_its_own(checkpoint: Path) -> None:
    with pytest.raises(RebusError, match="rebus evaluate MODEL DATA"):
        evaluate_run(checkpoint)


def test_the_command(talker: Path, quiz: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = CliRunner().invoke(app, ["evaluate", str(talker), str(quiz), "--task", "choose", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "accuracy_norm" in done.output
    assert json.loads(out.read_text())["tasks"]["choose"]["metrics"]["accuracy"] == 1.0
    done = CliRunner().invoke(app, ["evaluate", str(talker), str(quiz), "--task", "chose"])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
