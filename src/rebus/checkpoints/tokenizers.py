"""Training a tokenizer on raw text, and looking at one: what ``rebus tokenizer`` calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rebus import recipe
from rebus.checkpoints.hf_load import is_checkpoint, read_checkpoint
from rebus.data.corpus import open_source
from rebus.errors import DataError
from rebus.text.measures import (
    CHINESE,
    ENGLISH,
    SHARE,
    SIZES,
    Figures,
    Search,
    cut,
    longest,
    measure,
    search_size,
    shortened,
)
from rebus.text.patterns import Pattern
from rebus.text.tokenizer import LM_PATTERN, MASK, Tokenizer

Log = Callable[[str], None]
_HELD_OUT = 10  # one piece of the sample in so many is kept to measure on


@dataclass
class Inspected:
    """What can be said of a tokenizer.

    Attributes:
        name: where it came from.
        vocab_size: ids it has.
        pattern: how it cuts text; None: in a way of its own.
        figures: how it does on the texts, a language each.
        longest: its longest pieces.
        cuts: texts as they are cut.
        fingerprint: SHA-256 of its content.
        search: how its size was found, where it was searched.
    """

    name: str
    vocab_size: int
    pattern: str | None
    figures: list[Figures]
    longest: list[str] = field(default_factory=list)
    cuts: list[list[str]] = field(default_factory=list)
    fingerprint: str = ""
    search: Search | None = None


def train_tokenizer(
    data: str | Path,
    out: str | Path,
    *,
    vocab_size: int | Literal["auto"] = "auto",
    gain: float = SHARE,
    sample_mb: float = 64,
    pattern: Pattern = LM_PATTERN,
    mask: bool = False,
    settings: recipe.Recipe | None = None,
    log: Log = lambda line: None,
) -> Inspected:
    """Train a tokenizer on a sample of raw text, save it, and measure it on a tenth of the sample that it did not see.

    Args:
        data: text, a table with a column of text, or a folder of them.
        out: folder for tokenizer.json and what belongs to it.
        vocab_size: most pieces; auto: see ``rebus.text.measures.search_size``.
        gain: auto: the least share of bytes a token that makes a doubling worth its room.
        sample_mb: text that is read for it, in MB.
        pattern: how text is cut; see ``Tokenizer.train``.
        mask: with the token that masked models need.
        settings: ``corpus`` says how text is read and cleaned.
        log: prints a line for people.

    Raises:
        DataError: there is no text. RecipeError: ``vocab_size`` is too small. RunError: ``out`` cannot be written.
    """
    built = (settings or recipe.Recipe()).replace({"data.path": str(data)})
    texts = open_source(built.data, built.corpus).sample(sample_mb)
    if not any(text.strip() for text in texts):
        raise DataError(data, "text to train a tokenizer on", "none", "check that the files hold text")
    known = [text for place, text in enumerate(texts) if place % _HELD_OUT or len(texts) < _HELD_OUT]
    unseen = texts[::_HELD_OUT] if len(texts) >= _HELD_OUT else texts
    size = SIZES[-1] if vocab_size == "auto" else vocab_size
    log(f"learning at most {size:,} pieces from {sum(map(len, known)):,} characters")
    specials = [MASK] if mask else []
    nfkc = built.corpus.clean.nfkc and not built.corpus.clean.full_width  # else it would take marks that cleaning keeps
    trained = Tokenizer.train(known, size, specials=specials, pattern=pattern, nfkc=nfkc)
    search = None
    if vocab_size == "auto":
        search = search_size(trained, unseen, gain)
        trained = shortened(trained, search.size)
    trained.save(out)
    result = _looked_at(str(out), trained, unseen)
    result.search = search
    return result


def inspect_tokenizer(model: str | Path, what: str | None = None, *, sample_mb: float = 4) -> Inspected:
    """How a tokenizer does on texts, and how it cuts them.

    Args:
        model: a Run, a folder with tokenizer.json, that file, a .gguf file or a hub id.
        what: raw text (a file, a table, a folder) or a sentence; None: a sentence of each language.
        sample_mb: text that is read, in MB.

    Raises:
        RunError: there is no tokenizer. DataError: the text cannot be read.
    """
    tokenizer = open_tokenizer(model)
    if what is None:
        texts = [ENGLISH, CHINESE]
    elif Path(what).exists():
        result = recipe.Recipe().replace({"data.path": what})
        texts = open_source(result.data, result.corpus).sample(sample_mb)
    else:
        texts = [what]
    return _looked_at(str(model), tokenizer, texts, texts if what is not None and texts == [what] else None)


def open_tokenizer(model: str | Path) -> Tokenizer:
    """The tokenizer of a Run, a folder, a tokenizer.json, a .gguf file or a hub id. Raises as ``inspect_tokenizer``."""
    place = Path(model)
    if (place / "tokenizer.json").is_file() or place.suffix == ".json":
        return Tokenizer.load(place)
    if is_checkpoint(model):
        return read_checkpoint(model).load_tokenizer(False)
    return Tokenizer.load(place)  # tells what is missing


def _looked_at(name: str, tokenizer: Tokenizer, texts: list[str], shown: list[str] | None = None) -> Inspected:
    return Inspected(
        name,
        tokenizer.vocab_size,
        tokenizer.pattern,
        measure(tokenizer, texts),
        longest(tokenizer),
        [cut(tokenizer, text) for text in shown or [ENGLISH, CHINESE]],
        tokenizer.fingerprint,
    )
