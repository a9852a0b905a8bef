"""Writing about images: each fusion against reading everything again for each token, without a cache or a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from batches import image_batch
from rebus import recipe
from rebus.generation.sampling import Sampling
from rebus.generation.write import write
from rebus.models.fusion import Condition
from rebus.models.heads import HeadSpec
from rebus.models.layout import after_prefix
from rebus.models.vlm import VisionLanguageModel

VOCAB, EOS = 40, 1
PROMPTS = [[5, 9, 3], [6], [11, 30, 4, 22, 8]]


def model_of(fusion: str, text: str = "decoder") -> VisionLanguageModel:
    torch.manual_seed(0)
    settings = recipe.Model().replace(
        {
            "image": recipe.Tower(kind="convnet", width=16, depth=1, heads=4, patch=16),
            "text": recipe.Tower(kind=text, width=24, depth=2, heads=4),
            "fusion.kind": fusion,
        }
    )
    heads = {"answer": HeadSpec("write", reads=("image",))}
    made = VisionLanguageModel(settings, recipe.Image(size=32), heads, vocab_size=VOCAB, max_length=16)
    for name, parameter in made.named_parameters():
        if "gate" in name:
            nn.init.ones_(parameter)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return made.eval()


@torch.inference_mode()
def condition_of(model: VisionLanguageModel) -> Condition:
    """Two images, and a row without one; three texts."""
    torch.manual_seed(5)
    batch = image_batch(torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8), [True, True, False])
    part = {"owner": torch.arange(3)}
    if model.text is not None:
        part["text_ids"] = torch.randint(4, VOCAB, (3, 5))
        part["text_mask"] = torch.ones(3, 5, dtype=torch.bool)
    return model.condition(model.see(batch), part)


@torch.inference_mode()
def without_cache(model: VisionLanguageModel, condition: Condition, prompt: list[int], new: int) -> list[int]:
    assert model.decoder is not None
    ids = list(prompt)
    for _ in range(new):
        x = model.embed(condition, torch.tensor([ids]))
        length = len(ids)
        mask = torch.ones(1, length, length, dtype=torch.bool).tril()
        places = torch.arange(length)[None]
        if condition.prefix is not None:
            x, places, mask = after_prefix(condition.prefix, x, places, mask, torch.ones(1, length, dtype=torch.bool))
        hidden = model.decoder.forward_embeds(x, places, mask[:, None], condition.memory)
        ids.append(int(model.decoder.logits(hidden[0, -1]).argmax()))
        if ids[-1] == EOS:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


@pytest.mark.parametrize("text", ["decoder", "encoder"])
@pytest.mark.parametrize("fusion", ["joint", "unified", "cross"])
def test_texts_about_images_equal_those_without_cache_and_batch(fusion: str, text: str) -> None:
    model = model_of(fusion, text)
    condition = condition_of(model)
    told = write(model, condition, PROMPTS, Sampling(14), eos_id=EOS)
    alone = [
        without_cache(model, condition.select(torch.tensor([row])), prompt, 14) for row, prompt in enumerate(PROMPTS)
    ]
    assert [one.ids for one in told] == alone
    swapped = condition.select(torch.tensor([1, 0, 2]))
    other = [without_cache(model, swapped.select(torch.tensor([0])), PROMPTS[0], 14)]
    assert other[0] != alone[0]  # the image does matter


@pytest.mark.parametrize("fusion", ["joint", "unified", "cross"])
def test_samples_and_beams_go_with_their_own_image(fusion: str) -> None:
    model = model_of(fusion)
    condition = condition_of(model)
    for sampling in (Sampling(8, temperature=1.0, n=2), Sampling(8, beams=3, n=2)):
        together = write(model, condition, PROMPTS, sampling, eos_id=EOS)
        assert len(together) == 6
        if sampling.beams > 1:
            for row, prompt in enumerate(PROMPTS):
                alone = write(model, condition.select(torch.tensor([row])), [prompt], sampling, eos_id=EOS)
                assert [one.ids for one in alone] == [one.ids for one in together[2 * row : 2 * row + 2]]


def test_texts_that_end_take_their_image_along() -> None:
    model = model_of("unified")
    condition = condition_of(model)
    free = write(model, condition, PROMPTS, Sampling(10), eos_id=EOS)
    ends = free[0].ids[1]  # the first text, and with it the first image, leaves early
    told = write(model, condition, PROMPTS, Sampling(10), eos_id=[EOS, ends])
    for one, longer in zip(told, free, strict=True):
        stop = longer.ids.index(ends) if ends in longer.ids else None
        assert one.ids == longer.ids[:stop]


def test_a_model_without_a_decoder_is_a_mistake_of_the_caller() -> None:
    settings = recipe.Model().replace(
        {"image.kind": "none", "text": recipe.Tower(kind="recurrent", width=24, depth=1), "fusion.kind": "none"}
    )
    heads = {"classify": HeadSpec("vector", 3, reads=("text",))}
    model = VisionLanguageModel(settings, recipe.Image(size=32), heads, vocab_size=VOCAB, max_length=16)
    with pytest.raises(TypeError, match="no decoder"):
        write(model, Condition(), PROMPTS, Sampling(3), eos_id=EOS)
