"""chrF, BLEU and F1 of written texts, against sacrebleu and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rebus.errors import DataError
from rebus.tasks.metrics import bits_per_byte, chrf, perplexity, translation_statistics, word_f1, writing_statistics
from rebus.tasks.metrics.intervals import Statistic, compare, figures
from rebus.tasks.metrics.overlap import written_in_chinese

ENGLISH = (
    ["The cat sat on the mat.", "open the file menu", "Save as...", "nothing at all like it"],
    [["The cat sits on the mat."], ["Open the File menu"], ["Save As..."], ["Insert a new table row above"]],
)
CHINESE = (
    ["打开文件菜单", "保存为 PDF 文件", "插入新表格的行", "完全不同"],
    [["打开“文件”菜单。"], ["另存为 PDF 文件"], ["在上方插入新的表格行"], ["删除所选的列"]],
)


def value(statistic: Statistic, rows: int) -> float:
    return float(statistic(np.ones((1, rows)))[0])


@pytest.mark.parametrize("pairs", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_chrf_and_bleu_are_sacrebleus_corpus_scores(pairs: tuple[list[str], list[list[str]]]) -> None:
    said, known = pairs
    first = [[one[0] for one in known]]
    cut = "zh" if pairs is CHINESE else "13a"
    found = figures(translation_statistics(said, known), len(said))
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(said, first).score)
    assert found["bleu"] == pytest.approx(BLEU(tokenize=cut).corpus_score(said, first).score)
    assert 0 < found["bleu"] < 100


def test_chrf_with_several_references_is_sacrebleus() -> None:
    said, known = ENGLISH
    more = [[one[0], "the file menu is open, save it as you like"] for one in known]
    official = CHRF().corpus_score(said, [[one[place] for one in more] for place in (0, 1)]).score
    assert value(chrf(said, more), len(said)) == pytest.approx(official)


def test_chrf_of_a_resample_is_the_score_of_its_rows() -> None:
    said, known = ENGLISH
    drawn = [0, 0, 2]
    weights = np.array([[2.0, 0.0, 1.0, 0.0]])
    official = CHRF().corpus_score([said[row] for row in drawn], [[known[row][0] for row in drawn]]).score
    assert float(chrf(said, known)(weights)[0]) == pytest.approx(official)


@pytest.mark.parametrize(("said", "expected"), [("", 0.0), ("abc", 100.0)])
def test_chrf_at_its_ends(said: str, expected: float) -> None:
    assert value(chrf([said], [["abc"]]), 1) == pytest.approx(expected)


def test_word_f1_by_hand() -> None:
    said = ["the red cat", "红色的猫", "", "", "a a b"]
    known = [["a red cat sat"], ["黑猫", "红猫"], [""], ["x"], ["a b b"]]
    # two of three and of four words; two of four and of two characters; nothing of nothing; nothing; a and b
    assert word_f1(said, known) == pytest.approx([2 * 2 / 7, 2 * 2 / 6, 1.0, 0.0, 2 * 2 / 6])


def test_what_chinese_is() -> None:
    assert written_in_chinese(CHINESE[1])
    assert not written_in_chinese(ENGLISH[1])
    assert not written_in_chinese([["Click 确定 to close the dialog and go on working"]])
    assert not written_in_chinese([["12 + 3"]])


def test_case_counts_for_bleu_and_not_for_exact_match() -> None:
    found = figures(writing_statistics(["open the file now"], [["Open The File Now"]]), 1)
    assert found["exact_match"] == 1
    assert found["bleu"] < 100
    assert set(found) == {"exact_match", "bleu", "chrf", "rouge_l", "f1"}


def test_a_text_without_reference_is_refused() -> None:
    with pytest.raises(DataError, match="item 1"):
        chrf(["a"], [[]])


def test_likelihood_figures_weigh_texts_by_their_length() -> None:
    logprobs, tokens, sizes = [-10.0, -1.0], [5, 1], [20, 2]
    assert value(bits_per_byte(logprobs, sizes), 2) == pytest.approx(11 / 22 / math.log(2))
    assert value(perplexity(logprobs, tokens), 2) == pytest.approx(math.exp(11 / 6))
    interval = compare({"p": perplexity(logprobs, tokens)}, None, 2, n=200)["p"].value
    assert interval.low == pytest.approx(math.exp(1.0))
    assert interval.high == pytest.approx(math.exp(2.0))
