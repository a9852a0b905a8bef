"""Raw text of every kind to documents: formats, archives, encodings, folders, and what is wrong with them."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from rebus.data.corpus import Document, looks_like_corpus, open_source
from rebus.data.corpus.reading.documents import cut_documents, cut_text
from rebus.data.corpus.reading.streams import text_lines
from rebus.errors import DataError
from rebus.recipe import Corpus, Data

ENGLISH = "The first paragraph is here.\n\nThe second one\nhas two lines."
CHINESE = "床前明月光，疑是地上霜。\n\n举头望明月，低头思故乡。"


def entries(path: Path, on_bad: str = "refuse", encoding: str | None = None, **corpus: Any) -> list[Document]:
    data = Data(path=str(path), on_bad=on_bad, encoding=encoding)  # type: ignore[arg-type]
    return list(open_source(data, Corpus(**corpus)).entries())


def texts(path: Path, **settings: Any) -> list[str]:
    return [document.text for document in entries(path, **settings)]


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("how", "count"), [("auto", 1), ("file", 1), ("paragraph", 2), ("line", 3)])
def test_what_one_document_is(tmp_path: Path, how: str, count: int) -> None:
    found = entries(put(tmp_path / "a.txt", ENGLISH), document=how)
    assert len(found) == count
    assert "".join("".join(one.text.split()) for one in found) == "".join(ENGLISH.split())


def test_a_mark_of_published_corpora_ends_documents_and_a_form_feed_does_not(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "one\f still one\n<|endoftext|>\ntwo\n<|endoftext|>\n")
    assert [text.strip() for text in texts(path)] == ["one\f still one", "two"]
    assert len(texts(path, document="file")) == 1


def test_places_name_file_and_line(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", "a\n\n\nb\n\nc\nd")
    assert [one.where for one in entries(path, document="paragraph")] == ["a.txt", "a.txt, line 4", "a.txt, line 6"]
    assert [one.where for one in entries(path, document="line")][-1] == "a.txt, line 7"


ROWS = [{"id": f"x{i}", "text": f"row {i} of the corpus", "stars": i} for i in range(5)]


def write_rows(path: Path) -> Path:
    kind = path.name.split(".", 1)[1]
    if kind.startswith("jsonl"):
        content = "".join(json.dumps(row) + "\n" for row in ROWS)
    elif kind.startswith("json"):
        content = json.dumps(ROWS, indent=1)
    elif kind.startswith("csv"):
        content = "id,text,stars\n" + "".join(f'{row["id"]},"{row["text"]}",{row["stars"]}\n' for row in ROWS)
    else:
        content = "id\ttext\tstars\n" + "".join(f"{row['id']}\t{row['text']}\t{row['stars']}\n" for row in ROWS)
    packed = content.encode()
    if kind.endswith("gz"):
        packed = gzip.compress(packed)
    elif kind.endswith("zst"):
        packed = zstandard.ZstdCompressor().compress(packed)
    return put(path, packed)


KINDS = ["jsonl", "json", "csv", "tsv", "jsonl.gz", "jsonl.zst", "csv.gz", "json.zst", "tsv.zst"]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_give_their_column_of_text(tmp_path: Path, kind: str) -> None:
    found = entries(write_rows(tmp_path / f"a.{kind}"))
    assert [one.text for one in found] == [row["text"] for row in ROWS]
    assert found[0].where.startswith(f"a.{kind}, ")


def test_parquet_and_saved_datasets(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert texts(tmp_path / "a.parquet") == [row["text"] for row in ROWS]
    assert texts(tmp_path / "a.parquet", column="id") == [row["id"] for row in ROWS]
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert texts(tmp_path / "saved") == [row["text"] for row in ROWS]
    parts = {"train": datasets.Dataset.from_list(ROWS), "validation": datasets.Dataset.from_list(ROWS[:2])}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "both")
    found = entries(tmp_path / "both")
    assert [one.split for one in found] == ["train"] * 5 + ["valid"] * 2


@pytest.mark.parametrize("ending", ["txt", "text", "md"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_text_files_plain_and_packed(tmp_path: Path, ending: str, packed: str) -> None:
    content = (CHINESE + ENGLISH).encode()
    whole = {"": content, ".gz": gzip.compress(content), ".zst": zstandard.ZstdCompressor().compress(content)}[packed]
    path = put(tmp_path / f"a.{ending}{packed}", whole * 2 if packed else whole)  # two members in a row are one file
    assert texts(path) == [(CHINESE + ENGLISH) * (2 if packed else 1)]
    assert looks_like_corpus(path)


def test_lists_of_lines_are_joined_and_columns_are_chosen_or_asked_for(tmp_path: Path) -> None:
    poems = [{"title": "静夜思", "author": "李白", "paragraphs": ["床前明月光，", "疑是地上霜。"]}]
    path = put(tmp_path / "poems.json", json.dumps(poems))
    assert texts(path, column="paragraphs") == ["床前明月光，\n疑是地上霜。"]
    with pytest.raises(DataError, match=r"columns 'title', 'paragraphs'.*corpus.column"):
        texts(path)
    with pytest.raises(DataError, match=r"did you mean 'paragraphs'"):
        texts(path, column="paragraph")
    only = put(tmp_path / "only.jsonl", '{"id": "a", "verse": "one two"}\n')
    assert texts(only) == ["one two"]
    assert texts(put(tmp_path / "bare.json", '["one", "two"]')) == ["one", "two"]
    numbers = put(tmp_path / "numbers.jsonl", '{"a": 1}\n')
    with pytest.raises(DataError, match=r"no text in 'a'"):
        texts(numbers)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    text = CHINESE * 20 + "\r\n" + ENGLISH.replace("\n", "\r\n")
    path = put(tmp_path / "a.txt", text.encode(encoding))
    assert texts(path) == [text.replace("\r\n", "\n")]


def test_bytes_that_are_no_text_are_named_or_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "a.txt", b"good line\n" * 200_000 + b"bad \xff\xfe line\n" + b"good line\n")
    with pytest.raises(DataError, match=r"a.txt, byte 2000004, line 200001.*0xff"):
        texts(path)
    found = texts(path, on_bad="skip", document="line")
    assert len(found) == 200_002
    assert [at for at, text in enumerate(found) if "\udfff" in text] == [200_000]
    named = put(tmp_path / "b.txt", "caf\xe9".encode("latin-1"))
    assert texts(named, encoding="latin-1") == ["café"]
    with pytest.raises(DataError, match="text encoding"):
        texts(named, encoding="nonsense")
    with pytest.raises(DataError, match="encoding"):
        texts(named, encoding="hex")


def test_a_character_cut_at_a_border_of_reading_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rebus.data.corpus.reading.streams.CHUNK", 7)
    text = "a月光，\r\n" * 7_000
    for encoding in ("utf-8", "gb18030", "utf-16"):
        assert "".join(texts(put(tmp_path / "a.txt", text.encode(encoding)))) == text.replace("\r\n", "\n")


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.jsonl.gz", "a.csv.zst"])
def test_archives_cut_short_or_damaged_are_named(tmp_path: Path, name: str) -> None:
    content = "".join(f'{{"text": "{i * 7919 % 10007}"}}\n' for i in range(20_000)).encode()
    packed = gzip.compress(content) if name.endswith("gz") else zstandard.ZstdCompressor().compress(content)
    with pytest.raises(DataError, match=f"{name}.*cut short"):
        texts(put(tmp_path / name, packed[: len(packed) // 2]))
    with pytest.raises(DataError, match=f"{name}.*damage"):
        texts(put(tmp_path / name, b"this is no archive at all"))


def test_a_folder_is_read_whole_and_what_is_not_text_is_told(tmp_path: Path) -> None:
    put(tmp_path / "b.txt", "second")
    put(tmp_path / "a" / "deep" / "c.md", "first")
    put(tmp_path / "d.txt.gz", gzip.compress(b"fourth"))
    put(tmp_path / "c.jsonl", '{"text": "third"}\n')
    put(tmp_path / "image.png", b"\x89PNG")
    put(tmp_path / "binary.txt", b"\x00\x01\x02" * 100)
    put(tmp_path / "pdf.txt", b"%PDF-1.4")
    put(tmp_path / "empty.txt", b"")
    put(tmp_path / "README.md", "about")
    put(tmp_path / ".hidden.txt", "no")
    source = open_source(Data(path=str(tmp_path)), Corpus())
    found = list(source.entries())
    assert [one.text for one in found if one.text] == ["first", "second", "third", "fourth"]
    assert [one.where for one in found if one.problem == "binary file"] == ["binary.txt", "pdf.txt"]
    assert [one.where for one in found if not one.text and not one.problem] == ["empty.txt"]
    assert source.passed_over == [("image.png", "not text"), ("README.md", "about the data")]
    assert [one.text for one in source.documents()] == ["first", "second", "third", "fourth"]
    with pytest.raises(DataError, match=r"binary.txt"):
        texts(tmp_path / "binary.txt")


def test_tables_without_the_column_are_counted_in_a_folder(tmp_path: Path) -> None:
    put(tmp_path / "authors.json", '[{"name": "李白"}]')
    put(tmp_path / "poems.json", '[{"verse": "明月"}]')
    found = entries(tmp_path, column="verse")
    assert [(one.text, one.problem) for one in found] == [("", "no column"), ("明月", "")]
    with pytest.raises(DataError, match=r"did you mean 'verse'|there are: name"):
        entries(tmp_path, column="vers")


@pytest.mark.parametrize(
    "names", [("train.txt", "valid.txt"), ("train/a.txt", "test/a.txt"), ("wiki.train.txt", "wiki.dev.txt")]
)
def test_splits_that_names_say(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        put(tmp_path / name, name)
    assert {one.split for one in entries(tmp_path)} in ({"train", "valid"}, {"train", "test"})
    put(tmp_path / "more.txt", "x")
    assert {one.split for one in entries(tmp_path)} == {""}


def test_bad_rows_are_refused_or_counted(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": \n\n[1]\n{"text": "two"}\n{"other": 1}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2"):
        texts(path)
    found = entries(path, on_bad="skip")
    assert [one.text for one in found if not one.problem] == ["one", "two", ""]
    assert [one.problem for one in found].count("bad row") == 2
    wide = put(tmp_path / "a.csv", "text,n\nok,1\nbad,1,2\nfine,2\n")
    with pytest.raises(DataError, match=r"a.csv, line 3.*2 fields"):
        texts(wide)
    assert [one.text for one in entries(wide, on_bad="skip") if not one.problem] == ["ok", "fine"]
    quote = put(tmp_path / "q.csv", 'text,n\n"never closed,1\nmore,2\n')
    with pytest.raises(DataError, match=r"q.csv, line 2.*quotes"):
        texts(quote)
    broken = put(tmp_path / "b.json", '[{"text": "one"}, {"text": "two"')
    with pytest.raises(DataError, match=r"b.json, row 2"):
        texts(broken, column="text")
    damaged = put(tmp_path / "d.parquet", b"PAR1 not at all")
    with pytest.raises(DataError, match=r"d.parquet"):
        texts(damaged)


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    put(tmp_path / "novel.txt", "x")
    with pytest.raises(DataError, match=r"did you mean 'novel.txt'"):
        texts(tmp_path / "nove.txt")
    with pytest.raises(DataError, match=r"a file ending in '\.docx'"):
        texts(put(tmp_path / "a.docx", "x"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        texts(tmp_path / "empty")


def test_a_line_beyond_the_limit_is_refused_or_counted(tmp_path: Path) -> None:
    long = '{"text": "' + "x" * 1_100_000 + '"}\n'
    path = put(tmp_path / "a.jsonl", '{"text": "one"}\n' + long + '{"text": "two"}\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2: expected at most 1,000,000 characters.*corpus.line_mb"):
        texts(path, line_mb=1)
    found = entries(path, on_bad="skip", line_mb=1)
    assert [(one.text, one.problem) for one in found] == [("one", ""), ("", "bad row"), ("two", "")]
    assert len(texts(path, line_mb=2)) == 4  # a long document comes in two parts
    with pytest.raises(DataError, match=r"a.csv, line 2"):
        texts(put(tmp_path / "a.csv", "text,n\n" + "x" * 1_100_000 + ",1\n"), line_mb=1)


_MEASURED = """
import resource, sys
from rebus.data.corpus.reading.source import open_source
from rebus.recipe import Corpus, Data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = parts = 0
try:
    for document in open_source(Data(path=sys.argv[1]), Corpus()).entries():
        size, parts = size + len(document.text), parts + 1
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, size, parts)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux does")
@pytest.mark.parametrize(("name", "megabytes"), [("a.txt.zst", 300), ("a.jsonl.zst", 1000)])
def test_a_huge_line_needs_little_memory(tmp_path: Path, name: str, megabytes: int) -> None:
    """A line of 300 MB of text is read in parts; a JSON line of 1 GB is refused after 64 million characters."""
    packer = zstandard.ZstdCompressor()
    head = packer.compress(b'{"text": "') if "jsonl" in name else b""
    path = put(tmp_path / name, head + packer.compress(b"word and " * 111_111) * megabytes)
    done = subprocess.run([sys.executable, "-c", _MEASURED, str(path)], capture_output=True, text=True, check=True)
    *told, figures = done.stdout.splitlines()
    grown, size, parts = map(int, figures.split())
    assert grown < 500
    if told:
        assert "a.jsonl.zst, line 1: expected at most 64,000,000 characters" in told[0]
        assert "jsonl" in name
    else:
        assert size == 300 * 999_999
        assert parts >= 286


