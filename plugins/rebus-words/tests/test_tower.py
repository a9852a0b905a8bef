"""Towers that read words: the weighted mean of their vectors, and a GRU over them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rebus.errors import DataError, RecipeError
from rebus.models.towers.recurrent import Recurrent
from rebus.recipe import Tower
from rebus_words.tower import WordEmbedding, WordVectors, fill

WIDTH = 8
WORDS = ["<|pad|>", "<|unknown|>", "cat", "dog"]
NAMES: list[str] = []  # these embeddings have their own
IDS, MASK = torch.tensor([[2, 3, 0]]), torch.tensor([[True, True, False]])
ROW = np.arange(WIDTH) / 4


def tower(word_dropout: float = 0.0, words: list[str] = WORDS) -> WordVectors:
    torch.manual_seed(0)
    return WordVectors(
        Tower(kind="wordvectors", width=WIDTH, options={"word_dropout": word_dropout}), len(words), words=words
    )


def test_fill_copies_known_words_and_leaves_others() -> None:
    embed = tower().embed
    before = embed.vectors.weight.detach().clone()
    assert fill(embed, NAMES, [("cat", ROW), ("fish", ROW), ("cat", ROW + 9)], "test") == 1
    torch.testing.assert_close(embed.vectors.weight[2], torch.tensor(ROW, dtype=torch.float32))
    torch.testing.assert_close(embed.vectors.weight[[0, 1, 3]], before[[0, 1, 3]])


def test_a_word_in_another_case_counts_where_its_own_is_not_there() -> None:
    embed = tower().embed
    assert fill(embed, NAMES, [("Cat", ROW), ("DOG", ROW), ("cat", ROW + 1), ("Dog", ROW + 2)], "test") == 2
    assert embed.vectors.weight[2:, 0].tolist() == [1.0, 0.0]


def test_other_widths_and_other_languages_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"file.*model\.text\.width=2"):
        fill(tower().embed, NAMES, [("cat", [1.0, 2.0])], "file")
    with pytest.raises(DataError, match=r"file.*none of them"):
        fill(tower().embed, NAMES, [("chat", ROW)], "file")


def test_pooled_is_the_mean_of_real_words_until_they_have_weights() -> None:
    model = tower()
    cat, dog = model.embed.vectors.weight[2:]
    torch.testing.assert_close(model(IDS, MASK).pooled[0], (cat + dog) / 2)
    model.weigh([1.0, 1.0, 3.0, 1.0])
    torch.testing.assert_close(model(IDS, MASK).pooled[0], (3 * cat + dog) / 4)
    torch.testing.assert_close(model.log_weight[2].detach(), torch.tensor(math.log(3)))


def test_weights_are_learned() -> None:
    model = tower()
    model(IDS, MASK).pooled.square().sum().backward()
    assert model.log_weight.grad is not None
    assert model.log_weight.grad[2:].abs().min() > 0
    assert model.log_weight.grad[:2].abs().max() == 0


def test_words_are_left_out_in_training_only() -> None:
    model = tower(word_dropout=0.5)
    ids, mask = torch.full((400, 2), 2), torch.ones(400, 2, dtype=torch.bool)
    ids[:, 1] = 3
    model.embed.vectors.weight.data = torch.tensor([[0.0], [0.0], [1.0], [3.0]]).expand(4, WIDTH).contiguous()
    assert torch.equal(model.eval()(ids, mask).pooled, torch.full((400, WIDTH), 2.0))
    told = model.train()(ids, mask).pooled[:, 0]
    shares = {value: float((told == value).float().mean()) for value in (0.0, 1.0, 2.0, 3.0)}
    assert all(0.15 < share < 0.35 for share in shares.values())  # none, the first, both, the second word


def test_parts_of_speech_have_vectors_of_their_own() -> None:
    words = ["<|pad|>", "<|unknown|>", "<|unknown|>/verb", "like/verb", "like/prep", "dog/noun"]
    embed = WordEmbedding(words, len(words), WIDTH)
    assert embed.names == ["<|pad|>", "<|unknown|>", "like", "dog"]
    assert embed.classes is not None
    told = embed(torch.arange(len(words)))
    verb, prep = embed.classes.weight[1], embed.classes.weight[2]
    torch.testing.assert_close(told[3] - told[4], verb - prep)
    torch.testing.assert_close(told[3], embed.vectors.weight[2] + verb)
    assert fill(embed, [], [("like", ROW)], "test") == 1  # one vector for both of its uses
    torch.testing.assert_close(
        (embed(torch.tensor([3, 4]))[:, 1] - torch.stack([verb, prep])[:, 1]), torch.full((2,), 0.25)
    )


def test_a_table_with_a_row_for_each_word_is_filled_too() -> None:
    embed = Recurrent(Tower(kind="recurrent", width=WIDTH, depth=1), len(WORDS)).embed
    assert fill(embed, ["cat", "cat", "dog", "dog"], [("cat", ROW)], "test") == 1
    torch.testing.assert_close(embed.weight[:2], torch.tensor(ROW, dtype=torch.float32).expand(2, WIDTH))


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(RecipeError, match=r"model\.text\.options\.dropout_of_words.*word_dropout"):
        WordVectors(Tower(kind="wordvectors", width=WIDTH, options={"dropout_of_words": 0.1}), 4)
