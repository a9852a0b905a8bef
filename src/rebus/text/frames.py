"""What a whole text stands between, added to a tokenizer that puts nothing around one. It knows no models."""

from __future__ import annotations

import tokenizers
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from rebus.text.tokenizer import Tokenizer

END = "<|endoftext|>"


def with_end(tokenizer: Tokenizer, name: str = END) -> Tokenizer:
    """The same, ending every text that is read as a whole with a special token, which CLIP's text tower is pooled at.

    It gets an id of its own: the usual end of a text has id 2 here, which CLIP's readers take for a mistake.
    """
    if tokenizer.frame[1]:
        return tokenizer
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False)])
    special = [(name, backend.token_to_id(name))]
    backend.post_processor = TemplateProcessing(
        single=f"$A {name}", pair=f"$A {name} $B {name}", special_tokens=special
    )
    return Tokenizer(backend)


def with_start(tokenizer: Tokenizer) -> Tokenizer:
    """The same, beginning every text with the token that ends one, after which a language model saw texts begin.

    Other programs put it there only where the tokenizer's file says so.
    """
    if tokenizer.is_foreign or tokenizer.frame != ((), ()):
        return tokenizer
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    name = backend.id_to_token(tokenizer.eos_id)
    backend.post_processor = TemplateProcessing(
        single=f"{name} $A", pair=f"{name} $A {name} $B", special_tokens=[(name, tokenizer.eos_id)]
    )
    return Tokenizer(backend)
