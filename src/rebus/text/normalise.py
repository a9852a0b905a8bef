"""One way to write the same text.

The steps are those that tokenizer.json carries, run by the same library, so that whoever loads a saved tokenizer
normalises alike whatever version of Unicode their Python knows.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Regex, normalizers

# Unicode's line ends become "\n"; runs of other white space one space; none around a line end; at most one empty line.
_STEPS = (
    (r"\r\n|[\r\x{0B}\x{0C}\x{85}\x{2028}\x{2029}]", "\n"),
    (r"[^\S\n]+", " "),
    (r" ?\n ?", "\n"),
    (r"\n{3,}", "\n\n"),
)


@cache
def normaliser(nfkc: bool = True) -> normalizers.Normalizer:
    """NFKC (or NFC), then white space, as a part of a ``tokenizers`` pipeline.

    Args:
        nfkc: whether ``m²`` becomes ``m2`` and ``，`` becomes ``,``: to read, not to write.
    """
    steps = [normalizers.Replace(Regex(pattern), content) for pattern, content in _STEPS]
    form = normalizers.NFKC() if nfkc else normalizers.NFC()
    return normalizers.Sequence([form, *steps, normalizers.Strip()])


def clean(text: str) -> str:
    """Half surrogate pairs, which no file can hold, become U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if _broken(text) else text


def normalise(text: str) -> str:
    """NFKC (full-width letters and digits become plain ones), white space and line ends as one; ends stripped.

    ``normalise(normalise(text)) == normalise(text)``.
    """
    return normaliser().normalize_str(clean(text))


def _broken(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
