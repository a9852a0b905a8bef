"""How many tokens an image becomes, in which order, and where they stand in a text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from batches import image_batch
from rebus.errors import RecipeError
from rebus.models.features import Features
from rebus.models.fusion.inline import InlineProjector, placed_inside
from rebus.models.heads import HeadSpec
from rebus.models.image_tokens import pixel_shuffle, plan_for, plan_of
from rebus.models.towers.base import averaged
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Fusion, Image, Model, Tower


def model(tokens: int | None = None, size: int = 48, tower: str = "vit", **fusion: Any) -> tuple[Model, Image]:
    """Settings of a small model that sees 48 x 48 pixels as 6 x 6 patches."""
    made = Model(
        image=Tower(kind=tower, width=16, depth=1, heads=2, patch=8, tokens=tokens), fusion=Fusion(**fusion)
    ).replace({"text": Tower(kind="decoder", width=16, depth=1, heads=2)})
    return made, Image(size=size)


def test_pixel_shuffle_has_the_order_of_idefics3() -> None:
    from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

    sizes = {"vision_config": SimpleNamespace(hidden_size=5), "text_config": SimpleNamespace(hidden_size=7)}
    theirs = Idefics3Connector(SimpleNamespace(scale_factor=3, **sizes))
    tokens = torch.randn(2, 36, 5)
    shuffled = theirs.pixel_shuffle(tokens, 3)
    assert torch.equal(pixel_shuffle(tokens, 3), shuffled)
    assert torch.equal(pixel_shuffle(tokens, 1), tokens)
    made = InlineProjector(plan_for(Fusion(layout="inline", projector="shuffle", shuffle=3), None, 36), 5, 7)
    assert made.proj is not None
    made.proj.load_state_dict(theirs.modality_projection.proj.state_dict())
    seen = Features(tokens, torch.ones(2, 36, dtype=torch.bool), tokens.mean(1))
    torch.testing.assert_close(made(seen).tokens, theirs(tokens))


def test_averaging_takes_neighbours() -> None:
    tokens = torch.arange(36.0).view(1, 36, 1)
    first = torch.tensor([0.0, 1, 6, 7]).mean()
    assert averaged(tokens, 3)[0, 0, 0] == first
    assert averaged(tokens, 3).shape == (1, 9, 1)
    assert averaged(tokens, 4).mean() == pytest.approx(17.5)  # neighbours overlap evenly
    assert averaged(tokens, 6) is tokens


@pytest.mark.parametrize("wanted", [4, 9, 16, 36])
@pytest.mark.parametrize("tower", ["vit", "convnet"])
@pytest.mark.parametrize("fusion", ["joint", "cross", "unified"])
def test_every_fusion_has_as_many_image_tokens_as_asked_for(wanted: int, tower: str, fusion: str) -> None:
    settings, image = model(wanted, tower=tower, kind=fusion)
    heads = {"caption": HeadSpec("write"), "patch_classify": HeadSpec("tokens", 3)}
    made = VisionLanguageModel(settings, image, heads, vocab_size=40, max_length=16)
    seen = made.see(image_batch(torch.zeros(2, 3, 48, 48, dtype=torch.uint8), [True, False]))
    assert seen["image"].tokens.shape == (2, wanted, 16)
    assert seen["image"].mask.tolist() == [[True] * wanted, [False] * wanted]
    condition = made.condition(seen, {"owner": torch.tensor([0, 1])})
    given = condition.prefix or condition.memory
    assert given is None if fusion == "joint" else given is not None and given.tokens.shape[1] == wanted
    assert made.output("patch_classify", seen, {}).shape == (2, wanted, 3)


@pytest.mark.parametrize(
    ("tokens", "fusion", "expected"),
    [
        (None, {}, (36, None, None, 1)),
        (16, {}, (36, 4, None, 1)),
        (None, {"layout": "inline"}, (36, None, "shuffle", 2)),
        (None, {"layout": "inline", "shuffle": 3}, (36, None, "shuffle", 3)),
        (None, {"layout": "inline", "shuffle": 5}, (36, None, "linear", 1)),
        (4, {"layout": "inline"}, (36, None, "shuffle", 3)),
        (36, {"layout": "inline"}, (36, None, "linear", 1)),
        (16, {"layout": "inline"}, (36, 4, "linear", 1)),
        (16, {"layout": "inline", "projector": "mlp"}, (36, 4, "mlp", 1)),
        (9, {"layout": "inline", "projector": "linear"}, (36, 3, "linear", 1)),
    ],
)
def test_the_plan(tokens: int | None, fusion: dict[str, Any], expected: tuple[Any, ...]) -> None:
    plan = plan_of(*model(tokens, **fusion))
    assert (plan.given, plan.side, plan.projector, plan.factor) == expected


@pytest.mark.parametrize(
    ("tokens", "fusion", "told"),
    [
        (15, {}, "a square number"),
        (64, {}, "at most the 36 tokens that the tower gives"),
        (None, {"layout": "inline", "projector": "shuffle", "shuffle": 4}, "a divisor of the tower's grid"),
        (16, {"layout": "inline", "projector": "shuffle"}, "a square that a shuffle makes of 6 x 6 tokens"),
    ],
)
def test_what_cannot_be_made_is_refused(tokens: int | None, fusion: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        plan_of(*model(tokens, **fusion))


def test_a_tower_without_a_grid_is_not_averaged() -> None:
    with pytest.raises(RecipeError, match="a square grid"):
        plan_for(Fusion(), 4, 35)


def test_marks_become_image_tokens_in_order_and_no_more_than_there_are() -> None:
    embedded, tokens = torch.zeros(3, 6, 2), torch.tensor([[[1.0, 1], [2, 2]]]).expand(3, 2, 2)
    marks = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0]]).bool()
    there = torch.tensor([[True, True], [True, True], [False, False]])
    inside = Features(tokens, there, tokens.mean(1))
    out = placed_inside(embedded, marks, inside)[..., 0]
    assert out.tolist() == [[0, 1, 2, 0, 0, 0], [0, 0, 0, 1, 0, 2], [0, 0, 0, 0, 0, 0]]
    later = placed_inside(embedded, marks, inside, before=torch.tensor([1, 2, 0]))[..., 0]
    assert later.tolist() == [[0, 2, 0, 0, 0, 0], [0] * 6, [0] * 6]


def test_an_inline_model_has_no_layers_that_it_does_not_use() -> None:
    settings, image = model(layout="inline")
    made = VisionLanguageModel(
        settings, image, {"caption": HeadSpec("write")}, vocab_size=40, max_length=16, image_id=39
    )
    parts = {name.split(".")[0] for name, _ in made.named_parameters()}
    assert parts == {"image", "decoder", "inline"}
    assert isinstance(made.inline, nn.Module)
    assert made.decoder is not None
    assert made.decoder.max_length == 2 * 16 + 1 + 9 + 4  # an image has room beside the text
