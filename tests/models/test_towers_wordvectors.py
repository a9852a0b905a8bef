from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rebus.errors import DataError, RecipeError
from rebus.models.towers.wordvectors import WordVectors, read_vectors
from rebus.recipe import Tower

WIDTH = 8
ROW = " ".join(str(i / 4) for i in range(WIDTH))


def file_with(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(text.encode(encoding))
    return path


def tower(path: Path | None) -> WordVectors:
    torch.manual_seed(0)
    return WordVectors(Tower(kind="wordvectors", width=WIDTH, vectors=str(path) if path else None), 4)


@pytest.mark.parametrize("header", ["", f"3 {WIDTH}\n"])
def test_word2vec_and_glove_files(tmp_path: Path, header: str) -> None:
    path = file_with(tmp_path, f"{header}cat {ROW}\r\n猫 {ROW} \n. . . {ROW}\n\n")
    entries = dict(read_vectors(path))
    assert list(entries) == ["cat", "猫", ". . ."]
    assert entries["猫"] == [i / 4 for i in range(WIDTH)]


def test_fill_copies_known_words_and_leaves_others(tmp_path: Path) -> None:
    path = file_with(tmp_path, f"cat {ROW}\ndog {ROW}\ncat {ROW.replace('0.25', '9')}\n")
    model = tower(path)
    before = model.vectors.weight.detach().clone()
    assert model.fill(["<|pad|>", "<|unknown|>", "cat", "bird"]) == 1
    torch.testing.assert_close(model.vectors.weight[2], torch.arange(WIDTH) / 4)
    torch.testing.assert_close(model.vectors.weight[[0, 1, 3]], before[[0, 1, 3]])
    assert tower(None).fill(["cat"]) == 0


def test_pooled_is_the_mean_of_real_words() -> None:
    model = tower(None)
    ids, mask = torch.tensor([[2, 3, 0]]), torch.tensor([[True, True, False]])
    torch.testing.assert_close(model(ids, mask).pooled[0], (model.vectors.weight[2] + model.vectors.weight[3]) / 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"cat {ROW}\ndog 1 2\n", "line 2.*8 numbers.*found 2 numbers"),
        (f"cat {ROW}\ndog {ROW} 3\n", "line 2.*8 numbers"),
        (f"1 {WIDTH}\ncat {ROW} 3\n", "line 2.*8 numbers"),
        (f"cat {ROW}\ndog {ROW[:-3]}abc\n", "line 2.*'dog"),
        (f"cat {ROW}\ndog {ROW[:-5]} nan\n", "line 2.*finite"),
        ("cat\n", "line 1.*a word and"),
        (f"bird {ROW}\n", "none of them"),
        ("", "none of them"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    model = tower(file_with(tmp_path, text))
    with pytest.raises(DataError, match=said):
        model.fill(["<|pad|>", "<|unknown|>", "cat", "dog"] if "bird" not in text else ["cat"])


def test_other_widths_missing_files_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.text\.width=2"):
        tower(file_with(tmp_path, "cat 1 2\n")).fill(["cat"])
    with pytest.raises(DataError, match="No such file"):
        tower(tmp_path / "none.txt").fill(["cat"])
    with pytest.raises(DataError, match="UTF-8"):
        tower(file_with(tmp_path, f"câté {ROW}\n", "latin-1")).fill(["cat"])
    with pytest.raises(DataError, match="directory"):
        tower(tmp_path).fill(["cat"])
