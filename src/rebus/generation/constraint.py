"""Texts that follow a JSON schema or a regular expression, through the library llguidance.

The engine sees only what ``Constraint`` says (``rebus.generation.engine``): which tokens may come next. The library
needs to know what tokens look like, hence the content of a tokenizer.json. Letters: V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebus.errors import MissingPackageError, RecipeError


class Guide:
    """Makes constraints for one tokenizer; made once, as it reads the whole vocabulary.

    Args:
        tokenizer_json: the content of its tokenizer.json.
        eos_ids: tokens that end a text.
        vocab_size: V, as the engine has it.

    Raises:
        MissingPackageError: llguidance is not installed. RecipeError: it cannot read this tokenizer.
    """

    def __init__(self, tokenizer_json: str, eos_ids: Sequence[int], vocab_size: int) -> None:
        try:
            from llguidance import LLTokenizer
        except ImportError as error:
            raise MissingPackageError("llguidance", "guided", "writing by a schema or an expression") from error
        self.vocab_size, self._eos = vocab_size, list(eos_ids)
        try:
            self._tokens = LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=self._eos)
        except ValueError as error:
            do = "use a model whose tokenizer works on bytes, as those of Rebus, Llama and Qwen do"
            raise RecipeError("writing by a constraint", "a tokenizer that llguidance reads", str(error), do) from error

    def json_schema(self, schema: str | Mapping[str, Any]) -> Guided:
        """Texts that are one JSON value of this schema, without white space that means nothing.

        Raises:
            RecipeError: it is not JSON, or not a schema that the library understands.
        """
        from llguidance import LLMatcher

        where = "the JSON schema"
        try:
            parsed = json.loads(schema) if isinstance(schema, str) else dict(schema)
        except ValueError as error:
            raise RecipeError(where, "JSON", str(error), "check its brackets, quotes and commas") from error
        if not isinstance(parsed, dict):
            raise RecipeError(where, "a JSON object", type(parsed).__name__, 'write it as {"type": "object", ...}')
        # A small model that may write spaces between two words of JSON may never stop writing them.
        grammar = LLMatcher.grammar_from_json_schema(parsed, overrides={"whitespace_flexible": False})
        return self._guided(where, grammar)

    def regex(self, pattern: str) -> Guided:
        """Texts that match the whole of a regular expression (Rust's dialect: no look-around, no back references).

        Raises:
            RecipeError: the library does not understand it.
        """
        from llguidance import LLMatcher

        return self._guided("the regular expression", LLMatcher.grammar_from_regex(pattern))

    def _guided(self, where: str, grammar: str) -> Guided:
        from llguidance import LLMatcher

        wrong = LLMatcher.validate_grammar(grammar, self._tokens)
        if wrong and not wrong.startswith("WARNING"):
            do = "simplify it; https://json-schema.org and the library's notes say what there is"
            raise RecipeError(where, "one that llguidance understands", " ".join(wrong.split())[:300], do)
        return Guided(LLMatcher(self._tokens, grammar, log_level=0), self.vocab_size)


class Guided:
    """One text under a constraint; made by ``Guide``."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self.vocab_size = matcher, vocab_size

    def allowed(self) -> Tensor:
        """(V,) bool: which tokens may come next; the ends of texts where it may end."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return torch.from_numpy(np.unpackbits(bits, bitorder="little")[: self.vocab_size].astype(bool))

    def advance(self, token: int) -> None:
        """Go on with a token that was allowed.

        Raises:
            RecipeError: the library gave up, because the text became too complex for it.
        """
        if not self._matcher.consume_token(token):
            why = " ".join(str(self._matcher.get_error()).split())[:300]
            raise RecipeError("writing by a constraint", "a text that it can follow", why, "simplify the constraint")

    def fork(self) -> Guided:
        """The same state, for another text."""
        return Guided(self._matcher.deep_copy(), self.vocab_size)
