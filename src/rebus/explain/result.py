"""What an explanation is: which parts of the image and of the text one output of a model came from.

It knows no model and no method. Letters: h, w rows and columns of the map, S side of the square image.
"""

from __future__ import annotations

import html
import importlib
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenScore:
    """One readable piece of the text.

    Attributes:
        text: as it stands in the text, without the spaces around it.
        score: how much it mattered; signed where the method is.
        start, end: where it stands: ``explanation.text[start:end]``, in characters.
    """

    text: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class ColumnScore:
    """One column of the row.

    Attributes:
        column: its name.
        text: the row's value; empty where it is missing.
        score: what the explained output loses without it: above zero where the value speaks for the output.
        share: of what all columns lose or gain, 0 to 1.
    """

    column: str
    text: str
    score: float
    share: float


@dataclass(frozen=True)
class Explanation:
    """Why a model said one thing.

    Attributes:
        method: the name of what made it, one of ``rebus.explain.METHODS``.
        target: what is explained, in words: ``label 'red'``, ``word 3 'bus'``.
        score: the explained output: a probability, or the number that a regression gives.
        image: (h, w) relevance of the parts of the square image, as the method gives it: signed where that is, not
            normalised; None where the model saw no image, or the method says nothing of it.
        tokens: relevance of the pieces of the text, in their order; special tokens are left out.
        columns: what each column of numbers, categories and dates adds, the most important first.
        weights: the share of each modality in what was fused; only of models that are ``joint``.
        shown: (S, S, 3) the image as the model saw it.
        text: what the model read.
        answer: what the model says, whatever is explained.
        words: of a model that writes: the same for each piece of its answer.
        remarks: what must be known to read it.
        span: of a written word: where it stands, ``answer[start:end]``.
    """

    method: str
    target: str
    score: float
    image: NDArray[np.float32] | None = None
    tokens: tuple[TokenScore, ...] = ()
    columns: tuple[ColumnScore, ...] = ()
    weights: dict[str, float] | None = None
    shown: NDArray[np.uint8] | None = field(default=None, repr=False)
    text: str = ""
    answer: str = ""
    words: tuple[Explanation, ...] = ()
    remarks: tuple[str, ...] = ()
    span: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON values, arrays as nested lists; the image itself is left out."""
        return {
            "method": self.method,
            "target": self.target,
            "score": self.score,
            "answer": self.answer,
            "text": self.text,
            "image": None if self.image is None else [[float(x) for x in row] for row in self.image],
            "tokens": [
                {"text": token.text, "score": token.score, "start": token.start, "end": token.end}
                for token in self.tokens
            ],
            **({"columns": [asdict(token) for token in self.columns]} if self.columns else {}),
            "weights": self.weights,
            "span": None if self.span is None else list(self.span),
            "words": [word.to_json() for word in self.words],
            "remarks": list(self.remarks),
        }

    def _repr_html_(self) -> str:
        page = importlib.import_module("rebus.explain.page").page_html(self)  # which draws what is defined here
        return f'<iframe style="width:100%;height:30em;border:0" srcdoc="{html.escape(page)}"></iframe>'

    def peak(self) -> tuple[float, float] | None:
        """The centre of the image's most relevant part: (x, y), as shares of its width and height from the top left.

        None without a map, and where the map says nothing: all of it is alike.
        """
        if self.image is None or not np.ptp(self.image):
            return None
        row, column = divmod(int(self.image.argmax()), self.image.shape[1])
        return (column + 0.5) / self.image.shape[1], (row + 0.5) / self.image.shape[0]
