"""Text to ids and back: a byte-level BPE trained on the data at hand, saved in the Hugging Face layout.

It knows no tensors and no models. Every text can be encoded: what was never seen falls back to bytes.
Source: Sennrich et al. (2016), "Neural Machine Translation of Rare Words with Subword Units"; on bytes as in
Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from rebus import atomic
from rebus.errors import RecipeError, RunError
from rebus.text import chat
from rebus.text.normalise import clean, normaliser

SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>", "<|system|>", "<|image|>")
SMALLEST = 256 + len(SPECIAL_TOKENS)

_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}ー]"
# What may become one piece: English clitics; a run of Chinese or Japanese; a word of any other script with the space
# before it; one digit; a run of signs; line ends; spaces.
_PIECES = "|".join(
    (
        r"(?i:'(?:[sdmt]|ll|ve|re)(?!\p{L}))",
        rf" ?{_CJK}+",
        rf" ?(?:(?!{_CJK})[\p{{L}}\p{{M}}])+",
        r"\p{N}",
        r" ?[^\s\p{L}\p{M}\p{N}]+",
        r"\n+",
        r"\s+",
    )
)


_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


class Tokenizer:
    """Ids for texts. Build one with ``train`` or ``load``.

    Attributes:
        pad_id, bos_id, eos_id, user_id, assistant_id, system_id, picture_id: ids of the special tokens, 0 to 6 where
            the tokenizer was trained here.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        missing = [name for name in SPECIAL_TOKENS if backend.token_to_id(name) is None]
        if missing:  # somebody else's tokenizer: turns and pictures get ids after its own
            backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
        backend.no_padding()
        backend.no_truncation()
        self._plain = tokenizers.Tokenizer.from_str(backend.to_str())
        self._plain.encode_special_tokens = True  # a user's "<|eos|>" is five characters, not an end
        self._parsing = backend
        self._parsing.encode_special_tokens = False
        ids: list[int] = [backend.token_to_id(name) for name in SPECIAL_TOKENS]  # type: ignore[misc]
        self.pad_id, self.bos_id, self.eos_id, self.user_id, self.assistant_id, self.system_id, self.picture_id = ids

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, words: Iterable[str] = ()) -> Tokenizer:
        """Learn pieces from ``texts``; the same texts give the same tokenizer.

        Args:
            texts: any iterable, read once.
            vocab_size: most pieces, special tokens and the 256 bytes included; ``words`` come on top.
            words: kept whole wherever they stand, if their script has no spaces: else a Chinese noun is cut one way
                before one character and another way before the next, and has no vector of its own.

        Raises:
            RecipeError: ``vocab_size`` is less than the bytes and special tokens need.
        """
        if vocab_size < SMALLEST:
            do = "raise text.vocab_size; 1000 to 8000 suits small data"
            raise RecipeError("setting 'text.vocab_size'", f"at least {SMALLEST}", str(vocab_size), do)
        backend = tokenizers.Tokenizer(models.BPE())
        backend.normalizer = normaliser()
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            max_token_length=48,  # else a line repeated through the data becomes one piece
            show_progress=False,
        )
        backend.train_from_iterator((clean(text) for text in texts), trainer)
        whole = sorted({clean(word) for word in words if _WITHOUT_SPACES.fullmatch(clean(word))})
        backend.add_tokens([AddedToken(word, normalized=True) for word in whole])
        return cls(backend)

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json, or the folder that holds one; special tokens it lacks are added after its own.

        Raises:
            RunError: there is none, or it is not a tokenizer.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise RunError(file, "a tokenizer.json", "no such file", "check the path")
        try:
            backend = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises a bare Exception
            told = " ".join(str(error).split())[:200]
            raise RunError(file, "a tokenizer.json in the Hugging Face layout", told, "save it again") from error
        return cls(backend)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat_template.jinja, which transformers reads.

        Raises:
            RunError: the folder cannot be written.
        """
        folder = Path(folder)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|eos|>",
            "pad_token": "<|pad|>",
            "image_token": "<|image|>",
            "additional_special_tokens": list(SPECIAL_TOKENS[3:]),
            "clean_up_tokenization_spaces": False,
            "padding_side": "right",
        }
        atomic.write_text(folder / "tokenizer.json", self._parsing.to_str(pretty=True))
        atomic.write_json(folder / "tokenizer_config.json", config)
        atomic.write_text(folder / "chat_template.jinja", chat.TEMPLATE)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        return int(self._parsing.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Ids of a text, normalised first; none are added.

        Args:
            text: any text.
            allow_special: read ``<|eos|>`` and the like as the special tokens. Never for text from a user.
        """
        backend = self._parsing if allow_special else self._plain
        return list(backend.encode(clean(text), add_special_tokens=False).ids)

    def encode_inside(self, word: str) -> list[int]:
        """Ids of a word as it stands inside a sentence, where it follows a space if its script has any."""
        before = self.encode("a")
        joined = self.encode(f"a {word}") if word[:1].isascii() else self.encode(word)
        return joined[len(before) :] if word[:1].isascii() else joined

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts, faster; special tokens are never read."""
        found = self._plain.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        return [list(one.ids) for one in found]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._plain.decode(list(ids), skip_special_tokens=skip_special))

    def piece(self, token: int) -> str:
        """One id as readable text: a special token by its name, a broken character as U+FFFD."""
        return self.decode([token], skip_special=False)

    def chat(self, messages: Sequence[chat.Message], *, prompt: bool = False) -> list[int]:
        """Ids of a conversation, as the saved chat template lays it out.

        Args:
            messages: ``{"role": "user" | "assistant" | "system", "content": ...}``; content is a text or a list of
                ``{"type": "image"}`` and ``{"type": "text", "text": ...}``.
            prompt: end with ``<|assistant|>``, for the model to go on.

        Raises:
            DataError: a role or a part that is not known.
        """
        ids: list[int] = []
        for special, text in chat.segments(messages, prompt):
            ids += [int(self._parsing.token_to_id(text) or 0)] if special else self.encode(text)
        return ids
