"""Towers that read words on the whole road: vectors from files or trained, stop words, parts of speech, a GRU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rebus.checkpoints.run_folder import Run
from rebus.errors import DataError, RecipeError
from rebus.inference.predictor import Predictor
from rebus.recipe import Recipe, TaskSettings, Tower, override
from rebus.training.train import assemble, learn
from rebus_words.vectors import read_vectors

GOOD, BAD = ["lovely", "fine", "great", "很好"], ["awful", "poor", "broken", "很差"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "table.jsonl"
    rows = [
        {
            "text": f"the {one} thing is {other} 这个东西{one}",
            "label": label,
            "split": "test" if one == other else "train",
        }
        for label, words in (("good", GOOD), ("bad", BAD))
        for one in words
        for other in words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(table: Path, text: str = "wordvectors", **changes: object) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"text": "text", "label": "category"},
            "model.text": Tower(kind=text, width=16, depth=1),
            "text.vocab_size": 300,
            "text.max_length": 32,
            "tasks": [TaskSettings(name="classify", columns={"text": "text", "label": "label"})],
            "train.steps": 40,
            "train.batch_size": 8,
            "train.precision": "fp32",
            "train.lr": 0.03,
        }
    )
    return override(made, [f"{key.replace('__', '.')}={value}" for key, value in changes.items()])


FEATURES: list[tuple[str, dict[str, object]]] = [
    ("wordvectors", {}),
    ("wordvectors", {"text__options__stop_words": "auto", "text__options__part_of_speech": True}),
    ("wordvectors", {"text__options__vectors": "skipgram", "text__options__part_of_speech": True}),
    ("recurrent", {"text__reader": "words", "text__options__vectors": "cbow"}),
    ("recurrent", {"text__reader": "words", "text__options__stop_words": "en", "text__options__part_of_speech": True}),
]


@pytest.mark.parametrize(("text", "changes"), FEATURES)
def test_each_feature_trains_saves_and_predicts_the_same(
    table: Path, tmp_path: Path, text: str, changes: dict[str, object]
) -> None:
    run = learn(recipe(table, text, **changes), tmp_path / "run", log=lambda _: None, quiet=True)
    assert run.evaluation["tasks"]["classify"]["metrics"]["accuracy"] == 1.0
    again = Predictor.open(run.folder)
    assert again.processor.reader is not None
    assert again.predict([{"text": "a broken thing 很差"}])[0].value == "bad"


def test_weights_start_at_rarity_and_vectors_at_those_of_the_file(table: Path, tmp_path: Path) -> None:
    words = ["lovely", "broken", "东西", "elsewhere"]
    lines = [f"{word} {' '.join(str(n + at / 4) for at in range(16))}" for n, word in enumerate(words)]
    (tmp_path / "vectors.txt").write_text("\n".join(lines), encoding="utf-8")
    told: list[str] = []
    ready = assemble(recipe(table, text__file=tmp_path / "vectors.txt"), told.append)
    reader, tower = ready.processor.reader, ready.model.text
    assert any("vectors for 3 of" in line for line in told)
    for word, vector in read_vectors(tmp_path / "vectors.txt"):
        if word != "elsewhere":
            np.testing.assert_array_equal(tower.embed.vectors.weight[reader.words.index(word)].detach(), vector)
    rarity = torch.tensor(reader.rarity)
    torch.testing.assert_close(tower.log_weight.detach().exp(), rarity)
    assert rarity[reader.words.index("thing")] < rarity[reader.words.index("lovely")]


def test_trained_vectors_follow_the_seed(table: Path) -> None:
    def start(seed: int) -> torch.Tensor:
        made = assemble(recipe(table, text__options__vectors="cbow", seed=seed), lambda _: None)
        vectors: torch.Tensor = made.model.text.embed.vectors.weight.detach()
        return vectors

    assert torch.equal(start(1), start(1))
    assert not torch.allclose(start(1), start(2))


def test_a_run_goes_on_without_the_file_of_its_vectors(table: Path, tmp_path: Path) -> None:
    lines = [f"{word} {' '.join(['0.5'] * 16)}" for word in GOOD]
    (tmp_path / "vectors.txt").write_text("\n".join(lines), encoding="utf-8")
    made = recipe(table, text__file=tmp_path / "vectors.txt", train__steps=6, train__save_every=3, train__keep=9)
    whole = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    expected = whole.weights_path.read_bytes()
    for file in [*(whole.folder / "checkpoints" / "step-00000006").iterdir(), whole.config_path, whole.weights_path]:
        file.unlink()
    (tmp_path / "vectors.txt").unlink()
    learn(whole.recipe, whole.folder, resume=True, log=lambda _: None, quiet=True)
    assert Run(whole.folder).weights_path.read_bytes() == expected


def test_a_text_without_words_is_read_as_an_unknown_word(table: Path) -> None:
    ready = assemble(recipe(table, text__options__stop_words="en"), lambda _: None)
    assert ready.processor.read("the ... of") == [ready.processor.reader.unknown_id]


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("encoder", {"text__options__stop_words": "en"}, r"text\.options.*reader of its own.*'encoder'"),
        ("decoder", {"text__options__part_of_speech": True}, r"text\.options.*reader of its own.*'decoder'"),
        ("encoder", {"text__options__vectors": "cbow"}, r"text\.options.*reader of its own"),
    ],
)
def test_features_of_words_are_refused_where_none_are_read(
    table: Path, text: str, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        assemble(recipe(table, text, **changes), lambda _: None)


def test_a_missing_file_of_vectors_is_named(table: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt.*No such file"):
        assemble(recipe(table, text__file="none.txt"), lambda _: None)
