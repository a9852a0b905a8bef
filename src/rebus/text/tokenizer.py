"""Text to ids and back: a byte-level BPE trained on the data at hand, or the tokenizer of another project as it is.

It knows no tensors and no models. Every text can be encoded by a tokenizer trained here: what was never seen falls back
to bytes. Saved in the Hugging Face layout.
Source: Sennrich et al. (2016), "Neural Machine Translation of Rare Words with Subword Units"; on bytes as in
Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from rebus import atomic
from rebus.errors import RunError
from rebus.text import chat, templates
from rebus.text.bpe import SPECIAL_TOKENS, learn_bpe
from rebus.text.foreign import CONFIG, GENERATION, TEMPLATE, TEXT_ENDS, TURN_ENDS, Conventions
from rebus.text.images import ALL as IMAGE_MARKS
from rebus.text.images import IMAGE, with_marks
from rebus.text.normalise import clean
from rebus.text.offsets import Offset, encode_aligned
from rebus.text.patterns import Pattern, pattern_of
from rebus.text.stream import StreamDecoder

_LAYOUT = "a tokenizer.json in the Hugging Face layout"
_IDS = 2**22  # the largest vocabularies have a quarter of it
MASK = "<|mask|>"  # only in tokenizers that were trained for guessing masked words
SMALLEST = 256 + len(SPECIAL_TOKENS)
LONG_TEXT = 2000  # characters
LM_PATTERN: Pattern = "qwen2"  # of language models: llama.cpp then cuts as we do


class Tokenizer:
    """Ids for texts. Build one with ``train`` or ``load``.

    Args:
        backend: of the library.
        conventions: of another project's tokenizer: its special tokens, its chat template, where its texts end.
        extend: give special tokens of Rebus that it lacks ids after its own, for turns and images.

    Attributes:
        is_foreign: not trained here: texts, special tokens and turns are as its makers laid them down.
        pad_id: fills rows; a foreign tokenizer without one uses its eos.
        bos_id: begins texts; None: it has none.
        eos_id, eos_ids: end texts; some have several, the first is the one to write.
        mask_id: stands for a word to be guessed; None: it has none.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, conventions: Conventions | None = None, *, extend: bool = False
    ) -> None:
        missing = [name for name in SPECIAL_TOKENS if backend.token_to_id(name) is None]
        if missing and extend:
            backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
            missing = []
        backend.no_padding()
        backend.no_truncation()
        self._plain = _parsed(backend.to_str(), "the tokenizer")
        self._plain.encode_special_tokens = True  # a user's "<|eos|>" is five characters, not an end
        self._parsing = backend
        self._parsing.encode_special_tokens = False
        self.is_foreign = [backend.token_to_id(name) for name in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS)))
        self._own_turns = not missing
        self._conventions = conventions or Conventions()
        self.bos_id: int | None
        self._name_special()

    def _name_special(self) -> None:
        find = self._parsing.token_to_id
        if self._own_turns:
            pad, bos, eos = (find(name) for name in SPECIAL_TOKENS[:3])
            ends = [eos]
            self.mask_id: int | None = find(MASK)
        else:
            vocabulary = self._parsing.get_vocab(with_added_tokens=True)
            names = {role: self._conventions.find(role, vocabulary) for role in ("bos", "eos", "pad", "mask")}
            bos, eos, pad, self.mask_id = (find(name) if name else None for name in names.values())
            text = self._conventions.template or ""
            turn_ends = [find(name) for name in (*(end for end in TURN_ENDS if end in text), *TEXT_ENDS)]
            size = len(vocabulary)
            known = [item for item in self._conventions.eos_ids if item < size]
            ends = [item for item in (eos, *known, *turn_ends) if item is not None]
            if not ends:
                do = 'name it in tokenizer_config.json: "eos_token": "..."'
                raise RunError("the tokenizer", "a token that ends a text", "none that is known", do)
            pad = ends[0] if pad is None else pad
        self.eos_ids: tuple[int, ...] = tuple(dict.fromkeys(int(item) for item in ends))  # type: ignore[arg-type]
        self.eos_id = self.eos_ids[0]
        self.bos_id = bos
        self.pad_id = int(pad)  # type: ignore[arg-type]

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        words: Iterable[str] = (),
        *,
        specials: Iterable[str] = (),
        pattern: Pattern = "rebus",
        nfkc: bool = True,
        nfc: bool = False,
    ) -> Tokenizer:
        """Learn pieces from ``texts``; the same texts give the same tokenizer.

        Args:
            texts: any iterable, read once.
            vocab_size: most pieces, special tokens and the 256 bytes included; ``words`` come on top.
            words: kept whole wherever they stand, if their script has no spaces: else a Chinese noun is cut one way
                before one character and another way before the next, and has no vector of its own.
            specials: special tokens beside Rebus' own, such as ``MASK``.
            pattern: how text is cut before pieces are learned. With ``rebus``, white space is tidied as well
                (``rebus.text.normalise``). The others are llama.cpp's, by its names, and keep white space as it is:
                language models that are to be exported need one of them (``LM_PATTERN``).
            nfkc: full-width letters become plain ones, ``m²`` becomes ``m2``; off, characters stay as they are (NFC
                with ``rebus``; with other patterns every text comes back as it was, byte for byte).
            nfc: with another pattern, compose letters and accents, as Qwen2's tokenizer does.

        Raises:
            RecipeError: ``vocab_size`` is less than the bytes and special tokens need.
        """
        return cls(learn_bpe(texts, vocab_size, words, specials, pattern, nfkc, nfc))

    @classmethod
    def load(cls, path: str | Path, *, extend: bool = False) -> Tokenizer:
        """Read a tokenizer.json, or the folder that holds one, with what else the folder says of it.

        Args:
            path: the file or folder.
            extend: see ``Tokenizer``; without it, a foreign tokenizer keeps its ids and its vocabulary size.

        Raises:
            RunError: there is none, it is not a tokenizer, or it has no token that ends a text.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise RunError(file, "a tokenizer.json", "no such file", "check the path")
        return cls.from_json(_text(file), Conventions.read(file.parent), extend=extend, where=file)

    @classmethod
    def from_json(
        cls,
        text: str,
        conventions: Conventions | None = None,
        *,
        extend: bool = False,
        where: str | Path = "the tokenizer",
    ) -> Tokenizer:
        """A tokenizer from the content of a tokenizer.json. Raises RunError as ``load`` does."""
        wrong = _odd_id(text)
        if wrong is not None:
            raise RunError(where, _LAYOUT, wrong, "save it again")
        return cls(_parsed(text, where), conventions, extend=extend)

    def to_json(self) -> str:
        """The content of its tokenizer.json, in one line."""
        return str(self._parsing.to_str())

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat_template.jinja, which transformers reads.

        A foreign tokenizer's files say what they said before, and generation_config.json its ends of text.

        Raises:
            RunError: the folder cannot be written.
        """
        folder = Path(folder)
        template = self.chat_template
        atomic.write_text(folder / "tokenizer.json", self._parsing.to_str(pretty=True))
        atomic.write_json(folder / CONFIG, self._config())
        if template is not None:
            atomic.write_text(folder / TEMPLATE, template)
        if not self._own_turns:
            ends = {"bos_token_id": self.bos_id, "eos_token_id": list(self.eos_ids), "pad_token_id": self.pad_id}
            atomic.write_json(folder / GENERATION, {name: item for name, item in ends.items() if item is not None})

    def _config(self) -> dict[str, Any]:
        if self._own_turns:
            mask = {} if self.mask_id is None else {"mask_token": MASK}
            return {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|bos|>",
                "eos_token": "<|eos|>",
                "pad_token": "<|pad|>",
                **mask,
                "image_token": self.image_mark,
                "additional_special_tokens": [*SPECIAL_TOKENS[3:], *(m for m in IMAGE_MARKS if m in self.specials)],
                "clean_up_tokenization_spaces": False,
                "padding_side": "right",
            }
        roles = {"bos": self.bos_id, "eos": self.eos_id, "pad": self.pad_id, "mask": self.mask_id}
        result = {f"{role}_token": self._parsing.id_to_token(item) for role, item in roles.items() if item is not None}
        rest = {key: value for key, value in self._conventions.config.items() if key != "chat_template"}
        plain = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        return {**plain, **rest, **result, **self._conventions.words()}

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included."""
        return self._size

    @cached_property
    def _size(self) -> int:
        ids = self._parsing.get_vocab(with_added_tokens=True).values()
        return max(ids, default=-1) + 1  # some foreign ones have holes

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content: two tokenizers with the same give every text the same ids."""
        parsed = json.loads(self._parsing.to_str())
        if self._own_turns:
            parsed["post_processor"] = None  # what stands around a text is no part of its ids
        content = json.dumps(parsed, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def pattern(self) -> str | None:
        """How text is cut before pieces: ``rebus`` or a name of llama.cpp's; None: in some other way."""
        return pattern_of(self._parsing)

    def cuts_as(self, pattern: str) -> bool:
        """Whether it cuts as those tokenizers of transformers do that take only pieces and merges from the file."""
        steps = self._parsing.normalizer
        return self.pattern == pattern and (steps is not None and type(steps).__name__ == "NFC")

    @property
    def user_id(self) -> int:
        """Begins what a user says. Raises RunError where the tokenizer has no turns of Rebus."""
        return self._own("<|user|>")

    @property
    def assistant_id(self) -> int:
        """Begins what the model says. Raises RunError where the tokenizer has no turns of Rebus."""
        return self._own("<|assistant|>")

    @property
    def system_id(self) -> int:
        """Begins what holds for the whole conversation. Raises RunError where the tokenizer has no turns of Rebus."""
        return self._own("<|system|>")

    @property
    def image_mark(self) -> str:
        """The name of the token that stands for an image; it may lack it."""
        named = self._conventions.named("image")
        return next((m for m in (named, IMAGE) if m in self.specials and m is not None), SPECIAL_TOKENS[-1])

    @property
    def image_id(self) -> int:
        """Stands for an image. Raises RunError where the tokenizer has none."""
        return self._own(self.image_mark)

    def with_tokens(self, names: Iterable[str]) -> Tokenizer:
        """The same with these special tokens after its own, where it lacks them, and a template that takes images."""
        result = with_marks(self._parsing, self._conventions, self.words, list(names))
        return self if result is None else Tokenizer(*result)

    def _own(self, name: str) -> int:
        result = self._parsing.token_to_id(name)
        if result is None:
            do = "train with this tokenizer as text.tokenizer: it is then given one"
            raise RunError("the tokenizer", f"the special token {name}", "a vocabulary without it", do)
        return int(result)

    @property
    def own_turns(self) -> bool:
        """Whether it lays out turns as Rebus does, rather than by another project's template."""
        return self._own_turns

    @property
    def has_chat(self) -> bool:
        """Whether it lays out conversations."""
        return self.chat_template is not None

    @property
    def chat_template(self) -> str | None:
        """In Jinja; None: there is none."""
        own = chat.TEMPLATE.replace(SPECIAL_TOKENS[-1], self.image_mark)
        return own if self._own_turns else self._conventions.template

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Ids of a text; none are added. Tokenizers trained here normalise it first, others do what they do.

        Args:
            text: any text.
            allow_special: read ``<|eos|>`` and the like as the special tokens. Never for text from a user.
        """
        backend = self._parsing if allow_special else self._plain
        if len(text) > LONG_TEXT:  # the library lets go of the interpreter in batches alone
            return list(backend.encode_batch_fast([clean(text)], add_special_tokens=False)[0].ids)
        return list(backend.encode(clean(text), add_special_tokens=False).ids)

    def normalise(self, text: str) -> str:
        """The text that is cut into pieces: what its ids stand for."""
        steps = self._plain.normalizer
        return clean(text) if steps is None else str(steps.normalize_str(clean(text)))

    @property
    def normalises(self) -> bool:
        """Whether it changes a text before cutting it."""
        return self._plain.normalizer is not None

    def encode_inside(self, word: str) -> list[int]:
        """Ids of a word as it stands inside a sentence, where it follows a space if its script has any."""
        before = self.encode("a")
        joined = self.encode(f"a {word}") if word[:1].isascii() else self.encode(word)
        return joined[len(before) :] if word[:1].isascii() else joined

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` for many texts, faster; special tokens are never read."""
        result = self._plain.encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        return [list(item.ids) for item in result]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offset]]:
        """``encode``, and where in the text each id came from, (start, end) in characters."""
        return encode_aligned(self._plain, text)

    def encode_for_reading(self, text: str, max_length: int | None = None) -> list[int]:
        """Ids as a model that reads a whole text expects them: BERT's ``[CLS] text [SEP]``, Llama's ``<s> text``.

        Args:
            text: any text.
            max_length: most ids; the text is cut, what stands around it is not.
        """
        before, after = self.frame
        room = None if max_length is None else max(max_length - len(before) - len(after), 0)
        return [*before, *self.encode(text)[:room], *after]

    def start(self) -> list[int]:
        """What stands before a text that is to be written on: bos where the tokenizer begins texts with it."""
        return [self.bos_id] if self._own_turns and self.bos_id is not None else list(self.frame[0])

    @cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What a whole text stands between, as ids: ([CLS], [SEP]) for BERT's, nothing for one trained here.

        As in transformers 5, tokenizer.json decides; ``add_bos_token`` beside it does not.
        """
        bare = self._plain.encode("a", add_special_tokens=False).ids
        whole = self._plain.encode("a", add_special_tokens=True).ids
        extra = len(whole) - len(bare)
        at = next((start for start in range(extra + 1) if whole[start : start + len(bare)] == bare), 0)
        return tuple(whole[:at]), tuple(whole[at + len(bare) :])

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        return str(self._plain.decode(list(ids), skip_special_tokens=skip_special))

    def stream(self, skip_special: bool = True) -> StreamDecoder:
        """Decodes ids as they come, in pieces that hold no half characters."""
        return StreamDecoder(lambda ids: self.decode(ids, skip_special))

    def piece(self, token: int) -> str:
        """One id as readable text: a special token by its name, a broken character as U+FFFD."""
        return self.decode([token], skip_special=False)

    def pieces(self) -> list[str]:
        """All pieces as they are kept, by id: bytes as letters of their own, a hole as an empty text."""
        result = [""] * self.vocab_size
        for name, number in self._parsing.get_vocab(with_added_tokens=True).items():
            result[number] = name
        return result

    def chat(self, messages: Sequence[chat.Message], *, prompt: bool = False) -> list[int]:
        """Ids of a conversation, as the saved chat template lays it out.

        Args:
            messages: ``{"role": "user" | "assistant" | "system", "content": ...}``; content is a text or a list of
                ``{"type": "image"}`` and ``{"type": "text", "text": ...}``. What users write is never a special token.
            prompt: end where the model is to go on.

        Raises:
            DataError: a role or a part that is not known. RunError: the tokenizer has no chat template.
        """
        if self._own_turns:
            parts: Iterable[tuple[bool, str]] = chat.segments(messages, prompt, self.image_mark)
        elif self._conventions.template is not None:
            parts = templates.segments(self._conventions.template, messages, prompt, self.words, list(self.specials))
        else:
            do = "give it plain text to go on with, or fine-tune it on conversations"
            raise RunError("the tokenizer", "a chat template", "none", do)
        return [item for special, text in parts for item in self.encode(text, allow_special=special)]

    @cached_property
    def words(self) -> dict[str, str]:
        """The names of special tokens, as chat templates use them: bos_token, eos_token and so on."""
        words = self._conventions.words()
        for role, item in (("bos", self.bos_id), ("eos", self.eos_id)):
            if item is not None:
                words.setdefault(f"{role}_token", str(self._parsing.id_to_token(item)))
        return words

    @cached_property
    def specials(self) -> dict[str, int]:
        """Special tokens and their ids."""
        added = self._parsing.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items() if token.special}


def _parsed(text: str, where: str | Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises a bare Exception
        raise RunError(where, _LAYOUT, " ".join(str(error).split())[:200], "save it again") from error


def _odd_id(text: str) -> str | None:
    """What is wrong with the ids of a tokenizer.json: the library makes room for all up to the highest."""
    try:
        content = json.loads(text)
        model = content["model"]
        vocabulary = model.get("vocab", {})
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary)]
        ids += [token["id"] for token in content.get("added_tokens") or ()]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return f"other content ({type(error).__name__}: {' '.join(str(error).split())[:80]})"
    odd = next((item for item in ids if type(item) is not int or not 0 <= item < _IDS), None)
    return None if odd is None else f"the id {odd!r:.40}, which is not between 0 and {_IDS}"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(file, "a text file in UTF-8", f"'{error}'", "copy or fetch the file again") from error
