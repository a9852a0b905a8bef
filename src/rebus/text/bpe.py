"""Learning a byte-level BPE from texts. It knows how text is cut and what special tokens Rebus has, and no files."""

from __future__ import annotations

import re
from collections.abc import Iterable

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from rebus.errors import RecipeError
from rebus.text.normalise import clean, normaliser
from rebus.text.patterns import Pattern, pretokenizer

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|image|>")
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


def learn_bpe(
    texts: Iterable[str],
    vocab_size: int,
    words: Iterable[str],
    specials: Iterable[str],
    pattern: Pattern,
    nfkc: bool,
    nfc: bool = False,
) -> tokenizers.Tokenizer:
    """Pieces learned from ``texts``; arguments and errors are those of ``Tokenizer.train``."""
    named = [*SPECIAL_TOKENS, *dict.fromkeys(name for name in specials if name not in SPECIAL_TOKENS)]
    if vocab_size < 256 + len(named):
        do = "raise text.vocab_size; 1000 to 8000 suits small data"
        raise RecipeError("setting 'text.vocab_size'", f"at least {256 + len(named)}", str(vocab_size), do)
    backend = tokenizers.Tokenizer(models.BPE())
    if pattern == "rebus":
        backend.normalizer = normaliser(nfkc)
    elif nfkc:
        backend.normalizer = normalizers.NFKC()
    elif nfc:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pretokenizer(pattern)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in named],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=48,  # else a line repeated through the data becomes one piece
        show_progress=False,
    )
    backend.train_from_iterator((clean(text) for text in texts), trainer)
    whole = sorted({clean(word) for word in words if _WITHOUT_SPACES.fullmatch(clean(word))})
    backend.add_tokens([AddedToken(word, normalized=True) for word in whole])
    return backend
