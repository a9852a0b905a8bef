"""Two towers from elsewhere are joined in stages: what learns when, what each stage gained, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from batches import in_parts
from rebus import api
from rebus.checkpoints.run_folder import Run
from rebus.evaluation.evaluate import evaluate_run
from rebus.loop.loop import fit
from rebus.models.batch import Batch
from rebus.nn.lora import adapters, take_out_lora
from rebus.recipe import load_recipe
from rebus.tasks.batch_builder import BatchBuilder
from rebus.training.loader_workers import BatchBuilderPool
from rebus.training.train import learn
from tiny_towers import CAPTION, SMALL, ready, recipe_for, same, state_of, write_table, write_towers


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("squares"))


@pytest.fixture(scope="module")
def places(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_towers(tmp_path_factory.mktemp("towers"), table)


# stages


def shown(batch: Batch) -> dict[str, torch.Tensor]:
    return batch.inputs["image"].tensors


def test_two_stages_where_both_towers_come_from_elsewhere(table: Path, places: Path) -> None:
    made = ready(table, places / "siglip", places / "llama")
    first, second = made.recipe.train.stages
    assert (first.tune, second.tune, first.share + second.share) == ("head", "lora", 1.0)
    assert set(first.learns or []) == {"fusion", "places"}
    assert (first.optimizer, first.lr, second.rates) == ("adamw", 1e-3, {})
    assert made.recipe.model.image.frozen  # no adapters there unless it is asked for
    assert "tokens" in shown(made.builder.parts_at(0, 0.0)[0])
    assert "tokens" in shown(made.builder.parts_at(19, 0.95)[0])
    assert {n.partition(".")[0] for n, p in made.model.named_parameters() if p.requires_grad} == {"fusion", "places"}


@pytest.mark.parametrize(
    ("vision", "text", "changes"),
    [
        ("siglip", None, {}),
        (None, "llama", {"tasks": [{"name": "generate", "columns": {"prompt": "caption", "output": "colour"}}]}),
        ("siglip", "llama", {"train__tune": "head"}),
        ("siglip", "llama", {"train__stages": [{"share": 1.0, "tune": "full"}]}),
    ],
)
def test_one_stage_where_one_is_enough(
    table: Path, places: Path, vision: str | None, text: str | None, changes: dict[str, Any]
) -> None:
    kinds = {"data.kinds": {"colour": "text", "caption": "text"}} if text and not vision else {}
    made = ready(table, places / vision if vision else None, places / text if text else None, **changes, **kinds)
    assert len(made.recipe.train.stages) == len(changes.get("train__stages", []))


@pytest.mark.parametrize("fusion", ["unified", "cross", "joint"])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_each_stage_trains_what_it_says_and_nothing_else(
    table: Path, places: Path, tmp_path: Path, fusion: str, tune: str
) -> None:
    changes = {"model__fusion__kind": fusion, "train__tune": tune, "train__steps": 8, "train__final_weights": "last"}
    made = ready(table, places / "siglip", places / "llama", **changes)
    assert made.staging is not None
    entered, enter = [], made.staging.enter

    def snapshot(number: int) -> Any:
        entered.append(state_of(made.model))
        return enter(number)

    made.staging.enter = snapshot  # type: ignore[method-assign]
    plan = made.plan(made.builder.parts_at)
    fit(made.model, plan, made.recipe.train, tmp_path, seed=0, quiet=True)
    first, second, last = *entered, state_of(made.model)
    new = ("fusion.", "places.", "decoder.memory_norm")
    kept = [name for name in first if not name.startswith(new) and "cross_" not in name]
    assert all(torch.equal(first[name], second[name]) for name in kept)
    assert not same(first, second, "fusion.project")
    assert same(second, last, "image.") == (tune == "lora")
    bare = [n for n in kept if n.startswith("decoder.") and n in last]
    moved = [n for n in bare if not torch.equal(second[n], last[n])]
    assert bool(moved) == (tune == "full")
    factors = [name for name in last if name.rpartition(".")[2] in ("lora_A", "lora_B")]
    assert bool(factors) == (tune == "lora")
    assert all(name.startswith("decoder.") for name in factors)
    assert tune == "full" or any(float(last[name].abs().max()) > 0 for name in factors if name.endswith("lora_B"))


def test_features_are_cached_in_the_first_stage_even_where_images_are_learned_in_the_second(
    table: Path, places: Path
) -> None:
    made = ready(table, places / "siglip", places / "llama", train__tune="full", train__epochs=4, train__steps=None)
    asked: list[int] = []
    tower = made.model.image.forward

    def counted(pixels: torch.Tensor) -> Any:
        asked.append(len(pixels))
        return tower(pixels)

    made.model.image.forward = counted
    for step in range(6):
        batch = made.builder.parts_at(step, 0.29)[0]
        assert "pixels" not in shown(batch)
    assert sum(asked) == 20  # every training image once, though two epochs went by
    assert "pixels" in shown(made.builder.parts_at(6, 0.3)[0])
    parts = in_parts(made.builder, 6, 0.3, 2)
    assert all("pixels" in shown(part) for part in parts)
    assert all("tokens" in shown(part) for part in in_parts(made.builder, 0, 0.0, 2))
    pool = BatchBuilderPool(made.builder, 2)
    try:
        for step, progress in ((0, 0.2), (1, 0.25), (2, 0.3), (3, 0.35)):
            one, other = pool.parts_at(step, progress)[0], made.builder.parts_at(step, progress)[0]
            assert shown(one).keys() == shown(other).keys()
            assert ("pixels" in shown(one)) == (progress >= 0.3)
    finally:
        pool.close()


def test_adapters_of_one_stage_are_part_of_the_weights_of_the_next(table: Path, places: Path) -> None:
    stages = [{"share": 0.5, "tune": "lora"}, {"share": 0.5, "tune": "full"}]
    made = ready(table, places / "siglip", places / "llama", train__stages=stages)
    assert made.staging is not None
    made.staging.enter(0)
    for layer in adapters(made.model).values():
        torch.nn.init.normal_(layer.lora_B)
    batch = made.builder.parts_at(0, 0.1)[0]
    made.model.eval()
    with torch.no_grad():
        before = made.model(batch)["caption"]
        made.staging.enter(1)
        after = made.model(batch)["caption"]
    assert not adapters(made.model)
    assert torch.allclose(before, after, atol=1e-4)
    assert all(parameter.requires_grad for parameter in made.model.parameters())
    take_out_lora(made.model)  # nothing to take out


# the whole road


@pytest.fixture(scope="module")
def run(table: Path, places: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return api.train(
        table,
        vision=places / "seeing",
        text=places / "llama",
        out=tmp_path_factory.mktemp("road") / "run",
        settings={**SMALL, "tasks": CAPTION, "train.steps": 40},
        quiet=True,
    )


def test_gains_of_stages_are_told_everywhere(run: Run) -> None:
    stages = run.evaluation["stages"]
    assert [(one["stage"], one["tune"], one["rows"]) for one in stages] == [(1, "head", 8), (2, "lora", 8)]
    first, second = stages
    assert first["after"] == second["before"]
    gain, low, high = second["gains"]["rouge_l"]
    assert gain == pytest.approx(second["after"]["rouge_l"] - second["before"]["rouge_l"])
    assert low <= gain <= high
    assert gain > 0  # it learns to write so
    assert 0 < first["learned"] < second["learned"]
    last = [line for line in run.metrics() if line["kind"] == "valid"][-1]
    assert last["metrics"]["caption/rouge_l"] == pytest.approx(second["after"]["rouge_l"], abs=1e-5)
    for text in ((run.folder / "README.md").read_text("utf-8"), run.report_path.read_text("utf-8")):
        assert "what each stage gained" in text
        assert "nearest training image" in text
    api.write_report(run.folder, lang="zh")
    text = run.report_path.read_text("utf-8")
    assert "每个阶段的提升" in text
    assert "最相似的训练图片的标题" in text
    assert text.count("均匀抽取的") >= 1


def test_the_caption_of_the_nearest_training_image_is_a_baseline(run: Run, table: Path) -> None:
    name = "caption of the nearest training image"
    score = run.evaluation["tasks"]["caption"]
    other = score["others"][name]
    gain = other["gains"]["cider_d"]
    assert gain[0] == pytest.approx(score["metrics"]["cider_d"] - other["metrics"]["cider_d"])
    assert gain[1] <= gain[0] <= gain[2]
    assert other["metrics"]["rouge_l"] > 0.5  # images that look alike are told alike here
    again = evaluate_run(run, table, split="test").tasks["caption"]
    assert again.others[name]["metrics"] == pytest.approx(other["metrics"])


def test_the_saved_recipe_alone_repeats_the_run(run: Run, tmp_path: Path) -> None:
    recipe = load_recipe(run.recipe_path)
    assert [stage.tune for stage in recipe.train.stages] == ["head", "lora"]
    assert all(stage.lr and stage.optimizer and stage.learns for stage in recipe.train.stages)
    again = learn(recipe, tmp_path / "again", log=lambda _: None, quiet=True, evaluate=False)
    assert again.weights_path.read_bytes() == run.weights_path.read_bytes()
    assert load_recipe(again.recipe_path) == recipe


@pytest.mark.parametrize(("killed_at", "tune"), [(3, "lora"), (6, "lora"), (15, "full")])
def test_torn_around_the_boundary_and_resumed_to_the_same_bits(
    table: Path,
    places: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    killed_at: int,
    tune: str,
) -> None:
    changes = {"train__save_every": 4, "train__ema": 0.8, "train__tune": tune, "model__text__dropout": 0.1}
    recipe = recipe_for(table, places / "siglip", places / "llama", **changes)
    calm = tmp_path_factory.getbasetemp() / f"calm-{tune}"
    if not calm.exists():
        learn(recipe, calm, log=lambda _: None, quiet=True, evaluate=False)
    make = BatchBuilder.parts_at

    def torn(self: BatchBuilder, step: int, progress: float) -> dict[str, Any]:
        if step == killed_at:
            raise ConnectionError
        return make(self, step, progress)

    monkeypatch.setattr(BatchBuilder, "parts_at", torn)
    with pytest.raises(ConnectionError):
        learn(recipe, tmp_path / "run", log=lambda _: None, quiet=True, evaluate=False)
    monkeypatch.undo()
    if killed_at > 4:
        monkeypatch.setattr("rebus.resolve.from_base.tower_weights", None)  # then a resumed run needs neither tower
    begun = Run.begun(tmp_path / "run")
    done = learn(begun.recipe, begun.folder, resume=True, log=lambda _: None, quiet=True, evaluate=True)
    assert done.weights_path.read_bytes() == (calm / "model.safetensors").read_bytes()
    assert len(done.evaluation["stages"]) == 2


def test_images_inside_the_text_join_towers_too(table: Path, places: Path, tmp_path: Path) -> None:
    recipe = recipe_for(table, places / "siglip", places / "llama", model__fusion__layout="inline", train__steps=4)
    run = learn(recipe, tmp_path / "run", log=lambda _: None, quiet=True)
    first, second = run.recipe.train.stages
    assert "inline" in (first.learns or [])
    assert (first.tune, second.tune) == ("head", "lora")
    assert len(run.evaluation["stages"]) == 2
    assert run.load().predict({"image": str(table.parent / "0.png")})[0].value is not None


def test_a_run_too_short_for_its_last_stage_says_so(table: Path, places: Path, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = recipe_for(table, places / "siglip", places / "llama", train__steps=1)
    run = learn(recipe, tmp_path / "run", log=told.append, quiet=True)
    (remark,) = [one for one in run.evaluation["remarks"] if one["name"] == "stages"]
    assert "before stage 2 of 2 began" in remark["text"]
    assert remark["text"] in told
    assert len(run.evaluation["stages"]) == 1
