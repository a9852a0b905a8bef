"""Stop words and parts of speech as features of words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebus.errors import MissingPackageError
from rebus.text.words import split_words
from rebus_words import pos
from rebus_words.pos import CLASSES, tag_words
from rebus_words.reader import WordTokenizer
from rebus_words.stopwords import CHINESE, ENGLISH, stop_words

TEXT = "The dogs like cats; two cats look like big dogs. 我们喜欢在北京的蓝色汽车"


def test_stop_words_go_and_negations_stay() -> None:
    tokenizer = WordTokenizer.train([TEXT, "not the cat 不是猫"], 50, "none", "en")
    assert tokenizer.split("The cat is not here") == ["cat", "not"]
    assert tokenizer.encode("the of and") == []
    assert "不" in tokenizer.words
    assert not {"not", "no", "never", "but", "very", "不", "没", "没有", "很"} & (ENGLISH | CHINESE)
    assert WordTokenizer.train([TEXT], 50, "jieba", "auto").split("我们的 the 汽车") == ["汽车"]
    assert stop_words("none") == frozenset()


def test_offsets_are_those_of_the_words_that_stay() -> None:
    tokenizer = WordTokenizer.train([TEXT], 50, "none", "en", tagged=True)
    ids, places = tokenizer.encode_with_offsets("The big ＣＡＴ")
    assert places == [(4, 7), (8, 11)]
    assert ids == tokenizer.encode("The big ＣＡＴ")


def test_classes_of_english_and_chinese_words() -> None:
    words = split_words(TEXT, "jieba")
    told = dict(zip(words, tag_words(words), strict=True))
    expected = {"the": "det", "dogs": "noun", "big": "adj", "two": "num", "look": "verb", "我们": "pron"}
    expected |= {"喜欢": "verb", "在": "prep", "北京": "noun", "的": "part", "汽车": "noun"}
    assert {word: told[word] for word in expected} == expected
    assert tag_words([]) == []


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_every_word_of_any_text_gets_a_class(text: str) -> None:
    words = split_words(text, "none")
    told = tag_words(words)
    assert len(told) == len(words)
    assert set(told) <= set(CLASSES)


def test_tagged_words_have_ids_of_their_own_and_unknown_ones_their_class(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train([TEXT] * 2, 60, "none", tagged=True)
    assert {"dogs/noun", "big/adj"} <= set(tokenizer.words)
    unknown = tokenizer.encode("quick zebras")
    assert tokenizer.decode(unknown) == "<|unknown|>/adj <|unknown|>/noun"
    tokenizer.save(tmp_path)
    again = WordTokenizer.load(tmp_path)
    assert again.words == tokenizer.words
    assert (again.tagged, again.stops) == (True, "none")
    assert again.encode(TEXT) == tokenizer.encode(TEXT)


def test_rarity_is_the_inverse_document_frequency() -> None:
    tokenizer = WordTokenizer.train(["a b", "a a", "c"], 50, "none")
    rarity = dict(zip(tokenizer.words, tokenizer.rarity or (), strict=True))
    from sklearn.feature_extraction.text import TfidfVectorizer

    theirs = TfidfVectorizer(analyzer=str.split).fit(["a b", "a a", "c"])
    for word, index in theirs.vocabulary_.items():
        assert rarity[word] == pytest.approx(theirs.idf_[index])


def test_a_missing_textblob_is_said_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textblob.en", None)
    pos._tagger.cache_clear()
    with pytest.raises(MissingPackageError, match=r"pip install 'rebus-words\[pos\]'"):
        tag_words(["cat"])
    pos._tagger.cache_clear()
