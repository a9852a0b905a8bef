"""What learns: everything, adapters and heads, or heads only; and how fast at which depth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rebus.checkpoints.run_folder import Run
from rebus.errors import RecipeError
from rebus.inference.predictor import Predictor
from rebus.loop.optim import build_optimizers, layer_factors, train_mode
from rebus.loop.update import seed_step
from rebus.nn.lora import adapters
from rebus.recipe import Recipe, TaskSettings, Tower, override
from rebus.resolve.tune import usual_rates
from rebus.training.train import Assembled, assemble, learn

WORDS = {"warm": ["sun", "fire", "summer", "desert"], "cold": ["snow", "ice", "winter", "frost"]}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "table.jsonl"
    rows = [
        {"text": f"{word} and {other} again", "label": label, "split": "train" if word != other else "test"}
        for label, words in WORDS.items()
        for word in words
        for other in words
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def recipe(table: Path, text: str = "encoder", **changes: object) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"text": "text", "label": "category"},
            "model.text": Tower(kind=text, width=16, depth=2, heads=2, dropout=0.1),
            "model.fusion.kind": "joint",
            "model.fusion.depth": 1,
            "text.vocab_size": 300,
            "text.max_length": 32,
            "tasks": [TaskSettings(name="classify", columns={"text": "text", "label": "label"})],
            "train.steps": 4,
            "train.batch_size": 8,
            "train.precision": "fp32",
        }
    )
    return override(made, [f"{key.replace('__', '.')}={value}" for key, value in changes.items()])


@pytest.fixture(scope="module")
def base(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(recipe(table), tmp_path_factory.mktemp("base") / "run", log=lambda _: None, quiet=True).folder


def ready(table: Path, base: Path, **changes: object) -> Assembled:
    return assemble(recipe(table, base=base, **changes), lambda _: None, base=base)


def learning(made: Assembled) -> set[str]:
    return {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}


def after_steps(made: Assembled, steps: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The model's tensors before and after some steps of training."""
    model, task = made.model, made.prepared.tasks["classify"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizers = build_optimizers(model, made.prepared.recipe.train)
    train_mode(model)
    for step in range(steps):
        seed_step(0, step)
        batch = made.builder.parts_at(step, 0.5)[0]
        task.loss(model(batch)["classify"], batch.targets["classify"]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return before, model.state_dict()


def changed(made: Assembled) -> set[str]:
    before, after = after_steps(made)
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_only_heads_learn_and_the_rest_stays_to_the_bit(table: Path, base: Path) -> None:
    made = ready(table, base, train__tune="head")
    expected = {name for name, _ in made.model.named_parameters() if name.startswith("heads.")}
    assert learning(made) == expected
    assert changed(made) == expected
    assert not made.model.text.layers[0].dropout.training  # a frozen tower drops nothing


def test_adapters_and_heads_learn_and_the_rest_stays_to_the_bit(table: Path, base: Path) -> None:
    made = ready(table, base, train__tune="lora", model__lora__rank=2)
    layers = adapters(made.model)
    assert len(layers) == 12  # six linear layers in each of two blocks
    assert all(name.startswith("text.layers.") for name in layers)
    expected = {f"{name}.{factor}" for name in layers for factor in ("lora_A", "lora_B")}
    expected |= {name for name, _ in made.model.named_parameters() if name.startswith("heads.")}
    assert learning(made) == expected
    assert changed(made) == expected


def test_what_the_base_lacks_learns_as_well(table: Path, base: Path) -> None:
    made = ready(table, base, train__tune="lora", model__text__depth=3)
    new = {name for name, _ in made.model.named_parameters() if name.startswith("text.layers.2.")}
    assert set(made.prepared.recipe.train.learns or ()) == new
    assert new <= learning(made)
    assert not any("lora" in name for name in new)
    assert len(adapters(made.model)) == 12
    assert not any(name.startswith("text.") and name not in new and "lora" not in name for name in learning(made))


def test_what_learns_can_be_said(table: Path, base: Path) -> None:
    made = ready(table, base, train__tune="head", train__learns="[text.layers.1]")
    assert {".".join(name.split(".")[:3]) for name in learning(made)} >= {"text.layers.1", "heads.classify.norm"}
    assert not any(name.startswith("text.layers.0") for name in learning(made))


def test_everything_learns_by_default(table: Path, base: Path) -> None:
    made = ready(table, base)
    assert learning(made) == {name for name, _ in made.model.named_parameters()}
    assert not adapters(made.model)


@pytest.mark.parametrize("text", ["encoder", "decoder", "recurrent", "wordvectors"])
def test_a_frozen_text_tower_stays_to_the_bit(table: Path, text: str) -> None:
    made = assemble(recipe(table, text, model__text__frozen=True), lambda _: None)
    moved = changed(made)
    assert not any(name.startswith(("text.", "decoder.")) for name in moved)
    assert any(name.startswith("heads.") for name in moved)
    tower = made.model.text if made.model.text is not None else made.model.decoder
    assert not any(module.training for module in tower.modules())


@pytest.mark.parametrize("tune", ["lora", "head"])
def test_without_a_base_there_is_nothing_to_tune(table: Path, tune: str) -> None:
    with pytest.raises(RecipeError, match=r"weights to start from.*--from"):
        assemble(recipe(table, train__tune=tune), lambda _: None)


def test_a_target_that_does_not_exist_is_refused_with_the_nearest(table: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'q_proj'"):
        ready(table, base, train__tune="lora", model__lora__targets="[q_pro]")
    with pytest.raises(RecipeError, match="none in the towers that learn"):
        ready(table, base, train__tune="lora", model__text__frozen=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("muon", 4e-4, 2e-3)),  # from a Run
        ({"train__tune": "lora"}, ("adamw", 1e-3, 1e-3)),
        ({"train__lr": 0.01, "train__optimizer": "sgd"}, ("sgd", 0.01, 2e-3)),
    ],
)
def test_open_rates_are_filled_in(table: Path, base: Path, changes: dict[str, object], expected: object) -> None:
    train = ready(table, base, **changes).prepared.recipe.train
    assert (train.optimizer, train.lr, train.muon_lr) == expected
    assert train.rates == {}


def test_rates_from_scratch_and_from_a_checkpoint_of_another_library(table: Path, base: Path, tmp_path: Path) -> None:
    train = assemble(recipe(table), lambda _: None).prepared.recipe.train
    assert (train.optimizer, train.lr, train.muon_lr) == ("muon", 2e-3, 1e-2)
    made = recipe(table, base=tmp_path)  # a folder without a recipe is not a Run
    usual, rates = usual_rates(made, "full", ["fusion"])
    assert (usual["optimizer"], usual["lr"]) == ("adamw", 5e-5)
    assert rates == {"fusion": 20.0, "heads": 20.0}


def test_adapters_are_left_to_adamw(table: Path, base: Path) -> None:
    made = ready(table, base, train__tune="lora", train__optimizer="muon", train__learns="[text.layers.1]")
    factors = {p for layer in adapters(made.model).values() for p in (layer.lora_A, layer.lora_B)}
    muon, adamw = build_optimizers(made.model, made.prepared.recipe.train)
    assert not factors & {p for group in muon.param_groups for p in group["params"]}
    assert factors <= {p for group in adamw.param_groups for p in group["params"]}


def test_rates_fall_with_depth(table: Path) -> None:
    made = assemble(recipe(table, train__layer_decay=0.5, train__rates="{text.layers.0: 0.1}"), lambda _: None)
    names = {parameter: name for name, parameter in made.model.named_parameters()}
    rates = {
        names[parameter]: group["peak"] / (1e-2 if "momentum" in group else 2e-3)
        for optimizer in build_optimizers(made.model, made.prepared.recipe.train)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates["text.layers.1.mlp.fc1.weight"] == 1.0
    assert rates["text.layers.0.mlp.fc1.weight"] == pytest.approx(0.05)
    assert rates["text.words.weight"] == 0.25
    assert {rate for name, rate in rates.items() if name.startswith(("fusion.", "heads."))} == {1.0}


def test_depth_is_counted_from_each_towers_top() -> None:
    names = ["decoder.embed_tokens.weight", "decoder.layers.0.a.weight", "decoder.layers.2.a.weight"]
    names += [
        "decoder.norm.weight",
        "image.body.0.weight",
        "image.body.1.weight",
        "text.cells.weight_ih_l0_reverse",
    ]
    names += ["text.cells.weight_ih_l1", "fusion.layers.0.weight", "heads.tag.weight", "places.rows"]
    found = layer_factors(names, 0.5)
    assert [found.get(name) for name in names] == [0.125, 0.25, 1, 1, 0.5, 1, 0.5, 1, None, None, None]
    assert layer_factors(names, 1.0) == {}


def test_a_run_of_adapters_is_an_ordinary_run_with_the_adapters_beside(table: Path, base: Path, tmp_path: Path) -> None:
    settings = recipe(table, base=base, train__tune="lora", train__lr=0.05)
    run = learn(settings, tmp_path / "run", base=base, log=lambda _: None, quiet=True)
    state, before = load_file(run.weights_path), load_file(Run(base).weights_path)
    assert state.keys() == before.keys()  # no factor is left
    moved = {name for name in state if not torch.equal(state[name], before[name])}
    assert moved == {
        f"encoder.layer.{n}.{part}.weight"
        for n in range(2)
        for part in (
            *(f"attention.self.{which}" for which in ("query", "key", "value")),
            *("attention.output.dense", "intermediate.dense", "output.dense"),
        )
    }
    factors = load_file(run.folder / "adapter/adapter_model.safetensors")
    config = json.loads((run.folder / "adapter/adapter_config.json").read_text())
    layer = "encoder.layer.0.intermediate.dense"
    a, b = (factors[f"base_model.model.{layer}.lora_{which}.weight"] for which in "AB")
    delta, name = config["lora_alpha"] / config["r"] * b @ a, f"{layer}.weight"
    torch.testing.assert_close(state[name], before[name] + delta, atol=1e-6, rtol=0)
    assert Predictor.open(run.folder).predict([{"text": "snow and ice"}])[0].value in WORDS


def test_a_run_of_adapters_resumes_to_the_same_bits_without_its_base(table: Path, base: Path, tmp_path: Path) -> None:
    settings = recipe(
        table, base=base, train__tune="lora", model__lora__dropout=0.2, train__save_every=2, train__keep=9
    )
    settings = settings.replace({"model.text.depth": 3})
    whole = learn(settings, tmp_path / "whole", base=base, log=lambda _: None, quiet=True)
    half = tmp_path / "whole"
    expected = {file: (half / file).read_bytes() for file in ("model.safetensors", "adapter/adapter_model.safetensors")}
    for step in (4,):
        for file in (half / "checkpoints" / f"step-{step:08d}").iterdir():
            file.unlink()
    for file in ("config.json", *expected):
        (half / file).unlink()
    learn(whole.recipe, half, resume=True, log=lambda _: None, quiet=True)
    assert {file: (half / file).read_bytes() for file in expected} == expected
