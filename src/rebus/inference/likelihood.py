"""What texts cost a trained model: each row of the tasks lm and mlm, whole documents, rows of a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rebus.inference.scoring import score_texts
from rebus.models.batch import Batch
from rebus.models.layout import IGNORED
from rebus.tasks import Lm, Mlm, Prediction
from rebus.tasks.base import Values
from rebus.tasks.lm import priced
from rebus.tasks.metrics.likelihood import Cost
from rebus.tasks.mlm import guessed, masked_part

if TYPE_CHECKING:
    from rebus.inference.predictor import Predictor


def foresee_rows(predictor: Predictor, task: Lm, values: Values, rows: Sequence[int]) -> list[Prediction]:
    """What each row's text costs; nothing where it has none."""
    return foresee_texts(predictor, [(task.targets(values, row) or [""])[0] for row in rows])


def foresee_texts(predictor: Predictor, texts: Sequence[str]) -> list[Prediction]:
    """What each text costs a model that writes."""
    return [priced(Cost(-one.logprob, one.tokens, one.bytes)) for one in score_texts(predictor, texts)]


def guess_rows(predictor: Predictor, task: Mlm, values: Values, rows: Sequence[int]) -> list[Prediction]:
    """How each row's hidden words are guessed; which are hidden depends on the row's number only."""
    texts = [(task.texts(values, [row]) or [""])[0] for row in rows]
    return guess_texts(predictor, task, texts, rows)


@torch.inference_mode()
def guess_texts(predictor: Predictor, task: Mlm, texts: Sequence[str], numbers: Sequence[int]) -> list[Prediction]:
    """How the hidden words of each text are guessed; its number decides which are hidden."""
    flat = [
        (place, hidden)
        for place, text in enumerate(texts)
        for hidden in task.hidden(text, predictor.processor, (0, 0, 0, numbers[place]))
    ]
    flat.sort(key=lambda entry: len(entry[1][0]))  # texts of like length together
    nats, tokens, right = (np.zeros(len(texts)) for _ in range(3))
    for start in range(0, len(flat), predictor.batch_size):
        portion = flat[start : start + predictor.batch_size]
        part = masked_part([hidden for _, hidden in portion])
        places = torch.tensor([place for place, _ in portion])[:, None].expand_as(part["labels"])
        owners = places[part["labels"] != IGNORED].numpy()
        cost, first = foreseen(predictor.model, task.name, part)
        np.add.at(nats, owners, cost.numpy())
        np.add.at(right, owners, first.numpy())
        np.add.at(tokens, owners, 1)
    sizes = [len(text.encode()) for text in texts]
    told = zip(nats, tokens, sizes, right, strict=True)
    return [guessed(Cost(float(cost), int(many), size, int(hit))) for cost, many, size, hit in told]


@torch.inference_mode()
def foreseen(model: nn.Module, name: str, part: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the N labelled tokens of a batch part cost: nats (N,) float64, and whether each is the first guess (N,).

    Args:
        model: with a task ``name`` that gives logits.
        name: of the task.
        part: its tensors.
    """
    device = next(model.parameters()).device
    moved = {key: tensor.to(device) for key, tensor in part.items()}
    logits = model(Batch.of_target(name, moved), [name])[name]
    labels = moved["labels"][moved["labels"] != IGNORED]
    nats = functional.cross_entropy(logits.float(), labels, reduction="none").double()
    return nats.cpu(), (logits.argmax(-1) == labels).cpu()
