"""Which tokens a word starts at, for whole-word masking: found in the text, told to the tokens by their offsets.

A word is a run of letters and digits; in Chinese what jieba makes of a run of characters; any other sign is one by
itself. It does not know how texts are cut into tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rebus.text.words import Segment, split_words

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNITS = re.compile(rf"(?P<han>[{_HAN}]+)|(?:(?![{_HAN}])\w)+(?:['\u2019](?:(?![{_HAN}])\w)+)*|[^\s\w]")


def word_places(text: str, segment: Segment = "auto") -> npt.NDArray[np.int64]:
    """The places in a text where words start, rising.

    Raises:
        MissingPackageError: jieba is asked for and is not installed.
    """
    places = []
    for result in _UNITS.finditer(text):
        at = result.start()
        if result["han"] is None:
            places.append(at)
            continue
        run = result[0]
        words = split_words(run, segment)
        if sum(map(len, words)) != len(run):  # a character that is normalised to several
            words = list(run)
        for word in words:
            places.append(at)
            at += len(word)
    return np.array(places, dtype=np.int64)


def starts_of_tokens(places: npt.NDArray[np.int64], offsets: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """(n,) whether a word starts in each token: in the first that covers the place, where several share a character.

    Args:
        places: where words start in the text.
        offsets: (n,) the characters each token stands for, from and to.
    """
    spans = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    reached = np.maximum.accumulate(np.concatenate([np.zeros(1, np.int64), spans[:, 1]]))[:-1]
    low = np.searchsorted(places, np.maximum(spans[:, 0], reached))
    starts = np.searchsorted(places, spans[:, 1]) > low
    starts[:1] = True
    return starts
