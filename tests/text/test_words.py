from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rebus.errors import MissingPackageError
from rebus.text import words
from rebus.text.words import split_words


def test_english_by_spaces_and_signs() -> None:
    assert split_words("Two CATS, one (well-known) dog: it's 3!", "none") == [
        "two",
        "cats",
        "one",
        "well-known",
        "dog",
        "it's",
        "3",
    ]


def test_chinese_by_characters_or_by_jieba() -> None:
    assert split_words("一只猫cat在房子里", "none") == ["一", "只", "猫", "cat", "在", "房", "子", "里"]
    assert split_words("我们喜欢蓝色的汽车", "jieba") == ["我们", "喜欢", "蓝色", "的", "汽车"]


def test_auto_is_jieba_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words.resolve("auto") == "jieba"
    monkeypatch.setattr(words, "find_spec", lambda name: None)
    assert words.resolve("auto") == "none"


def test_a_missing_jieba_is_said_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    words._jieba.cache_clear()
    with pytest.raises(MissingPackageError, match=r"pip install 'rebus-vlm\[zh\]'"):
        split_words("汽车", "jieba")
    words._jieba.cache_clear()


def test_nothing_is_read_from_or_left_in_the_shared_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "jieba.cache").write_bytes(b"planted")
    words._jieba.cache_clear()
    assert split_words("我们喜欢汽车", "jieba") == ["我们", "喜欢", "汽车"]
    assert [path.name for path in tmp_path.iterdir()] == ["jieba.cache"]
    assert (tmp_path / "jieba.cache").read_bytes() == b"planted"
