"""Candidates put into a better order by looking at each one together with the query."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rebus.errors import DataError
from rebus.inference.session import Session, evaluating
from rebus.models.batch import Batch, Inputs
from rebus.tasks.contrast import PairScoring


@torch.inference_mode()
def rerank(
    session: Session, query: Any, candidates: Sequence[Any], k: int = 20, root: str | Path = "."
) -> list[tuple[int, float]]:
    """The first ``k`` candidates in the order of the chance that they belong to the query.

    Args:
        session: a model with the task ``match``.
        query: a text (str), or an image (Path, bytes or (H, W, 3) array).
        candidates: images (paths as str or Path, bytes or arrays) for a text, texts for an image; the most promising
            first, as the shared space has them.
        k: how many of them are looked at.
        root: folder that relative image paths start from.

    Returns:
        (place among the candidates, chance), the best first; equal ones stay in their order.

    Raises:
        DataError: the model has no task ``match``. ImageError: an image cannot be read.
    """
    task = next((item for item in session.tasks.values() if isinstance(item, PairScoring)), None)
    if task is None:
        do = "train one with both: rebus train TABLE --task retrieve --task match"
        raise DataError("re-ranking", "a model with the task 'match'", ", ".join(session.tasks), do)
    first = list(candidates[:k])
    if not first:
        return []
    reads = isinstance(query, str)
    images, texts = (first, [query] * len(first)) if reads else ([query], [str(text) for text in first])
    scores: list[float] = []
    size = session.batch_size if reads else 1
    with evaluating(session.model):
        for start in range(0, len(images), size):
            some = images[start : start + size]
            squares = [session.open_image(item, Path(root), "an image") for item in some]
            pixels = session.pixels(squares).to(session.model.device)
            seen = session.model.see(Batch(len(some), {"image": Inputs.one_each(pixels=pixels)}))
            owner = list(range(len(some))) if reads else [0] * len(texts)
            portion = texts[start : start + len(some)] if reads else texts
            scores += task.chances(session, seen, owner, portion).tolist()
    order = sorted(range(len(first)), key=lambda place: -scores[place])
    return [(place, scores[place]) for place in order]
