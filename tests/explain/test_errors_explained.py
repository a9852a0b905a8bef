"""What cannot be explained is told in four parts, and what can be instead."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from makers import QUESTION, shown, tiny

from rebus.errors import DataError, ImageError, MissingPackageError, RebusError
from rebus.explain import explain, methods_for
from rebus.inference.predictor import Predictor


@pytest.fixture(scope="module")
def answering(table: Path) -> Predictor:
    return tiny(table, "answer", "unified", "vit", "decoder")


@pytest.fixture(scope="module")
def naming(table: Path) -> Predictor:
    return tiny(table, "classify", "joint", "resnet", "recurrent")


@pytest.mark.parametrize(("changes", "told"), [
    ({"target": "bleu"}, "did you mean 'blue'"),
    ({"target": 3}, "a label that the model knows"),
    ({"task": "clasify"}, "did you mean 'classify'"),
    ({"method": "gradcan"}, "did you mean 'gradcam'"),
    ({"method": "rollout"}, "'rollout'.*use .*gradcam or occlusion"),
    ({"method": "relevance"}, "use .*gradcam or occlusion"),
    ({"image": "nowhere.png"}, "nowhere.png"),
])  # fmt: skip
def test_a_classifier_without_attention(table: Path, naming: Predictor, changes: dict[str, Any], told: str) -> None:
    given = {"image": shown(table), "text": QUESTION} | changes
    with pytest.raises(RebusError, match=told) as caught:
        explain(naming, **given)
    assert isinstance(caught.value, ImageError if "image" in changes else DataError)
    assert all(caught.value.as_dict().values())


@pytest.mark.parametrize(("target", "told"), [
    ("zebra", "a word of the answer"), (99, "number 99"), ("0", "number 0"), (-1, "number -1"),
])  # fmt: skip
def test_words_that_were_not_written(table: Path, answering: Predictor, target: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        explain(answering, image=shown(table), text=QUESTION, target=target)


def test_gradcam_of_a_vit_names_what_fits(table: Path, answering: Predictor) -> None:
    assert "gradcam" not in methods_for(answering)
    with pytest.raises(DataError, match=r"'gradcam'.*use saliency or relevance or rollout or attention or .*occlusion"):
        explain(answering, image=shown(table), text=QUESTION, method="gradcam")


def test_inputs_that_a_task_does_not_have(table: Path) -> None:
    writer = tiny(table, "caption", "unified", "vit", "decoder")
    with pytest.raises(DataError, match="leave the text out"):
        explain(writer, image=shown(table), text="a question")
    with pytest.raises(DataError, match="expected an image"):
        explain(writer)
    reader = tiny(table, "translate", "unified", "vit", "decoder")
    with pytest.raises(DataError, match="leave it out"):
        explain(reader, image=shown(table), text="a text")
    with pytest.raises(DataError, match=r"a row with its source.*--column"):
        explain(reader)
    extract = tiny(table, "extract", "unified", "vit", "encoder")
    with pytest.raises(DataError, match="passage"):
        explain(extract, image=shown(table), text="Which colour?")
    found = explain(extract, image=shown(table), text="Which colour?", columns={"passage": "It is red."}, target="red")
    assert found.target == "the answer 'red'"
    with pytest.raises(DataError, match="words of the passage"):
        explain(extract, image=shown(table), text="Which?", columns={"passage": "It is red."}, target="blue")


def test_texts_to_compare(table: Path) -> None:
    alike = tiny(table, "similar", "unified", "vit", "encoder")
    with pytest.raises(DataError, match="two texts to compare"):
        explain(alike, text="a red square")
    found = explain(alike, text="a red square", target="a red square", method="occlusion")
    assert found.score == pytest.approx(1, abs=1e-4)
    assert all(token.score >= -1e-5 for token in found.tokens)  # nothing is nearer to a text than itself


def test_captum_is_asked_for_by_name(table: Path, naming: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'rebus-vlm\[explain\]'"):
        explain(naming, image=shown(table), text=QUESTION, method="gradients")
    assert explain(naming, image=shown(table), text=QUESTION).method == "saliency"  # needs nothing


def test_the_measured_method_is_taken(table: Path, tmp_path: Path) -> None:
    predictor = tiny(table, "classify", "unified", "vit", "encoder")
    assert explain(predictor, image=shown(table), text=QUESTION).method == "saliency"
    predictor.folder = tmp_path
    figures: dict[str, Any] = {"methods": {}}
    for content, method in (
        ({"classify": {"method": "occlusion", **figures}}, "occlusion"),
        ({"answer": {"method": "occlusion", **figures}}, "saliency"),
        ({"classify": {"method": "gradcam", **figures}}, "saliency"),  # of another model: it does not fit
    ):
        (tmp_path / "explain.json").write_text(json.dumps(content), encoding="utf-8")
        assert explain(predictor, image=shown(table), text=QUESTION).method == method


def test_a_failure_leaves_no_hooks(table: Path, answering: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("broken")

    before = answering.predict({"image": shown(table), "question": QUESTION})[0].value
    for method in methods_for(answering):
        with monkeypatch.context() as patch:
            patch.setattr(answering.model.decoder, "logits", broken)
            with pytest.raises(RuntimeError, match="broken"):
                explain(answering, image=shown(table), text=QUESTION, method=method)
        assert not any(module._forward_hooks for module in answering.model.modules())
        assert not answering.model.training
    assert answering.predict({"image": shown(table), "question": QUESTION})[0].value == before


def test_frozen_weights_and_inference_mode_are_no_hindrance(table: Path) -> None:
    predictor = tiny(table, "classify", "unified", "vit", "encoder")
    free = explain(predictor, image=shown(table), text=QUESTION, method="saliency")
    predictor.model.requires_grad_(False)
    with torch.inference_mode():
        frozen = explain(predictor, image=shown(table), text=QUESTION, method="saliency")
    assert free.image is not None
    assert frozen.image is not None
    torch.testing.assert_close(torch.tensor(frozen.image), torch.tensor(free.image), rtol=1e-4, atol=1e-7)
    predictor.model.train()
    explain(predictor, image=shown(table), text=QUESTION, method="gradients")
    assert predictor.model.training  # as it was


def test_other_threads_meet_nothing_of_it(table: Path) -> None:
    """While integrated gradients put vectors of their own in the place of words, another thread asks the same model."""
    predictor = tiny(table, "classify", "unified", "vit", "encoder")
    row = {"image": shown(table), "question": QUESTION}
    alone = predictor.predict(row)[0].scores
    done, wrong = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            told = predictor.predict(row)[0].scores
            wrong.extend([name for name in alone if abs(told[name] - alone[name]) > 1e-5])

    other = threading.Thread(target=ask)
    other.start()
    try:
        explain(predictor, image=shown(table), text=QUESTION, method="gradients")
    finally:
        done.set()
        other.join()
    assert not wrong
