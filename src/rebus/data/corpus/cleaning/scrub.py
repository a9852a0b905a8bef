"""Personal data replaced by what it was: ``<EMAIL>``, ``<PHONE>``, ``<ID>``, ``<CARD>``, ``<IP>``.

``SCRUBBERS`` is the hook: a function from a text to the text and how many of what it replaced. Ours is ``pii``; another
package registers its own under the entry point group ``rebus.scrubbers``, and ``corpus.clean.scrubbers`` names it.

It is made of patterns and checksums: it finds what is written in a usual form, and knows no names or addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date

from rebus.registry import Registry

Scrubber = Callable[[str], tuple[str, Mapping[str, int]]]
SCRUBBERS: Registry[Scrubber] = Registry("scrubber")

# ASCII: a Chinese character may stand right before or behind
_EMAIL = re.compile(
    r"(?<![\w.%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])", re.ASCII
)
_CHINESE_ID = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[\dXx](?![0-9A-Za-z])", re.ASCII)
_US_ID = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII)
_CARD = re.compile(r"(?<![\w-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])", re.ASCII)
_PHONES = (
    re.compile(r"(?<![\d+])(?:(?:\+|00)?86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}(?!\d)", re.ASCII),  # a mobile of China
    re.compile(r"(?<![\d-])0\d{2,3}-\d{7,8}(?![\d-])", re.ASCII),  # a landline of China
    re.compile(r"(?<![\w+])\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}(?!\d)", re.ASCII),  # any country, with its code
    re.compile(r"(?<![\w.-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])", re.ASCII),  # North America
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\w)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])", re.ASCII)
_DIGIT = re.compile(r"\d", re.ASCII)
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # GB 11643-1999


@SCRUBBERS.register("pii")
def scrub_pii(text: str) -> tuple[str, dict[str, int]]:
    """E-mail and IP addresses, telephone numbers, identity cards (China, US), payment cards.

    Identity numbers of China and cards must pass their checksum, addresses their range; so years, prices and version
    numbers stay. Returns the text and how many of each were replaced.
    """
    counts: Counter[str] = Counter()

    def replace(pattern: re.Pattern[str], word: str, fits: Callable[[str], bool] | None = None) -> None:
        nonlocal text

        def put(matchstr: re.Match[str]) -> str:
            if fits is not None and not fits(matchstr[0]):
                return matchstr[0]
            counts[word] += 1
            return f"<{word}>"

        text = pattern.sub(put, text)

    if "@" in text:
        replace(_EMAIL, "EMAIL")
    if _DIGIT.search(text):
        replace(_CHINESE_ID, "ID", is_chinese_id)
        replace(_US_ID, "ID")
        replace(_CARD, "CARD", lambda found: 13 <= _digits(found) <= 19 and passes_luhn(found))
        for pattern in _PHONES:
            replace(pattern, "PHONE", lambda found: 8 <= _digits(found) <= 15)
        replace(_IPV4, "IP", _is_address)
    if "::" in text or text.count(":") > 2:
        replace(_IPV6, "IP", _is_address)
    return text, dict(counts)


def is_chinese_id(number: str) -> bool:
    """Whether 18 characters are an identity number of China: a day of birth that exists and the right check digit."""
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(weight * int(digit) for weight, digit in zip(_WEIGHTS, number[:17], strict=True))
    return "10X98765432"[total % 11] == number[17].upper()


def passes_luhn(number: str) -> bool:
    """Whether the digits of a number have the checksum that payment cards have (ISO/IEC 7812-1)."""
    digits = [int(sign) for sign in number if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _digits(text: str) -> int:
    return sum(sign.isdigit() for sign in text)


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 4 or ("::" in text and len(text) > 4) or text.count(":") == 7
