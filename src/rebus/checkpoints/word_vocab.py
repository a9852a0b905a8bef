"""Word features: the reader of a text tower that reads words, and what its vectors start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.towers.recurrent import Recurrent
from rebus.models.towers.wordvectors import WordVectors
from rebus.models.vlm import VisionLanguageModel
from rebus.tasks import TextProcessor
from rebus.text.vectors import TRAINED, read_vectors, train_vectors
from rebus.text.words import BETWEEN, WordTokenizer

Log = Callable[[str], None]


def make_reader(settings: recipe.Recipe, texts: Sequence[str]) -> WordTokenizer | None:
    """The words of the training texts; None where the text tower reads the tokenizer's pieces.

    ``wordvectors`` always reads words, ``recurrent`` where the recipe asks for a feature of words.

    Raises:
        RecipeError: such a feature is asked for, and the tower cannot have it.
    """
    tower, text = settings.model.text, settings.text
    asked = {
        "model.text.vectors": tower.vectors is not None,
        "text.stop_words": text.stop_words != "none",
        "text.part_of_speech": text.part_of_speech,
    }
    if tower.kind == "wordvectors" or (tower.kind == "recurrent" and any(asked.values())):
        return WordTokenizer.train(texts, text.words, text.segment, text.stop_words, text.part_of_speech)
    for name, wanted in asked.items():
        if wanted:
            do = "set model.text.kind to wordvectors or recurrent, or leave it out"
            raise RecipeError(name, "a text tower that reads words", f"'{tower.kind}'", do)
    return None


def start_words(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    processor: TextProcessor,
    texts: Callable[[], Sequence[str]],
    log: Log,
) -> None:
    """Give a tower that reads words the vectors that the recipe names and weights by rarity.

    Args:
        model: its text tower is changed in place; nothing happens where that reads no words.
        settings: the resolved recipe.
        processor: of the model.
        texts: of the training rows.
        log: prints a line for people.

    Raises:
        DataError: the file of vectors cannot be read or knows none of the words. RecipeError: its vectors are of
            another width. MissingPackageError: vectors are to be trained and gensim is not installed.
    """
    tower, reader = model.text, processor.reader
    if reader is None or not isinstance(tower, (WordVectors, Recurrent)):
        return
    if isinstance(tower, WordVectors) and reader.rarity is not None:
        tower.weigh(reader.rarity)
    named = settings.model.text.vectors
    if named is None:
        return
    words = tower.embed.names or []
    if named in TRAINED:
        sentences = ([name.partition(BETWEEN)[0] for name in reader.split(text)] for text in texts())
        made = train_vectors(sentences, named, tower.width, settings.seed)
        # as spread out as vectors that start at random, so that one rate suits both
        spread = 0.1 / max(1e-6, float(np.std(list(made.values()))))
        known = tower.embed.fill(((word, spread * vector) for word, vector in made.items()), named)
        log(f"{named} trained on the texts: vectors for {known} of {len(words)} words")
    else:
        known = tower.embed.fill(read_vectors(named), named)
        log(f"{named}: vectors for {known} of {len(words)} words")
