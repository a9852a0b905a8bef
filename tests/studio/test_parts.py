"""What pages are made of, without a browser: texts, files that may be reached, tables, trainings, explanations."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rebus.catalogue import Note
from rebus.errors import DataError, ImageError, RebusError, RunError, StudioError
from rebus.explain import Explanation
from rebus.inference.predictor import Predictor
from rebus.inference.streaming import stream_answer, streams
from rebus.studio import jobs
from rebus.studio.ask import _WORD, Turn, conversation, of_word, spans
from rebus.studio.curves import curve
from rebus.studio.model_pool import Seat, Seats
from rebus.studio.panel import bars, command, grid, problem
from rebus.studio.places import Places
from rebus.studio.table_view import alike, judged, open_book
from rebus.studio.train import spelled

SOURCES = Path(jobs.__file__).parent


def test_paths_lead_only_below_the_roots(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    places = Places([tmp_path / "in"], 1000)
    assert places.inside("a/b.csv", "what.table") == tmp_path / "in" / "a" / "b.csv"
    assert places.inside(str(tmp_path / "in"), "the table") == tmp_path / "in"
    for typed in (
        "../out",
        str(tmp_path / "out"),
        "link/x",
        "/etc/passwd",
        "",
        "a\0b",
        "~root/x",
        str(tmp_path / "inside"),
    ):
        with pytest.raises(StudioError):
            places.inside(typed, "the table")


def test_a_table_cannot_show_images_from_elsewhere_nor_too_large_ones(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "table").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "other.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "table" / "own.png")
    places = Places([tmp_path / "table"], 2000)
    assert places.image("own.png", tmp_path / "table", "row 1").shape == (40, 40, 3)
    with pytest.raises(StudioError, match="Studio"):
        places.image(str(tmp_path / "other.png"), tmp_path / "table", "row 1")
    with pytest.raises(ImageError, match="pixels"):
        Places([tmp_path], 1000).image("other.png", tmp_path, "row 1")


def test_what_users_and_models_write_is_never_html() -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    told = (
        problem("en", RebusError(evil, evil, evil, evil)) + bars("zh", {evil: 0.5}, act=evil) + grid([evil], [[evil]])
    )
    told += curve([(1, 2.0)], evil, evil)
    assert "<img" not in told
    assert not re.search(r'"[^"<>]*onerror=alert\(1\)>"', told)


def test_curves_hold_every_kind_of_numbers() -> None:
    for points in ([], [(1, 2.0)], [(1, 0.5), (2, 0.5)], [(step, 1 / step) for step in range(1, 5000)]):
        drawn = curve(points, "loss", "steps")
        assert f'data-points="{len(points)}"' in drawn
        assert "nan" not in drawn
        assert drawn.count(",") < 3000


def test_words_to_press_are_words_and_chinese_characters() -> None:
    assert [m[0] for m in _WORD.finditer("a T-shirt, 2.5 (don't)!")] == ["a", "T-shirt", "2.5", "don't"]
    assert [m[0] for m in _WORD.finditer("右边的bus，3只。")] == ["右", "边", "的", "bus", "3", "只"]


def piece(target: str, value: float) -> Explanation:
    return Explanation("attention", target, 0.5, image=np.full((2, 2), value, dtype=np.float32))


def test_a_word_of_several_pieces_has_their_mean_map() -> None:
    pieces = tuple(piece(f"word {i + 1} '{text}'", float(i)) for i, text in enumerate(["a", "rock", "et", "it's"]))
    whole = replace(piece("answer", 9.0), words=pieces, answer="a rocket it's")
    assert spans(whole, whole.answer) == [(0, 1), (2, 6), (6, 8), (9, 13)]
    turn = Turn(Path(), "answer", "?", None, answer=whole.answer, chosen="2-8")
    found = of_word(whole, turn)
    assert found.image is not None
    assert found.image[0, 0] == 1.5
    assert of_word(whole, replace(turn, chosen="9-13")).image[0, 0] == 3.0  # type: ignore[index]


def test_a_conversation_is_about_one_image() -> None:
    before = [
        Turn(Path("r"), "converse", "one", "a.png", answer="1"),
        Turn(Path("r"), "converse", "two", "b.png", answer="2"),
    ]
    found = conversation(before, Turn(Path("r"), "converse", "three", "a.png"))
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == "1"


def test_settings_become_words_of_the_command() -> None:
    words = spelled(["classify"], "joint", 2, "train.lr=1e-3\n\nseed=1")
    assert words == [
        "--task",
        "classify",
        "--fusion",
        "joint",
        "--set",
        "train.lr=1e-3",
        "--set",
        "seed=1",
        "--time-limit",
        "2",
    ]
    assert "--time-limit" not in spelled([], "", 5, "train.steps=10")
    for line in ("nonsense", "--out=/etc", "=1"):
        with pytest.raises(RebusError):
            spelled([], "", 5, line)


def test_a_second_studio_is_told_while_a_training_begins(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    held = jobs._hold(folder)
    os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    script = f"""
