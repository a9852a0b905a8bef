r"""How text is cut before pieces are learned: patterns by the name that llama.cpp knows them by, and our own.

A byte-level BPE never joins across these cuts, so whoever reads a tokenizer must cut alike. llama.cpp cannot be given a
pattern, only a name (``tokenizer.ggml.pre``); for each name here, ``pretokenizer`` cuts as llama.cpp does.
Source: ``llm_tokenizer_bpe`` in llama.cpp's src/llama-vocab.cpp (2026), and the tokenizer.json of the models named.
"""

from __future__ import annotations

import json
from typing import Literal

import tokenizers
from tokenizers import Regex, pre_tokenizers

Pattern = Literal["rebus", "gpt-2", "smollm", "qwen2", "llama-bpe"]  # what a tokenizer may be trained with

_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}ー]"
# What may become one piece: English clitics; a run of Chinese or Japanese; a word of any other script with the space
# before it; one digit; a run of signs; line ends; spaces.
_REBUS = "|".join(
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
_CLITICS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_CLITICS}|{_WORDS}|\p{{N}}|{_REST}"
_LLAMA3 = rf"{_CLITICS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_QWEN35 = (
    rf"{_CLITICS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Where there are several patterns, each cuts what the ones before it left.
_CUTS: dict[str, tuple[str, ...]] = {
    "rebus": (_REBUS,),
    "gpt-2": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2),
    "qwen2": (_QWEN2,),
    "qwen35": (_QWEN35,),
    "llama-bpe": (_LLAMA3,),
    "deepseek-v3": (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _DEEPSEEK3),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
}
_SAME = {
    "gpt-2": ("phi-2", "olmo", "mpt", "jais", "mellum"),
    "smollm": ("starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    "qwen2": ("deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2"),
    "llama-bpe": ("llama3", "llama-v3", "falcon3", "pixtral", "lfm2", "dbrx", "smaug-bpe"),
}
_CANONICAL = {name: name for name in _CUTS} | {other: name for name, others in _SAME.items() for other in others}
KNOWN = sorted(set(_CANONICAL) - {"rebus"})  # names that llama.cpp knows
# Of these, llama.cpp takes a word that is a piece whole, whatever the merges say, and begins texts with bos by default.
WHOLE_AND_BOS = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2")


def pretokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """What cuts text as ``name`` says, then writes it in bytes. Raises KeyError for a name that is not known."""
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in _CUTS[_CANONICAL[name]]]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def pattern_of(backend: tokenizers.Tokenizer) -> str | None:
    """The name of the pattern that a byte-level tokenizer cuts by: 'rebus' or one of llama.cpp's; None: unknown."""
    if backend.pre_tokenizer is None:
        return None
    return _BY_CUTS.get(_cuts(json.loads(backend.to_str())["pre_tokenizer"]))


def _cuts(node: dict[str, object]) -> tuple[str, ...]:
    """The patterns of a pre-tokenizer written as JSON, in order, spelt in one way."""
    kind = node.get("type")
    if kind == "Sequence":
        return tuple(cut for part in node["pretokenizers"] for cut in _cuts(part))  # type: ignore[attr-defined]
    if kind == "ByteLevel":
        return (_plain(_GPT2),) if node.get("use_regex", True) else ()
    if kind == "Digits":
        return (r"\p{N}",) if node.get("individual_digits") else (r"\p{N}+",)
    if kind == "Split" and node.get("behavior") in ("Isolated", "Removed"):
        pattern = node["pattern"]
        return (_plain(str(pattern.get("Regex", pattern.get("String")))),)  # type: ignore[attr-defined]
    return (str(kind),)


def _plain(pattern: str) -> str:
    """One spelling for the two ways in which clitics are written."""
    return pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", _CLITICS)


_BY_CUTS = {tuple(_plain(cut) for cut in cuts): name for name, cuts in _CUTS.items()}
