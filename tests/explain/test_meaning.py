"""Each method says what is so: sums that must hold, brute force, and models that look at one place only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import QUESTION, shown, subject_of, tiny

from rebus.explain import explain, methods_for
from rebus.explain.occlusion import fillers, neutral, windows_over
from rebus.inference.predictor import Predictor
from rebus.models.features import Features
from rebus.tasks.pieces import units_of_text

PLACE = 6  # row 1, column 2 of 4 x 4


@contextmanager
def one_patch_alone(predictor: Predictor) -> Iterator[None]:
    """A model of whose image one patch is all that counts."""
    tower = predictor.model.image
    only = torch.zeros(16)
    only[PLACE] = 1.0

    def cut(module: torch.nn.Module, given: object, out: Features) -> Features:
        tokens = out.tokens * only[:, None]
        return Features(tokens, out.mask, tokens.mean(1))

    handle = tower.register_forward_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def near_sighted(predictor: Predictor) -> None:
    """Patches of a vit that do not see one another."""
    for layer in predictor.model.image.layers:
        torch.nn.init.zeros_(layer.attention.o_proj.weight)
        torch.nn.init.zeros_(layer.attention.o_proj.bias)


@pytest.mark.parametrize("kind", ["joint", "unified", "cross"])
@pytest.mark.parametrize("task", ["classify", "answer"])
def test_a_model_that_reads_one_patch_is_shown_to(table: Path, kind: str, task: str) -> None:
    predictor = tiny(table, task, kind, "vit", "encoder")
    near_sighted(predictor)
    with one_patch_alone(predictor):
        for method in ("gradients", "occlusion"):
            found = explain(predictor, image=shown(table, 3), text=QUESTION, task=task, method=method)
            for one in (found, *found.words):
                assert one.image is not None
                sizes = np.abs(one.image).ravel()
                assert sizes.argmax() == PLACE
                assert sizes.sum() - sizes[PLACE] < 1e-4 * sizes[PLACE] + 1e-4
    if kind == "joint" and task == "classify":
        with one_patch_alone(predictor):
            for label in predictor.tasks["classify"].labels:  # type: ignore[attr-defined]
                found = explain(predictor, image=shown(table, 3), text=QUESTION, method="relevance", target=str(label))
                assert found.image is not None
                others = np.delete(found.image.ravel(), PLACE)
                assert others.max() == 0  # by relevance a patch may also speak for no label: then all is zero


@pytest.mark.parametrize("method", ["relevance", "gradients", "occlusion", "rollout"])
def test_a_model_that_reads_one_word_is_shown_to(table: Path, method: str) -> None:
    predictor = tiny(table, "classify", "joint", "vit", "wordvectors", how="weighted")
    tower, reader = predictor.model.text, predictor.processor.reader
    word = reader.encode("square")[0]
    with torch.no_grad():
        keep = tower.embed.vectors.weight[word].clone() * 20
        tower.embed.vectors.weight.zero_()
        tower.embed.vectors.weight[word] = keep
        tower.log_weight.fill_(-12.0)
        tower.log_weight[word] = 0.0
    assert method in methods_for(predictor)
    scores: dict[str, float] = {}
    for label in predictor.tasks["classify"].labels:  # type: ignore[attr-defined]
        found = explain(predictor, image=shown(table), text=QUESTION, method=method, target=str(label))
        for token in found.tokens:
            scores[token.text] = max(scores.get(token.text, 0.0), abs(token.score))
    assert max(scores, key=lambda text: scores[text]) == "square"
    assert sum(scores.values()) - scores["square"] < 0.01 * scores["square"]


@pytest.mark.parametrize(("task", "kind", "how", "image", "text"), [
    ("classify", "unified", "concat", "convnet", "decoder"),
    ("regress", "joint", "weighted", "vit", "encoder"),
    ("tag", "cross", "concat", "efficientnet", "recurrent"),
    ("answer", "unified", "inline", "vit", "encoder"),
    ("answer", "cross", "concat", "convnet", "decoder"),
])  # fmt: skip
def test_integrated_gradients_add_up(table: Path, task: str, kind: str, how: str, image: str, text: str) -> None:
    """Completeness: the sum over image and words is the output less that of a grey image with padding for words."""
    predictor = tiny(table, task, kind, image, text, how=how)
    subject = subject_of(predictor, shown(table), QUESTION, task)
    blank = {name: subject.part[name].clone() for name in subject.places}
    for name, places in subject.places.items():
        blank[name][0, [n for n, one in enumerate(places) if one is not None]] = fillers(predictor)[name]
    grey = neutral(predictor.model).expand_as(subject.pixels()).contiguous()
    with torch.no_grad():
        gained = (subject.scores() - subject.scores(grey, blank))[0]
    found = explain(predictor, image=shown(table), text=QUESTION, task=task, method="gradients")
    each = found.words or (found,)
    for one, wanted in zip(each, gained.tolist(), strict=True):
        assert one.image is not None
        total = float(one.image.sum()) + sum(token.score for token in one.tokens)
        size = float(np.abs(one.image).sum()) + sum(abs(token.score) for token in one.tokens)
        assert total == pytest.approx(wanted, abs=0.02 * size + 1e-3)
    if found.words:  # the whole is the sum of its words
        assert found.image is not None
        np.testing.assert_allclose(found.image, np.sum([one.image for one in found.words], axis=0), rtol=1e-5)


@pytest.mark.parametrize("task", ["classify", "answer"])
def test_occlusion_equals_brute_force(table: Path, task: str) -> None:
    predictor = tiny(table, task, "unified", "convnet", "decoder")
    found = explain(predictor, image=shown(table), text=QUESTION, task=task, method="occlusion")
    subject = subject_of(predictor, shown(table), QUESTION, task)
    with torch.no_grad():
        plain = subject.scores().sum()
        costs = np.zeros((4, 4))
        for row, column in itertools.product(range(4), range(4)):
            pixels = subject.pixels()
            pixels[:, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = neutral(predictor.model)
            costs[row, column] = plain - subject.scores(pixels).sum()
        assert found.image is not None
        np.testing.assert_allclose(found.image, costs, atol=2e-5)
        name = subject.stream
        for unit, token in zip(units_of_text(subject.text, subject.places), found.tokens, strict=True):
            ids = subject.part[name].clone()
            ids[0, list(unit.members[name])] = predictor.processor.tokenizer.pad_id
            assert token.score == pytest.approx(float(plain - subject.scores(ids={name: ids}).sum()), abs=2e-5)


def test_windows_cover_every_pixel_alike() -> None:
    for size, grid in ((96, 6), (96, 12), (100, 7), (30, 10)):
        windows, cells = windows_over(size, grid)
        covered = np.zeros((size, size))
        for top, bottom, left, right in windows:
            covered[top:bottom, left:right] += 1
        assert cells == grid
        assert covered.min() >= 1
        assert covered.max() == (1 if grid < 8 else 4)


def test_gradcam_equals_the_published_formula(table: Path) -> None:
    predictor = tiny(table, "classify", "joint", "convnet", "decoder")
    found = explain(predictor, image=shown(table), text=QUESTION, method="gradcam", target="red")
    subject = subject_of(predictor, shown(table), QUESTION, target="red")
    kept: list[torch.Tensor] = []
    handle = predictor.model.image.body.register_forward_hook(lambda module, given, out: kept.append(out))
    (maps_grad,) = torch.autograd.grad(subject.scores()[0, 0], kept)
    handle.remove()
    alpha = maps_grad[0].mean((1, 2))
    wanted = torch.relu((alpha[:, None, None] * kept[0][0].detach()).sum(0))
    np.testing.assert_allclose(found.image, wanted, rtol=1e-4, atol=1e-7)
    assert found.tokens == ()
    assert "nothing of the text" in found.remarks[0]


@pytest.mark.parametrize(("how", "task"), [("weighted", "classify"), ("mean", "classify"), ("concat", "answer"),
                                           ("weighted", "answer"), ("sum", "ner")])  # fmt: skip
def test_joint_shows_its_shares(table: Path, how: str, task: str) -> None:
    predictor = tiny(table, task, "joint", "vit", "encoder", how=how)
    text = QUESTION
    found = explain(predictor, image=shown(table), text=text, task=task, method="occlusion")
    assert found.weights is not None
    assert set(found.weights) == {"image", "text"}
    assert sum(found.weights.values()) == pytest.approx(1, abs=1e-5)
    if (how, task) == ("weighted", "classify"):
        gates = predictor.model.fusion.blend.gate
        with torch.no_grad():
            gates.weight.zero_()
            gates.bias.copy_(torch.tensor([np.log(3.0), 0.0]))
        found = explain(predictor, image=shown(table), text=text, method="occlusion")
        assert found.weights == pytest.approx({"image": 0.75, "text": 0.25}, abs=1e-5)
        alone = explain(predictor, image=None, text=text, method="occlusion")
        assert alone.weights == pytest.approx({"image": 0.0, "text": 1.0}, abs=1e-5)


def test_attention_of_a_written_word_is_that_of_its_place(table: Path) -> None:
    predictor = tiny(table, "answer", "unified", "convnet", "decoder")
    subject = subject_of(predictor, shown(table), QUESTION)
    found = explain(predictor, image=shown(table), text=QUESTION, method="attention")
    from rebus.explain.trace import trace

    (layer,) = [seen.weights.mean(0) for seen in trace(subject).attended if seen.name.endswith("self_attn")]
    for goal, one in zip(subject.goals, found.words, strict=True):
        row = layer[[16 + place for place in goal.at]].mean(0)
        assert one.image is not None
        np.testing.assert_allclose(one.image.ravel(), row[:16], rtol=1e-4)
        inside = [n for n, place in enumerate(subject.places["input_ids"]) if place is not None]
        assert sum(token.score for token in one.tokens) == pytest.approx(float(row[16:][inside].sum()), rel=1e-4)


def test_words_that_are_looked_up_among_patches_carry_relevance(table: Path) -> None:
    """A model with ``patch_classify`` puts what a patch shows beside each word, before any layer: it counts too."""
    from test_matrix import COLUMNS, small

    from rebus.recipe import TaskSettings
    from rebus.training.train import assemble

    recipe = small(table, "answer", "joint", "concat", "convnet", "decoder")
    recipe = recipe.replace(
        {"tasks": [*recipe.tasks, TaskSettings(name="patch_classify", columns=COLUMNS["patch_classify"])]}
    )
    torch.manual_seed(0)
    predictor = assemble(recipe, lambda _: None).predictor
    model = predictor.model
    with torch.no_grad():
        torch.nn.init.normal_(model.heads["patch_classify"].naming.look_up.weight, std=0.5)
        # the image's vector does not enter: all that is seen of it comes by looking words up
        model.fusion.enter_blend.mix.weight[:, :24] = 0
    found = explain(predictor, image=shown(table), text=QUESTION, task="answer", method="relevance")
    assert found.image is not None
    assert np.ptp(found.image) > 0
    with torch.no_grad():
        model.heads["patch_classify"].naming.look_up.weight.zero_()
        model.heads["patch_classify"].naming.look_up.bias.zero_()
    shut = explain(predictor, image=shown(table), text=QUESTION, task="answer", method="relevance")
    assert shut.image is not None
    assert float(np.abs(shut.image).max()) < 1e-6 * float(found.image.max())