from pathlib import Path
from rebus.studio import jobs
try:
    jobs.start(Path({str(folder)!r}), Path("x.csv"))
except Exception as error:
    print(type(error).__name__, error)
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.startswith("StudioError")
    assert f"process {os.getpid()}" in told
    assert "nothing is lost" in told
    os.close(held)
    assert jobs.trainer(folder) is None  # who dies lets go


def test_a_training_that_is_refused_says_why_in_four_parts(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    jobs.start(folder, tmp_path / "none.csv")
    end = time.monotonic() + 60
    while jobs.look(folder).state == "running" and time.monotonic() < end:
        time.sleep(0.1)
    job = jobs.look(folder)
    assert job.state == "failed"
    assert job.error is not None
    assert all(job.error.as_dict().values())
    with pytest.raises(StudioError):
        jobs.resume(folder)
    with pytest.raises(StudioError):
        jobs.stop(folder)


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jobs.subprocess, "Popen", full)
    with pytest.raises(RunError, match="disk is full"):
        jobs.start(tmp_path / "run", tmp_path / "x.csv")
    assert jobs.trainer(tmp_path / "run") is None


def test_a_dropped_table_stays_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(jobs, "_begin", lambda folder, words, held, inside: begun.append(list(words)))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    jobs.start(tmp_path / "run", tmp_path / "x.csv", ["--task", "lm"], bring=True)
    kept = tmp_path / "run" / "data" / "x.csv"
    assert kept.read_text() == "a,b\n1,2\n"
    assert begun == [["train", str(kept), "--out", str(tmp_path / "run"), "--task", "lm"]]


def test_the_lock_of_a_plain_training_counts_too(tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        assert jobs.trainer(tmp_path) == os.getpid()
    assert jobs.trainer(tmp_path) is None


def test_a_stream_ends_where_nobody_listens() -> None:
    made: list[int] = []

    def work(model: Predictor, left: object) -> object:
        for number in range(10_000):
            made.append(number)
            time.sleep(0.001)
            yield str(number)
            if left():  # type: ignore[operator]
                return

    seat = Seat(SimpleNamespace(), Path())  # type: ignore[arg-type]
    stream = seat.stream(work)  # type: ignore[arg-type]
    assert next(stream) == "0"
    stream.close()  # type: ignore[attr-defined]
    assert seat.ask(lambda model: "free again") == "free again"
    assert len(made) < 10_000


def test_an_error_in_a_stream_is_the_readers() -> None:
    def work(model: Predictor, left: object) -> object:
        yield "a"
        raise DataError("here", "one", "two", "three")

    with pytest.raises(DataError, match="here"):
        list(Seat(SimpleNamespace(), Path()).stream(work))  # type: ignore[arg-type]


def test_streams_say_what_is_said_at_once(asks: Path, place: Path) -> None:
    predictor = Predictor.open(asks)
    image = place / "squares" / "5.png"
    for question in ("What is in the image?", "图片里有什么？"):
        told = list(stream_answer(predictor, image, [{"role": "user", "content": question}], task="answer"))
        assert told[-1] == predictor.ask(image, question).value
        assert len(told) > 1
        assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))
    assert not streams(predictor, "classify")
    with pytest.raises(DataError, match="writes"):
        list(stream_answer(predictor, image, [], task="classify"))


