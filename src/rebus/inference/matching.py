"""What a predictor does for tasks on images with texts: how alike the two are, whether they belong together, and
candidates put into a better order by looking at each one together with the query.

Letters: B images, N pairs, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebus.errors import DataError
from rebus.inference.embedding import embed_texts
from rebus.models.batch import Batch, Inputs
from rebus.models.features import Features
from rebus.tasks import Match, Prediction, Retrieve
from rebus.tasks.base import Values
from rebus.tasks.cells import as_texts, pad_texts
from rebus.tasks.contrast import image_key

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor


def retrieve_rows(
    predictor: Predictor, task: Retrieve, values: Values, rows: Sequence[int], batch: Batch, owner: Tensor
) -> list[Prediction]:
    """How alike each row's image and texts are, with their vectors."""
    model = predictor.model
    seen, head = model.see(batch), model.pairs
    assert head is not None  # noqa: S101 - the task asked for one
    images = head.embed("image", seen["image"].pooled).cpu().numpy() if seen else None
    there = batch.present("image").tolist()
    keys = [0] * batch.size
    if seen:
        given = batch.inputs["image"]
        for place, pixels in zip(given.owner.tolist(), given.tensors["pixels"].cpu().numpy(), strict=True):
            keys[place] = int(image_key(pixels))
    said = {row: as_texts(values["text"][row]) if "text" in values else [] for row in rows}
    texts = list(dict.fromkeys(text for several in said.values() for text in several))
    vector = dict(zip(texts, embed_texts(predictor, texts), strict=True))
    told = []
    for row, place in zip(rows, owner.tolist(), strict=True):
        read = np.stack([vector[text] for text in said[row]]) if said[row] else np.zeros((0, head.size), np.float32)
        image = images[place] if images is not None and there[place] else None
        told.append(task.predicted(image, keys[place], read))
    return told


def match_rows(
    predictor: Predictor,
    task: Match,
    values: Values,
    rows: Sequence[int],
    batch: Batch,
    owner: Tensor,
) -> list[Prediction]:
    """Whether each row's texts belong to its image; texts under ``wrong`` are tried with it as well."""
    seen = predictor.model.see(batch)
    there = batch.present("image").tolist()
    own, wrong = (
        {row: as_texts(values[role][row]) if role in values else [] for row in rows} for role in ("text", "wrong")
    )
    places = dict(zip(rows, owner.tolist(), strict=True))
    asked = [(row, text) for row in rows if there[places[row]] for text in (*own[row], *wrong[row])]
    scores = iter(pair_scores(predictor, task, seen, [places[row] for row, _ in asked], [text for _, text in asked]))
    told = []
    for row in rows:
        count = (len(own[row]), len(wrong[row])) if there[places[row]] else (0, 0)
        mine, others = (np.array([next(scores) for _ in range(many)]) for many in count)
        told.append(task.predicted(mine, others))
    return told


def pair_scores(
    predictor: Predictor, task: Match, seen: Mapping[str, Features], owner: Sequence[int], texts: Sequence[str]
) -> NDArray[np.float64]:
    """(N,) the chance that each text belongs to its image.

    Args:
        predictor: the model.
        task: its ``match``.
        seen: what towers say of B images.
        owner: N places among the B.
        texts: N.
    """
    model, processor = predictor.model, predictor.processor
    read = [np.asarray(processor.read(text), dtype=np.int64) for text in texts]
    found = np.zeros(len(texts))
    for start in range(0, len(texts), predictor.batch_size):
        end = min(start + predictor.batch_size, len(texts))
        ids, mask = pad_texts(read[start:end])
        part = {"owner": torch.tensor(owner[start:end]), "text_ids": ids, "text_mask": mask}
        part = {name: tensor.to(model.device) for name, tensor in part.items()}
        logits = model.output(task.name, seen, part)  # (N, 1)
        found[start:end] = logits.float().sigmoid().squeeze(1).cpu().numpy()
    return found


@torch.inference_mode()
def rerank(
    predictor: Predictor, query: Any, candidates: Sequence[Any], k: int = 20, root: str | Path = "."
) -> list[tuple[int, float]]:
    """The first ``k`` candidates in the order of the chance that they belong to the query.

    Args:
        predictor: a model with the task ``match``.
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
    task = predictor.tasks.get("match")
    if not isinstance(task, Match):
        do = "train one with both: rebus train TABLE --task retrieve --task match"
        raise DataError("re-ranking", "a model with the task 'match'", ", ".join(predictor.tasks), do)
    first = list(candidates[:k])
    if not first:
        return []
    reads = isinstance(query, str)
    images, texts = (first, [query] * len(first)) if reads else ([query], [str(text) for text in first])
    model, was_training = predictor.model, predictor.model.training
    model.eval()
    try:
        scores: list[float] = []
        size = predictor.batch_size if reads else 1
        for start in range(0, len(images), size):
            some = images[start : start + size]
            shown = np.stack([predictor.open_image(one, Path(root), "an image") for one in some])
            pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).to(model.device)
            seen = model.see(Batch(len(some), {"image": Inputs.one_each(pixels=pixels)}))
            owner = list(range(len(some))) if reads else [0] * len(texts)
            portion = texts[start : start + len(some)] if reads else texts
            scores += pair_scores(predictor, task, seen, owner, portion).tolist()
    finally:
        model.train(was_training)
    order = sorted(range(len(first)), key=lambda place: -scores[place])
    return [(place, scores[place]) for place in order]
