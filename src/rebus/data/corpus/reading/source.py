"""A file or a folder as a stream of documents, in the order of the files' names. Memory does not grow with its size.

Text files, tables with a column of text, saved Hugging Face datasets; each also packed by gzip or zstd. It knows no
tokens. What is not read (images, binary files, tables without the column) is kept in ``passed_over`` with the reason.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebus.data.corpus.cleaning.cleaner import Cleaner
from rebus.data.corpus.order import key_of
from rebus.data.corpus.reading import rows
from rebus.data.corpus.reading.documents import PIECE, Document, cut_documents, cut_text
from rebus.data.corpus.reading.streams import BinaryError, ending, is_packed, read_text
from rebus.data.encodings import EncodingError
from rebus.data.names import split_word
from rebus.errors import DataError, nearest
from rebus.recipe import Corpus, Data

TEXT_ENDINGS = (".txt", ".text", ".md")
_NOT_TEXT = re.compile(r"(?:readme|licen[cs]e|copying|credits|authors|changelog|notice|requirements)\b", re.I)
_NOT_TABLES = {"dataset_info.json", "dataset_infos.json", "config.json", "package.json", "manifest.json", "state.json"}
_KINDS = "text (.txt, .text, .md), a table (.jsonl, .json, .csv, .tsv, .parquet), either also .gz or .zst, or a folder"
_DATASET = ("state.json", "dataset_dict.json")
_SAMPLED = 8192  # characters of a piece that is drawn for the tokenizer


@dataclass(frozen=True)
class SourceFile:
    """One file, or one saved dataset.

    Attributes:
        path: where it is.
        name: what messages call it.
        table: it has rows and columns.
        split: train, valid or test, where all files' names or folders say so; else "".
    """

    path: Path
    name: str
    table: bool
    split: str = ""


class CorpusSource:
    """Documents of a file or a folder. Made by ``open_source``.

    Attributes:
        path: what was named.
        files: what is read, in order.
        passed_over: (name, why) of files that are not.
        size: bytes of all files on disk.
        read: bytes read so far.
        said: splits that names of files or folders say.
    """

    def __init__(
        self, path: Path, files: list[SourceFile], passed_over: list[tuple[str, str]], data: Data, corpus: Corpus
    ) -> None:
        self.path, self.files, self.passed_over = path, files, passed_over
        self.data, self.corpus = data, corpus
        self.size = sum(size for _, size, _ in self._stats())
        self.read = 0
        self.said = sorted({file.split for file in files} - {""})
        self._alone = len(files) == 1 and not path.is_dir()
        self._columns: dict[int, str | None] = {}

    def documents(self) -> Iterator[Document]:
        """The documents that can be read, in order; a long one in parts.

        Raises:
            DataError: something cannot be read and ``data.on_bad`` is ``refuse``.
        """
        return (document for document in self.entries() if not document.problem and document.text.strip())

    def entries(self, first: int = 0) -> Iterator[Document]:
        """All there is, from file number ``first`` on: documents, empty ones, and problems that are to be counted.

        Raises:
            DataError: something cannot be read and ``data.on_bad`` is ``refuse``; a column is not certain.
        """
        self.read = 0
        for number in range(first, len(self.files)):
            file = self.files[number]
            try:
                yield from self._table(number, file) if file.table else self._text(number, file)
            except BinaryError:
                if self._alone:
                    raise
                yield Document("", file.name, file=number, problem="binary file")
            except EncodingError as error:
                if self.data.on_bad == "refuse":
                    raise
                yield Document("", str(error), file=number, problem="uncertain encoding")

    def sample(self, megabytes: float) -> list[str]:
        """Text from all over the source, cleaned, for a tokenizer; the same text each time.

        The source is read once. It is drawn in pieces of about 8,000 characters, each as likely as any other; what is
        smaller than the sample is taken whole. Documents that are said to be held out are not drawn.

        Args:
            megabytes: most bytes in UTF-8, in millions.
        """
        budget, size, at = int(megabytes * 1e6), 0, 0
        heap: list[tuple[int, int, str, int]] = []  # the piece that would go first is on top
        for document in self.documents():
            for piece in cut_text(document.text, _SAMPLED) if document.split in ("", "train") else ():
                bytes_ = len(piece.encode("utf-8", "surrogatepass"))
                heapq.heappush(heap, (-key_of("sample", at), at, piece, bytes_))
                size, at = size + bytes_, at + 1
                while size > budget and len(heap) > 1:
                    size -= heapq.heappop(heap)[3]
        cleaner = Cleaner(self.corpus.clean)
        return [cleaner.rewrite(piece)[0] for _, _, piece, _ in sorted(heap, key=lambda entry: entry[1])]

    def fingerprint(self) -> dict[str, Any]:
        """What tells this source from a changed one: files, bytes, and a hash of names, sizes and times of change."""
        digest = hashlib.sha256()
        for name, size, changed in self._stats():
            digest.update(f"{name}\0{size}\0{changed}\n".encode("utf-8", "surrogateescape"))
        return {"path": str(self.path), "files": len(self.files), "bytes": self.size, "fingerprint": digest.hexdigest()}

    def _stats(self) -> Iterator[tuple[str, int, int]]:
        for file in self.files:
            inner = sorted(file.path.rglob("*")) if file.path.is_dir() else [file.path]
            for path in inner:
                result = path.stat()
                yield f"{file.name}/{path.name}", result.st_size, result.st_mtime_ns

    def _told(self, count: int) -> None:
        self.read += count

    def _text(self, number: int, file: SourceFile) -> Iterator[Document]:
        skip = self.data.on_bad == "skip"
        pieces = read_text(file.path, file.name, self.data.encoding, skip, self._told)
        begins, empty = True, True
        limit = max(PIECE, self.corpus.clean.max_chars or 0)
        for line, text, more in cut_documents(pieces, self.corpus.document, limit):
            where = (
                file.name if self.corpus.document == "file" or (line == 1 and not more) else f"{file.name}, line {line}"
            )
            if not text.strip() and not more:
                begins = True
                continue  # what lies between or after documents is none
            yield Document(text, where, begins, more, number, file.split)
            begins, empty = not more, False
        if empty:
            yield Document("", file.name, file=number, split=file.split)

    def _table(self, number: int, file: SourceFile) -> Iterator[Document]:
        limit = self.corpus.line_mb * 1_000_000
        if number not in self._columns:
            try:
                self._columns[number] = rows.choose_column(file.path, file.name, self.data, limit, self.corpus.column)
            except rows.NoColumn:
                if self._alone or not self._column_elsewhere(number, limit):
                    raise
                self._columns[number] = ""
        column = self._columns[number]
        if column == "":
            yield Document("", file.name, file=number, problem="no column")
            return
        word = "line" if ending(file.path) in (*rows.JSON_LINES, *rows.DELIMITED) else "row"
        largest = max(PIECE, self.corpus.clean.max_chars or 0)
        for place, row in rows.read_rows(file.path, file.name, self.data, limit, column, self._told):
            where = f"{file.name}, {word} {place}"
            if isinstance(row, DataError):
                if self.data.on_bad == "refuse":
                    raise row
                yield Document("", str(row), file=number, problem="bad row")
                continue
            text = (rows.text_of(row.get(column)) if isinstance(row, dict) and column else row) or ""
            text = text.replace("\r\n", "\n").replace("\r", "\n") if isinstance(text, str) else ""
            parts = cut_text(text, largest)
            for at, part in enumerate(parts):
                yield Document(part, where, at == 0, at + 1 < len(parts), number, file.split)

    def _column_elsewhere(self, number: int, limit: int) -> bool:
        """Whether any other table of the folder has the column that was named."""
        for other, file in enumerate(self.files):
            if other == number or not file.table:
                continue
            try:
                self._columns.setdefault(
                    other, rows.choose_column(file.path, file.name, self.data, limit, self.corpus.column)
                )
            except rows.NoColumn:
                continue
            if self._columns[other]:
                return True
        return False


def open_source(data: Data, corpus: Corpus) -> CorpusSource:
    """The documents of what ``data.path`` names. Nothing but names and sizes is read yet.

    Args:
        data: path, encoding, delimiter, and what to do with what is broken.
        corpus: the column, what a document is, and how texts are cleaned.

    Raises:
        DataError: nothing is there, or nothing in it is read.
    """
    path = _existing(data.path)
    passed_over: list[tuple[str, str]] = []
    if path.is_file():
        if ending(path) not in (*TEXT_ENDINGS, *rows.ENDINGS):
            do = "convert it, or let its name end in .txt if it is text"
            raise DataError(path, _KINDS, f"a file ending in '{path.suffix}'", do)
        files = [_file(path, path.name)]
    elif (path / _DATASET[1]).is_file():
        parts = sorted(part for part in path.iterdir() if (part / _DATASET[0]).is_file())
        splits = [split_word(part.name) or "" for part in parts]
        files = [
            SourceFile(part, f"{path.name}/{part.name}", True, split if all(splits) else "")
            for part, split in zip(parts, splits, strict=True)
        ]
    elif (path / _DATASET[0]).is_file():
        files = [SourceFile(path, path.name, True)]
    else:
        files = _folder(path, passed_over)
    if not files:
        received = ", ".join(name for name, _ in passed_over[:6])
        received = f"only {received}" if received else "an empty folder"
        raise DataError(path, _KINDS, received, "name the folder or the file that holds the text")
    return CorpusSource(path, files, passed_over, data, corpus)


def looks_like_corpus(path: str | Path) -> bool:
    """Whether a path without a named task is raw text to learn to write from.

    A text file is, plain or packed, and a folder of nothing but such files (and of README files and the like), unless
    they lie in several folders, which may be classes. Tables are not: their columns say what they are for.
    """
    path = Path(os.path.expanduser(path))
    if path.is_file():
        return ending(path) in TEXT_ENDINGS
    if not path.is_dir() or any((path / name).is_file() for name in _DATASET):
        return False
    result = list(_walk(path))
    texts = [file for file in result if ending(file) in TEXT_ENDINGS]
    folders = {file.relative_to(path).parts[:-1] for file in texts if not _NOT_TEXT.match(file.name)}
    entries = [bool(parts) and split_word(parts[0]) is not None for parts in folders]
    return len(texts) == len(result) and (len(folders) == 1 or (len(folders) > 1 and all(entries)))


def _existing(text: str) -> Path:
    path = Path(os.path.expanduser(text))
    if not text or not path.exists():
        beside = [item.name for item in path.parent.iterdir()][:10_000] if text and path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else ""
        raise DataError(
            text or "data.path", _KINDS, "nothing there", hint if hint.startswith("did") else "check the path"
        )
    if not path.is_file() and not path.is_dir():
        raise DataError(path, _KINDS, "a device or a pipe", "save the text to a file first")
    return path


def _file(path: Path, name: str, split: str = "") -> SourceFile:
    return SourceFile(path, name, ending(path) in rows.ENDINGS, split)


def _folder(folder: Path, passed_over: list[tuple[str, str]]) -> list[SourceFile]:
    chosen: list[Path] = []
    spare: list[Path] = []  # README files are read where there is nothing else
    for path in _walk(folder):
        inner = path.relative_to(folder)
        kind = ending(path)
        if kind in rows.PARQUET and is_packed(path):
            passed_over.append((inner.as_posix(), "a packed Parquet file; unpack it"))
        elif kind in rows.ENDINGS and path.name not in _NOT_TABLES:
            chosen.append(inner)
        elif kind in TEXT_ENDINGS:
            (spare if _NOT_TEXT.match(path.name) else chosen).append(inner)
        else:
            passed_over.append((inner.as_posix(), "not text"))
    if not chosen:
        chosen, spare = spare, []
    passed_over += [(inner.as_posix(), "about the data") for inner in spare]
    splits = [_split_of(inner) for inner in chosen]
    named = all(splits) and "train" in splits
    return [
        _file(folder / inner, inner.as_posix(), (split or "") if named else "")
        for inner, split in zip(chosen, splits, strict=True)
    ]


def _split_of(inner: Path) -> str | None:
    if len(inner.parts) > 1 and (split := split_word(inner.parts[0])):
        return split
    words = re.split(r"[^a-zA-Z\u4e00-\u9fff]+", inner.name)
    return next((split for word in words if (split := split_word(word))), None)


def _walk(folder: Path) -> Iterator[Path]:
    """All files below, sorted by their path; hidden ones are not seen, links are followed, each folder once."""
    known: set[str] = set()
    result: list[Path] = []
    for at, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(at)
        if real in known:
            folders.clear()
            continue
        known.add(real)
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        result += [Path(at, name) for name in names if not name.startswith(".")]
    yield from sorted(result, key=lambda path: path.relative_to(folder).as_posix())
