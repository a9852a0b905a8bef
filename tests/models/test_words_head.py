"""A head that gives numbers for each text token: with every fusion, every text tower, with and without an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from batches import image_batch, pixels_of
from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.batch import Batch
from rebus.models.fusion import FUSIONS
from rebus.models.heads import HeadSpec
from rebus.models.towers import tower_kinds
from rebus.models.vlm import VisionLanguageModel

TEXT_TOWERS = tower_kinds("text")
R, L, C, D = 3, 8, 5, 24
KINDS = [("joint", how) for how in ("concat", "mean", "weighted", "sum")] + [("unified", "concat"), ("cross", "concat")]


def model(text: str, fusion: str, how: str = "concat", *, sees: bool = True, heads: Any = None) -> VisionLanguageModel:
    torch.manual_seed(0)
    settings = recipe.Model(
        image=recipe.Tower(kind="vit" if sees else "none", width=16, depth=1, heads=2, patch=16),
        text=recipe.Tower(kind=text, width=D, depth=1, heads=2),
        fusion=recipe.Fusion(kind=fusion, how=how, depth=1),  # type: ignore[arg-type]
    )
    reads = ("image", "text") if sees else ("text",)
    made = VisionLanguageModel(
        settings, recipe.Image(size=32), heads or {"t": HeadSpec("words", C, reads)}, vocab_size=40, max_length=L
    )
    return made.eval()


def batch(*, sees: bool = True) -> Batch:
    torch.manual_seed(1)
    mask = torch.ones(R, L, dtype=torch.bool)
    mask[1, 5:] = False
    part = {"owner": torch.tensor([0, 1, 1]), "text_ids": torch.randint(0, 40, (R, L)), "text_mask": mask}
    if not sees:
        return Batch(2, targets={"t": part})
    return image_batch(torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8), t=part)


def changed(given: Batch, **part: Any) -> Batch:
    return given.with_target("t", {**given.targets["t"], **part})


@pytest.mark.parametrize("sees", [True, False], ids=["image", "alone"])
@pytest.mark.parametrize("text", TEXT_TOWERS)
@pytest.mark.parametrize(("fusion", "how"), KINDS)
def test_every_token_gets_its_numbers_and_padding_says_nothing(fusion: str, how: str, text: str, sees: bool) -> None:
    made, given = model(text, fusion, how, sees=sees), batch(sees=sees)
    out = made(given)["t"]
    assert out.shape == (R, L, C)
    mask = given.targets["t"]["text_mask"]
    ids = torch.where(mask, given.targets["t"]["text_ids"], 7)
    garbage = made(changed(given, text_ids=ids))["t"]
    assert torch.allclose(out[mask], garbage[mask], atol=1e-5)
    ids = given.targets["t"]["text_ids"].clone()
    ids[0, 2] = (ids[0, 2] + 1) % 40
    other = made(changed(given, text_ids=ids))["t"]
    assert not torch.allclose(out[0, 2], other[0, 2], atol=1e-4)  # token 2 of the output is token 2 of the text
    assert torch.allclose(out[1:], other[1:], atol=1e-5)


@pytest.mark.parametrize(("fusion", "how"), KINDS)
def test_a_token_knows_of_its_own_image_and_of_no_other(fusion: str, how: str) -> None:
    made, given = model("encoder", fusion, how), batch()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(1.0)  # cross-attention starts closed
    out = made(given)["t"]
    image = pixels_of(given).clone()
    image[0] = 255 - image[0]
    other = made(image_batch(image, t=given.targets["t"]))["t"]
    assert not torch.allclose(out[0], other[0], atol=1e-4)
    assert torch.allclose(out[1:], other[1:], atol=1e-5)


@pytest.mark.parametrize("text", TEXT_TOWERS)
def test_one_modality_needs_no_fusion(text: str) -> None:
    made, given = model(text, "none", sees=False), batch(sees=False)
    assert made.fusion is None
    assert made(given)["t"].shape == (R, L, C)
    tower = made.text if made.text is not None else made.decoder
    part = given.targets["t"]
    expected = made.heads["t"].outputs(tower(part["text_ids"], part["text_mask"]).tokens)
    assert torch.allclose(made(given)["t"], expected)


def test_two_modalities_need_one() -> None:
    with pytest.raises(RecipeError, match="image and text to join"):
        model("encoder", "none")
    heads = {"w": HeadSpec("write", reads=("image",))}
    with pytest.raises(RecipeError, match="image and what is written"):
        model("decoder", "none", heads=heads)


def test_a_head_without_outputs_gives_the_vector_itself() -> None:
    made, given = model("encoder", "none", sees=False, heads={"t": HeadSpec("vector", 0, ("text",))}), batch(sees=False)
    part = given.targets["t"]
    assert torch.equal(made(given)["t"], made.text(part["text_ids"], part["text_mask"]).pooled)


def test_segments_reach_a_tower_that_has_vectors_for_them() -> None:
    made, given = model("encoder", "unified"), batch()
    segments = torch.zeros(R, L, dtype=torch.long)
    plain = made(given)["t"]
    assert torch.allclose(made(changed(given, segment_ids=segments))["t"], plain)
    segments[:, 4:] = 1
    assert not torch.allclose(made(changed(given, segment_ids=segments))["t"], plain, atol=1e-4)
    assert model("recurrent", "unified")(changed(given, segment_ids=segments))["t"].shape == (R, L, C)


def test_every_fusion_is_walked() -> None:
    assert {fusion for fusion, _ in KINDS} == set(FUSIONS.names())
