"""Memory kept between steps, the machine's peak, and what the loop tells of tokens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rebus.loop.loop import Plan, fit
from rebus.loop.memory import kept_memory
from rebus.loop.probe import measure_peak
from rebus.recipe import Train


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_stays_within_the_context_only() -> None:
    size = 256 << 20
    with kept_memory() as kept:
        if not kept:
            pytest.skip("not glibc")
        before = resident()
        block = torch.ones(size, dtype=torch.uint8)
        del block
        assert resident() - before > 0.9 * size
    assert resident() - before < 0.1 * size


def test_the_peak_is_a_speed() -> None:
    for precision in ("fp32", "bf16"):
        assert 1e8 < measure_peak(torch.device("cpu"), precision, rounds=1) < 1e14  # type: ignore[arg-type]


def test_the_loop_tells_tokens_and_the_share_of_the_peak(tmp_path: Path) -> None:
    model = nn.Linear(8, 1)

    def loss_of(model: nn.Module, batch: Tensor, progress: float) -> tuple[Tensor, dict[str, float | Tensor]]:
        return model(batch).square().mean(), {}

    plan = Plan(lambda step, progress: torch.ones(4, 8), loss_of, 4.0, unit="tokens", work=1000.0, total_steps=3)
    result = fit(model, plan, Train(optimizer="sgd", lr=0.1, precision="fp32"), tmp_path, seed=0, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert result.peak > 0
    for line in lines:
        assert line["share_of_peak"] == pytest.approx(1000.0 * line["tokens_per_second"] / result.peak, rel=1e-3)
    assert json.loads((tmp_path / "loop.json").read_text(encoding="utf-8"))["peak_flops"] == result.peak