def test_long_documents_come_in_parts_that_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "A sentence of some words. " * 100_000
    found = entries(put(tmp_path / "a.txt", text))
    assert "".join(one.text for one in found) == text
    assert [one.begins for one in found] == [True] + [False] * (len(found) - 1)
    assert [one.more for one in found] == [True] * (len(found) - 1) + [False]
    assert all(one.text.endswith((". ", ".")) for one in found)


def test_parts_are_cut_at_good_places() -> None:
    assert cut_text("one two. three", 9) == ["one two. ", "three"]
    assert cut_text("第一句话。第二句话很长", 6) == ["第一句话。", "第二句话很长"]
    assert cut_text("x" * 10, 4) == ["xxxx", "xxxx", "xx"]
    assert cut_text("", 4) == [""]
    text = " ".join(str(i) for i in range(5000))
    parts = cut_text(text, 100)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 100


def test_documents_do_not_depend_on_how_text_arrives() -> None:
    text = "a\n\n b <|endoftext|>c\n \n\n\nd\n<|endoftext|>\n" * 5
    for how in ("auto", "paragraph", "line", "file"):
        wholes = [one for _, one, _ in cut_documents(iter([text]), how)]  # type: ignore[arg-type]
        for size in (1, 3, 8):
            pieces = iter([text[at : at + size] for at in range(0, len(text), size)])
            found = [one for _, one, _ in cut_documents(pieces, how)]  # type: ignore[arg-type]
            assert [one.strip() for one in found if one.strip()] == [one.strip() for one in wholes if one.strip()]
    assert list(text_lines(iter(["a\nb", "c\n", "\nd"]), 10)) == [
        (1, "a", True),
        (2, "bc", True),
        (3, "", True),
        (4, "d", True),
    ]
    assert list(text_lines(iter(["aaaa", "aa\nb\n"]), 4)) == [(1, "aaaaa", False), (2, "b", True)]


