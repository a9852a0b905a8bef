"""The gradients of portions with a cache are those of the big batch."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from rebus.loop.gradcache import Cached, cached_backward

HERE = Path(__file__).parent


class Two(nn.Module):
    """Two towers of a few numbers, with dropout and a temperature."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.right = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.other = nn.Sequential(nn.Dropout(dropout), nn.Linear(5, 1))

    def forward(self, batch: dict[str, Tensor], more: bool = True) -> tuple[dict[str, Tensor], Tensor | None]:
        pair = {
            "left": functional.normalize(self.left(batch["left"]), dim=-1),
            "right": functional.normalize(self.right(batch["right"]), dim=-1),
            "scale": self.scale.exp(),
        }
        return pair, self.other(batch["left"]) if more else None


def compare(held: Any, batches: Any, progress: float) -> tuple[Tensor, dict[str, Any]]:
    left, right = (torch.cat([one[name] for one in held]) for name in ("left", "right"))
    scores = torch.stack([one["scale"] for one in held]).mean() * left @ right.T
    loss = functional.cross_entropy(scores, torch.arange(len(scores)))
    return loss, {"loss/pair": loss.detach()}


CACHED = Cached(
    compared=lambda model, batch, progress: model(batch, more=False)[0],
    outputs=lambda model, batch, progress: model(batch),
    compare=compare,
    rest=lambda other, batch, progress: (other.square().mean(), {"loss/other": other.square().mean().detach()}),
)


def portions(batch: dict[str, Tensor], many: int) -> list[dict[str, Tensor]]:
    cut = zip(*(tensor.chunk(many) for tensor in batch.values()), strict=True)
    return [dict(zip(batch, parts, strict=True)) for parts in cut]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def run(model: nn.Module, batch: dict[str, Tensor], many: int) -> tuple[Tensor, dict[str, Any]]:
    model.zero_grad()
    torch.manual_seed(7)
    parts = portions(batch, many)
    return cached_backward(
        model, model, CACHED, parts, 0.5, scope=lambda last: nullcontext(), autocast=lambda: nullcontext()
    )


def batch_of(rows: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {"left": torch.randn(rows, 5, generator=generator), "right": torch.randn(rows, 3, generator=generator)}


def test_gradients_equal_the_big_batchs() -> None:
    model, batch = Two(0.0), batch_of()
    pair, other = model(batch)
    assert other is not None
    whole = compare([pair], [batch], 0.5)[0] + other.square().mean()
    whole.backward()
    expected = gradients(model)
    loss, named = run(model, batch, 4)
    assert torch.allclose(loss, whole.detach(), atol=1e-6)
    assert set(named) == {"loss/pair", "loss/other"}
    found = gradients(model)
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)


def test_with_dropout_the_second_pass_throws_the_same_dice() -> None:
    """Held against one graph over all portions, which throw rng in the order that they do without a graph."""
    model, batch = Two(0.5), batch_of()
    torch.manual_seed(7)
    pairs = [model(part, more=False)[0] for part in portions(batch, 4)]
    compare(pairs, [], 0.5)[0].backward()
    expected = {name: value for name, value in gradients(model).items() if not name.startswith("other")}
    run(model, batch, 4)
    found = gradients(model)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5)
    run(model, batch, 1)
    assert any(not torch.allclose(found[name], value, atol=1e-3) for name, value in gradients(model).items())


def test_statistics_of_a_batch_are_taken_once() -> None:
    model, batch = Two(0.0), batch_of()
    model.left[1] = nn.BatchNorm1d(16)
    for part in portions(batch, 4):
        model(part)
    expected = {name: value.clone() for name, value in model.named_buffers()}
    again = Two(0.0)
    again.left[1] = nn.BatchNorm1d(16)
    run(again, batch, 4)
    for name, value in again.named_buffers():
        torch.testing.assert_close(value, expected[name])


def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path: Path) -> None:
    """Softmax, sigmoid and similar, with uneven numbers of texts, plain and with a cache."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    script = str(HERE / "contrast_script.py")
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script]
    for name, command in {"one": [sys.executable, script], "two": two}.items():
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [*command, str(tmp_path / name)], env=environment, capture_output=True, text=True, timeout=250, check=False
        )
        assert done.returncode == 0, done.stderr
    for kind in ("softmax", "sigmoid", "similar", "softmax-cached"):
        one, other = (load_file(tmp_path / name / f"{kind}.safetensors") for name in ("one", "two"))
        assert set(one) == set(other)
        assert len(one) > 5
        assert float(one["loss"]) > 0
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-4)
    plain, cached = (load_file(tmp_path / "one" / f"{kind}.safetensors") for kind in ("softmax", "softmax-cached"))
    for name, value in plain.items():
        torch.testing.assert_close(value, cached[name], atol=1e-5, rtol=1e-4)
