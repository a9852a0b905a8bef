"""The tokenizer inside a GGUF file as a tokenizer.json, and back. It knows no tensors.

llama.cpp keeps pieces, merges and the name of a pattern that text is cut by; it has no normaliser. What is built here
cuts text as llama.cpp does with the same file, unless the file holds a whole tokenizer.json, which then counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from rebus.errors import WeightsError
from rebus.formats.gguf_file import GgufFile
from rebus.text.foreign import Conventions
from rebus.text.patterns import KNOWN, WHOLE_AND_BOS, pretokenizer
from rebus.text.tokenizer import Tokenizer

_T = "tokenizer.ggml"
WHOLE = "tokenizer.huggingface.json"  # of the format's specification; llama.cpp does not read it
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown", "sep": "seperator", "mask": "mask"}
_LONGEST = 1024  # characters of a piece
_NEAREST = "qwen2"  # what cuts most like our own pattern; see docs/LOG.md
_DO = "use the model's safetensors and tokenizer.json instead"


def read_tokenizer(file: GgufFile) -> Tokenizer:
    """The tokenizer of a file, with its special tokens and chat template.

    Raises:
        WeightsError: there is none, or one of a kind that is not known.
    """
    kind = file.get(f"{_T}.model", str)
    pieces = file.get(f"{_T}.tokens", list, [])
    if kind is None or not pieces:
        raise WeightsError(file.path, "a tokenizer", "none in its metadata", _DO)
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        received = ", ".join(builders)
        raise WeightsError(f"{file.path}, '{_T}.model'", f"a known kind of tokenizer ({received})", f"'{kind}'", _DO)
    types = file.get(f"{_T}.token_type", list, []) or [_NORMAL] * len(pieces)
    if len(types) != len(pieces) or not all(isinstance(piece, str) for piece in pieces):
        raise WeightsError(file.path, f"as many types as tokens ({len(pieces)})", str(len(types)), _DO)
    roles = {role: file.get(f"{_T}.{theirs}_token_id", int) for role, theirs in _ROLES.items()}
    roles = {role: item for role, item in roles.items() if item is not None and item < len(pieces)}
    whole = file.get(WHOLE, str)
    if whole is None:
        backend = builders[kind](file, pieces, types)
        _mark(backend, pieces, types)
        _frame(backend, file, kind, roles, pieces)
        whole = backend.to_str()
    names = {f"{role}_token": pieces[item] for role, item in roles.items()}
    ends = [roles.get("eos"), *(file.get(f"{_T}.{end}_token_id", int) for end in ("eot", "eom"))]
    template = file.get("tokenizer.chat_template", str)
    conventions = Conventions(names, template, tuple(item for item in ends if item is not None))
    return Tokenizer.from_json(whole, conventions, where=file.path)


def _byte_level(file: GgufFile, pieces: list[str], types: list[int]) -> tokenizers.Tokenizer:
    name = file.get(f"{_T}.pre", str, "default")
    if name not in KNOWN:
        expected = f"a pattern that is known ({', '.join(KNOWN)})"
        raise WeightsError(f"{file.path}, '{_T}.pre'", expected, f"'{name}'", _DO)
    vocabulary = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    given = file.get(f"{_T}.merges", list, [])
    long = next((piece for piece, kind in zip(pieces, types, strict=True) if kind == _NORMAL and len(piece) > 1), None)
    if not all(isinstance(merge, str) for merge in given) or (not given and long is not None):
        raise WeightsError(f"{file.path}, '{_T}.merges'", f"what makes pieces such as {long!r}", "none", _DO)
    merges = [tuple(merge.split(" ", 1)) for merge in given]
    # llama.cpp leaves a merge alone whose result is no piece; the library refuses it
    known = [pair for pair in merges if len(pair) == 2 and {*pair, "".join(pair)} <= vocabulary.keys()]
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, known, ignore_merges=name in WHOLE_AND_BOS))
    backend.pre_tokenizer = pretokenizer(name)
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(file: GgufFile, pieces: list[str], types: list[int]) -> tokenizers.Tokenizer:
    """A BPE of SentencePiece: of all neighbours that make a piece, those of the best score are joined first."""
    scores = file.get(f"{_T}.scores", list, [])
    if len(scores) != len(pieces):
        raise WeightsError(file.path, f"as many scores as tokens ({len(pieces)})", str(len(scores)), _DO)
    longest = max(map(len, pieces))
    if longest > _LONGEST:
        raise WeightsError(file.path, f"pieces of at most {_LONGEST} characters", str(longest), _DO)
    vocabulary = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    plain = {piece for piece, kind in zip(pieces, types, strict=True) if kind in (_NORMAL, _USER)}
    joins = [
        (-scores[number], cut, piece[:cut], piece[cut:])
        for number, piece in enumerate(pieces)
        if types[number] == _NORMAL
        for cut in range(1, len(piece))
        if piece[:cut] in plain and piece[cut:] in plain
    ]
    merges = [(left, right) for _, _, left, right in sorted(joins, key=lambda join: join[0])]
    unknown = next((piece for piece, kind in zip(pieces, types, strict=True) if kind == _UNKNOWN), None)
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = file.get(f"{_T}.add_space_prefix", bool, True)
    first = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    last = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *last])
    return backend


def _mark(backend: tokenizers.Tokenizer, pieces: list[str], types: list[int]) -> None:
    """Tokens that are found in a text before it is cut: special ones, and those that users added."""
    for number, kind in enumerate(types):
        if kind in (_CONTROL, _UNKNOWN):
            backend.add_special_tokens([AddedToken(pieces[number], special=True, normalized=False)])
        elif kind == _USER:
            backend.add_tokens([AddedToken(pieces[number], normalized=False)])


def _frame(
    backend: tokenizers.Tokenizer, file: GgufFile, kind: str, roles: Mapping[str, int], pieces: list[str]
) -> None:
    """What stands before and after a text: bos and eos, where the file or llama.cpp's own rule says so."""
    by_rule = kind == "llama" or file.fields.get(f"{_T}.pre") in WHOLE_AND_BOS
    wanted = {
        "bos": file.get(f"{_T}.add_bos_token", bool, by_rule),
        "eos": file.get(f"{_T}.add_eos_token", bool, False),
    }
    used = {role: (pieces[roles[role]], roles[role]) for role, want in wanted.items() if want and role in roles}
    if used:
        parts = [used["bos"][0] if "bos" in used else "", "$A", used["eos"][0] if "eos" in used else ""]
        template = [part for part in parts if part]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(used.values()))


