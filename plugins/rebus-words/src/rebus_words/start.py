"""What a fresh tower that reads words starts from: weights by rarity, and word vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rebus.errors import RecipeError
from rebus_words.tower import WordVectors, fill, names_of
from rebus_words.vectors import read_vectors, train_vectors


def start_tower(
    tower: Any,
    words: Sequence[str],
    rarity: Sequence[float] | None,
    file: str | None,
    way: str | None,
    sentences: Iterable[Sequence[str]],
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Change a fresh tower in place.

    Args:
        tower: with ``embed``.
        words: the name of each id.
        rarity: of each, where it is known.
        file: of vectors; None: there is none.
        way: ``skipgram`` or ``cbow`` to train them; None: vectors are not trained.
        sentences: the words of the texts to train them on.
        seed: of that training.
        log: prints a line for people.

    Raises:
        DataError: the file of vectors cannot be read or knows none of the words. RecipeError: its vectors are of
            another width, or both are asked for. MissingPackageError: vectors are to be trained and gensim is not
            installed.
    """
    if isinstance(tower, WordVectors) and rarity is not None:
        tower.weigh(rarity)
    if file is not None and way is not None:
        raise RecipeError("text.file", f"nothing, as text.options.vectors is '{way}'", f"'{file}'", "leave out one")
    embed, names = tower.embed, names_of(words)
    if file is not None:
        known = fill(embed, names, read_vectors(file), file)
        log(f"{file}: vectors for {known} of {len(set(names))} words")
    elif way is not None:
        vectors = train_vectors(sentences, way, tower.width, seed)
        # as spread out as vectors that start at random, so that one rate suits both
        spread = 0.1 / max(1e-6, float(np.std(list(vectors.values()))))
        known = fill(embed, names, ((word, spread * vector) for word, vector in vectors.items()), way)
        log(f"{way} trained on the texts: vectors for {known} of {len(set(names))} words")
