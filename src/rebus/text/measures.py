"""How a tokenizer does on texts, English and Chinese apart, and how large a vocabulary is worth its room.

It knows no files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rebus.text.tokenizer import Tokenizer

ENGLISH = "It is a truth universally acknowledged, that a man of 27 who's rich must be in want of a wife."
CHINESE = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。我們在2024年讀了很多書。"
SIZES = tuple(2**power for power in range(10, 17))  # 1,024 to 65,536
SHARE = 0.10
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")
BROKEN, UNKNOWN = "\ufffd", ("<unk>", "[UNK]", "<|unk|>")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass
class Figures:
    """Counts over the texts of one language.

    Attributes:
        language: English, Chinese or other, by the letters of each line: the half or more that are Latin or Han.
        bytes: of the text in UTF-8, as the tokenizer normalises it.
        characters: of the same.
        tokens: that it became.
        single_bytes: tokens that are one byte.
        parts: tokens that hold a part of a character.
        unknown: tokens that stand for something the tokenizer does not know.
    """

    language: str
    bytes: int = 0
    characters: int = 0
    tokens: int = 0
    single_bytes: int = 0
    parts: int = 0
    unknown: int = 0

    @property
    def bytes_per_token(self) -> float:
        """More is denser."""
        return self.bytes / max(self.tokens, 1)

    @property
    def characters_per_token(self) -> float:
        """More is denser."""
        return self.characters / max(self.tokens, 1)


@dataclass(frozen=True)
class Step:
    """A size of vocabulary, what it gives, and what doubling it would gain, as a share; None: not known."""

    size: int
    bytes_per_token: float
    gain: float | None


@dataclass
class Search:
    """What ``search_size`` found.

    Attributes:
        size: the one chosen.
        steps: every size that was looked at.
        share: the least gain for which a doubling is worth its room.
    """

    size: int
    steps: list[Step] = field(default_factory=list)
    share: float = SHARE


def measure(tokenizer: Tokenizer, texts: Iterable[str]) -> list[Figures]:
    """Figures of texts, one entry a language that is in them, the largest first."""
    result: dict[str, Figures] = {}
    names, pieces = tokenizer.pieces(), [tokenizer.piece(item) for item in range(tokenizer.vocab_size)]
    parts = {item for item, piece in enumerate(pieces) if BROKEN in piece}
    letters = {item for item, name in enumerate(names) if len(name) == 1 and (item in parts or pieces[item].isascii())}
    single = letters | {item for item, name in enumerate(names) if _BYTE.fullmatch(name)}
    unknown = {item for name, item in tokenizer.specials.items() if name in UNKNOWN}
    for text in texts:
        for language, part in _by_language(text):
            figures = result.setdefault(language, Figures(language))
            plain = tokenizer.normalise(part)
            ids = tokenizer.encode(part)
            figures.bytes += len(plain.encode())
            figures.characters += len(plain)
            figures.tokens += len(ids)
            figures.single_bytes += sum(item in single for item in ids)
            figures.parts += sum(item in parts for item in ids)
            figures.unknown += sum(item in unknown for item in ids)
    return sorted(result.values(), key=lambda figures: -figures.bytes)


def longest(tokenizer: Tokenizer, count: int = 10) -> list[str]:
    """The longest pieces, in characters, special tokens left out."""
    special = set(tokenizer.specials.values())
    pieces = {tokenizer.piece(item) for item in range(tokenizer.vocab_size) if item not in special}
    return sorted(pieces, key=lambda piece: (-len(piece), piece))[:count]


def cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The pieces of a text, as they can be shown."""
    return [tokenizer.piece(item) for item in tokenizer.encode(text)]


def search_size(tokenizer: Tokenizer, texts: Sequence[str], share: float = SHARE) -> Search:
    """The smallest size after which doubling gains less than ``share`` of bytes a token, on texts of both languages.

    A BPE learns its pieces one after another, so a smaller one is the beginning of a larger one: one training serves
    all sizes.

    Args:
        tokenizer: trained to the largest size that is to be looked at.
        texts: that it was not trained on.
        share: the least gain for which a doubling is worth its room.
    """
    plain = [tokenizer.normalise(text) for text in texts]
    total = sum(len(text.encode()) for text in plain)
    sizes = [size for size in SIZES if size < tokenizer.vocab_size]
    if not sizes or sizes[-1] * 2 <= SIZES[-1]:
        sizes.append(tokenizer.vocab_size)  # there was nothing more to learn
    else:
        sizes.append(SIZES[-1])
    rates = []
    for size in sizes:
        smaller = shortened(tokenizer, size)
        rates.append(total / max(sum(map(len, smaller.encode_many(texts))), 1))
    gains = [later / now - 1 for now, later in pairwise(rates)]
    steps = [Step(size, rate, gain) for size, rate, gain in zip(sizes, rates, [*gains, None], strict=True)]
    chosen = next((step.size for step in steps if step.gain is None or step.gain < share), sizes[-1])
    return Search(chosen, steps, share)


def shortened(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """The tokenizer as it would be if training had stopped at ``size`` pieces."""
    if size >= tokenizer.vocab_size:
        return tokenizer
    content = json.loads(tokenizer.to_json())
    model = content["model"]
    rest = {piece: number for piece, number in model["vocab"].items() if number < size}
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = [pair for pair in pairs if {*pair, "".join(pair)} <= rest.keys()]
    model["vocab"] = rest
    return Tokenizer.from_json(json.dumps(content, ensure_ascii=False))


def _by_language(text: str) -> Iterator[tuple[str, str]]:
    """Runs of lines of one language; a line without letters goes with the ones before it."""
    held, language = "", ""
    for line in text.splitlines(keepends=True):
        letters = len(_LETTER.findall(line))
        han = len(_HAN.findall(line))
        latin = sum(letter.isascii() for letter in line if letter.isalpha())
        received = (
            "" if not letters else "Chinese" if han * 2 >= letters else "English" if latin * 2 >= letters else "other"
        )
        if received and language and received != language:
            yield language, held
            held = ""
        language = received or language
        held += line
    if held:
        yield language or "other", held