def tokenizer_to_gguf(tokenizer: Tokenizer, rows: int) -> Iterator[tuple[str, str, Any]]:
    """(key, string or bool or uint32 or a list of one of them, value) of a byte-level tokenizer.

    Args:
        tokenizer: whose ``pattern`` is known.
        rows: of the embeddings; ids that no piece has are filled up.

    Raises:
        WeightsError: llama.cpp cannot cut text as the tokenizer does, or there are more pieces than embeddings.
    """
    content = json.loads(tokenizer.to_json())
    model = content["model"]
    if model["type"] != "BPE" or model.get("byte_fallback") or tokenizer.pattern is None:
        received = f"{model['type']}, cut in a way that llama.cpp has no name for"
        do = "export with --format hf, or train with a tokenizer made by `rebus tokenizer train`"
        raise WeightsError("the tokenizer", "a byte-level BPE with a known pattern", received, do)
    if tokenizer.vocab_size > rows:
        do = "export with the tokenizer that the model was trained with"
        raise WeightsError("the tokenizer", f"at most {rows} pieces", str(tokenizer.vocab_size), do)
    pieces = [f"[PAD{number}]" for number in range(rows)]
    types = [_UNUSED] * rows
    for piece, number in model["vocab"].items():
        pieces[number], types[number] = piece, _NORMAL
    for token in content["added_tokens"]:
        pieces[token["id"]], types[token["id"]] = token["content"], _CONTROL if token["special"] else _USER
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    yield f"{_T}.model", "string", "gpt2"
    yield f"{_T}.pre", "string", llama_pattern(tokenizer)
    yield f"{_T}.tokens", "strings", pieces
    yield f"{_T}.token_type", "int32s", types
    yield f"{_T}.merges", "strings", merges
    before, after = tokenizer.frame
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "padding": tokenizer.pad_id, "mask": tokenizer.mask_id}
    if len(before) == 1:
        ids["bos"] = before[0]  # a language model of ours begins a text with the token that ends one
    for role, item in ids.items():
        if item is not None:
            yield f"{_T}.{role}_token_id", "uint32", item
    if len(tokenizer.eos_ids) > 1:
        yield f"{_T}.eot_token_id", "uint32", tokenizer.eos_ids[1]
    yield f"{_T}.add_bos_token", "bool", before == (ids["bos"],)
    yield f"{_T}.add_eos_token", "bool", bool(after) and after[0] in tokenizer.eos_ids
    yield f"{_T}.add_space_prefix", "bool", False
    if tokenizer.chat_template is not None:
        yield "tokenizer.chat_template", "string", tokenizer.chat_template
    yield WHOLE, "string", tokenizer.to_json()


def llama_pattern(tokenizer: Tokenizer) -> str:
    """The name under which llama.cpp is to cut text: the tokenizer's own, or the nearest to our own pattern."""
    result = tokenizer.pattern
    return _NEAREST if result in (None, "rebus") else str(result)
