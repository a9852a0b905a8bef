"""Runs of one image tower, written for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rebus import recipe
from rebus.checkpoints.export import export
from rebus.checkpoints.hf_load import read_checkpoint
from rebus.checkpoints.run_folder import Run
from rebus.checkpoints.save_load import build_model, load_model, processor_of, save_model
from rebus.errors import WeightsError
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS
from rebus.text.tokenizer import Tokenizer
from tiny_images import seen_by, varied

SIGLIP: dict[str, Any] = {"kind": "vit", "pool": "probe"}
TOWERS: dict[str, dict[str, Any]] = {
    "siglip_vision_model": SIGLIP,
    "clip_vision_model": {
        **{"kind": "vit", "class_token": True, "patch_bias": False, "pre_norm": True, "pool": "cls"},
        **{"last_norm": "pooled", "activation": "quick_gelu"},
    },
    "vit": {"kind": "vit", "class_token": True, "pool": "pooler", "activation": "gelu"},
    "dinov2": {"kind": "vit", "class_token": True, "pool": "cls", "layer_scale": 0.1, "activation": "gelu"},
    "resnet": {"kind": "resnet"},
    "efficientnet_lite": {"kind": "efficientnet"},
}


def a_run(folder: Path, tower: dict[str, Any], **image: Any) -> Path:
    settings = recipe.Recipe().replace(
        {
            "model.image": recipe.Tower(width=32, depth=1, heads=4, patch=8, **tower),
            "model.text.kind": "none",
            "image": recipe.Image(size=32, fit="squash", resample="bicubic").model_copy(update=image),
            "tasks": [TaskSettings(name="classify", columns={"image": "p", "label": "l"})],
        }
    )
    tasks = {"classify": TASKS.get("classify")(settings.tasks[0])}
    tasks["classify"].restore({"labels": ["good", "bad"]})
    processor = processor_of(settings, Tokenizer.train(["a", "b"], 300), None)
    model = build_model(settings, tasks, processor)
    varied(model.image)
    folder.mkdir()
    save_model(folder, model, settings, tasks, processor)
    (folder / "recipe.yaml").write_text(settings.save_text())
    return folder


@pytest.mark.parametrize("family", TOWERS)
@torch.no_grad()
def test_a_image_tower_is_opened_by_transformers_and_by_us(tmp_path: Path, family: str) -> None:
    from transformers import AutoImageProcessor, AutoModel

    run = a_run(tmp_path / "run", TOWERS[family])
    told = export(run, tmp_path / "hf")
    assert told.format == "hf"
    assert any("the head of classify" in note for note in told.notes)
    assert json.loads((tmp_path / "hf/config.json").read_text())["model_type"] == family
    model = load_model(Run.open(run))[0]
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (50, 41, 3), dtype=np.uint8))
    predictor = Run.open(run).load().predictor
    square = predictor.open_image(np.asarray(image), tmp_path, "")
    ours = model.image(model.image.normalise(torch.from_numpy(square).permute(2, 0, 1)[None]))
    found = read_checkpoint(tmp_path / "hf", image_only=True)
    assert found.image == {**found.image, "size": 32, "fit": "squash", "resample": "bicubic"}
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in found.state().items())
    if family == "efficientnet_lite":
        assert any("no EfficientNet-lite" in note for note in told.notes)
        return
    theirs, report = AutoModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    pixels = AutoImageProcessor.from_pretrained(tmp_path / "hf")(image, return_tensors="pt")["pixel_values"]
    tokens, pooled = seen_by(theirs.eval(), pixels)
    torch.testing.assert_close(ours.tokens, tokens, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=0)


def test_what_other_programs_see_differently_is_told_and_other_towers_are_refused(tmp_path: Path) -> None:
    told = export(a_run(tmp_path / "padded", SIGLIP, fit="pad"), tmp_path / "hf")
    assert any("image.fit 'pad'" in note for note in told.notes)
    told = export(a_run(tmp_path / "auto", SIGLIP, resample="auto"), tmp_path / "hf2")
    assert any("image.resample 'auto'" in note for note in told.notes)
    with pytest.raises(WeightsError, match="a text decoder, for gguf"):
        export(tmp_path / "padded", tmp_path / "m.gguf")
    with pytest.raises(WeightsError, match="'convnet'"):
        export(a_run(tmp_path / "convnet", {"kind": "convnet"}), tmp_path / "hf3")
