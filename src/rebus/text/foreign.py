"""What a tokenizer's folder says beside tokenizer.json: names of special tokens, the chat template, where texts end.

It knows the files of Hugging Face's layout and no ids. The tokenizer of another project keeps what is said here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebus.errors import RunError

CONFIG, SPECIALS, GENERATION = "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"
TEMPLATE = "chat_template.jinja"
# Tried in this order where a folder does not say; the first that the vocabulary has.
WELL_KNOWN = {
    "bos": ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "[CLS]"),
    "eos": ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "<|im_end|>", "<|eot_id|>", "[SEP]"),
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>", "<|mask|>"),
}
# Ends of a turn: a model that converses stops there even where its files name another end of text.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "</s>")


TEXT_ENDS = ("<|endoftext|>", "<|end_of_text|>")  # ends of a document, wherever a vocabulary has them


@dataclass(frozen=True)
class Conventions:
    """A tokenizer's customs.

    Attributes:
        config: tokenizer_config.json, with what special_tokens_map.json adds to it.
        template: the chat template, in Jinja; None: there is none.
        eos_ids: ids at which generation ends, as generation_config.json or config.json say.
    """

    config: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    eos_ids: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Conventions:
        """What a folder says; a file that is not there says nothing.

        Raises:
            RunError: one of the files is not JSON.
        """
        config = _object(folder / SPECIALS) | _object(folder / CONFIG)
        eos: list[int] = []
        for name in (GENERATION, "config.json"):
            result = _object(folder / name).get("eos_token_id")
            eos += [item for item in (result if isinstance(result, list) else [result]) if isinstance(item, int)]
        return cls(config, _template(folder, config), tuple(dict.fromkeys(eos)))

    def named(self, role: str) -> str | None:
        """The token that the files name for ``bos``, ``eos``, ``pad`` or ``mask``."""
        result = self.config.get(f"{role}_token")
        content = result.get("content") if isinstance(result, dict) else result
        return content if isinstance(content, str) and content else None

    def find(self, role: str, vocabulary: Iterable[str] | Any) -> str | None:
        """The token for a role: as named, else the first well-known name that ``vocabulary`` holds."""
        named = self.named(role)
        if named is not None and named in vocabulary:
            return named
        if f"{role}_token" in self.config and role == "bos":
            return None  # "bos_token": null is said on purpose
        return next((name for name in WELL_KNOWN[role] if name in vocabulary), None)

    def words(self) -> dict[str, str]:
        """The names of special tokens, as chat templates use them: bos_token, eos_token and so on."""
        roles = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
        return {f"{role}_token": name for role in roles if (name := self.named(role)) is not None}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, else the entry of the configuration, else an older file of its own."""
    file = folder / TEMPLATE
    if file.is_file():
        return _text(file)
    result = config.get("chat_template") or _object(folder / "chat_template.json").get("chat_template")
    if isinstance(result, list):  # several by name
        named = {item.get("name"): item.get("template") for item in result if isinstance(item, dict)}
        result = named.get("default")
    return result if isinstance(result, str) else None


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        result = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise RunError(file, "whole JSON", f"'{error}'", "copy or fetch the file again") from error
    if not isinstance(result, dict):
        raise RunError(file, "a JSON object", type(result).__name__, "copy or fetch the file again")
    return result


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(file, "a text file in UTF-8", f"'{error}'", "copy or fetch the file again") from error