def test_a_model_whose_folder_is_gone_still_answers_and_says_so(sorts: Path, place: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(sorts, tmp_path / "run")
    seats = Seats()
    seat = seats.seat(tmp_path / "run")
    assert seat.gone() is None
    shutil.rmtree(tmp_path / "run")
    again = seats.seat(tmp_path / "run")
    assert again is seat
    row = {"image": str(place / "squares" / "0.png"), "question": "?"}
    assert again.ask(lambda model: model.predict(row))[0].value in ("red", "green", "blue")
    told = again.gone()
    assert told is not None
    assert "from memory" in told.do
    with pytest.raises(RunError):
        Seats().seat(tmp_path / "run")


def test_a_book_filters_searches_judges_and_finds_what_is_alike(sorts: Path, place: Path) -> None:
    book = open_book(place / "squares" / "table.jsonl", sorts)
    assert book.image == "image"
    assert len(book.rows("test", None, None, "")) == 12
    assert [book.table.value(row, "label") for row in book.rows("test", "label", "red", "")] == ["red"] * 4
    found = book.rows("all", None, None, "RED left")
    assert len(found) == 6
    assert all("red square on the left" in book.table.value(row, "answer") for row in found)
    assert book.rows("all", None, None, "红色 左边")
    assert book.rows("all", None, None, "zebra") == []
    assert set(book.values("label")) == {"red", "green", "blue"}
    marks = judged(book, book.rows("all", None, None, ""), Predictor.open(sorts))
    assert len(marks) == 72
    wrong = [mark.wrong for mark in marks.values()]
    assert wrong == sorted(wrong, reverse=True)  # mistakes first
    nearest = alike(book, sorts, str(place / "squares" / "31.png"))
    assert book.table.value(nearest[0], "image") == "31.png"
    with pytest.raises(RebusError):
        open_book(place / "none.csv", None)
    with pytest.raises(DataError):
        book.rows("all", "nothing", "x", "")


def test_what_is_said_of_a_map_is_said_in_the_page_s_language() -> None:
    from rebus.explain import Explanation
    from rebus.studio.explanation_view import seen

    remark = Note("remark.attention")
    one = Explanation("attention", "label 'red'", 0.5, None, (), None, None, "", "red", (), remarks=(remark,))
    assert remark in seen("en", one, "red")
    assert remark not in seen("zh", one, "red")
    assert "注意力只说明模型看了哪里" in seen("zh", one, "red")


def test_a_studio_s_own_errors_are_told_in_the_page_s_language_and_others_under_its_headings() -> None:
    error = StudioError.of("problem.no_path", what=Note("what.table"))
    assert "a path" in problem("en", error)
    assert all(word in problem("zh", error) for word in ("位置", "表格", "一个路径", "从列表中选择"))
    told = problem("zh", RunError("r", "a Run", "none", "train one"))
    assert all(word in told for word in ("没有成功", "应为", "实际", "怎么办", "a Run"))


def test_tables_are_listed_but_not_those_of_runs_nor_links_out(tmp_path: Path) -> None:
    place, other = tmp_path / "in", tmp_path / "out"
    for folder in (place / "deep", place / "run", place / ".hidden", other):
        folder.mkdir(parents=True)
        (folder / "t.csv").write_text("a\n1\n")
    (place / "run" / "recipe.yaml").write_text("seed: 0\n")
    (place / "link.csv").symlink_to(other / "t.csv")
    (place / "notes.md").write_text("x")
    places = Places([place], 1000)
    assert places.tables() == ["deep/t.csv"]
    assert [path.name for path in places.runs()] == ["run"]


def test_the_command_that_does_the_same_can_be_pasted() -> None:
    told = command("en", ["ask", "my run", "it's.png", "<b>?"])
    assert "rebus ask &#x27;my run&#x27;" in told
    assert "<b>" not in told
    assert command("en", []) == ""
