"""A model, batches and a plan small enough to train in a second. No test is in here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rebus.loop.loop import Plan
from rebus.recipe import Train

ROWS = 8


class Net(nn.Module):
    """Has a bit of everything the optimizers tell apart: embedding, kernel, matrices, norm, dropout, head."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.stem = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 8))
        self.head = nn.Linear(8, 1)

    def forward(self, ids: Tensor) -> Tensor:
        images = self.embedding(ids).mT.reshape(len(ids), 8, 2, 2)
        return self.head(self.hidden(self.norm(self.stem(images)).mean((2, 3)))).squeeze(1)


def net(dropout: float = 0.1) -> Net:
    torch.manual_seed(5)
    return Net(dropout)


def batch_at(step: int, progress: float, rows: int = ROWS) -> dict[str, Tensor]:
    ids = torch.randint(0, 11, (rows, 4), generator=torch.Generator().manual_seed(step))
    return {"ids": ids, "target": (ids == 3).float().sum(1) + ids[:, 0] / 11}


def loss_of(model: nn.Module, batch: Any, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
    loss = (model(batch["ids"]) - batch["target"]).square().mean()
    return loss, {"mse": loss.detach()}


HELD_OUT = batch_at(1_000_000, 0.0, 64)


@torch.no_grad()
def validate(model: nn.Module) -> dict[str, float]:
    return {"loss": float(loss_of(model, HELD_OUT, 1.0)[0])}


def cut(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """Equal parts of the rows; what has none goes whole into every part."""
    size = len(batch["ids"]) // parts
    return [
        {name: one[at * size : (at + 1) * size] if one.ndim else one for name, one in batch.items()}
        for at in range(parts)
    ]


def plan(batch_at: Any = batch_at, parts: int = 1, **changes: Any) -> Plan:
    settings: dict[str, Any] = {
        "parts_at": lambda step, progress: cut(batch_at(step, progress), parts),
        "loss_of": loss_of,
        "batch_rows": ROWS,
        "total_steps": 20,
        "validate": validate,
    }
    return Plan(**{**settings, **changes})


def train(**changes: Any) -> Train:
    return Train(**{"precision": "fp32", "lr": 0.01, **changes})


def digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        whole.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
