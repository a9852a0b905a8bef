"""CLIP and SigLIP whole: opened as a model that retrieves, trained further, and Runs saved in their layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rebus.checkpoints.hf_load import is_checkpoint
from rebus.errors import RebusError, RecipeError, WeightsError
from rebus.formats.family import family
from rebus.inference.predictor import Predictor
from rebus.recipe import Recipe, TaskSettings, Tower
from rebus.training.train import assemble, learn
from tiny_duals import clip_folder, siglip_folder

WORDS = ["A RED car.", "12 <|endoftext|> cats; isn't it?", "图片里有什么", "", "the blue boat " * 20]
FOLDERS: dict[str, Callable[[Path], Any]] = {"clip": clip_folder, "siglip": siglip_folder}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    made = []
    for number, (high, wide) in enumerate([(41, 67), (90, 50), (32, 32), (20, 31)]):
        Image.fromarray(rng.integers(0, 256, (high, wide, 3 + number % 2), dtype=np.uint8)).save(
            folder / f"{number}.png"
        )
        made.append(folder / f"{number}.png")
    return made


@torch.no_grad()
def theirs(folder: Path, images: list[Path], texts: list[str]) -> Any:
    """What transformers makes of a folder: the model and its processor, as anybody would use them."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else True
    read = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    seen = AutoImageProcessor.from_pretrained(folder)([Image.open(one) for one in images], return_tensors="pt")
    assert set(read) <= {"input_ids", "attention_mask"}
    return model.eval()(**read, **seen)


@pytest.mark.parametrize("family", FOLDERS)
def test_a_checkpoint_opens_as_a_model_that_retrieves(tmp_path: Path, images: list[Path], family: str) -> None:
    FOLDERS[family](tmp_path)
    assert is_checkpoint(tmp_path)
    predictor = Predictor.open(tmp_path)
    assert list(predictor.tasks) == ["retrieve"]
    plain = [text.replace("<|endoftext|>", "") for text in WORDS]  # there a user's text can end itself
    expected = theirs(tmp_path, images, plain)
    texts, seen = predictor.embed(plain), predictor.embed_images(images)
    np.testing.assert_allclose(texts, expected.text_embeds.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(seen, expected.image_embeds.numpy(), rtol=0, atol=1e-5)
    head = predictor.model.pairs
    bias = 0.0 if head.logit_bias is None else float(head.logit_bias.detach())
    logits = float(head.scale().detach()) * seen @ texts.T + bias
    np.testing.assert_allclose(logits, expected.logits_per_image.numpy(), rtol=0, atol=1e-4)
    assert not np.allclose(predictor.embed([WORDS[1]]), texts[1])  # a user's text cannot end itself here
    told = predictor.predict({"image": images[0], "text": "a red car"})[0]
    assert -1 <= told.value <= 1


def test_id_2_is_never_taken_for_the_end_of_a_text(tmp_path: Path, images: list[Path]) -> None:
    """Old files name 2 as the end of text, which is an exclamation mark."""
    clip_folder(tmp_path, eos_token_id=2)
    assert family("clip").settings(json.loads((tmp_path / "config.json").read_text())).end is None
    texts = ["!! a cat !", "a dog"]
    expected = theirs(tmp_path, images, texts).text_embeds.numpy()
    np.testing.assert_allclose(Predictor.open(tmp_path).embed(texts), expected, rtol=0, atol=1e-5)


def test_siglip_reads_what_texts_are_filled_up_with(tmp_path: Path) -> None:
    siglip_folder(tmp_path)
    predictor = Predictor.open(tmp_path)
    tower = predictor.model.text
    assert (tower.settings.filler, tower.max_length) == (1, 16)
    alone, together = predictor.embed(["a cat"]), predictor.embed(["a cat", "the blue boat is left of the red car"])
    np.testing.assert_allclose(together[:1], alone, rtol=0, atol=1e-6)
    tower.settings = tower.settings.replace(filler=2)
    assert not np.allclose(predictor.embed(["a cat"]), alone, atol=1e-3)


# training further, and Runs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    colours = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "红色": (200, 20, 20)}
    rows = []
    for number in range(16):
        name = list(colours)[number % 4]
        array = np.full((24 + number, 40, 3), colours[name], dtype=np.uint8)
        array[:8, : 4 + number] = 90
        Image.fromarray(array).save(folder / f"{number}.png")
        split = "train" if number < 12 else "test"
        rows.append({"image": f"{number}.png", "text": f"{name} {number} cats", "split": split})
    (folder / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "t.jsonl"


def recipe_of(table: Path, family: str | None = None) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "tasks": [TaskSettings(name="retrieve", columns={"image": "image", "text": "text"})],
            "train.steps": 2,
            "train.batch_size": 6,
            "train.precision": "fp32",
        }
    )
    if family is not None:
        made = made.replace({"model.like": family, "image.size": 32, "text.vocab_size": 320, "text.max_length": 24})
        shape = {"width": 24, "depth": 2, "heads": 4}
        made = made.replace({"model.image": Tower(**shape, patch=8), "model.text": Tower(**shape)})
    return made


def shaken(run: Path) -> None:
    """Larger random weights in place of the few that two steps made, so that a mistake shows."""
    state = load_file(run / "model.safetensors")
    torch.manual_seed(1)
    spared = ("logit_scale", "logit_bias")
    save_file(
        {name: one if name in spared else one + 0.2 * torch.randn_like(one) for name, one in state.items()},
        run / "model.safetensors",
    )


