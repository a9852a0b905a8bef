"""Linear models on plain features of texts and images: what is fitted in seconds and a trained model should beat.

Texts are TF-IDF vectors of words and letters, images are colours and edges. Knows no tower, no table and no task:
texts, pixels and targets in, predictions out. scikit-learn is imported when something is fitted.

Letters: M training rows, N rows asked about, F features, C classes, K numbers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]  # (H, W, 3)

LETTERS = 2000  # letters of a text that are read
TERMS = 50_000  # words and pairs of words, and as many runs of letters
MOST = 200  # classes that a linear model is fitted for
TEXT, IMAGE = "TF-IDF", "colours and edges"
_WORD = r"\w+"
_SIDE = 64  # pixels that are looked at, each way
_GRID, _BINS, _CELLS, _ANGLES = 8, 4, 4, 9


@dataclass(frozen=True)
class Features:
    """Plain features of training rows and of rows asked about.

    Attributes:
        train: (M, F) sparse, rows of length one for each modality.
        asked: (N, F) likewise.
        name: what they are of.
    """

    train: Any
    asked: Any
    name: str


def features_of(
    train_texts: Sequence[str] | None,
    texts: Sequence[str] | None,
    train_images: NDArray[np.float32] | None,
    images: NDArray[np.float32] | None,
) -> Features | None:
    """Features of texts and of images that ``image_features`` has read; None where neither is there."""
    from scipy import sparse

    parts, names = [], []
    if train_texts is not None and texts is not None and any(text.strip() for text in train_texts):
        parts.append(_text_parts([item[:LETTERS] for item in train_texts], [item[:LETTERS] for item in texts]))
        names.append(TEXT)
    if train_images is not None and images is not None:
        parts.append(_image_parts(train_images, images))
        names.append(IMAGE)
    if not parts:
        return None
    train, asked = (sparse.hstack([part[at] for part in parts], format="csr") for at in (0, 1))
    return Features(train, asked, ", ".join(names))


def classes_of(features: Features, labels: Sequence[str], classes: Sequence[str]) -> Floats:
    """(N, C) the probability of each of ``classes``, by logistic regression on the training rows' ``labels``.

    Of more than ``MOST`` different labels the commonest are learned.
    """
    from sklearn.linear_model import LogisticRegression

    known = {label for label, _ in Counter(labels).most_common(MOST)} & set(classes)
    places = [at for at, label in enumerate(labels) if label in known]
    index = {name: at for at, name in enumerate(classes)}
    chances = np.zeros((features.asked.shape[0], len(classes)))
    if len(known) < 2:
        chances[:, [index[item] for item in known]] = 1.0
        return chances
    model = LogisticRegression(C=10.0, max_iter=100, tol=1e-3)
    with _unconverged():
        model.fit(features.train[places], [labels[at] for at in places])
    chances[:, [index[name] for name in model.classes_]] = model.predict_proba(features.asked)
    return chances


def numbers_of(features: Features, targets: Floats) -> Floats:
    """(N, K) numbers by ridge regression on the training rows' ``targets`` (M, K)."""
    from sklearn.linear_model import Ridge

    mean = targets.mean(axis=0)
    model = Ridge(alpha=1.0, solver="lsqr", tol=1e-3).fit(features.train, targets - mean)
    result = np.asarray(model.predict(features.asked), dtype=np.float64)
    return np.asarray(result.reshape(len(result), -1) + mean)


def nearest(features: Features) -> NDArray[np.intp]:
    """(N,) the training row whose features are nearest, by the cosine; the first of equals."""
    from sklearn.preprocessing import normalize

    train = normalize(features.train).T
    items = [
        np.asarray((features.asked[at : at + 256] @ train).todense()).argmax(axis=1)
        for at in range(0, features.asked.shape[0], 256)
    ]
    return np.concatenate(items) if items else np.zeros(0, dtype=np.intp)


