"""The rules of rollout and relevance against numbers worked out by hand, and against a derivation of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from makers import QUESTION, shown, subject_of, tiny

from batches import image_batch
from rebus.explain import explain
from rebus.explain.paths import found_in
from rebus.explain.relevance import Relevance, normalised
from rebus.explain.rollout import Rollout
from rebus.explain.trace import Seen, trace
from rebus.models.fusion.unified import Unified
from rebus.nn.attention import recording


def seen(weights: list[list[list[float]]], index: int = 0) -> Seen:
    return Seen("a", torch.tensor(weights), index)


def test_heads_are_averaged_after_what_speaks_against_is_cut_off() -> None:
    attention = [[[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.0, 1.0]]]
    gradient = torch.tensor([[[[2.0, -1.0], [4.0, 3.0]], [[1.0, 1.0], [-2.0, 0.5]]]])
    found = Relevance([gradient]).heads(seen(attention))
    # heads: [[1, 0], [4, 0]] and [[0.2, 0.8], [0, 0.5]]
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.4], [2.0, 0.25]]))
    torch.testing.assert_close(Rollout().heads(seen(attention)), torch.tensor([[0.35, 0.65], [0.5, 0.5]]))


def test_self_attention_adds_what_is_attended_to() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    weights = torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    torch.testing.assert_close(Relevance([]).among(rows, weights, 1.0), torch.tensor([[2.0, 2.0], [1.0, 2.0]]))
    # rollout: (I + A) R over what the rows of I + A add up to
    half = torch.tensor([[0.0, 1.0], [0.5, 0.5]])
    torch.testing.assert_close(Rollout().among(rows, half, 1.0), torch.tensor([[0.75, 0.5], [0.625, 0.75]]))


def test_cross_attention_by_equations_10_and_11() -> None:
    # two words (columns 0, 1) that attend to two patches (columns 2, 3); both sides are mixed already
    words = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    patches = torch.tensor([[0.5, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]])
    weights = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = Relevance([]).toward(words, patches, weights, 1.0, slice(0, 2), slice(2, 4))
    # normalised: words [[1, 1], [0, 1]], patches [[1, 1], [0, 1]]; transposed words @ weights @ patches
    added = np.array([[1.0, 0.0], [1.0, 1.0]]) @ np.array([[1.0, 0.0], [0.0, 2.0]]) @ np.array([[1.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(found[:, 2:], added)
    np.testing.assert_allclose(found[:, :2], [[1.5, 1.0], [0.0, 1.0]])  # what the patches knew of the words comes back
    torch.testing.assert_close(
        normalised(torch.tensor([[1.0, 4.0], [0.0, 1.0]])), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    )


def test_an_output_reads_its_token_as_much_as_all_others() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.3, 1.1, 0.6]])
    torch.testing.assert_close(Relevance([]).read(rows, 1, 1), torch.tensor([0.3, 1.1, 0.6]))
    torch.testing.assert_close(
        Relevance([]).read(rows * 2 - torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), 1, 1), torch.tensor([0.3, 1.1, 0.6])
    )  # fmt: skip - however large it is


@pytest.mark.parametrize("gate", [0.0, 0.3, 1.0])
def test_rollout_rows_add_up_to_one(gate: float) -> None:
    torch.manual_seed(0)
    weights = torch.rand(4, 4).softmax(-1)
    weights[2] = 0  # sees nothing
    rows = torch.rand(4, 6).softmax(-1)
    memory = torch.rand(3, 6).softmax(-1)
    mixed = Rollout().among(rows, weights, gate)
    torch.testing.assert_close(mixed.sum(-1), torch.ones(4))
    torch.testing.assert_close(mixed[2], rows[2])
    across = Rollout().toward(rows, memory, torch.rand(4, 3).softmax(-1), gate, slice(0, 2), slice(2, 6))
    torch.testing.assert_close(across.sum(-1), torch.ones(4))
    if gate == 0:
        torch.testing.assert_close(across, rows)  # nothing passes a closed gate


@pytest.mark.parametrize("task", ["classify", "answer"])
@pytest.mark.parametrize("kind", ["unified", "cross", "joint"])
def test_rollout_through_a_whole_model_adds_up_to_one(table: Path, kind: str, task: str) -> None:
    predictor = tiny(table, task, kind, "vit", "encoder")
    subject = subject_of(predictor, shown(table), QUESTION, task)
    made = trace(subject)
    for goal in subject.goals:
        found = found_in(made, Rollout(), goal)
        assert set(found) >= {"image", "text_ids"}
        assert sum(float(row.sum()) for row in found.values()) == pytest.approx(1, abs=1e-5)
        assert all(float(row.min()) >= 0 for row in found.values())


def test_relevance_of_one_layer_equals_its_own_derivation(table: Path) -> None:
    """No tower attends here: the only attention is the fusion's one layer. R = I + A, read by gradient x token."""
    predictor = tiny(table, "classify", "unified", "resnet", "wordvectors")
    image = shown(table)
    found = explain(predictor, image=image, text=QUESTION, method="relevance", target="blue")
    model, processor = predictor.model, predictor.processor
    kept: list[torch.Tensor] = []
    assert isinstance(model.fusion, Unified)
    handle = model.fusion.norm.register_forward_hook(lambda module, given, out: kept.append(out))
    ids = torch.tensor([processor.read(QUESTION)])
    part = {"owner": torch.tensor([0]), "text_ids": ids, "text_mask": torch.ones_like(ids).bool()}
    batch = image_batch(torch.from_numpy(image.copy()).permute(2, 0, 1)[None], classify=part)
    with recording() as attended:
        logits = model(batch)["classify"][0]
    handle.remove()
    place = predictor.tasks["classify"].labels.index("blue")  # type: ignore[attr-defined]
    chance = logits.softmax(-1)[place]
    assert found.score == pytest.approx(float(chance.detach()), rel=1e-4)
    (weights,) = [one.weights for one in attended]
    by_weights, by_tokens = torch.autograd.grad((chance / (1 - chance)).log(), [weights, kept[0]])
    heads = (by_weights * weights).clamp(min=0)[0].mean(0)
    read = (by_tokens * kept[0]).sum(-1).clamp(min=0)[0]  # what the mean over tokens gives of each
    wanted = (read + read @ heads).detach()
    assert found.image is not None
    np.testing.assert_allclose(found.image.ravel(), wanted[:16], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose([token.score for token in found.tokens], wanted[16:], rtol=1e-3, atol=1e-7)
    assert [token.text for token in found.tokens] == ["What", "colour", "is", "the", "square"]
