"""The vectors of a collection on disk, and what finds the nearest of them. Knows no model and no images.

index.json                  what it is of: model, folder, counts; it names the two files below and comes last
entries-DIGEST.parquet      one row an image or text: name, size, time, digest, text
vectors-DIGEST.safetensors  ``images`` and ``texts``, (N, D) each; of a large collection also how they are listed

Up to 200,000 vectors each query is compared with all of them. Beyond, the vectors are listed by the nearest of many
centres (an inverted file: Jegou et al. 2011, "Product Quantization for Nearest Neighbor Search", without its codes) and
some lists are looked at. FAISS does both; its own files are neither written nor read, as they are not made to be
trusted: lists are built from plain tensors.

Letters: N vectors, D numbers of one, C centres, K results.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from rebus import atomic
from rebus.errors import MissingPackageError, RunError
from rebus.formats.weights import write_tensors

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]
Kind = Literal["image", "text"]
META = "index.json"
VERSION = 1
EXACT = 200_000  # vectors that are compared one by one
WITHOUT_FAISS = 1_000_000  # the most that NumPy compares one by one
GOOD_ENOUGH = 0.98  # share of the exact ten nearest that lists must find
_ASKED = 200  # vectors that this is measured with


@dataclass(frozen=True)
class Entry:
    """One image or text.

    Attributes:
        kind: image or text.
        name: the image's path as the table or folder has it, or where it stands; the text itself.
        place: the file and row it came from.
        text: of an image: what the table says of it.
        size: of the image's file in bytes; -1: no file of its own.
        time: when the file was last changed, in nanoseconds.
        digest: of its content.
    """

    kind: Kind
    name: str
    place: str
    text: str = ""
    size: int = -1
    time: int = 0
    digest: str = ""


@dataclass
class Lists:
    """Vectors dealt to the nearest of C centres.

    Attributes:
        centres: (C, D).
        owner: (N,) the centre that each vector belongs to.
        probes: lists looked at for a query.
        recall: share of the exact ten nearest that were found with so many.
    """

    centres: Vectors
    owner: Places
    probes: int
    recall: float


@dataclass
class Collection:
    """Everything an index holds.

    Attributes:
        model: fingerprint of the model that made the vectors.
        data: the folder or table, absolute.
        root: folder that the images' names start from, absolute.
        entries: kind: what each vector is of.
        vectors: kind: (N, D) of length one.
        lists: kind: lists of a large collection.
        broken: what could not be read: where, expected, found, do.
        whole: False where making it was interrupted.
    """

    model: str
    data: str
    root: str
    entries: dict[str, list[Entry]] = field(default_factory=lambda: {"image": [], "text": []})
    vectors: dict[str, Vectors] = field(default_factory=dict)
    lists: dict[str, Lists] = field(default_factory=dict)
    broken: list[dict[str, str]] = field(default_factory=list)
    whole: bool = True

    def count(self, kind: str) -> int:
        """How many entries of a kind."""
        return len(self.entries[kind])


def save_index(folder: Path, collection: Collection) -> None:
    """Write an index, whole or not at all: an earlier one stands until index.json is replaced.

    Raises:
        RunError: the folder cannot be written.
    """
    tensors: dict[str, Any] = {}
    for kind, vectors in collection.vectors.items():
        if not len(vectors):
            continue
        tensors[f"{kind}s"] = np.ascontiguousarray(vectors, dtype=np.float32)
        if kind in collection.lists:
            tensors[f"{kind}s.centres"], tensors[f"{kind}s.owner"] = (
                collection.lists[kind].centres,
                collection.lists[kind].owner,
            )
    everything = [asdict(entry) for kind in ("image", "text") for entry in collection.entries[kind]]
    digest = hashlib.blake2b(repr(everything).encode("utf-8", "surrogatepass"), digest_size=8)
    for name in sorted(tensors):
        digest.update(np.ascontiguousarray(tensors[name]).data)
    names = {
        key: f"{key}-{digest.hexdigest()}.{end}" for key, end in (("entries", "parquet"), ("vectors", "safetensors"))
    }
    schema = pa.schema([*((name, pa.string()) for name in _WORDS), *((name, pa.int64()) for name in _NUMBERS)])
    rows = pa.Table.from_pylist([_storable(row) for row in everything], schema=schema)
    write_tensors(folder / names["vectors"], {name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    atomic.write_with(folder / names["entries"], lambda beside: pq.write_table(rows, beside))
    meta = {
        "version": VERSION,
        "model": collection.model,
        "data": collection.data,
        "root": collection.root,
        "whole": collection.whole,
        "count": {kind: len(entries) for kind, entries in collection.entries.items()},
        "lists": {
            kind: {"probes": tensor.probes, "recall": tensor.recall} for kind, tensor in collection.lists.items()
        },
        "broken": collection.broken,
        **names,
    }
    atomic.write_json(folder / META, meta)
    for path in folder.glob("*-*"):
        if path.suffix in (".parquet", ".safetensors") and path.name not in names.values():
            path.unlink(missing_ok=True)


_WORDS, _NUMBERS = ("kind", "name", "place", "text", "digest"), ("size", "time")


def _storable(row: dict[str, Any]) -> dict[str, Any]:
    """File names that are no Unicode are kept byte for byte by surrogates, which Parquet's text cannot hold."""
    return {key: json.dumps(value) if key in _WORDS else value for key, value in row.items()}


