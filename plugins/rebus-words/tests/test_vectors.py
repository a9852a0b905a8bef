"""Files of word vectors, and vectors trained on texts."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rebus.errors import DataError, MissingPackageError
from rebus_words.vectors import read_vectors, train_vectors

WIDTH = 8
NUMBERS = np.arange(WIDTH, dtype=np.float32) / 4
ROW = " ".join(str(one) for one in NUMBERS)
COLD, WARM = ["snow", "ice", "winter", "frost"], ["sun", "desert", "summer", "fire"]
TEXTS = [["snow", "ice"], ["snow", "ice"]]


def file_with(folder: Path, content: str | bytes) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def binary(words: list[str], ends: bytes = b"\n") -> bytes:
    rows = [word.encode() + b" " + NUMBERS.astype("<f4").tobytes() + ends for word in words]
    return f"{len(words)} {WIDTH}\n".encode() + b"".join(rows)


@pytest.mark.parametrize("header", ["", f"3 {WIDTH}\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_word2vec_and_glove_files(tmp_path: Path, header: str, packed: bool) -> None:
    content = f"{header}cat {ROW}\r\n猫 {ROW} \n. . . {ROW}\n\n".encode()
    entries = dict(read_vectors(file_with(tmp_path, gzip.compress(content) if packed else content)))
    assert list(entries) == ["cat", "猫", ". . ."]
    assert entries["猫"].tolist() == NUMBERS.tolist()


@pytest.mark.parametrize("ends", [b"", b"\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_binary_word2vec_files(tmp_path: Path, ends: bytes, packed: bool) -> None:
    content = binary(["cat", "猫", "new_york"], ends)
    entries = dict(read_vectors(file_with(tmp_path, gzip.compress(content) if packed else content)))
    assert list(entries) == ["cat", "猫", "new_york"]
    assert all(vector.tolist() == NUMBERS.tolist() for vector in entries.values())


@pytest.mark.parametrize("way", ["text", "binary"])
def test_what_gensim_writes_is_read(tmp_path: Path, way: str) -> None:
    keyed = pytest.importorskip("gensim.models").KeyedVectors(4)
    keyed.add_vectors(["cat", "狗"], np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32))
    keyed.save_word2vec_format(str(tmp_path / "v"), binary=way == "binary")
    for word, vector in read_vectors(tmp_path / "v"):
        np.testing.assert_allclose(vector, keyed[word], rtol=1e-6)
    assert len(list(read_vectors(tmp_path / "v"))) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"cat {ROW}\ndog 1 2\n", r"line 2.*8 numbers.*found 2 numbers"),
        (f"cat {ROW}\ndog {ROW} 3\n", r"line 2.*8 numbers"),
        (f"1 {WIDTH}\ncat {ROW} 3\n", r"line 2.*8 numbers"),
        (f"cat {ROW}\ndog {ROW[:-3]}abc\n", r"line 2.*'dog"),
        (f"cat {ROW}\ndog {ROW[:-5]} nan\n", r"line 2.*finite"),
        ("cat\n", r"line 1.*a word and"),
        (f"cat {ROW}\ncâté {ROW}\n".encode("latin-1"), r"line 2.*UTF-8"),
        (binary(["cat", "dog"])[:-3], r"2 words.*found 1: it is cut short"),
        (binary(["cat", "dog"]).replace(b"dog ", b"dog" * 999), r"word 2.*without one"),
        (binary(["cat"]).replace(NUMBERS.tobytes()[:8], np.float32([np.inf, 0]).tobytes()), r"word 1.*finite"),
        (gzip.compress(binary(["cat"] * 99), mtime=0)[:-30], r"a file of word vectors"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(read_vectors(file_with(tmp_path, content)))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_vectors(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="directory"):
        list(read_vectors(tmp_path))


@pytest.mark.parametrize("way", ["skipgram", "cbow"])
def test_words_that_stand_together_become_alike(way: str) -> None:
    pytest.importorskip("gensim")
    rng = np.random.default_rng(0)
    texts = [list(rng.choice(words, 12)) for _ in range(150) for words in (COLD, WARM)]
    made = train_vectors(texts, way, WIDTH, seed=1, epochs=20)
    assert set(made) == {*COLD, *WARM}

    def alike(one: str, others: list[str]) -> float:
        unit = {word: vector / np.linalg.norm(vector) for word, vector in made.items()}
        return float(np.mean([unit[one] @ unit[other] for other in others if other != one]))

    assert all(alike(word, COLD) > alike(word, WARM) for word in COLD)
    assert all(alike(word, WARM) > alike(word, COLD) for word in WARM)


def test_the_same_seed_gives_the_same_vectors_in_every_process() -> None:
    pytest.importorskip("gensim")
    code = "from rebus_words.vectors import train_vectors as t; print(t([[*'abcab']]*5,'skipgram',4,{})['a'])"
    told = [
        subprocess.run(
            [sys.executable, "-c", code.format(seed)],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, salt in ((1, "0"), (1, "7"), (2, "0"))
    ]
    assert told[0] == told[1] != told[2]


def test_texts_without_a_repeated_word_are_refused() -> None:
    pytest.importorskip("gensim")
    with pytest.raises(DataError, match="twice or more"):
        train_vectors([["a", "b"]], "cbow", 4, seed=0)


def test_a_missing_gensim_is_said_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(MissingPackageError, match=r"rebus-words\[vectors\]"):
        train_vectors(TEXTS, "cbow", 4, seed=0)
