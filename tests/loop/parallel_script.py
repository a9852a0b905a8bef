"""What each process of test_parallel.py runs: python parallel_script.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import training_tiny as tiny
from safetensors.torch import save_file
from torch import nn

from rebus.loop.loop import fit
from rebus.loop.parallel import is_first, rank_slice


class Windowed(nn.Module):
    """The second part is used in the first half of the run only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.first, self.second = nn.Linear(8, 1), nn.Linear(8, 1)

    def forward(self, ids, both):
        features = self.embed(ids).mean(1)
        return (self.first(features) + self.second(features) if both else self.first(features)).squeeze(1)


def batch_at(step, progress):
    whole = tiny.batch_at(step, progress)
    rows = list(rank_slice(range(tiny.ROWS)))
    return {name: tensor[rows] for name, tensor in whole.items()}


def loss_of(model, batch, progress):
    loss = (model(batch["ids"], progress < 0.5) - batch["target"]).square().mean()
    return loss, {}


def main(folder):
    torch.set_num_threads(1)
    model = Windowed()
    plan = tiny.plan(batch_at, 2, loss_of=loss_of, validate=lambda model: {"loss": float(model.first.bias)})
    result = fit(model, plan, tiny.train(optimizer="sgd", accumulate=2, ema=0.5), folder, seed=0, quiet=True)
    if is_first():
        save_file(model.state_dict(), folder / "final.safetensors")
        assert len(result.history) == 10


if __name__ == "__main__":
    main(Path(sys.argv[1]))