def load_index(folder: Path, do: str) -> Collection:
    """Read an index.

    Args:
        folder: where it is.
        do: what to advise where there is none.

    Raises:
        RunError: there is none, or it is damaged.
    """
    if not (folder / META).exists():
        raise RunError(folder, "an index of images or texts", "none", do)
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        if meta["version"] != VERSION:
            raise RunError(folder / META, f"an index of version {VERSION}", f"version {meta['version']}", do)
        names = [Path(str(meta[key])).name for key in ("entries", "vectors")]  # never out of the folder
        rows = pq.read_table(folder / names[0]).to_pylist()
        tensors = load_file(folder / names[1])
        collection = Collection(meta["model"], meta["data"], meta["root"], broken=meta["broken"], whole=meta["whole"])
        for row in rows:
            words = {key: json.loads(row[key]) for key in _WORDS}
            collection.entries[words["kind"]].append(Entry(**words, **{key: row[key] for key in _NUMBERS}))
        for kind, entries in collection.entries.items():
            vectors = tensors.get(f"{kind}s", np.zeros((0, 0), dtype=np.float32))
            if len(vectors) != len(entries) or vectors.ndim != 2 or vectors.dtype != np.float32:
                raise ValueError(f"{len(entries)} {kind}s with vectors {vectors.dtype} {vectors.shape}")
            collection.vectors[kind] = vectors
            if kind in meta["lists"]:
                texts = meta["lists"][kind]
                lists = Lists(
                    tensors[f"{kind}s.centres"], tensors[f"{kind}s.owner"], int(texts["probes"]), float(texts["recall"])
                )
                if lists.owner.shape != (len(vectors),) or not 0 <= lists.owner.min() <= lists.owner.max() < len(
                    lists.centres
                ):
                    raise ValueError(f"lists of {kind}s that do not fit their vectors")
                collection.lists[kind] = lists
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException, SafetensorError) as error:
        if isinstance(error, RunError):
            raise
        message = " ".join(str(error).split())[:160] or type(error).__name__
        raise RunError(folder, "a whole index", f"a damaged one ({message})", do) from error
    return collection