def test_the_sample_comes_from_everywhere_and_is_always_the_same(tmp_path: Path) -> None:
    for number in range(10):
        put(tmp_path / f"{number}.txt", f"{number} " * 50_000)
    source = open_source(Data(path=str(tmp_path)), Corpus(clean={"pii": True}))  # type: ignore[arg-type]
    sample = source.sample(0.3)
    assert sample == source.sample(0.3)
    assert 250_000 <= sum(map(len, sample)) <= 300_000
    assert {text[0] for text in sample} == set("0123456789")
    assert [text[0] for text in sample] == sorted(text[0] for text in sample)
    assert sum(map(len, source.sample(100))) == 1_000_000
    put(tmp_path / "mail.txt", "write to a.b@example.com")
    source = open_source(Data(path=str(tmp_path / "mail.txt")), Corpus(clean={"pii": True}))  # type: ignore[arg-type]
    assert source.sample(1) == ["write to <EMAIL>"]


def test_what_is_a_corpus_without_a_named_task(tmp_path: Path) -> None:
    put(tmp_path / "plain" / "a.txt", "x")
    put(tmp_path / "plain" / "b.md.gz", gzip.compress(b"x"))
    put(tmp_path / "classes" / "good" / "a.txt", "x")
    put(tmp_path / "classes" / "bad" / "a.txt", "x")
    put(tmp_path / "splits" / "train" / "a.txt", "x")
    put(tmp_path / "splits" / "test" / "a.txt", "x")
    put(tmp_path / "mixed" / "a.txt", "x")
    put(tmp_path / "mixed" / "a.png", "x")
    told = {name: looks_like_corpus(tmp_path / name) for name in ("plain", "classes", "splits", "mixed", "nothing")}
    assert told == {"plain": True, "classes": False, "splits": True, "mixed": False, "nothing": False}
    assert not looks_like_corpus(write_rows(tmp_path / "a.jsonl"))


def test_the_fingerprint_knows_a_changed_source(tmp_path: Path) -> None:
    put(tmp_path / "a.txt", "one")
    first = open_source(Data(path=str(tmp_path)), Corpus()).fingerprint()
    assert first == open_source(Data(path=str(tmp_path)), Corpus()).fingerprint()
    put(tmp_path / "b.txt", "two")
    assert first != open_source(Data(path=str(tmp_path)), Corpus()).fingerprint()
