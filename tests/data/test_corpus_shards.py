"""Shards: what is in them, how text is dealt, going on after a kill, and files that do not fit."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rebus.data.corpus import Manifest, PackedRows, ScoredRows, Shards, build_shards, making, open_source
from rebus.data.corpus.making import ordered
from rebus.data.corpus.shard_file import Header, ShardFile, id_type
from rebus.data.corpus.word_starts import starts_of_tokens, word_places
from rebus.errors import DataError, RunError
from rebus.recipe import Clean, Corpus, Data

EOS = 256


def letters(texts: Sequence[str]) -> list[list[int]]:
    return [list(text.encode()) for text in texts]


def with_offsets(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    return list(text.encode()), [(at, at + 1) for at, sign in enumerate(text) for _ in sign.encode()]


def build(path: Path, folder: Path, corpus: Corpus | None = None, on_bad: str = "refuse", **settings: Any) -> Manifest:
    corpus = corpus or Corpus()
    arguments = {"vocab_size": 300, "eos_id": EOS, "tokenizer_hash": "bytes", "valid": 0.0, **settings}
    source = open_source(Data(path=str(path), on_bad=on_bad), corpus)  # type: ignore[arg-type]
    encode = arguments.pop("encode_many", letters)
    return build_shards(source, encode, folder=folder, settings=corpus, **arguments)


def text_of(shards: Shards, split: str) -> list[str]:
    documents = shards.documents(split)
    return [bytes(documents[at][:-1].astype(np.uint8)).decode() for at in range(len(documents))]


def poems(count: int) -> list[str]:
    return [f"Poem {number}: {'月' * (number % 7 + 1)} {number * 7919 % 1000}" for number in range(count)]


def write_poems(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"text": poem}) + "\n" for poem in poems(count)))
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write_poems(tmp_path / "a.jsonl", 300)
    manifest = build(path, tmp_path / "out", Corpus(shard_tokens=1000), valid=0.1)
    assert Shards.finished(tmp_path / "out")
    shards = Shards.open(tmp_path / "out", tokenizer_hash="bytes", vocab_size=300)
    found = {split: text_of(shards, split) for split in shards.splits}
    assert sorted(found["train"] + found["valid"]) == sorted(poems(300))
    assert 15 <= len(found["valid"]) <= 50
    for split, texts in found.items():
        counts = manifest.splits[split]
        assert counts.documents == len(texts)
        assert counts.bytes == sum(len(text.encode()) for text in texts) == shards.documents(split).bytes
        assert counts.characters == sum(map(len, texts))
        assert counts.tokens == counts.bytes + counts.documents == shards.documents(split).tokens
        assert all(shard["tokens"] <= 1000 for shard in counts.shards)
    assert len(manifest.splits["train"].shards) > 5
    assert manifest.finished
    assert manifest.cleaning["kept"] == 300
    order = [text for text in poems(300) if text in set(found["train"])]
    assert found["train"] == order
    assert all((ids[1:] < 300).all() for ids, _ in (PackedRows(shards, "train", 64).row(0, at) for at in range(5)))


def test_the_type_of_ids_follows_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text")
    for size, item in ((300, 2), (1 << 16, 2), ((1 << 16) + 1, 4)):
        build(
            path, tmp_path / str(size), vocab_size=size, encode_many=lambda texts, size=size: [[size - 1]] * len(texts)
        )
        shards = Shards.open(tmp_path / str(size))
        assert shards.documents("train")[0].tolist() == [size - 1, EOS]
        assert ShardFile(tmp_path / str(size) / "train-00000.shard").header.item == item
    with pytest.raises(DataError, match="at most 4,294,967,296 ids"):
        id_type((1 << 32) + 1)
    with pytest.raises(DataError, match=r"a.txt, the tokenizer: expected ids below the vocabulary's 300"):
        build(path, tmp_path / "beyond", encode_many=lambda texts: [[300]] * len(texts))


def test_a_long_text_is_held_out_in_stretches(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    novel = "\n\n".join(f"Paragraph {number} says {number * 7919 % 1000} things." for number in range(4000))
    path.write_text(novel)
    manifest = build(path, tmp_path / "out", valid=0.1)
    assert manifest.splits["valid"].characters == pytest.approx(0.1 * len(novel), rel=0.25)
    shards = Shards.open(tmp_path / "out")
    assert 4 <= len(shards.documents("valid")) <= 10
    train, valid = ("".join(text_of(shards, split)) for split in ("train", "valid"))
    for text in text_of(shards, "valid"):
        assert text.strip() in novel
    assert len(train) + len(valid) == len(novel)
    scored = ScoredRows(shards, "valid", 64)
    assert sum(len(ids) - 1 - first for ids, _, first in (scored[at] for at in range(len(scored)))) == len(
        shards.documents("valid").ids(0, shards.documents("valid").tokens)
    )
    other = build(path, tmp_path / "other", valid=0.1, seed=1)
    assert other.splits["valid"].characters != manifest.splits["valid"].characters or (
        text_of(Shards.open(tmp_path / "other"), "valid") != text_of(shards, "valid")
    )
    assert list(build(path, tmp_path / "whole").splits) == ["train"]


def test_documents_keep_their_split_when_others_are_added(tmp_path: Path) -> None:
    few, many = write_poems(tmp_path / "few.jsonl", 300), write_poems(tmp_path / "many.jsonl", 600)
    held = []
    for path in (few, many):
        build(path, tmp_path / path.stem, valid=0.1)
        held.append(set(text_of(Shards.open(tmp_path / path.stem), "valid")))
    assert held[0] == held[1] & set(poems(300))


def test_splits_that_the_source_says_are_obeyed(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"text of {name}")
    manifest = build(tmp_path, tmp_path / "out" / "x", valid=0.5)
    shards = Shards.open(tmp_path / "out" / "x")
    assert list(manifest.splits) == ["train", "valid", "test"]
    assert {split: text_of(shards, split) for split in shards.splits} == {n: [f"text of {n}"] for n in manifest.splits}


@pytest.mark.parametrize("words", [False, True])
def test_as_many_workers_as_you_like_write_the_same_files(tmp_path: Path, words: bool) -> None:
    path = write_poems(tmp_path / "a.jsonl", 400)
    corpus = Corpus(shard_tokens=3000, clean=Clean(near=0.7, pii=True, languages=["en", "zh"]))
    found = []
    for workers in (0, 1, 2):
        out = tmp_path / str(workers)
        extra = {"encode_with_offsets": with_offsets} if words else {}
        manifest = build(path, out, corpus, valid=0.1, workers=workers, **extra)
        found.append(({file.name: file.read_bytes() for file in out.glob("*.shard")}, manifest.cleaning))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 3


def slow_corpus() -> Corpus:
    return Corpus(document="paragraph", shard_tokens=2000, clean=Clean(near=0.9))


def slow_build(path: Path, folder: Path, workers: int, pause: float) -> None:
    """In a process of its own: it commits after every batch and takes its time."""
    os.setsid()

    def slowly(texts: Sequence[str]) -> list[list[int]]:
        time.sleep(pause)
        return letters(texts)

    making.build.COMMIT_SECONDS = 0.0
    making.encode._BATCH = 600
    build(path, folder, slow_corpus(), encode_many=slowly, valid=0.2, workers=workers)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "a.txt"
    lines = [f"Paragraph {number}: {number * 7919 % 10007} and {'word ' * (number % 9)}" for number in range(700)]
    path.write_text("\n\n".join([*lines, *lines[:50], "x" * 5000]))  # with repeats, and one longer than a shard
    fork = multiprocessing.get_context("fork")

    def start(folder: Path, pause: float) -> Any:
        process = fork.Process(target=slow_build, args=(path, folder, workers, pause))
        process.start()
        return process

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    whole = start(straight, 0.0)
    seen = []
    for number in range(5):
        before, process = progress(killed), start(killed, 0.02)
        while process.exitcode is None and progress(killed) <= before:
            time.sleep(0.002)
        time.sleep(0.01 * number)
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        seen.append(progress(killed))
    assert seen == sorted(seen)
    assert len(set(seen)) == 5  # it went on, rather than beginning again
    last = start(killed, 0.0)
    for process in (last, whole):
        process.join()
        assert process.exitcode == 0
    contents = [{file.name: file.read_bytes() for file in folder.glob("*.shard")} for folder in (killed, straight)]
    assert contents[0] == contents[1]
    assert len(contents[0]) > 15
    one, other = Manifest.load(killed), Manifest.load(straight)
    assert (one.splits, one.cleaning) == (other.splits, other.cleaning)
    assert one.cleaning["left_out"] == {"same": 50}
    assert not (killed / "parts").exists()


def progress(folder: Path) -> int:
    try:
        return int(json.loads((folder / "manifest.json").read_text())["cleaning"]["read"])
    except (OSError, KeyError):
        return -1


def test_finished_shards_are_used_again_and_others_are_refused(tmp_path: Path) -> None:
    path = write_poems(tmp_path / "a.jsonl", 50)
    told: list[str] = []
    build(path, tmp_path / "out")
    stamp = (tmp_path / "out" / "train-00000.shard").stat().st_mtime_ns
    build(path, tmp_path / "out", log=told.append)
    assert "used again" in told[0]
    assert "50 documents" in told[1]
    assert (tmp_path / "out" / "train-00000.shard").stat().st_mtime_ns == stamp
    with pytest.raises(RunError, match=r"tokenizer was 'bytes', is 'other'.*--rebuild"):
        build(path, tmp_path / "out", tokenizer_hash="other")
    with pytest.raises(RunError, match=r"corpus.clean.nfkc was True, is False"):
        build(path, tmp_path / "out", Corpus(clean=Clean(nfkc=False)))
    build(path, tmp_path / "out", Corpus(block=64, packing="stream"))  # how rows are cut does not matter here
    write_poems(path, 51)
    with pytest.raises(RunError, match="source bytes was"):
        build(path, tmp_path / "out")
    manifest = build(path, tmp_path / "out", rebuild=True, log=told.append)
    assert manifest.cleaning["kept"] == 51
    assert any("thrown away" in line for line in told)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_only_one_build_at_a_time(tmp_path: Path) -> None:
    path = write_poems(tmp_path / "a.jsonl", 5)
    process = multiprocessing.get_context("fork").Process(target=slow_build, args=(path, tmp_path / "out", 2, 60.0))
    process.start()
    while progress(tmp_path / "out") < 0:
        time.sleep(0.01)
    with pytest.raises(RunError, match="in use"):
        build(path, tmp_path / "out")
    os.kill(process.pid, signal.SIGKILL)  # only itself: the processes it began are not in the way
    process.join()
    build(path, tmp_path / "out", slow_corpus(), valid=0.2)


def test_sources_with_too_little_in_them(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("   \n")
    with pytest.raises(DataError, match="documents to train on"):
        build(path, tmp_path / "blank")
    path.write_text("tiny")
    with pytest.raises(DataError, match=r"enough text to hold out 10.0%.*data.split.valid"):
        build(path, tmp_path / "tiny", valid=0.1)
    path.write_text("short")
    with pytest.raises(DataError, match="left out, short: 1"):
        build(path, tmp_path / "short", Corpus(clean=Clean(min_chars=100)))


def test_bytes_are_of_the_text_that_the_tokens_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ＡＢ，Ｃ")
    plain = Corpus(clean=Clean(nfkc=False))
    assert build(path, tmp_path / "as-is", plain).splits["train"].bytes == 12
    assert build(path, tmp_path / "cleaned").splits["train"].bytes == 6
    assert build(path, tmp_path / "told", plain, normalise=lambda text: "AB").splits["train"].bytes == 2


def test_an_interrupted_build_cannot_be_opened(tmp_path: Path) -> None:
    path = write_poems(tmp_path / "a.jsonl", 5)

    def stop(texts: Sequence[str]) -> list[list[int]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, tmp_path / "out", encode_many=stop)
    assert not Shards.finished(tmp_path / "out")
    assert not Shards.finished(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"interrupted.*goes on"):
        Shards.open(tmp_path / "out")
    with pytest.raises(RunError, match="rebus data shard"):
        Shards.open(tmp_path / "nothing")
    (tmp_path / "out" / "manifest.json").write_text('{"version": 99}')
    with pytest.raises(RunError, match="version 99"):
        Shards.open(tmp_path / "out")
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        Shards.open(tmp_path / "out")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    build(write_poems(tmp_path / "a.jsonl", 40), tmp_path / "out")
    return tmp_path / "out"


def changed(folder: Path, at: int, content: bytes) -> None:
    file = folder / "train-00000.shard"
    whole = bytearray(file.read_bytes())
    whole[at : at + len(content)] = content
    file.write_bytes(whole)


def test_a_shard_that_does_not_fit_is_named(made: Path) -> None:
    file = made / "train-00000.shard"
    whole = file.read_bytes()
    header = ShardFile(file).header
    cases: list[tuple[bytes, str]] = [
        (whole[:-3], "cut short"),
        (whole[:100], "cut short"),
        (b"", "cut short"),
        (whole + b"more", "something was added"),
        (b"NOTREBUS" + whole[8:], "begins with"),
        (whole[:8] + (9).to_bytes(4, "little") + whole[12:], "version 9"),
        (whole[:12] + (3).to_bytes(4, "little") + whole[16:], "ids of 3 bytes"),
        (whole[:32] + (1 << 40).to_bytes(8, "little") + whole[40:], "a vocabulary of 1,099,511,627,776"),
        (whole[: header.ends_at] + b"\xff" * 8 + whole[header.ends_at + 8 :], "ends that do not rise"),
        (whole[:-8] + b"\0" * 8, "ends at 0 of"),
    ]
    for content, told in cases:
        file.write_bytes(content)
        with pytest.raises(DataError, match=told) as error:
            Shards.open(made)
        assert "train-00000.shard" in error.value.where
        assert error.value.do
    file.unlink()
    with pytest.raises(DataError, match="No such file"):
        Shards.open(made)


def test_shards_of_another_tokenizer_or_vocabulary(made: Path) -> None:
    with pytest.raises(DataError, match=r"train-00000.shard.*another tokenizer"):
        Shards.open(made, tokenizer_hash="other")
    with pytest.raises(DataError, match=r"ids below the vocabulary's 200; found the id 256"):
        Shards.open(made, vocab_size=200)
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["documents"] += 1
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"41 documents, as manifest.json says; found"):
        Shards.open(made)


def test_a_damaged_id_is_found_when_its_row_is_read(made: Path) -> None:
    changed(made, 256 + 20, b"\xff\xff")
    rows = PackedRows(Shards.open(made), "train", 64)
    with pytest.raises(DataError, match="the id 65,535: the file is damaged"):
        [rows.row(0, index) for index in range(len(rows))]


def test_headers_say_how_long_the_file_is() -> None:
    for tokens, documents, words in ((3, 1, False), (3, 1, True), (1000, 7, True)):
        header = Header(2, tokens, documents, 300, 299, 0, words, 5, "t")
        assert header.ends_at % 8 == 0
        assert header.size == header.ends_at + 8 * documents + (words and -(-tokens // 8))


def test_opening_reads_little(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 200_000)
    build(path, tmp_path / "out", encode_many=lambda texts: [[1] * 5_100_000 for _ in texts])
    begun = time.perf_counter()
    documents = Shards.open(tmp_path / "out").documents("train")
    assert documents.ids(5_000_000, 5_000_003).tolist() == [1, 1, 1]
    assert time.perf_counter() - begun < 0.2


def test_words_in_both_languages(tmp_path: Path) -> None:
    text = "Don't stop，我喜欢北京大学 now!"
    places = word_places(text, "jieba")
    starts = [text[a:b].strip() for a, b in zip(places, [*places[1:], None], strict=True)]
    assert starts == ["Don't", "stop", "，", "我", "喜欢", "北京大学", "now", "!"]
    assert word_places("我喜欢", "none").tolist() == [0, 1, 2]
    cut = [(0, 3), (3, 5), (5, 10), (10, 11), (10, 11), (11, 12), (12, 14), (14, 16), (16, 18), (18, 22), (22, 23)]
    assert starts_of_tokens(places, cut).tolist() == [
        True,
        False,
        True,
        True,
        False,
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    path = tmp_path / "a.txt"
    path.write_text(text)
    build(path, tmp_path / "out", encode_with_offsets=with_offsets, segment="jieba")
    documents = Shards.open(tmp_path / "out").documents("train")
    marked = documents.word_starts(0, documents.tokens)
    assert documents.has_words
    assert marked.sum() == len(starts) + 1  # and the end of the document
    assert bytes(documents[0][:-1].astype(np.uint8)[marked[:-1]])[:2] == b"Ds"
    build(path, tmp_path / "plain")
    with pytest.raises(DataError, match="task mlm"):
        Shards.open(tmp_path / "plain").documents("train").word_starts(0, 2)


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    path = write_poems(tmp_path / "a.jsonl", 20)

    def die(texts: Sequence[str]) -> list[list[int]]:
        os._exit(9)

    with pytest.raises(RunError, match=r"want of memory.*data.workers"):
        build(path, tmp_path / "out", encode_many=die, workers=2)

    def fail(item: int) -> int:
        raise DataError("here", "a", "b", "c")

    with pytest.raises(DataError, match="here: expected a"):
        list(ordered.in_order(fail, [1, 2], 2))
    assert list(ordered.in_order(lambda item: item * 2, range(50), 3)) == list(range(0, 100, 2))
