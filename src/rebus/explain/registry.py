"""What a method of explanation is, and the names of those there are.

A third party adds one through the entry point ``rebus.methods``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rebus.explain.subject import Subject
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel
from rebus.registry import Registry

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """What a method says of one explained number.

    Attributes:
        image: (h, w) for the parts of the image; None: it says nothing of it.
        streams: for each stream of ids, a number for each of them, (L,).
    """

    image: Floats | None = None
    streams: Mapping[str, Floats] = field(default_factory=dict)


class Method(ABC):
    """A way to explain.

    Attributes:
        adds_up: what it says of several words adds up to what it says of their sum.
        signed: what it says has a sign: above zero where a part speaks for the output, below where against it.
        remark: what must be known to read it: a key of the catalogue, or the sentence.
    """

    adds_up = False
    signed = False
    remark = ""

    @abstractmethod
    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Whether it says something of every input that a head of this model reads."""

    @abstractmethod
    def __call__(self, subject: Subject) -> list[Scores]:
        """For each goal of the subject."""


METHODS: Registry[Method] = Registry("method")
