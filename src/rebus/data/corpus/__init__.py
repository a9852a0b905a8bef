"""The road from raw text to rows of tokens, for the tasks lm and mlm; memory does not grow with the text.

    open_source ─▶ documents ─▶ Cleaner ─▶ build_shards ─▶ Shards ─▶ PackedRows (train), ScoredRows (held out)

``source`` reads, ``clean`` leaves out and counts, ``build`` cuts into tokens once and can be killed and started again,
``shards`` maps them from disk, ``packing`` cuts rows, ``masking`` hides whole words. It knows no tensors and no models.
"""

from rebus.data.corpus.cleaning.cleaner import CleaningReport
from rebus.data.corpus.cleaning.scrub import SCRUBBERS
from rebus.data.corpus.making.build import build_shards
from rebus.data.corpus.manifest import Manifest
from rebus.data.corpus.masking import mask_words
from rebus.data.corpus.packing import PackedRows, ScoredRows
from rebus.data.corpus.reading.documents import Document
from rebus.data.corpus.reading.source import CorpusSource, looks_like_corpus, open_source
from rebus.data.corpus.shards import Documents, Shards

__all__ = [
    "SCRUBBERS",
    "CleaningReport",
    "CorpusSource",
    "Document",
    "Documents",
    "Manifest",
    "PackedRows",
    "ScoredRows",
    "Shards",
    "build_shards",
    "looks_like_corpus",
    "mask_words",
    "open_source",
]
