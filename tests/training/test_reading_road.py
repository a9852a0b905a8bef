"""Tasks that read text, from a table to answers: through a Run folder and back, from scratch and from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rebus
from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError
from rebus.evaluation.evaluate import evaluate_run
from rebus.inference.predictor import Predictor
from rebus.recipe import Recipe, Tower
from rebus.resolve.from_table import prepare
from rebus.training.train import assemble, learn
from tiny_checkpoints import write_bert

NAMES, PLACES = ["Ann", "Bob Lee", "王芳"], ["Paris", "New York", "北京市"]


def small(path: Path, **train: Any) -> Recipe:
    recipe = Recipe().replace(
        {
            "data.path": str(path),
            "model.text": Tower(width=32, depth=1, heads=2),
            "text.vocab_size": 320,
            "text.max_length": 32,
            "train.precision": "fp32",
            "train.steps": 60,
        }
    )
    return recipe.replace(train=recipe.train.replace(train))


def table(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "table.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def sentences(count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        who, where = NAMES[number % 3], PLACES[(number // 3) % 3]
        text = f"{number} times {who} went to {where} ."
        spans = [(text.index(who), who, "person"), (text.index(where), where, "place")]
        rows.append(
            {"text": text, "spans": [{"start": at, "end": at + len(word), "label": tag} for at, word, tag in spans]}
        )
    return rows


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("ner")
    return learn(small(table(folder, sentences(90)), steps=120), folder / "run", log=lambda _: None, quiet=True)


def test_spans_are_learned_and_told_of_any_text(tagger: Run) -> None:
    text = tagger.recipe.model.text
    assert (text.kind, text.depth, text.dropout) == ("recurrent", 1, 0.1)  # the depth was said
    assert tagger.recipe.model.fusion.kind == "none"
    found = tagger.evaluation["tasks"]["ner"]
    assert found["metrics"]["f1"] > 0.8
    assert found["baseline_name"] == "dictionary of training spans"
    model = rebus.load(tagger.folder)
    text = "7 times 王芳 went to New York ."
    told = model.predictor.predict({"text": text})[0].value
    assert [(span["text"], span["label"]) for span in told] == [("王芳", "person"), ("New York", "place")]
    assert all(text[span["start"] : span["end"]] == span["text"] for span in told)
    assert model.ask(question=text) == "王芳 (person), New York (place)"
    assert model.predictor.predict({"text": ""})[0].value == []


def test_a_table_with_a_wrong_row_is_refused_by_its_number(tagger: Run, tmp_path: Path) -> None:
    rows = sentences(3)
    rows[1]["spans"][0]["end"] = 999
    with pytest.raises(DataError, match="row 2, column 'spans'"):
        evaluate_run(tagger, table(tmp_path, rows))


def test_answers_are_cut_from_passages(tmp_path: Path) -> None:
    rows = []
    for number in range(120):
        who, where = NAMES[number % 3], PLACES[(number // 3) % 3]
        asked, answer = (("who went?", who), ("where to?", where))[number % 2]
        rows.append({"question": asked, "context": f"{number} times {who} went to {where} .", "answer": answer})
    run = learn(small(table(tmp_path, rows), steps=150), tmp_path / "run", log=lambda _: None, quiet=True)
    found = run.evaluation["tasks"]["extract"]
    assert found["metrics"]["f1"] > found["baseline"]["f1"]
    said = Predictor.open(run.folder).predict({"question": "who went?", "context": "5 times Ann went to Paris ."})[0]
    assert said.value
    assert said.value in "5 times Ann went to Paris ."


def pairs(folder: Path) -> Path:
    words = ["cat", "dog", "sat", "ran", "the", "a", "on", "mat", "and", "here"]
    rows = [
        {"anchor": f"the {one} {number % 7}", "positive": f"a {one} here {number}"}
        for number, one in enumerate(words * 6)
    ]
    return table(folder, rows)


def test_a_pretrained_encoder_keeps_its_vectors_until_it_is_taught_otherwise(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    reference: Any = write_bert(tmp_path / "bert")
    texts = ["the cat sat", "a dog ran on the mat", "here"]
    given = Predictor.open(tmp_path / "bert").embed(texts)
    for text, vector in zip(texts, given, strict=True):
        ids = AutoTokenizer.from_pretrained(tmp_path / "bert")(text, return_tensors="pt")
        with torch.no_grad():
            mean = reference(**{"input_ids": ids["input_ids"]}).last_hidden_state[0].mean(0)
        assert np.allclose(vector, torch.nn.functional.normalize(mean, dim=0).numpy(), atol=1e-5)
    recipe = small(pairs(tmp_path), steps=3)
    recipe = recipe.replace({"model.text": Tower()})
    ready = assemble(recipe, lambda _: None, base=tmp_path / "bert")
    assert np.allclose(ready.predictor.embed(texts), given, atol=1e-5)
    run = learn(recipe, tmp_path / "run", base=tmp_path / "bert", log=lambda _: None, quiet=True)
    taught = rebus.load(run.folder).embed(texts)
    assert taught.shape == (3, 24)
    assert np.allclose(np.linalg.norm(taught, axis=1), 1, atol=1e-5)
    assert not np.allclose(taught, given, atol=1e-4)
    assert {"mrr", "recall_at_1", "recall_at_10"} <= set(run.evaluation["tasks"]["similar"]["metrics"])


def test_vectors_do_not_depend_on_what_else_is_asked(tagger: Run) -> None:
    model = rebus.load(tagger.folder)
    texts = ["short", "a much longer text about New York", "", "北京"]
    together = model.embed(texts)
    assert together.shape == (4, 32)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(model.embed(text), vector, atol=1e-5)
    assert model.embed([]).shape[0] == 0


def test_many_texts_are_seen_less_often(tmp_path: Path) -> None:
    few = [{"text": f"text {n} is {'good' if n % 2 else 'bad'}", "label": ("no", "yes")[n % 2]} for n in range(60)]
    for rows, epochs in (
        (few, 20.0),
        ([few[n % 60] | {"text": f"{few[n % 60]['text']} {n}"} for n in range(5000)], 10.0),
    ):
        recipe = small(table(tmp_path, rows))
        recipe = recipe.replace({"train.steps": None})
        found = prepare(recipe, lambda _: None).recipe
        assert found.train.epochs == pytest.approx(epochs, rel=0.05)
        assert (found.model.text.kind, found.model.text.dropout, found.model.fusion.kind) == ("encoder", 0.1, "none")
