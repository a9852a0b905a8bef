"""``rebus find``: what is near to a query in an indexed collection.

The index itself is made in ``rebus.retrieval.build_index``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rebus.data.names import IMAGE_ENDINGS
from rebus.errors import DataError, ImageError, RunError
from rebus.inference.embedding import check_space
from rebus.inference.predictor import Predictor
from rebus.retrieval.build_index import Log, fingerprint, index_folder
from rebus.retrieval.index import Collection, Entry, Finder, load_index
from rebus.retrieval.rerank import rerank

What = Literal["image", "text"]
RERANKED = 4  # times as many candidates are read with the query as are shown


@dataclass(frozen=True)
class Hit:
    """One thing found.

    Attributes:
        score: cosine with the query; after reranking, the probability that image and text belong together.
        kind: image or text.
        name: the image's path as its collection has it, or the text.
        place: the file and row it came from.
        text: of an image: what its table says of it.
        path: of the image's file; None for a text or an image without a file.
        there: whether that file is still there.
    """

    score: float
    kind: str
    name: str
    place: str
    text: str = ""
    path: Path | None = None
    there: bool = True

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "path": None if self.path is None else str(self.path)}


def find_run(
    run: str | Path,
    query: str,
    *,
    k: int = 10,
    index: str | Path | None = None,
    what: What | None = None,
    rerank: bool = False,
    log: Log = lambda _: None,
) -> list[Hit]:
    """What is nearest to an image (the path of a file) or to a text.

    Args:
        run: the model that made the index.
        query: a path or a text.
        k: most results.
        index: folder of the index; None: ``index/`` in the Run.
        what: look for images or texts; None: images where the index holds any.
        rerank: let the model's task ``match`` read the best 4 x k with the query, image and text together.
        log: prints a line for people.

    Raises:
        RebusError: there is no index, or one of another model, its folder has moved, or the query cannot be read.
    """
    if k < 1:
        raise DataError("--k", "at least 1", str(k), "ask for more")
    folder = index_folder(run, index)
    result = load_index(folder, f"make one: rebus index {run} FOLDER")
    predictor = Predictor.open(run)
    if fingerprint(predictor) != result.model:
        received = "one that another model made, or this one before it was trained further"
        raise RunError(
            folder, "an index that this model made", received, f"make it anew: rebus index {run} {result.data}"
        )
    if not result.whole:
        log("this index is not whole, as making it was interrupted; go on with the same `rebus index`")
    what = what or ("image" if result.count("image") else "text")
    if not result.count(what):
        held = ", ".join(f"{len(entries)} {kind}s" for kind, entries in result.entries.items() if entries)
        raise DataError(folder, f"an index of {what}s", f"one of {held}", f"index a table that holds {what}s")
    is_image = image_query(query)
    if is_image:
        if what == "text":
            check_space(predictor.model)
        asked = predictor.embed_images([Path(query).resolve()])
    else:
        if not query.strip():
            raise DataError("the query", "a text or the path of an image", "nothing", 'write one: "a red bus"')
        if what == "image":
            check_space(predictor.model)
        asked = predictor.embed([query])
    if what == "image" and not Path(result.root).exists():
        raise DataError.of("problem.index_moved", where=str(result.root), run=str(run))
    finder = Finder(result.vectors[what], result.lists.get(what))
    scores, places = finder.nearest(asked, RERANKED * k if rerank else k)
    hits = [
        hit_of(result, result.entries[what][int(place)], float(score))
        for score, place in zip(scores[0], places[0], strict=True)
        if place >= 0
    ]
    gone = sum(not hit.there for hit in hits)
    if gone:
        log(f"{gone} of {len(hits)} files found are no longer there; bring the index up to date: rebus index {run} ...")
    return reranked(predictor, query, hits, is_image=is_image)[:k] if rerank else hits


def hit_of(collection: Collection, entry: Entry, score: float) -> Hit:
    """An entry as a result."""
    path = None
    if entry.kind == "image" and entry.size >= 0:
        path = Path(collection.root) / entry.name
    there = path is None or path.is_file()
    return Hit(score, entry.kind, entry.name, entry.place, entry.text, path, there)


def reranked(predictor: Predictor, query: str, hits: list[Hit], *, is_image: bool) -> list[Hit]:
    """Hits in the order of how well image and text belong together.

    Raises:
        DataError: the model was not trained to ``match``, or query and results are of one kind.
    """
    texts = bool(hits) and hits[0].kind == "text"
    if texts != is_image:
        expected = "a text to look for images with, or an image to look for texts with"
        kind = "image" if is_image else "text"
        raise DataError("--rerank", expected, f"a {kind} to look for {kind}s with", "leave --rerank out")
    able = [hit for hit in hits if texts or (hit.path is not None and hit.there)]
    left = [hit for hit in hits if hit not in able]
    candidates = [hit.name if texts else hit.path for hit in able]
    order = rerank(predictor, Path(query).resolve() if is_image else query, candidates, k=len(able))
    return [replace(able[place], score=score) for place, score in order] + left


def image_query(query: str) -> bool:
    """Whether a query is an image's file. Raises ImageError where it looks like one that does not exist."""
    path = Path(query)
    try:
        if path.is_file():
            return True
    except OSError:  # a text too long to be a name
        return False
    if path.suffix.lower() in IMAGE_ENDINGS and not any(letter.isspace() for letter in query):
        raise ImageError("the query", "the path of an image, or a text", f"no file '{query}'", "correct the path")
    return False
