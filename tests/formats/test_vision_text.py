"""Idefics3, SmolVLM and Llava: transformers' logits, with and without a cache, and both ways of names and sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from batches import image_batch, image_inputs
from rebus.checkpoints.hf_load import open_checkpoint, read_checkpoint
from rebus.checkpoints.hf_save import saved_model
from rebus.errors import WeightsError
from rebus.formats.config import Fields
from rebus.formats.family import family, family_of
from rebus.formats.idefics3 import seen_positions
from rebus.formats.llava import Llava
from rebus.formats.weights import load_weights, save_weights
from rebus.generation.sampling import Sampling
from rebus.inference.predictor import Predictor
from rebus.models.batch import Batch
from tiny_seeing import SIDE, write_seeing

CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 0}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "idefics3": ("idefics3", {}),
    "idefics3 tied": ("idefics3", {"tie_word_embeddings": True, "text_config": {"num_key_value_heads": 1}}),
    "idefics3 without a shuffle": ("idefics3", {"scale_factor": 1}),
    "idefics3 qwen3": ("idefics3", {"text_config": {"model_type": "qwen3", "head_dim": 8}}),
    "smolvlm": ("smolvlm", {"scale_factor": 3}),
    "llava clip": ("llava clip", {}),
    "llava clip last layer": ("llava clip", {"vision_feature_layer": -1}),
    "llava clip first layer": ("llava clip", {"vision_feature_layer": 1}),
    "llava siglip": ("llava siglip", {"text_config": {"model_type": "qwen2"}}),
    "llava siglip tied": ("llava siglip", {"tie_word_embeddings": True}),
}


def images(count: int = 2) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8)


def asked(predictor: Predictor, question: str) -> list[int]:
    task = predictor.tasks["converse"]
    values = {"messages": [[{"role": "user", "content": question}]], "image": ["x"]}
    return task.ask(values, 0, predictor.processor)  # type: ignore[attr-defined, no-any-return]


def given(predictor: Predictor, seen: np.ndarray[Any, Any], family: str) -> tuple[Tensor, Tensor]:
    """Pixels as we see them (B, 3, S, S), and as the other model takes them."""
    pixels = predictor.model.image.normalise(torch.from_numpy(seen).permute(0, 3, 1, 2))
    return pixels, pixels if family.startswith("llava") else pixels[:, None]


@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_logits_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    kind, more = KINDS[name]
    theirs = write_seeing(tmp_path, kind, **more)
    ours = Predictor.open(tmp_path)
    ids = [asked(ours, "What is left of the red car?"), asked(ours, "图片里有什么")]
    longest = max(map(len, ids))
    seen = images()
    pixels, taken = given(ours, seen, kind)
    condition = ours.model.condition(ours.model.see(_batch(seen)), {"owner": torch.tensor([0, 1])})
    assert ours.model.decoder is not None
    padded = torch.tensor([[0] * (longest - len(one)) + one for one in ids])  # on the left, there
    real = torch.tensor([[False] * (longest - len(one)) + [True] * len(one) for one in ids])
    expected = theirs(input_ids=padded, attention_mask=real.long(), pixel_values=taken).logits
    right = torch.tensor([one + [0] * (longest - len(one)) for one in ids])  # on the right, here
    hidden = ours.model.decoder.forward_embeds(ours.model.embed(condition, right), torch.arange(longest)[None])
    for row, one in enumerate(ids):
        found = ours.model.decoder.logits(hidden[row, : len(one)])
        torch.testing.assert_close(found, expected[row, longest - len(one) :], **CLOSE)
    blind = theirs(input_ids=padded, attention_mask=real.long(), pixel_values=taken.flip(0)).logits
    assert not torch.allclose(blind[:, -1], expected[:, -1], atol=1e-3)  # the images matter
    assert pixels.shape == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize("kind", ["idefics3", "llava clip"])
@pytest.mark.parametrize("sampling", [Sampling(12), Sampling(8, beams=3)], ids=["greedy", "beams"])
def test_texts_are_those_of_transformers(tmp_path: Path, kind: str, sampling: Sampling) -> None:
    """Prompts of unequal length read at once, then a token at a time from the cache."""
    theirs = write_seeing(tmp_path, kind)
    ours = Predictor.open(tmp_path)
    questions = ["What is left of the red car?", "猫？", "There are 12 cats and 7 dogs; what is it?"]
    seen = images(3)
    rows = {"messages": [[{"role": "user", "content": one}] for one in questions], "image": [*"abc"]}
    told = ours.run_task(
        ours.tasks["converse"], rows, [0, 1, 2], image_inputs(lambda row: seen[row]), sampling=sampling
    )
    _, taken = given(ours, seen, kind)
    for row, question in enumerate(questions):
        ids = torch.tensor([asked(ours, question)])
        said = theirs.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=taken[row : row + 1],
            max_new_tokens=sampling.max_new_tokens,
            num_beams=sampling.beams,
            do_sample=False,
            eos_token_id=list(ours.processor.tokenizer.eos_ids),
        )[0, ids.shape[1] :]
        assert told[row].value == ours.processor.tokenizer.decode(said.tolist()).strip()


def test_a_settled_model_writes_what_its_plain_modules_write(tmp_path: Path) -> None:
    write_seeing(tmp_path, "idefics3")
    fast = Predictor.open(tmp_path)
    slow = Predictor(fast.model, fast.recipe, fast.tasks, fast.processor)
    seen = images(2)
    rows = {"messages": [[{"role": "user", "content": one}] for one in ("cats?", "dogs and cars")], "image": [*"ab"]}
    shown = image_inputs(lambda row: seen[row])
    for count in (3, 20):
        both = [
            one.run_task(one.tasks["converse"], rows, [0, 1], shown, sampling=Sampling(count)) for one in (fast, slow)
        ]
        assert [one.value for one in both[0]] == [one.value for one in both[1]]


@pytest.mark.parametrize("name", ["idefics3 tied", "smolvlm", "llava clip", "llava siglip tied"])
@torch.no_grad()
def test_names_and_sizes_go_both_ways(tmp_path: Path, name: str) -> None:
    kind, more = KINDS[name]
    write_seeing(tmp_path / "a", kind, **more)
    model, settings, tasks, processor = open_checkpoint(tmp_path / "a")
    found = saved_model(model, settings, tasks, processor)
    assert found is not None
    written, rest = found.to_hf(model.state_dict())
    assert not rest
    config = found.config(processor.tokenizer)
    found.write_beside(tmp_path / "b", settings, processor.tokenizer)
    save_weights(tmp_path / "b", written)
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    processor.tokenizer.save(tmp_path / "b")
    again, others, _, _ = open_checkpoint(tmp_path / "b")
    state = again.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    if name == "idefics3 tied":  # written a second time, for readers that cannot tie
        assert torch.equal(state.pop("decoder.lm_head.weight"), state["decoder.embed_tokens.weight"])
    assert state.keys() == model.state_dict().keys()
    assert others.image == settings.image
    assert others.model.image == settings.model.image
    from transformers import AutoModelForImageTextToText

    theirs, told = AutoModelForImageTextToText.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    ids = torch.tensor([[*processor.image, 20, 21]])
    pixels = model.image.normalise(torch.from_numpy(images(1)).permute(0, 3, 1, 2))
    taken = pixels if kind.startswith("llava") else pixels[:, None]
    condition = model.condition(model.see(_batch(images(1))), {"owner": torch.tensor([0])})
    assert model.decoder is not None
    hidden = model.decoder.forward_embeds(model.embed(condition, ids), torch.arange(ids.shape[1])[None])
    expected = theirs.eval()(input_ids=ids, pixel_values=taken).logits
    torch.testing.assert_close(model.decoder.logits(hidden), expected, **CLOSE)


def test_positions_of_patches_are_bucketised_as_there() -> None:
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings

    uneven = []
    for grid in (*range(1, 33), 40, 64):
        config = Idefics3VisionConfig(hidden_size=1, image_size=grid, patch_size=1)
        embed = Idefics3VisionEmbeddings(config)
        with torch.no_grad():
            embed.patch_embedding.weight.zero_()
            embed.patch_embedding.bias.zero_()
            embed.position_embedding.weight.copy_(torch.arange(float(grid**2))[:, None])
            mask = torch.ones(1, grid, grid, dtype=torch.bool)
            found = embed(torch.zeros(1, 3, grid, grid), mask)[0, :, 0].long()
        assert torch.equal(found, seen_positions(grid)), grid
        if not torch.equal(found, torch.arange(grid**2)):
            uneven.append(grid)
    assert uneven == [19, 25, 29, 31, 40]  # plain order for all others, 26, 27 and 32 of the known models among them


@torch.no_grad()
def test_a_grid_whose_positions_have_gaps_is_read_as_there_but_not_written(tmp_path: Path) -> None:
    size = 19 * 2
    theirs = write_seeing(tmp_path, "idefics3", scale_factor=1, vision_config={"image_size": size, "patch_size": 2})
    told = json.loads((tmp_path / "preprocessor_config.json").read_text())
    told["max_image_size"] = {"longest_edge": size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    model, settings, tasks, processor = open_checkpoint(tmp_path)
    seen = np.random.default_rng(0).integers(0, 255, (1, size, size, 3), dtype=np.uint8)
    pixels = model.image.normalise(torch.from_numpy(seen).permute(0, 3, 1, 2))
    condition = model.condition(model.see(_batch(seen)), {"owner": torch.tensor([0])})
    ids = torch.tensor([list(processor.image)])
    assert model.decoder is not None
    hidden = model.decoder.forward_embeds(model.embed(condition, ids), torch.arange(ids.shape[1])[None])
    expected = theirs(input_ids=ids, pixel_values=pixels[:, None]).logits
    torch.testing.assert_close(model.decoder.logits(hidden), expected, **CLOSE)
    assert saved_model(model, settings, tasks, processor) is None


def _change(folder: Path, file: str = "config.json", **values: Any) -> None:
    told = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("idefics3", {"scale_factor": 4}, "the patches of a side by scale_factor"),
        ("idefics3", {"text_config": {"model_type": "gpt2"}}, "a text_config of llama, mistral, qwen2, qwen3"),
        ("llava clip", {"vision_feature_select_strategy": "full"}, "'default' for a CLIP tower"),
        ("llava siglip", {"vision_feature_select_strategy": "default"}, "'full' for SigLIP"),
        ("llava clip", {"vision_feature_layer": [1, 2]}, "one layer's number"),
        ("llava clip", {"vision_feature_layer": -9}, "a layer of 3"),
        ("llava clip", {"projector_hidden_act": "relu"}, "'gelu'"),
        ("llava clip", {"multimodal_projector_bias": False}, "True"),
        ("llava clip", {"vision_config": {"model_type": "pixtral"}}, "clip_vision_model"),
        ("idefics3", {"image_token_id": 5}, "as config.json says"),
    ],
)
def test_what_is_not_done_here_is_refused(tmp_path: Path, kind: str, change: dict[str, Any], told: str) -> None:
    write_seeing(tmp_path, kind)
    _change(tmp_path, **change)
    with pytest.raises(WeightsError, match=told):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_image_size": {"longest_edge": 96}}, "squares of 48 pixels"),
        ({"resample": 9}, "Pillow's filters"),
    ],
)
def test_a_processor_for_other_images_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    write_seeing(tmp_path, "idefics3")
    _change(tmp_path, "preprocessor_config.json", **change)
    with pytest.raises(WeightsError, match=told):
        open_checkpoint(tmp_path)


def test_a_strange_tensor_and_a_missing_one_are_named(tmp_path: Path) -> None:
    write_seeing(tmp_path, "llava clip")
    state = load_weights(tmp_path)
    save_weights(tmp_path, {**state, "image_newline": torch.zeros(3)})
    with pytest.raises(WeightsError, match="image_newline"):
        open_checkpoint(tmp_path)
    gone = next(name for name in state if "linear_1.weight" in name)
    save_weights(tmp_path, {name: tensor for name, tensor in state.items() if name != gone})
    with pytest.raises(WeightsError, match=r"inline\.linear_1\.weight"):
        open_checkpoint(tmp_path)


def test_splitting_is_left_off_and_said(tmp_path: Path) -> None:
    write_seeing(tmp_path, "smolvlm", splitting=True)
    said: list[str] = []
    read_checkpoint(tmp_path, said.append)
    assert len(said) == 1
    assert "48 x 48 pixels" in said[0]


@pytest.mark.parametrize("shape", [(48, 48), (60, 100), (97, 31), (5, 200)])
@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "llava clip"])
def test_pixels_are_those_of_their_processors(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor

    write_seeing(tmp_path, kind)
    if kind != "llava clip":
        _change(tmp_path, "preprocessor_config.json", size={"longest_edge": 120})  # scaled twice, as SmolVLM does
    ours, image = Predictor.open(tmp_path), np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert type(theirs).__name__.endswith("Pil")
    expected = theirs(Image.fromarray(image), return_tensors="pt")["pixel_values"].reshape(1, 3, SIDE, SIDE)
    square = torch.from_numpy(ours.open_image(image, Path(), "")).permute(2, 0, 1)[None]
    torch.testing.assert_close(ours.model.image.normalise(square), expected, atol=1e-5, rtol=0)


def test_a_configuration_without_its_usual_values_has_those_of_the_family() -> None:
    text = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 9}
    vision = {"patch_size": 14, "image_size": 364}
    config = {"model_type": "idefics3", "text_config": text, "vision_config": vision}
    found = family("idefics3").settings(config)
    assert found.image is not None
    assert found.fusion is not None
    assert (found.image.width, found.image.depth, found.image.heads, found.image.patch) == (1152, 12, 16, 14)
    assert (found.fusion.shuffle, found.image_id) == (2, 128257)


def _batch(seen: np.ndarray[Any, Any]) -> Batch:
    return image_batch(torch.from_numpy(seen).permute(0, 3, 1, 2))


def test_llavas_own_configuration_leaves_out_what_llamas_class_has() -> None:
    config = {
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "image_token_index": 32000,
        "projector_hidden_act": "gelu",
        "text_config": {
            "model_type": "llama",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-05,
            "vocab_size": 32064,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **{"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "patch_size": 14},
            **{"num_attention_heads": 16, "num_hidden_layers": 24, "projection_dim": 768, "vocab_size": 32000},
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    found = family("llava").settings(config)
    text = transformers.LlavaConfig(**config).text_config
    assert (found.text.width, found.text.depth, found.text.heads) == (4096, 32, 32)
    assert (found.text.hidden, found.rows, found.text.context) == (11008, 32064, 4096)
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (4096, 32, 32)
    assert (text.intermediate_size, text.num_key_value_heads) == (found.text.hidden, found.text.kv_heads)
    assert (found.image.width, found.image.depth, found.size) == (1024, 23, 336)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_a_text_configuration_leaves_out_is_as_in_transformers(name: str) -> None:
    given = {"model_type": name} | ({"sliding_window": None} if name == "mistral" else {})
    found = Llava().text_settings(Fields({"text_config": given}, "llava"), "config.json", tied=False)
    text, rows = found.text, found.rows
    assert text is not None
    theirs = transformers.AutoConfig.for_model(**given)
    assert family_of(given).name == name
    assert (text.width, text.depth, text.heads, rows) == (
        *(theirs.hidden_size, theirs.num_hidden_layers, theirs.num_attention_heads, theirs.vocab_size),
    )
    assert (text.hidden, text.kv_heads, text.context) == (
        *(theirs.intermediate_size, theirs.num_key_value_heads, theirs.max_position_embeddings),
    )
    assert text.eps == theirs.rms_norm_eps
    assert (text.head_dim or text.width // text.heads) == (getattr(theirs, "head_dim", None) or 128)
