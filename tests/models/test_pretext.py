"""Heads that teach an image tower without labels: what they hide is hidden, what they compare is as published."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from batches import image_batch, pixels_of
from rebus.errors import RecipeError
from rebus.models.batch import Batch, Inputs
from rebus.models.heads import HeadContext, HeadSpec
from rebus.models.heads.pretext import ContrastHead, HiddenPatches, noise
from rebus.models.towers import TOWERS
from rebus.recipe import Tower

SIZE, PATCH = 32, 8


def tower(kind: str) -> Any:
    torch.manual_seed(0)
    made = TOWERS.get(kind)(Tower(kind=kind, width=24, depth=2, heads=2, patch=PATCH), size=SIZE)
    for parameter in made.parameters():  # projections that start at zero would let nothing through
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def parts(eyes: Any) -> Any:
    """What heads are built on, with one image tower."""
    return SimpleNamespace(towers={"image": eyes}, widths={"image": eyes.width}, tower={"image": eyes}.get)


def hider(eyes: Any, hide: float = 0) -> HiddenPatches:
    return HiddenPatches(HeadSpec("masked", options={"hide": hide}), parts(eyes))


def run(head: Any, eyes: Any, images: Batch, part: dict[str, torch.Tensor]) -> torch.Tensor:
    return head(HeadContext(parts(eyes), images, part, {}))


def batch(count: int = 3) -> tuple[Batch, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(count, 3, SIZE, SIZE, generator=generator)
    return image_batch(pixels), {"owner": torch.arange(count), "rng": torch.arange(count) * 1_000_003}


@pytest.mark.parametrize("kind", ["vit", "convnet"])
def test_what_is_hidden_cannot_be_seen(kind: str) -> None:
    """Guesses do not change with hidden pixels, and do with visible ones."""
    eyes = tower(kind)
    head = hider(eyes, 0.5)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    images, part = batch()
    order = noise(part["rng"], head.count).argsort(1)
    keep, hidden = order[:, : head.visible], order[:, head.visible :]

    def guesses(pixels: torch.Tensor) -> torch.Tensor:
        return head._fill(eyes, pixels, keep) if head.drops else head._look(eyes, pixels, hidden)

    def changed(places: torch.Tensor) -> torch.Tensor:
        pixels = pixels_of(images).clone()
        for row, some in enumerate(places.tolist()):
            for place in some:
                top, left = place // head.grid * PATCH, place % head.grid * PATCH
                pixels[row, :, top : top + PATCH, left : left + PATCH] += 3.0
        return pixels

    with torch.no_grad():
        first = guesses(pixels_of(images))
        assert torch.allclose(guesses(changed(hidden)), first, atol=1e-5)
        assert not torch.allclose(guesses(changed(keep)), first, atol=1e-2)
    assert head.drops == (kind == "vit")
    assert hidden.shape[1] == head.count // 2


def test_targets_are_each_patch_at_mean_zero_and_variance_one() -> None:
    head = hider(tower("vit"))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    pixels[1] = 0.3  # flat: nothing to guess
    found = head.targets(pixels)
    assert found.shape == (2, 16, 3 * PATCH * PATCH)
    fifth = pixels[0, :, 8:16, 8:16].flatten()  # the second row's second patch
    assert torch.allclose(found[0, 5], (fifth - fifth.mean()) / (fifth.var(correction=0) + 1e-6).sqrt(), atol=1e-5)
    assert float(found[1].abs().max()) < 1e-3
    assert head.visible == 4  # a quarter of sixteen


def test_a_perfect_guess_costs_nothing_and_none_costs_the_power() -> None:
    eyes, (images, part) = tower("convnet"), batch()
    images = image_batch(pixels_of(images) * 60 + 128)  # 0 to 255
    head = hider(eyes)
    for parameter in head.leave.parameters():
        torch.nn.init.zeros_(parameter)
    told = run(head, eyes, images, part)
    assert told.shape == (3, 2)
    assert torch.allclose(told[:, 0], told[:, 1])  # guessing nothing costs what there is to guess
    assert torch.allclose(told[:, 1], torch.ones(3), atol=1e-3)
    head._look = lambda *_: head.targets(eyes.normalise(pixels_of(images)))  # type: ignore[method-assign]
    assert float(run(head, eyes, images, part)[:, 0].max()) == 0


def test_noise_is_a_pure_function_of_the_dice() -> None:
    rng = torch.tensor([3, -5, 2**62])
    together = noise(rng, 50)
    assert torch.equal(together[1:2], noise(rng[1:2], 50))
    assert torch.equal(together[:, :20], noise(rng, 20))
    assert len(set(together.flatten().tolist())) == 150
    # SplitMix64 of seed 3: the reference implementation's first number
    assert int(noise(torch.tensor([3]), 1)) % 2**64 == splitmix(3)


def splitmix(seed: int) -> int:
    x = (seed + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_two_views_become_vectors_of_length_one() -> None:
    eyes, (images, part) = tower("vit"), batch()
    head = ContrastHead(HeadSpec("simclr"), parts(eyes))
    both = replace(images, views={"image": Inputs.one_each(pixels=pixels_of(images).flip(3))})
    told = run(head, eyes, both, part)
    assert told.shape == (2, 3, 128)
    assert torch.allclose(told.norm(dim=-1), torch.ones(2, 3), atol=1e-5)
    alone = run(head, eyes, both, {"owner": torch.tensor([1])})
    assert torch.allclose(alone[:, 0], told[:, 1], atol=1e-5)  # a vector depends on its own image only


def test_tokens_that_do_not_divide_the_image_are_refused() -> None:
    eyes = tower("vit")
    eyes.size = 33
    with pytest.raises(RecipeError, match="equal squares"):
        hider(eyes)
    one = TOWERS.get("vit")(Tower(kind="vit", width=24, depth=1, heads=2, patch=32), size=32)
    with pytest.raises(RecipeError, match="at least two patches"):
        hider(one)


def test_a_vit_given_all_patches_in_any_order_pools_the_same() -> None:
    eyes, (images, _) = tower("vit"), batch()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    with torch.no_grad():
        whole, mixed = eyes(pixels_of(images)), eyes(pixels_of(images), order)
    assert torch.allclose(whole.tokens[:, order[0]], mixed.tokens, atol=1e-5)
    assert torch.allclose(whole.pooled, mixed.pooled, atol=1e-5)
