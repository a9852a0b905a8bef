"""Errors of the catalogue in Chinese: each one raised, and some where people meet them."""

from __future__ import annotations

import pickle
import re
import string
from pathlib import Path

import pytest

from rebus.catalogue import Note, texts
from rebus.data.images import decode_image
from rebus.errors import (
    DataError,
    ImageError,
    ImageSizeError,
    MissingPackageError,
    RebusError,
    RunError,
    TextLengthError,
    enough_memory,
    nearest,
    reachable,
)

HAN = re.compile("[\u4e00-\u9fff]")
KEYS = sorted(key for key in texts("en") if key.startswith("problem."))


@pytest.mark.parametrize("key", KEYS)
def test_every_error_of_the_catalogue_is_told_in_chinese(key: str) -> None:
    names = {name for part in texts("en")[key] for _, name, _, _ in string.Formatter().parse(part) if name}
    numbers = dict.fromkeys(names, 7)
    with pytest.raises(RebusError) as raised:
        raise RebusError.of(key, **numbers)
    english, chinese = raised.value.parts("en"), raised.value.parts("zh")
    assert [raised.value.where, raised.value.expected, raised.value.do] == [english[0], english[1], english[3]]
    assert len(chinese) == 4
    assert sum(bool(HAN.search(part)) for part in chinese) >= 1, chinese


def test_errors_met_where_people_meet_them(tmp_path: Path) -> None:
    def told(error: RebusError) -> str:
        return "|".join(error.parts("zh"))

    (tmp_path / "a.png").write_bytes(b"not an image at all")
    with pytest.raises(ImageError) as image:
        decode_image("a.png", tmp_path, where="row 3")
    assert "不是图片" in told(image.value)
    assert "转换成 PNG 或 JPEG" in told(image.value.at("here"))
    assert image.value.at("here").where == "here"
    with pytest.raises(ImageError) as gone:
        decode_image("no/b.png", tmp_path)
    assert "没有文件 'no/b.png'（没有文件夹" in told(gone.value)
    with pytest.raises(RunError) as unreachable, reachable("x"):
        raise PermissionError(13, "no")
    assert "检查路径及其权限" in told(unreachable.value)
    with pytest.raises(RunError) as memory, enough_memory("the model"):
        raise MemoryError
    assert "内存不足" in told(memory.value)
    assert "缩短文字" in told(TextLengthError("t", 9000, 128))
    assert "运行：pip install" in told(MissingPackageError("gradio", "studio", "rebus studio"))
    large = ImageSizeError.of(
        "problem.image_side", 9, 5, where="w", what="w", how=" of", most=3, pixels=45, width=9, height=5
    )
    again = pickle.loads(pickle.dumps(large))  # noqa: S301 - our own bytes
    assert (again.width, again.height, again.parts("zh")) == (9, 5, large.parts("zh"))
    other = DataError("a", "b", Note("hint.no_column"), nearest("labl", ["label"]))
    assert other.parts("zh") == ["a", "b", "没有列", "是否指“label”？"]
    assert other.at("c").parts("en") == ["c", "b", "no column", "did you mean 'label'?"]