def image_features(image: Image | None) -> NDArray[np.float32]:
    """(400,) of an image, or zeros: its pixels at 8 x 8, shares of 64 colours, directions of edges in 16 cells.

    Each of the three parts has the length one. Dalal and Triggs (2005), "Histograms of Oriented Gradients".
    """
    if image is None:
        return np.zeros(3 * _GRID**2 + _BINS**3 + _CELLS**2 * _ANGLES, dtype=np.float32)
    image = image[:: max(1, len(image) // _SIDE), :: max(1, image.shape[1] // _SIDE)]
    pixels = image.astype(np.float32) / 255
    small = _means(pixels, _GRID).ravel() - 0.5
    bins = (image // (256 // _BINS)).reshape(-1, 3).astype(np.int64) @ np.array([_BINS**2, _BINS, 1])
    colours = np.sqrt(np.bincount(bins, minlength=_BINS**3) / len(bins))
    down, right = np.gradient(pixels.mean(axis=2))
    strength, angle = np.hypot(down, right), np.arctan2(down, right) % np.pi
    direction = np.minimum((angle / np.pi * _ANGLES).astype(np.int64), _ANGLES - 1)
    layers = strength[..., None] * (direction[..., None] == np.arange(_ANGLES))
    edges = np.sqrt(_means(layers, _CELLS).ravel())
    return np.concatenate([_unit(part) for part in (small, colours, edges)]).astype(np.float32)


def _text_parts(train: list[str], texts: list[str]) -> tuple[Any, Any]:
    """(M, F) and (N, F): words and pairs of words, and runs of 2 to 4 letters, TF-IDF of each with length one."""
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    items = []
    for analyzer, lengths in (("word", (1, 2)), ("char_wb", (2, 4))):
        terms = TfidfVectorizer(
            analyzer=analyzer,
            ngram_range=lengths,
            token_pattern=_WORD if analyzer == "word" else None,
            max_features=TERMS,
            sublinear_tf=True,
            dtype=np.float32,
        )
        try:
            items.append((terms.fit_transform(train), terms.transform(texts)))
        except ValueError:  # no words at all, only signs
            continue
    if not items:
        return sparse.csr_matrix((len(train), 1)), sparse.csr_matrix((len(texts), 1))
    return tuple(sparse.hstack([part[at] for part in items], format="csr") for at in (0, 1))


def _image_parts(train: NDArray[np.float32], images: NDArray[np.float32]) -> tuple[Any, Any]:
    from scipy import sparse

    mean, spread = train.mean(axis=0), train.std(axis=0)
    scale = 1.0 / (np.maximum(spread, 1e-3) * np.sqrt(train.shape[1]))  # rows of about length one
    return tuple(sparse.csr_matrix((item - mean) * scale) for item in (train, images))


def _means(array: NDArray[Any], side: int) -> NDArray[Any]:
    """(side, side, C) means over cells of (H, W, C)."""
    rows, columns = (np.arange(side) * size // side for size in array.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(array, rows, axis=0), columns, axis=1)
    counts = [np.diff([*starts, size]) for starts, size in ((rows, array.shape[0]), (columns, array.shape[1]))]
    return np.asarray(sums / (counts[0][:, None, None] * counts[1][None, :, None]))


def _unit(vector: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-6))


def word_space(train: Sequence[str], texts: Sequence[str], size: int = 64) -> tuple[Floats, Floats]:
    """(M, D) and (N, D) texts in the space of the most telling mixtures of words and letters, each of length one."""
    from sklearn.decomposition import TruncatedSVD

    known, asked = _text_parts([text[:LETTERS] for text in train], [text[:LETTERS] for text in texts])
    size = max(1, min(size, min(known.shape) - 1))
    space = TruncatedSVD(size, random_state=0).fit(known)
    first, second = map(space.transform, (known, asked))
    for text in (first, second):
        text /= np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)
    return first, second


@contextmanager
def _unconverged() -> Iterator[None]:
    """Within this context nothing is said of a fit that stopped before its end: a baseline may."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
