"""Folders of sentence-transformers: what comes after the transformer, as far as vectors of length one depend on it.

    modules.json                        the modules and their folders
    1_Pooling/config.json               how one vector is made of many
    sentence_bert_config.json           most tokens of a text
    config_sentence_transformers.json   what is put before a text, how vectors are compared

What changes the direction of a vector is done here as there, or refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.errors import WeightsError
from rebus.formats.config import MOST, Fields, read_object

FILE = "modules.json"
_SETTINGS = "config_sentence_transformers.json"
_POOLS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_OLDER = {
    **{"pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean"},
    **{"pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean"},
    **{"pooling_mode_lasttoken": "lasttoken"},
}
# The length of a vector does not matter here, so that a mean and a sum over the root of the length are the same.
_ENCODER = {
    **{"cls": "first", "max": "max", "mean": "mean", "mean_sqrt_len_tokens": "mean"},
    **{"weightedmean": "weighted", "lasttoken": "last"},
}
_ALONE = "use its transformer alone: --text FOLDER, without modules.json in it"


@dataclass(frozen=True)
class SentenceModel:
    """What a folder says of its vectors.

    Attributes:
        transformer: the folder of the transformer.
        pooling: how one vector is made of many, by its name there.
        max_length: most tokens of a text; None: as many as the transformer reads.
        lower: whether texts are written in lower case before they are cut.
        notes: what people should know, a sentence each.
    """

    transformer: Path
    pooling: str
    max_length: int | None
    lower: bool
    notes: tuple[str, ...] = ()

    def pool(self, kind: str) -> str:
        """The pooling in our terms for a text tower of a kind. Raises WeightsError where it has no such."""
        where = self.transformer / FILE
        if kind == "encoder":
            return _ENCODER[self.pooling]
        if self.pooling != "lasttoken":
            expected = "'lasttoken', as a decoder's vectors are made here"
            raise WeightsError(f"{where}, the pooling", expected, f"'{self.pooling}'", _ALONE)
        return "mean"  # a decoder has no such setting


def read_sentence_model(folder: str | Path) -> SentenceModel | None:
    """What a folder of sentence-transformers says; None where it is none.

    Raises:
        WeightsError: a file is damaged, or the vectors depend on something that is not done here.
    """
    folder = Path(folder)
    if not (folder / FILE).is_file():
        return None
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    wrong = next((kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize", "Dropout")), None)
    if wrong is not None or kinds[:2] != ["Transformer", "Pooling"] or kinds.count("Pooling") > 1:
        received = f"'{wrong}', which changes the vectors" if wrong else ", ".join(kinds) or "none"
        expected = "a Transformer, a Pooling and perhaps a Normalize"
        raise WeightsError(folder / FILE, expected, received, _ALONE)
    transformer, pooling = modules[0][1], read_object(modules[1][1] / "config.json")
    mode = _mode(modules[1][1] / "config.json", pooling)
    entries = read_object(transformer / name) if (name := _length_file(transformer)) else {}
    if entries.get("max_seq_length") is None and (transformer / "tokenizer_config.json").is_file():
        length = read_object(transformer / "tokenizer_config.json").get("model_max_length")
        length = int(length) if isinstance(length, int) and 0 < length <= MOST else None  # some say 10^30
    else:
        length = (
            None if entries.get("max_seq_length") is None else Fields(entries, "sentences").number("max_seq_length")
        )
    settings = read_object(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    prompts = _prompts(folder / _SETTINGS, settings, whole=bool(pooling.get("include_prompt", True)))
    notes = [
        f"{folder}: made with texts that begin with one of these, to be written by whoever asks: {prompts}"
    ] * bool(prompts)
    if (
        settings.get("similarity_fn_name") in ("dot", "dot_score", "euclidean", "manhattan")
        and "Normalize" not in kinds
    ):
        notes.append(
            f"{folder}: made to be compared by '{settings['similarity_fn_name']}'; vectors are given a length of one "
            "here and compared by their cosine, which orders texts differently"
        )
    return SentenceModel(transformer, mode, length, bool(entries.get("do_lower_case")), tuple(notes))


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """(the last word of a module's type, its folder), in order."""
    file, again = folder / FILE, "copy or fetch the file again"
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(file, "a list of modules in JSON", f"'{error}'", again) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise WeightsError(file, "a list of modules", type(rows).__name__, again)
    result = []
    for row in rows:
        path = str(row.get("path", ""))
        if Path(path).is_absolute() or ".." in Path(path).parts or "\0" in path:
            raise WeightsError(file, "folders inside this one", f"'{path[:60]}'", "do not use this checkpoint")
        result.append((str(row.get("type")).rpartition(".")[2], folder / path))
    return result


def _mode(file: Path, config: Mapping[str, Any]) -> str:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLDER.items() if config.get(key)] or ["mean"]
    modes = modes if isinstance(modes, list) else [modes]
    if len(modes) != 1 or modes[0] not in _POOLS:
        raise WeightsError(file, f"one way of pooling ({', '.join(_POOLS)})", str(modes)[:80], _ALONE)
    return str(modes[0])


def _length_file(folder: Path) -> str | None:
    names = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
    return next((name for name in names if (folder / name).is_file()), None)


def _prompts(file: Path, settings: Mapping[str, Any], *, whole: bool) -> str:
    """Prompts as people read them. Raises WeightsError for one that is put before each text unasked."""
    given = settings.get("prompts") or {}
    if not isinstance(given, dict):
        raise WeightsError(file, "an object 'prompts'", repr(given)[:60], "copy or fetch the file again")
    prompts = {str(name): str(text) for name, text in given.items() if text}
    default = settings.get("default_prompt_name")
    if default is not None and prompts.get(str(default)):
        received = f"'{default}', which puts {prompts[str(default)]!r} before each text"
        raise WeightsError(file, "no 'default_prompt_name'", received, "set it to null, and write the prompt yourself")
    if prompts and not whole:
        raise WeightsError(file, "prompts that count in the pooling", "'include_prompt': false", _ALONE)
    return ", ".join(f"{name}: {text!r}" for name, text in prompts.items())


def write_sentence_model(folder: Path, pool: str, width: int, max_length: int) -> bool:
    """Describe an encoder in a folder as Transformer, Pooling and Normalize; False where its pooling has no name.

    Args:
        folder: of the encoder, in a family's layout.
        pool: the tower's ``pool``.
        width: of its vectors.
        max_length: most tokens of a text.

    Raises:
        RunError: the folder cannot be written.
    """
    mode = {"mean": "mean", "first": "cls", "max": "max", "weighted": "weightedmean", "last": "lasttoken"}.get(pool)
    if mode is None:
        return False
    names = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    (folder / "1_Pooling").mkdir(exist_ok=True)
    older = {key: value == mode for key, value in _OLDER.items()}
    pooling = {"word_embedding_dimension": width, **older, "include_prompt": True}
    atomic.write_json(folder / "1_Pooling" / "config.json", pooling)
    atomic.write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    atomic.write_json(folder / _SETTINGS, {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"})
    atomic.write_json(folder / FILE, modules)
    return True
