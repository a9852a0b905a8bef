"""PEFT adapters opened as a whole checkpoint: of tied bases, of models that see, with new tokens or their own head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from batches import image_batch
from rebus.checkpoints.hf_load import is_image_checkpoint, open_checkpoint, read_checkpoint
from rebus.errors import WeightsError
from rebus.inference.predictor import Predictor
from tiny_checkpoints import V, loud, write_bert, write_checkpoint
from tiny_duals import clip_folder
from tiny_seeing import SIDE, write_seeing

peft = pytest.importorskip("peft")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def write_adapter(folder: Path, base: Path, model: nn.Module, **settings: Any) -> nn.Module:
    """A random adapter of a model as PEFT saves it; gives PEFT's model."""
    wrapped: nn.Module = peft.get_peft_model(model, peft.LoraConfig(r=2, **settings)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)  # type: ignore[union-attr, index]
    wrapped.save_pretrained(folder)  # type: ignore[operator]
    return wrapped


def logits(folder: Path, ids: Tensor) -> Tensor:
    """Of a decoder, opened here."""
    decoder = open_checkpoint(folder)[0].decoder
    assert decoder is not None
    return decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(ids.shape[1])[None]))


TIED = [
    ("llama tied", {"target_modules": ["embed_tokens", "q_proj"]}),
    ("llama tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    ("qwen3 tied", {"target_modules": ["lm_head"]}),
    ("qwen2 tied", {"target_modules": ["q_proj"], "trainable_token_indices": [4, 5]}),
    ("gpt2", {"target_modules": ["wte", "c_attn"]}),
    ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
]


@pytest.mark.parametrize(("name", "settings"), TIED)
@torch.no_grad()
def test_embeddings_and_output_weights_are_parted_as_the_adapter_parts_them(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    model = write_checkpoint(tmp_path / "base", name)
    ids = torch.tensor([[5, 4, 9, 30, 2]])
    plain = model(ids).logits
    theirs = write_adapter(tmp_path / "adapter", tmp_path / "base", model, **settings)(ids).logits
    torch.testing.assert_close(logits(tmp_path / "adapter", ids), theirs, **CLOSE)
    assert float((theirs - plain).abs().max()) > 0.01


@torch.no_grad()
def test_an_adapter_may_bring_rows_for_new_tokens(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama")
    model.resize_token_embeddings(V + 3)  # type: ignore[operator]
    saved = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}
    ids = torch.tensor([[5, V + 2, 9, V, 2]])
    theirs = write_adapter(tmp_path / "adapter", tmp_path / "base", model, **saved)(ids).logits
    torch.testing.assert_close(logits(tmp_path / "adapter", ids), theirs, **CLOSE)


@pytest.mark.parametrize("kind", ["llava clip", "llava siglip", "idefics3"])
@torch.no_grad()
def test_an_adapter_of_a_model_that_sees_and_writes(tmp_path: Path, kind: str) -> None:
    model = write_seeing(tmp_path / "base", kind)
    write_adapter(tmp_path / "adapter", tmp_path / "base", model, target_modules=["q_proj", "down_proj", "fc1"])
    ours = Predictor.open(tmp_path / "adapter")
    rng = np.random.default_rng(0)
    seen = torch.from_numpy(rng.integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8))
    values = {"messages": [[{"role": "user", "content": "What is this?"}]], "image": ["x"]}
    ids = torch.tensor([ours.tasks["converse"].ask(values, 0, ours.processor)])  # type: ignore[attr-defined]
    condition = ours.model.condition(ours.model.see(image_batch(seen)), {"owner": torch.tensor([0])})
    assert ours.model.decoder is not None
    hidden = ours.model.decoder.forward_embeds(ours.model.embed(condition, ids), torch.arange(ids.shape[1])[None])
    pixels = ours.model.image.normalise(seen)
    theirs = model(input_ids=ids, pixel_values=pixels if "llava" in kind else pixels[:, None]).logits
    torch.testing.assert_close(ours.model.decoder.logits(hidden), theirs, **CLOSE)


@torch.no_grad()
def test_an_adapter_of_clip(tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer

    model = clip_folder(tmp_path / "base")
    targets = ["q_proj", "fc2", "visual_projection", "patch_embedding"]
    theirs = write_adapter(tmp_path / "adapter", tmp_path / "base", model, target_modules=targets)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    read = AutoTokenizer.from_pretrained(tmp_path / "base")(["a red car", "cats"], padding=True, return_tensors="pt")
    seen = AutoImageProcessor.from_pretrained(tmp_path / "base")(images, return_tensors="pt")
    expected = theirs(**read, **seen)
    ours = Predictor.open(tmp_path / "adapter")
    assert list(ours.tasks) == ["retrieve"]
    texts = torch.from_numpy(ours.embed(["a red car", "cats"]))
    torch.testing.assert_close(texts, expected.text_embeds, **CLOSE)
    found = torch.from_numpy(ours.embed_images([tmp_path / f"{number}.png" for number in range(3)]))
    torch.testing.assert_close(found, expected.image_embeds, **CLOSE)
    assert is_image_checkpoint(tmp_path / "adapter")
    tower = read_checkpoint(tmp_path / "adapter", image_only=True)
    assert tower.image == read_checkpoint(tmp_path / "base", image_only=True).image
    torch.testing.assert_close(tower.state()["image.patches.weight"], ours.model.image.state_dict()["patches.weight"])  # type: ignore[union-attr]


@torch.no_grad()
def test_an_adapter_of_a_image_tower(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTModel

    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=3)
    base = loud(ViTModel(config).eval())
    base.save_pretrained(tmp_path / "base")  # type: ignore[operator]
    model = ViTForImageClassification.from_pretrained(tmp_path / "base")
    targets = ["query", "value"] if any("query" in name for name, _ in model.named_modules()) else ["q_proj", "v_proj"]
    write_adapter(
        tmp_path / "adapter", tmp_path / "base", model, target_modules=targets, modules_to_save=["classifier"]
    )
    state = read_checkpoint(tmp_path / "adapter", image_only=True).state()
    merged = model.vit.state_dict()
    place = next(name for name in merged if "layer.1" in name or "layers.1" in name if "lora_A" in name)
    stem = place.partition(".lora_A")[0]
    a, b = merged[f"{stem}.lora_A.default.weight"], merged[f"{stem}.lora_B.default.weight"]
    expected = merged[f"{stem}.base_layer.weight"] + 4 * b @ a
    torch.testing.assert_close(state["image.layers.1.attention.q_proj.weight"], expected, **CLOSE)


def test_a_layer_that_the_base_has_not_is_named(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama biases")
    write_adapter(tmp_path / "adapter", tmp_path / "base", model, target_modules=["q_proj"], bias="all")
    write_checkpoint(tmp_path / "base", "llama")  # the same without biases
    with pytest.raises(WeightsError, match=r"tensors that its base, .*bias'.*with the same head"):
        open_checkpoint(tmp_path / "adapter")[0]


def test_an_adapter_of_an_encoder_may_bring_the_head_that_its_base_lacks(tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification

    write_bert(tmp_path / "base")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "base")
    write_adapter(tmp_path / "adapter", tmp_path / "base", model, target_modules=["query"], task_type="SEQ_CLS")
    assert open_checkpoint(tmp_path / "adapter")[2]


@pytest.mark.parametrize("ring", [("a",), ("a", "b"), ("a", "b", "c")])
def test_adapters_that_are_their_own_base_are_told(tmp_path: Path, ring: tuple[str, ...]) -> None:
    base = write_checkpoint(tmp_path / "base", "llama")
    write_adapter(tmp_path / "a", tmp_path / "base", base, target_modules=["q_proj"])
    for name in ring[1:]:
        shutil.copytree(tmp_path / "a", tmp_path / name)
    for name, below in zip(ring, (*ring[1:], "a"), strict=True):
        file = tmp_path / name / "adapter_config.json"
        told = json.loads(file.read_text(encoding="utf-8")) | {"base_model_name_or_path": f"../{below}"}
        file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(WeightsError, match="among its bases"):
        open_checkpoint(tmp_path / "a")
