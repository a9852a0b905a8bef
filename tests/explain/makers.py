"""Tiny models for the tests of explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from test_matrix import small

from rebus.explain.inputs import explained_task, image_of, row_of
from rebus.explain.subject import Subject, quiet
from rebus.inference.predictor import Predictor
from rebus.training.train import assemble

QUESTION = "What colour is the square?"


def tiny(table: Path, task: str, kind: str, image: str, text: str, *, how: str = "concat", seed: int = 1) -> Predictor:
    """A predictor whose weights are random and none of them zero."""
    ready = assemble(small(table, task, kind, how, image, text), lambda _: None)
    torch.manual_seed(seed)
    for parameter in ready.model.parameters():
        if parameter.numel() == 1 or not bool(parameter.abs().sum()):
            torch.nn.init.normal_(parameter, std=0.2)
    ready.model.eval()
    return ready.predictor


def shown(table: Path, number: int = 13) -> NDArray[np.uint8]:
    """One of the table's images, (32, 32, 3)."""
    row = json.loads(table.read_text(encoding="utf-8").splitlines()[number])
    return np.asarray(Image.open(table.parent / row["image"]).convert("RGB"))


def subject_of(predictor: Predictor, image: Any, text: str, task: str | None = None, target: Any = None) -> Subject:
    """What ``explain`` makes before a method is asked."""
    chosen = explained_task(predictor, task, asked=bool(text))
    values = row_of(chosen, text, None)
    subject = Subject(predictor, chosen, values, image_of(predictor, chosen, image, values))
    with quiet(predictor.model):
        chosen.explanation_targets(subject, target)
    return subject
