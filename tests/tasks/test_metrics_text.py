from __future__ import annotations

import math

import numpy as np
import pytest

from rebus.errors import DataError
from rebus.tasks.metrics import caption_metrics, normalise_answer, words
from rebus.tasks.metrics.text_generation import bleu, caption_matches, cider_d, rouge_l


def corpus_bleu(predictions: list[str], references: list[list[str]]) -> float:
    return float(bleu(predictions, references)(np.ones((1, len(predictions))))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red CAT, sitting.", ["a", "red", "cat", "sitting"]),
        ("一只红色的猫。", ["一", "只", "红", "色", "的", "猫"]),
        ("2只cats在house里", ["2", "只", "cats", "在", "house", "里"]),
        ("３．５ metres", ["3.5", "metres"]),
        ("don't stop", ["dont", "stop"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("고양이 두 마리", ["고양이", "두", "마리"]),
        ("猫𠀀ねこ", ["猫", "𠀀", "ね", "こ"]),
        ("  ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Cat", "cat"),
        ("an apple.", "Apple"),
        ("Two", "2"),
        ("twenty dogs", "20 dogs"),
        ("t-shirt", "T shirt"),
        ("1,000", "1000"),
        ("两个", "2"),
        ("两", "二"),
        ("十二", "12"),
        ("二十三", "23"),
        ("二十", "20个"),
        ("红色。", "红色"),
        ("红色，蓝色", "红色、蓝色"),
        ("在 左边", "在左边"),
        ("ＹＥＳ！", "yes"),
        ("−5", "-5"),
        ("it’s red", "its red"),
    ],
)
def test_answers_that_are_equal(one: str, other: str) -> None:
    assert normalise_answer(one) == normalise_answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A", "the"),
        ("-5", "5"),
        ("50%", "50"),
        ("C++", "C"),
        ("三四", "34"),
        ("3.5", "35"),
        ("?", "!"),
        ("1,5", "15"),
        ("红", "蓝"),
        ("个", ""),
        ("🐱", "🐶"),
        ("A", ""),
    ],
)
def test_answers_that_differ(one: str, other: str) -> None:
    assert normalise_answer(one) != normalise_answer(other)


def test_bleu_english_by_hand() -> None:
    # precisions 5/6, 3/5, 1/4 and 0/3, smoothed to 1/(2*3); same length, so no brevity penalty
    expected = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25
    assert corpus_bleu(["The cat sat on the mat"], [["the cat is on the mat"]]) == pytest.approx(expected)


def test_bleu_chinese_by_hand() -> None:
    # characters: 5 of 6, 3 of 5 pairs (一只 色的 的猫), 1 of 4 triples (色的猫), 0 of 3 quadruples
    expected = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25
    assert corpus_bleu(["一只红色的猫"], [["一只蓝色的猫"]]) == pytest.approx(expected)


def test_bleu_is_sacrebleus_corpus_score() -> None:
    from sacrebleu.metrics.bleu import BLEU

    said = ["a red cat is above a dog", "two small birds", "there is a green tree on the left side"]
    known = [["a red cat above a small dog"], ["two birds"], ["a green tree on the left side of the house"]]
    official = BLEU(lowercase=True).corpus_score(said, [[one[0] for one in known]]).score
    assert corpus_bleu(said, known) == pytest.approx(official)
    assert 0 < official < 100


def test_bleu_of_short_perfect_captions_is_full() -> None:
    assert corpus_bleu(["a cat", "dogs"], [["a cat"], ["dogs"]]) == pytest.approx(100)


def test_bleu_penalises_brevity() -> None:
    full = corpus_bleu(["a cat on the mat here"], [["a cat on the mat here"]])
    short = corpus_bleu(["a cat on the"], [["a cat on the mat here"]])
    assert short == pytest.approx(full * math.exp(1 - 6 / 4))


def test_rouge_l_by_hand() -> None:
    scores = rouge_l(
        ["the cat sat on the mat", "a b", "a b", "", "", "一只红色的猫"],
        [["The cat is on the mat."], ["a b c d"], ["x", "b a"], ["a"], [""], ["一只蓝色的猫"]],
    )
    recall_weighed = (1 + 1.44) * 1 * 0.5 / (0.5 + 1.44 * 1)
    assert scores == pytest.approx([5 / 6, recall_weighed, 0.5, 0, 1, 5 / 6])


def test_rouge_l_subsequence_matches_a_plain_table() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        first, second = ([*map(str, random.integers(0, 4, size=random.integers(1, 12)))] for _ in range(2))
        table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
        precision, recall = table[-1, -1] / len(first), table[-1, -1] / len(second)
        f = 2.44 * precision * recall / (recall + 1.44 * precision) if precision else 0.0
        assert rouge_l([" ".join(first)], [[" ".join(second)]])[0] == pytest.approx(f)


@pytest.mark.parametrize("letters", ["abcd", "红蓝黄绿"])
def test_cider_d_by_hand(letters: str) -> None:
    a, b, c, d = letters
    # Two items; a is in both references and weighs nothing, the rest weighs ln 2. The first prediction agrees in the
    # orders 1 and 2 and has no sequences of three or four: 10 * (1 + 1 + 0 + 0) / 4. The second shares only a.
    assert cider_d([f"{a} {b}", f"{a} {c}"], [[f"{a} {b}"], [f"{a} {d}"]]) == pytest.approx([5, 0])


def test_cider_d_clips_repetition_and_punishes_length() -> None:
    # b counts 3 ln 2 against ln 2: clipped to ln2*ln2 over norms 3 ln2 * ln2; lengths differ by 2 words.
    scores = cider_d(["b b b", "x"], [["b"], ["x"]])
    assert scores == pytest.approx([10 * (1 / 3) / 4 * math.exp(-4 / 72), 10 / 4])


def test_cider_d_averages_over_references() -> None:
    both = cider_d(["b", "x"], [["b", "c"], ["x"]])
    assert both[0] == pytest.approx(10 / 4 / 2)


def test_exact_match_ignores_case_and_punctuation_not_articles() -> None:
    said, known = ["A cat.", "the cat", "红猫！", "cat a"], [["a cat"], ["a cat"], ["蓝猫", "红猫"], ["a cat"]]
    assert caption_matches(said, known).tolist() == [1, 0, 1, 0]


def test_caption_metrics_of_perfect_captions() -> None:
    texts = ["a red cat above a dog", "两只鸟在树的左边", "three small green trees here"]
    found = caption_metrics(texts, [[text] for text in texts])
    assert found == pytest.approx({"bleu": 100, "rouge_l": 1, "cider_d": 10, "exact_match": 1})


def test_cider_d_is_left_out_where_it_has_no_meaning() -> None:
    assert "cider_d" not in caption_metrics(["a cat"], [["a cat"]])


def test_no_captions_is_a_users_mistake() -> None:
    with pytest.raises(DataError, match="at least one row"):
        caption_metrics([], [])
