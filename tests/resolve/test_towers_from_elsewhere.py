"""Any image tower with any text tower: shapes, tokenizers and weights are taken over; mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.cli.app import app
from rebus.errors import RebusError, RecipeError, RunError, WeightsError
from rebus.recipe import Stage
from rebus.training.train import assemble
from tiny_checkpoints import V
from tiny_towers import CAPTION, SMALL, TOWERS, ready, write_table, write_towers


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def places(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_towers(tmp_path_factory.mktemp("towers"), table)


# what is taken over


def test_a_run_and_a_checkpoint_settle_the_shapes_the_images_and_the_tokenizer(table: Path, places: Path) -> None:
    made = ready(table, places / "seeing", places / "llama", **{"image.size": 32})
    model = made.recipe.model
    assert (model.image.kind, model.image.width, model.image.patch) == ("vit", 16, 8)
    assert (model.text.kind, model.text.width, model.text.rows, model.text.head_dim) == ("decoder", 24, V, 8)
    assert made.processor.tokenizer.is_foreign
    assert made.recipe.image.size == 32  # as was said
    assert model.image.weights == str((places / "seeing").resolve())
    theirs = load_file(places / "seeing" / "model.safetensors")
    own = made.model.image.state_dict()
    taken = [n for n in own if f"image.{n}" in theirs and torch.equal(own[n], theirs[f"image.{n}"])]
    assert set(own) - set(taken) <= {"position"}  # resized for smaller images
    words = load_file(places / "llama" / "model.safetensors")["model.embed_tokens.weight"]
    assert made.model.decoder is not None
    assert torch.equal(made.model.decoder.embed_tokens.weight, words)


def test_what_is_not_said_is_seen_as_the_tower_saw_it(table: Path, places: Path) -> None:
    settings = {key: value for key, value in SMALL.items() if key != "image.size"}
    recipe = api.make_recipe(
        table, None, None, {**settings, "tasks": CAPTION}, vision=places / "seeing", text=places / "writing"
    )
    made = assemble(recipe, lambda _: None)
    assert made.recipe.image.size == 40
    assert made.processor.tokenizer.to_json() == Run(places / "writing").load().predictor.processor.tokenizer.to_json()
    assert made.recipe.model.text.width == 16


def test_a_foreign_image_tower_with_a_runs_decoder(table: Path, places: Path) -> None:
    made = ready(table, places / "siglip", places / "writing")
    tower = made.recipe.model.image
    assert (tower.kind, tower.width, tower.depth, tower.hidden) == ("vit", 16, 1, 24)
    from rebus.checkpoints.hf_load import read_checkpoint
    from rebus.formats.names import below

    theirs = below("image.", read_checkpoint(places / "siglip", image_only=True).state())
    own = made.model.image.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in theirs if name in own)
    assert len(set(theirs) & set(own)) > 10


def test_a_tokenizer_without_turns_is_given_them(table: Path, places: Path) -> None:
    made = ready(table, places / "siglip", places / "mute")
    assert made.processor.tokenizer.has_chat
    rows = made.model.decoder.embed_tokens.weight  # type: ignore[union-attr]
    assert len(rows) >= made.processor.tokenizer.vocab_size


# rates


def test_towers_from_elsewhere_learn_more_slowly_than_what_is_begun_anew(table: Path, places: Path) -> None:
    full = [{"share": 1.0, "tune": "full"}]
    stage = ready(table, places / "siglip", places / "llama", train__stages=full).recipe.train.stages[0]
    assert (stage.optimizer, stage.lr, stage.rates) == ("adamw", 5e-5, {"fusion": 20.0, "places": 20.0})
    stage = ready(table, places / "siglip", places / "writing", train__stages=full).recipe.train.stages[0]
    assert (stage.optimizer, stage.muon_lr) == ("muon", 2e-3)
    assert stage.rates == {"fusion": 5.0, "places": 5.0, "image": 0.5}
    train = ready(table, places / "siglip", None, **TOWERS | {"model.image.width": 16}).recipe.train
    assert (train.optimizer, train.muon_lr, train.rates) == ("muon", 1e-2, {"image": 0.1})
    train = ready(table, None, places / "llama").recipe.train
    assert (train.optimizer, train.lr, train.rates["fusion"]) == ("adamw", 5e-5, 20.0)
    said = ready(table, places / "siglip", places / "llama", train__lr=3e-4).recipe.train
    assert [stage.lr for stage in said.stages] == [3e-4, 3e-4]


# what is refused


@pytest.mark.parametrize(
    ("vision", "text", "changes", "kind", "said"),
    [
        ("llama", "llama", {}, RecipeError, r"--vision: expected a checkpoint with an image tower.*'llama'.*--text"),
        ("siglip", "siglip", {}, RecipeError, r"--text: expected a checkpoint with a text model.*siglip.*--vision"),
        ("writing", "llama", {}, RecipeError, r"--vision: expected a Run with an image tower.*has none"),
        ("nowhere", "llama", {}, RunError, "no such folder"),
        (
            "siglip",
            "llama",
            {"base": "mute"},
            RecipeError,
            r"--text: expected one text model.*leave out --text or --from",
        ),
        ("siglip", "llama", {"model.image.width": 24}, RecipeError, r"model\.image\.width: expected 16"),
        ("siglip", "llama", {"model.image.kind": "none"}, RecipeError, "leave out one of the two"),
        ("siglip", "llama", {"model.text.kind": "none"}, RecipeError, "leave out one of the two"),
        ("siglip", "llama", {"text.tokenizer": "t.json"}, RecipeError, "brings its own"),
        ("siglip", "llama", {"train.stages": [{"share": 0.3}, {"share": 0.3}]}, RecipeError, r"0\.3 \+ 0\.3 = 0\.6"),
        (
            "siglip",
            "llama",
            {"train.stages": [{"share": 1, "tune": "head", "learns": ["fusoin"]}]},
            RecipeError,
            r"train\.stages\.0.*fusion",
        ),
        (None, None, {"train.stages": [{"share": 1, "tune": "lora"}]}, RecipeError, "weights to start from"),
    ],
)
def test_mistakes_are_told(
    table: Path,
    places: Path,
    vision: str | None,
    text: str | None,
    changes: dict[str, Any],
    kind: type[RebusError],
    said: str,
) -> None:
    changes = {"base": str(places / changes["base"])} if "base" in changes else changes
    with pytest.raises(kind, match=said) as caught:
        ready(table, places / vision if vision else None, places / text if text else None, **changes)
    assert all(caught.value.as_dict().values())


def test_a_tower_that_nothing_needs_is_told(table: Path, places: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.image\.weights: expected an image column"):
        ready(
            table,
            places / "siglip",
            places / "llama",
            tasks=[{"name": "generate", "columns": {"prompt": "caption", "output": "colour"}}],
            data__kinds={"image": "ignore", "caption": "text", "colour": "text"},
        )
    with pytest.raises(RecipeError, match=r"model\.text\.weights: expected nothing.*--from"):
        api.dry_run(places / "llama" / "config.json", task="lm", text=places / "llama")
    (places / "odd").mkdir()
    (places / "odd" / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(WeightsError, match="mamba"):
        ready(table, places / "odd", places / "llama")


def test_names_of_towers_and_places_share_an_option() -> None:
    made = api.make_recipe("t.csv", None, None, None, text="encoder")
    assert (made.model.text.kind, made.model.text.weights) == ("encoder", None)
    made = api.make_recipe("t.csv", None, None, None, text="owner/model", vision="owner/other")
    assert (made.model.text.weights, made.model.image.weights) == ("owner/model", "owner/other")
    with pytest.raises(RecipeError, match=r"'decodr', and no such file.*decoder"):
        api.make_recipe("t.csv", None, None, None, text="decodr")
    with pytest.raises(RecipeError, match="--image convnet"):
        api.make_recipe("t.csv", None, None, None, vision="convnet")
    assert Stage(share=0.5).tune == "full"


def test_the_command_line_takes_both_towers(table: Path, places: Path) -> None:
    words = [
        "train",
        str(table),
        "--vision",
        str(places / "siglip"),
        "--text",
        str(places / "llama"),
        "--task",
        "caption",
    ]
    words += [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "tune: head" in done.stdout
    assert "tune: lora" in done.stdout
    done = CliRunner().invoke(app, [*words, "--tune", "full", "--dry-run"])
    assert "tune: lora" not in done.stdout
    done = CliRunner().invoke(app, ["train", "--resume", str(places / "seeing"), "--vision", str(places / "siglip")])
    assert done.exit_code == 2
    assert "no other setting" in done.stderr
    done = CliRunner().invoke(app, [*words, "--from", str(places / "mute")])
    assert done.exit_code == 2
    assert "leave out --text or --from" in " ".join(done.stderr.split())
