"""manifest.json of a folder of shards: what they were made from, by what, and what is in them.

It is also the memory of a build that was killed: until ``finished`` is true, ``progress`` says how far it came.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.errors import RunError

FILE = "manifest.json"
VERSION = 1


@dataclass
class SplitCount:
    """What one split holds.

    Attributes:
        tokens: ids, the ends of documents included.
        documents: documents (a long one that was dealt in parts counts a part as one).
        bytes: UTF-8 bytes of the text the tokens stand for: what bits per byte are divided by.
        characters: of the same text.
        shards: files in order, as {"name", "tokens", "documents"}.
    """

    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    characters: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Manifest:
    """What a folder of shards is.

    Attributes:
        tokenizer: hash of the tokenizer.
        vocab_size: ids are below it.
        eos_id: every document ends with it.
        words: whether the shards say where words start.
        source: path, number of files, bytes and fingerprint of what was read.
        settings: how it was read, cleaned and dealt.
        splits: name: what is in it.
        cleaning: counts, see ``CleaningReport``.
        seconds: time the work took, over all starts.
        finished: whether all of the source is in the shards.
        progress: where to go on; empty once finished.
    """

    tokenizer: str
    vocab_size: int
    eos_id: int
    words: bool
    source: dict[str, Any]
    settings: dict[str, Any]
    splits: dict[str, SplitCount] = field(default_factory=dict)
    cleaning: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    finished: bool = False
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def made_from(self) -> dict[str, Any]:
        """What must be the same for the shards to be used again, flat: name of the setting: value."""
        flat = {f"source {key}": value for key, value in self.source.items() if key != "path"}
        flat |= {"tokenizer": self.tokenizer, "vocabulary": self.vocab_size, "eos": self.eos_id, "words": self.words}
        return flat | self.settings

    def save(self, folder: Path) -> None:
        """Write manifest.json, whole or not at all. Raises RunError where the folder cannot be written."""
        atomic.write_json(folder / FILE, {"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read manifest.json. Raises RunError where there is none, or it is not one."""
        file = folder / FILE
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            version = content.pop("version")
            if version != VERSION:
                do = "build the shards again with this version of Rebus, in another folder"
                raise RunError(file, f"version {VERSION}", f"version {version}", do)
            content["splits"] = {name: SplitCount(**counts) for name, counts in content["splits"].items()}
            return cls(**content)
        except RunError:
            raise
        except OSError as error:
            raise RunError(
                file, "a folder of shards", f"'{error.strerror or error}'", "make it with `rebus data shard`"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            do = "delete the folder and build the shards again"
            raise RunError(file, "the manifest of a folder of shards", "other or damaged content", do) from error
