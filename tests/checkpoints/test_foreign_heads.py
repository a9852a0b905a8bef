"""BERT with a head, opened: its head answers as transformers has it, or is said not to be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rebus.checkpoints.hf_load import open_checkpoint
from rebus.inference.predictor import Predictor
from rebus.models.batch import Batch
from tiny_checkpoints import V, loud, write_tokenizer

SIZES = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
TEXTS = ["the cat is red", "a dog", "here and there"]


def write_headed(folder: Path, kind: str, labels: list[str], **more: Any) -> Any:
    """A tiny BertFor... with random weights, as transformers saves it."""
    import transformers as t

    names = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
    config = t.BertConfig(**SIZES, num_attention_heads=4, max_position_embeddings=32, pad_token_id=0, **names, **more)
    torch.manual_seed(1)
    model = loud(getattr(t, f"BertFor{kind}")(config).eval())
    model.save_pretrained(folder)  # type: ignore[operator]
    write_tokenizer(folder, bert=True)
    return model


@torch.no_grad()
def logits(folder: Path, model: Any, text: str) -> np.ndarray[Any, Any]:
    from transformers import AutoTokenizer

    found: np.ndarray[Any, Any] = (
        model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits[0].numpy()
    )
    return found


@pytest.mark.parametrize("problem", [None, "single_label_classification", "multi_label_classification"])
def test_a_classifier_gives_the_same_scores(tmp_path: Path, problem: str | None) -> None:
    model = write_headed(tmp_path, "SequenceClassification", ["9", "gut", "不"], problem_type=problem)
    ours = Predictor.open(tmp_path)
    assert list(ours.tasks) == ["tag" if problem and problem.startswith("multi") else "classify"]
    for text, told in zip(TEXTS, ours.predict([{"text": text} for text in TEXTS]), strict=True):
        given = logits(tmp_path, model, text)
        wanted = 1 / (1 + np.exp(-given)) if "tag" in ours.tasks else np.exp(given) / np.exp(given).sum()
        np.testing.assert_allclose([told.scores[name] for name in ("9", "gut", "不")], wanted, atol=1e-6)


def test_a_regression_gives_the_same_number(tmp_path: Path) -> None:
    model = write_headed(tmp_path, "SequenceClassification", ["LABEL_0"])
    ours = Predictor.open(tmp_path)
    assert list(ours.tasks) == ["regress"]
    for text, told in zip(TEXTS, ours.predict([{"text": text} for text in TEXTS]), strict=True):
        assert told.value == pytest.approx(float(logits(tmp_path, model, text)[0]), abs=1e-5)


TAGS = {
    "as made here": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"],
    "in another order": ["B-PER", "O", "I-LOC", "I-PER", "B-LOC"],
    "BIOES": ["S-X", "B-X", "O", "I-X", "E-X"],
    "labels alone": ["NOUN", "VERB", "ADJ"],
}


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@torch.no_grad()
def test_a_tagger_gives_the_same_scores(tmp_path: Path, tags: list[str]) -> None:
    reference = write_headed(tmp_path, "TokenClassification", tags)
    model, settings, tasks, processor = open_checkpoint(tmp_path)
    task: Any = tasks["ner"]
    names = [tag if tag in tags else tag[2:] for tag in task.tags]
    assert sorted(names) == sorted(tags)
    values = {"tokens": ["the cat is red"]}
    (item,) = task.windows(values, 0, processor, learn=False)
    part = task.collate([item], [0])
    found = model(Batch.of_target("ner", part), ["ner"])["ner"][0, : len(item["text_ids"])].numpy()
    theirs = logits(tmp_path, reference, "the cat is red")[:, [tags.index(name) for name in names]]
    np.testing.assert_allclose(found, theirs, atol=1e-5)
    assert settings.model.head == "linear"
    assert Predictor(model, settings, tasks, processor).predict({"tokens": "the cat is red"})[0].value is not None


@torch.no_grad()
def test_an_extractor_gives_the_same_scores(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    reference = write_headed(tmp_path, "QuestionAnswering", ["a", "b"])
    model, _, tasks, processor = open_checkpoint(tmp_path)
    task: Any = tasks["extract"]
    values = {"question": ["is the cat red"], "passage": ["a cat is on the mat and the dog was good"]}
    (item,) = task.windows(values, 0, processor, learn=False)
    part = task.collate([item], [0])
    found = model(Batch.of_target("extract", part), ["extract"])["extract"][0, : len(item["text_ids"])].numpy()
    backend = AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.from_numpy(item["text_ids"])[None]
    assert ids[0].tolist() == [1, *backend.encode(values["question"][0], add_special_tokens=False), 2,
                               *backend.encode(values["passage"][0], add_special_tokens=False), 2]  # fmt: skip
    out = reference(input_ids=ids, token_type_ids=torch.from_numpy(item["segment_ids"])[None])
    np.testing.assert_allclose(found, torch.stack([out.start_logits, out.end_logits], -1)[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "labels", "said"),
    [
        ("TokenClassification", ["O", "I-PER", "I-LOC"], "not all of BIO or BIOES"),
        ("TokenClassification", ["O", "NOUN", "VERB"], "plain labels"),
    ],
)
def test_a_head_that_is_not_used_is_said(tmp_path: Path, kind: str, labels: list[str], said: str) -> None:
    write_headed(tmp_path, kind, labels)
    lines: list[str] = []
    tasks = open_checkpoint(tmp_path, lines.append)[2]
    assert list(tasks) == ["similar"]
    assert said in lines[0]


def test_a_head_without_its_bias_is_said_and_training_says_that_heads_are_new(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from rebus.recipe import Recipe
    from rebus.resolve.from_base import settle_base
    from rebus.resolve.known import Start

    write_headed(tmp_path, "SequenceClassification", ["x", "y"])
    lines: list[str] = []
    settle_base(Recipe(base=str(tmp_path)), Start(), lines.append)
    assert "head of its BertForSequenceClassification is left behind" in lines[0]
    state = load_file(tmp_path / "model.safetensors")
    del state["classifier.bias"]
    save_file(state, tmp_path / "model.safetensors")
    open_checkpoint(tmp_path, lines.append)
    assert "its head, BertForSequenceClassification, is not used" in lines[-1]


def test_the_numbers_of_labels_are_read_as_numbers(tmp_path: Path) -> None:
    write_headed(tmp_path, "SequenceClassification", ["zero", "one", "two"])
    file = tmp_path / "config.json"
    names = {"02": "two", "00": "zero", "01": "one"}
    config = json.loads(file.read_text(encoding="utf-8")) | {"id2label": names}
    file.write_text(json.dumps(config), encoding="utf-8")
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.id2label == {0: "zero", 1: "one", 2: "two"}
    assert Predictor.open(tmp_path).tasks["classify"].labels == ["zero", "one", "two"]  # type: ignore[attr-defined]
