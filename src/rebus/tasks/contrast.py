"""What tasks share that learn by telling what belongs together from what does not: keys by which equal things are
known, and a loss that takes no equal thing for a wrong one.

Letters: N askers, M candidates.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.models.features import Features
from rebus.tasks.cells import as_text
from rebus.tasks.session import Session
from rebus.text.normalise import normalise

_NOT_WORDS = re.compile(r"[\W_]+")
_NEVER = -1e9  # a score that no softmax sees; not minus infinity, whose gradient is not a number where all are left out


class Comparing(ABC):
    """A task whose loss compares the rows of a batch with one another: the more of them, the more it learns.

    So the loss is that of the whole batch, however many processes share it and whatever fits into memory at once.
    """

    compares: ClassVar[bool] = True

    @abstractmethod
    def merged(self, outputs: list[Any], parts: list[dict[str, Tensor]]) -> tuple[Any, dict[str, Tensor]]:
        """A batch's portions as one: outputs, and what the loss needs of the parts.

        Portions are those of several processes, or those that went through the model one after the other.
        """


def comparing(task: object) -> Comparing:
    """A task that compares rows, as such."""
    if not isinstance(task, Comparing):
        raise TypeError(f"{task} compares no rows")
    return task


class PairScoring(ABC):
    """A task that says of any image and text, read together, whether they belong together."""

    @abstractmethod
    def chances(
        self, session: Session, seen: Mapping[str, Features], owner: Sequence[int], texts: Sequence[str]
    ) -> NDArray[np.float64]:
        """(N,) the chance that each text belongs to its image.

        Args:
            session: the model.
            seen: what towers say of B images.
            owner: N places among the B.
            texts: N.
        """


def text_key(value: Any) -> NDArray[np.int64]:
    """A number that texts have in common which are the same but for their spelling in Unicode."""
    return _key(normalise(as_text(value)).encode("utf-8", "surrogatepass"))


def caption_key(value: Any) -> NDArray[np.int64]:
    """The same, but for case, space and punctuation too: "A red bus." says what "a red bus" says."""
    plain = normalise(as_text(value)).casefold()
    return _key((_NOT_WORDS.sub("", plain) or plain).encode("utf-8", "surrogatepass"))


def image_key(value: Any) -> NDArray[np.int64]:
    """A number that equal images have in common: of the pixels where it is an array, else of the path or bytes."""
    if isinstance(value, np.ndarray):
        return _key(np.ascontiguousarray(value).tobytes())
    return _key(value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass"))


def spared_cross_entropy(scores: Tensor, own: Tensor, spared: Tensor) -> Tensor:
    """Mean cross-entropy of finding each asker's own candidate among all but the spared ones.

    Args:
        scores: (N, M).
        own: (N,) the candidate that is right.
        spared: (N, M) bool, candidates that are right as well: they are left out.
    """
    mine = functional.one_hot(own, scores.shape[1]).bool()
    return functional.cross_entropy(scores.masked_fill(spared & ~mine, _NEVER), own)


def belonging(pair: Tensor, images: Tensor, texts: Tensor) -> Tensor:
    """(I, R) bool: which images and texts belong together, one way or another.

    A text belongs to an image if an equal text was given with an equal image.

    Args:
        pair: (R,) which image each text was given with.
        images: (I,) keys.
        texts: (R,) keys.
    """
    known, image = torch.unique(images, return_inverse=True)
    wording, text = torch.unique(texts, return_inverse=True)
    table = torch.zeros(len(known), len(wording), dtype=torch.bool, device=pair.device)
    table[image[pair], text] = True
    return table[image][:, text]


def gumbel(askers: NDArray[Any], candidates: NDArray[Any]) -> NDArray[np.float32]:
    """(N, M) Gumbel noise, each number a function of its asker and its candidate alone.

    The largest of logits with such noise is a draw from their softmax (Maddison et al. 2014, "A* Sampling").

    Args:
        askers: (N,) any whole numbers; other numbers give other draws.
        candidates: (M,).
    """
    mixed = _mixed(_mixed(askers.astype(np.uint64))[:, None] ^ candidates.astype(np.uint64)[None])
    uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # inside (0, 1)
    return (-np.log(-np.log(uniform))).astype(np.float32)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's last step (Steele et al. 2014, "Fast Splittable Pseudorandom Number Generators")."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def _key(content: bytes) -> NDArray[np.int64]:
    digest = hashlib.blake2b(content, digest_size=8).digest()
    return np.asarray(int.from_bytes(digest, "little", signed=True))
