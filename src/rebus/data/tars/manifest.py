"""index.json of a folder of archives that Rebus wrote: which there are, what is in them, how columns are named.

Its list of shards is the one that WebDataset's random-access readers take (``wids-shard-index-v1``). It is also the
memory of a writing that was cut off: until ``finished`` is true, what is there may be incomplete.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rebus import atomic
from rebus.data.tars.samples import Columns
from rebus.errors import RunError

FILE = "index.json"
_KIND = "wids-shard-index-v1"


@dataclass(frozen=True)
class Shard:
    """One archive.

    Attributes:
        url: its name in the folder.
        nsamples: images (or rows without one) in it.
        rows: rows of the table in it.
        filesize: bytes.
        sha256: of the whole file.
        key: changes when what it was made from does.
        left_out: rows of broken images that are not in it.
        reasons: why, for the first of them.
    """

    url: str
    nsamples: int
    rows: int
    filesize: int
    sha256: str
    key: str
    left_out: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class TarManifest:
    """What a folder of archives is.

    Attributes:
        name: of the table.
        made_from: source and settings; other ones make other archives.
        kinds: column: kind.
        columns: what members' endings stand for.
        shards: the archives in order.
        left_out: rows left out because ``data.on_bad`` is ``skip``, with the first reasons.
        not_carried: columns that JSON cannot hold.
        finished: whether all archives are there.
    """

    name: str
    made_from: dict[str, Any]
    kinds: dict[str, str]
    columns: Columns
    shards: list[Shard] = field(default_factory=list)
    left_out: dict[str, Any] = field(default_factory=lambda: {"count": 0, "first": []})
    not_carried: list[str] = field(default_factory=list)
    finished: bool = False

    def save(self, folder: Path) -> None:
        """Write index.json, whole or not at all. Raises RunError where the folder cannot be written."""
        ours = {key: value for key, value in asdict(self).items() if key not in ("name", "shards")}
        shards = [asdict(shard) for shard in self.shards]
        atomic.write_json(
            folder / FILE,
            {"__kind__": _KIND, "wids_version": 1, "name": self.name, "shardlist": shards, "rebus": ours},
        )

    @classmethod
    def load(cls, folder: Path) -> TarManifest | None:
        """Read index.json; None where there is none, or one that Rebus did not write. Raises RunError where damaged."""
        file = folder / FILE
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or "rebus" not in content:
                return None
            ours = content["rebus"] | {"columns": Columns(**content["rebus"]["columns"])}
            return cls(content["name"], shards=[Shard(**shard) for shard in content["shardlist"]], **ours)
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = " ".join(str(error).split())[:100]
            do = "make the shards again with `rebus data shard ... --rebuild`, or delete the file to read what is there"
            raise RunError(file, "the index of a folder of tar shards", f"damaged content ({message})", do) from error