@pytest.mark.parametrize("family", FOLDERS)
def test_a_run_is_saved_so_that_transformers_finds_the_same(
    tmp_path: Path, table: Path, images: list[Path], family: str
) -> None:
    run = learn(recipe_of(table, family), tmp_path / "run", log=lambda _: None, quiet=True)
    config = json.loads((run.folder / "config.json").read_text())
    assert config["model_type"] == family
    assert config["text_config"].get("eos_token_id") != (2 if family == "clip" else None)
    shaken(run.folder)
    predictor = run.load().predictor
    texts = ["red 3 cats", "红色的方块", "blue", "a green dog " * 9]
    expected = theirs(run.folder, images, texts)
    said, seen = predictor.embed(texts), predictor.embed_images(images)
    np.testing.assert_allclose(said, expected.text_embeds.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(seen, expected.image_embeds.numpy(), rtol=0, atol=1e-5)
    assert "mean_recall" in run.evaluation["tasks"]["retrieve"]["metrics"]

    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(run.folder)
    assert type(processor).__name__ == {"clip": "CLIPProcessor", "siglip": "SiglipProcessor"}[family]
    assert processor(text=texts[:1], images=Image.open(images[0]), return_tensors="pt")["pixel_values"].shape[-1] == 32


@pytest.mark.parametrize("family", FOLDERS)
def test_a_checkpoint_is_trained_further_and_stays_what_it_is(
    tmp_path: Path, table: Path, images: list[Path], family: str
) -> None:
    FOLDERS[family](tmp_path / "base")
    recipe = recipe_of(table)
    recipe = recipe.replace({"base": str(tmp_path / "base")})
    told: list[str] = []
    ready = assemble(recipe, told.append)
    count = len(ready.model.state_dict())
    assert any(f"{count} tensors taken over, 0 begin anew" in line for line in told), told
    before = Predictor.open(tmp_path / "base").embed(["red 3 cats"])
    np.testing.assert_allclose(ready.predictor.embed(["red 3 cats"]), before, rtol=0, atol=1e-6)
    run = learn(recipe, tmp_path / "run", log=lambda _: None, quiet=True)
    assert json.loads((run.folder / "config.json").read_text())["model_type"] == family
    predictor = run.load().predictor
    expected = theirs(run.folder, images, ["red 3 cats"])
    np.testing.assert_allclose(predictor.embed(["red 3 cats"]), expected.text_embeds.numpy(), rtol=0, atol=1e-5)
    assert not np.allclose(predictor.embed(["red 3 cats"]), before, atol=1e-4)  # it learned something


def test_a_run_that_no_layout_has_a_place_for_is_saved_in_our_own(tmp_path: Path, table: Path) -> None:
    recipe = recipe_of(table, "clip")
    recipe = recipe.replace({"image.fit": "pad"})  # which no processor does
    run = learn(recipe, tmp_path / "run", log=lambda _: None, quiet=True)
    assert json.loads((run.folder / "config.json").read_text())["model_type"] == "rebus"
    assert run.load().predictor.embed(["red"]).shape == (1, 24)


def test_what_does_not_go_together_is_told(tmp_path: Path, table: Path) -> None:
    recipe = recipe_of(table, "clip")
    recipe = recipe.replace({"model.text.pool": "mean", "model.text.kind": "recurrent"})
    with pytest.raises(RecipeError, match=r"model\.text\.kind.*'encoder'"):
        assemble(recipe, lambda _: None)
    recipe = recipe_of(table, "siglip")
    recipe = recipe.replace({"tasks": [TaskSettings(name="classify", columns={"image": "image", "label": "text"})]})
    with pytest.raises(RecipeError, match=r"model\.like.*retrieve"):
        assemble(recipe, lambda _: None)


def edit(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in entries.items():
        part, _, key = name.partition("__")
        (config[part] if key else config)[key or part] = value
    (folder / "config.json").write_text(json.dumps(config))


def lose(folder: Path, name: str) -> None:
    state = load_file(folder / "model.safetensors")
    del state[name]
    save_file(state, folder / "model.safetensors")


def without_end(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))


BREAKS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no end": ("clip", without_end, "ends every text"),
    "another end": ("clip", lambda f: edit(f, text_config__eos_token_id=7), "7 as config.json says"),
    "activation": ("clip", lambda f: edit(f, text_config__hidden_act="mish"), "hidden_act"),
    "projection": ("siglip", lambda f: edit(f, text_config__projection_size=8), "projection_size"),
    "no head": ("siglip", lambda f: edit(f, vision_config__vision_use_head=False), "vision_use_head"),
    "text part": ("siglip", lambda f: edit(f, text_config="x"), "text_config"),
    "lost": ("clip", lambda f: lose(f, "text_projection.weight"), r"heads\.retrieve\.maps\.text\.weight"),
    "lost bias": ("siglip", lambda f: lose(f, "logit_bias"), r"heads\.retrieve\.logit_bias"),
    "vocabulary": ("clip", lambda f: edit(f, text_config__vocab_size=99), "vocab_size"),
    "processor": (
        "clip",
        lambda f: (f / "preprocessor_config.json").write_text('{"image_processor_type": "X"}'),
        "image_processor_type",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_bad_checkpoint_is_told(tmp_path: Path, case: str) -> None:
    family, damage, said = BREAKS[case]
    FOLDERS[family](tmp_path)
    damage(tmp_path)
    with pytest.raises(RebusError, match=said) as caught:
        Predictor.open(tmp_path)
    assert isinstance(caught.value, WeightsError)
    assert all(caught.value.as_dict().values())


def test_towers_of_a_dual_are_taken_alone(tmp_path: Path) -> None:
    from rebus.checkpoints.hf_load import read_checkpoint

    model = clip_folder(tmp_path)
    found = read_checkpoint(tmp_path, image_only=True)
    assert found.family.name == "clip_vision_model"
    assert found.image["size"] == 32
    assert torch.equal(found.state()["image.class_token"], model.vision_model.embeddings.class_embedding)