def make_lists(vectors: Vectors, log: Callable[[str], None], exact: int = EXACT) -> Lists | None:
    """Lists for a collection of more than ``exact`` vectors; None for a smaller one, or where FAISS is missing.

    The number of lists looked at is the smallest power of two that finds 98% of the exact ten nearest.
    """
    faiss = find_faiss()
    if len(vectors) <= exact or faiss is None:
        return None
    count = 1 << round(math.log2(4 * math.sqrt(len(vectors))))
    sample = vectors[:: max(1, len(vectors) // (64 * count))]
    kmeans = faiss.Kmeans(vectors.shape[1], count, niter=10, seed=1, spherical=True, max_points_per_centroid=64)
    kmeans.min_points_per_centroid = 1
    kmeans.train(np.ascontiguousarray(sample))
    centres: Vectors = kmeans.centroids.astype(np.float32)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    quantizer.add(centres)
    owner = np.ascontiguousarray(quantizer.search(vectors, 1)[1][:, 0]).astype(np.int64)
    lists = Lists(centres, owner, 1, 0.0)
    asked = vectors[:: max(1, len(vectors) // _ASKED)][:_ASKED]
    truth = Finder(vectors, None).nearest(asked, 10)[1]
    finder = Finder(vectors, lists)
    while lists.recall < GOOD_ENOUGH and lists.probes < count:
        lists.probes *= 2
        message = finder.nearest(asked, 10)[1]
        lists.recall = float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth, message, strict=True)]))
    log(
        f"{len(vectors):,} vectors in {count} lists, of which {lists.probes} are looked at: "
        f"that finds {100 * lists.recall:.1f}% of the exact ten nearest"
    )
    return lists


class Finder:
    """Finds the nearest of many vectors.

    Args:
        vectors: (N, D) of length one.
        lists: how a large collection is listed; None: each is compared.

    Raises:
        MissingPackageError: FAISS is missing and there are too many vectors to do without.
    """

    def __init__(self, vectors: Vectors, lists: Lists | None) -> None:
        self.vectors, self.lists = vectors, lists
        faiss = find_faiss()
        self.index: Any = None
        if faiss is None:
            if len(vectors) > WITHOUT_FAISS:
                raise MissingPackageError("faiss-cpu", "search", f"search among {len(vectors):,} vectors")
            return
        flat = faiss.IndexFlatIP(vectors.shape[1])
        if lists is None:
            self.index = flat
            self.index.add(np.ascontiguousarray(vectors))
            return
        flat.add(np.ascontiguousarray(lists.centres))
        self.quantizer = flat  # the index below does not keep it alive
        self.index = faiss.IndexIVFFlat(flat, vectors.shape[1], len(lists.centres), faiss.METRIC_INNER_PRODUCT)
        self.index.is_trained = True
        whole, owner = np.ascontiguousarray(vectors), np.ascontiguousarray(lists.owner)
        self.index.add_core(len(whole), faiss.swig_ptr(whole), None, faiss.swig_ptr(owner))

    @property
    def how(self) -> str:
        """What compares: for people."""
        if self.index is None:
            return "each compared, by NumPy"
        return "each compared, by FAISS" if self.lists is None else f"FAISS, {self.lists.probes} lists looked at"

    def nearest(self, asked: Vectors, k: int) -> tuple[Vectors, Places]:
        """The K nearest of each of Q vectors: products (Q, K), falling, and places (Q, K); the earlier first of equals.

        Fewer than k where there are fewer.
        """
        k = min(k, len(self.vectors))
        asked = np.ascontiguousarray(asked, dtype=np.float32)
        if self.index is None:
            products = asked @ self.vectors.T
            places = np.argsort(-products, axis=1, kind="stable")[:, :k]
            return np.take_along_axis(products, places, axis=1), places
        if self.lists is not None:
            self.index.nprobe = self.lists.probes
        products, places = self.index.search(asked, k)
        order = np.lexsort((places, -products), axis=1)
        return np.take_along_axis(products, order, axis=1), np.take_along_axis(places, order, axis=1)


def find_faiss() -> Any:
    """The library, or None where it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss
