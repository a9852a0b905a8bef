"""An image or a text that a row lacks, in every fusion: numbers stay finite, nothing attends to nothing, the learned
vector learns, and a row says the same whatever stood where its missing part would be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rebus import recipe
from rebus.models.features import Features
from rebus.models.fusion import FUSIONS
from rebus.models.fusion.base import Fusion, FusionLayer, gated, make_gate, with_absent
from rebus.nn.attention import recording

KINDS = [("joint", how) for how in ("concat", "mean", "weighted", "sum")] + [("unified", ""), ("cross", "")]
B, D = 4, 16


def made(kind: str, how: str, **settings: object) -> Fusion:
    torch.manual_seed(0)
    said = recipe.Fusion(kind=kind, depth=2, heads=2, **({"how": how} if how else {}), **settings)  # type: ignore[arg-type]
    fusion: Fusion = FUSIONS.get(kind)(said, {"image": 12, "text": 20}, D)
    for vector in fusion.parameters():  # gates and absent vectors start at zero: open them
        if vector.dim() <= 2 and not vector.any():
            torch.nn.init.normal_(vector)
    return fusion


def features(seed: int = 0, scale: tuple[float, float] = (1.0, 1.0)) -> dict[str, Features]:
    """Row 0 complete, row 1 without an image, row 2 without a text, row 3 without either."""
    rng = torch.Generator().manual_seed(seed)
    parts = {}
    for place, (name, length, width) in enumerate((("image", 6, 12), ("text", 5, 20))):
        tokens = torch.randn(B, length, width, generator=rng) * scale[place]
        mask = torch.ones(B, length, dtype=torch.bool)
        mask[0, -1] = False
        mask[1 + place] = mask[3] = False
        parts[name] = Features(tokens, mask, tokens.mean(1))
    return parts


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_rows_that_lack_something_give_finite_numbers_and_gradients(kind: str, how: str) -> None:
    fusion = made(kind, how)
    with recording() as seen:
        fused = fusion(features())
    assert torch.isfinite(fused.pooled).all()
    assert torch.isfinite(fused.tokens).all()
    assert fused.mask.any(1).all()  # a head has something to read in every row
    for one in seen:
        assert torch.allclose(one.weights.sum(-1), torch.ones(())), "a token attends to nothing"
    fused.pooled.square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_what_stood_in_a_missing_modality_changes_nothing(kind: str, how: str) -> None:
    fusion = made(kind, how).eval()
    one, other = features(0), features(0)
    for name, rows in (("image", (1, 3)), ("text", (2, 3))):
        for row in rows:
            other[name].tokens[row] = 50.0
            other[name].pooled[row] = -50.0
    assert torch.allclose(fusion(one).pooled, fusion(other).pooled, atol=1e-5)


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_the_absent_vector_learns_from_rows_that_lack_something_and_only_from_them(kind: str, how: str) -> None:
    fusion = made(kind, how)
    parts = features()
    absent = [p for name, p in fusion.named_parameters() if "absent" in name and not name.startswith("enter")]

    def learned(rows: list[int]) -> float:
        fusion.zero_grad()
        chosen = torch.tensor(rows)
        fusion({name: part.select(chosen) for name, part in parts.items()}).pooled.square().sum().backward()
        return sum(float(p.grad.abs().sum()) for p in absent if p.grad is not None)

    assert learned([0]) == 0.0
    assert learned([3]) > 0.0  # with neither, only the absent vectors can say anything
    if how in ("", "concat", "sum"):
        assert learned([1]) > 0.0


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_neither_tower_drowns_the_other(kind: str, how: str) -> None:
    """Towers whose numbers differ a hundredfold weigh the same as towers of one scale."""
    fusion = made(kind, how).eval()
    even, loud = fusion(features()), fusion(features(scale=(10.0, 0.1)))
    assert torch.allclose(even.pooled, loud.pooled, atol=2e-2, rtol=2e-2)
    norms = {
        name: float(part.tokens[0].detach().norm(dim=-1).mean())
        for name, part in fusion.projected(features(scale=(10.0, 0.1))).items()
    }
    assert 0.5 < norms["image"] / norms["text"] < 2.0


@pytest.mark.parametrize(("kind", "how"), KINDS)
def test_a_decoder_is_given_something_to_write_from_in_every_row(kind: str, how: str) -> None:
    fusion = made(kind, how)
    condition = fusion.condition(features())
    given = condition.prefix or condition.memory
    if given is not None:
        assert given.mask.any(1).all()
        assert torch.isfinite(given.tokens).all()
    else:
        entered = fusion.enter(condition, torch.randn(B, 3, D))
        assert torch.isfinite(entered).all()


def test_an_item_that_has_tokens_keeps_them() -> None:
    part = features()["image"]
    completed = with_absent(part, torch.full((12,), 7.0))
    assert torch.equal(completed.tokens[0], part.tokens[0])
    assert torch.equal(completed.mask[0], part.mask[0])
    assert torch.equal(completed.pooled[2], part.pooled[2])
    assert completed.mask[1].tolist() == [True] + [False] * 5
    assert torch.equal(completed.tokens[1, 0], torch.full((12,), 7.0))


@pytest.mark.parametrize("kind", ["unified", "cross"])
@pytest.mark.parametrize("gate", ["none", "zero", "scale"])
def test_gates_build_learn_and_start_as_they_say(kind: str, gate: str) -> None:
    torch.manual_seed(0)
    said = recipe.Fusion(kind=kind, depth=1, heads=2, gate=gate)  # type: ignore[arg-type]
    fusion: Fusion = FUSIONS.get(kind)(said, {"image": 12, "text": 20}, D)
    gates = [parameter for name, parameter in fusion.named_parameters() if name.endswith("_gate")]
    assert bool(gates) == (gate != "none")
    fusion(features()).pooled.sum().backward()
    for one in gates:
        assert one.grad is not None
        assert float(one.grad.abs().sum()) > 0
        assert one.numel() == (1 if gate == "zero" else D)


def test_a_gate_at_zero_lets_nothing_through() -> None:
    x, mask = torch.randn(2, 3, D), torch.ones(2, 3, dtype=torch.bool)
    closed, scaled = FusionLayer(D, 2, 0.0, "zero"), FusionLayer(D, 2, 0.0, "scale")
    assert torch.equal(closed(x, mask), x)
    plain = FusionLayer(D, 2, 0.0, "none")
    plain.load_state_dict({k: v for k, v in scaled.state_dict().items() if not k.endswith("_gate")})
    assert float((scaled(x, mask) - x).norm().detach()) < float((plain(x, mask) - x).norm().detach())
    change: Tensor = torch.ones(1, 2, D)
    assert torch.allclose(gated(change, make_gate("scale", D)), torch.full((1, 2, D), 0.1))
