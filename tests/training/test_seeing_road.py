"""Images inside texts, the whole road: trained, saved in the layout of Idefics3 or Llava, opened there and here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from batches import image_batch, pixels_of
from rebus.checkpoints.run_folder import Run
from rebus.cli.app import app
from rebus.errors import DataError, RecipeError
from rebus.evaluation.evaluate import evaluate_run
from rebus.formats.weights import load_weights
from rebus.inference.predict_table import predict_table
from rebus.inference.predictor import Predictor
from rebus.model import load
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower, load_recipe
from rebus.training.train import assemble, learn
from tiny_seeing import write_seeing

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
QUESTIONS = ("What colour is the square?", "方块是什么颜色？")
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {
    "idefics3": ({"projector": "shuffle"}, {"qk_norm": False, "kv_heads": 2}, "idefics3", "llama"),
    "idefics3 by qwen3": ({}, {"tied": False}, "idefics3", "qwen3"),
    "llava": ({"projector": "mlp"}, {"qk_norm": False, "bias": "qkv"}, "llava", "qwen2"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen images of a square, some of them wider than high; the last row has none."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(16):
        colour = list(COLOURS)[number % 4]
        wide = 32 if number % 3 else 56
        array = np.full((32, wide, 3), 90, dtype=np.uint8)
        left, top, side = int(rng.integers(0, 12)), int(rng.integers(0, 12)), int(rng.integers(8, 20))
        array[top : top + side, left : left + side] = COLOURS[colour]
        Image.fromarray(array).save(folder / f"{number}.png")
        question = QUESTIONS[number % 2]
        rows.append(
            {
                "image": f"{number}.png" if number != 11 else None,
                "question": question,
                "answer": colour,
                "caption": [f"a {colour} square", f"{colour}方块"],
                "talk": [{"role": "user", "content": question}, {"role": "assistant", "content": colour}],
                "split": "train" if number < 12 else "test",
            }
        )
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder / "table.jsonl"


def recipe(table: Path, fusion: dict[str, Any], text: dict[str, Any], task: str = "answer", **image: Any) -> Recipe:
    made = Recipe().replace(
        {
            "data.path": str(table),
            "data.split.column": "split",
            "data.kinds": {"answer": "text", "question": "text"},
            "image.size": 32,
            "text.vocab_size": 320,
            "text.max_length": 32,
            "model.image": Tower(**{"kind": "vit", "width": 16, "depth": 2, "heads": 2, "patch": 8, **image}),
            "model.text": Tower(kind="decoder", width=24, depth=2, heads=4, **text),
            "model.fusion": Fusion(layout="inline", **fusion),
        }
    )
    columns = {
        "answer": {"image": "image", "question": "question", "answer": "answer"},
        "caption": {"image": "image", "caption": "caption"},
        "converse": {"image": "image", "messages": "talk"},
        "classify": {"image": "image", "label": "answer"},
    }[task]
    return made.replace(
        {
            "tasks": [TaskSettings(name=task, columns=columns, max_new_tokens=6)],
            "data.on_bad": "skip" if task == "caption" else "refuse",  # the row without an image
            "train.steps": 3,
            "train.batch_size": 12,
            "train.precision": "fp32",
            "train.validate_every": 100,
        }
    )


@pytest.fixture(scope="module")
def runs(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, (fusion, text, _, _) in LAYOUTS.items():
        made = recipe(table, fusion, text)
        made = made.replace({"train.steps": 20, "train.lr": 0.01})
        found[name] = learn(made, folder / name, log=lambda _: None, quiet=True)
    return found


@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_a_run_opens_in_transformers_and_answers_the_same(runs: dict[str, Run], table: Path, name: str) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    _, _, layout, family = LAYOUTS[name]
    run = runs[name]
    config = run.read_json("config.json")
    assert (config["model_type"], config["text_config"]["model_type"]) == (layout, family)
    theirs, told = AutoModelForImageTextToText.from_pretrained(run.folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    processor = AutoProcessor.from_pretrained(run.folder, use_fast=False)
    assert type(processor.image_processor).__name__.endswith("Pil")
    ours = Predictor.open(run.folder)
    for number, question in ((13, QUESTIONS[0]), (12, QUESTIONS[1]), (15, "Is it <image> or <|eos|>?")):
        file = table.parent / f"{number}.png"
        turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
        ids = ours.tasks["answer"].ask({"question": [question], "image": [file]}, 0, ours.processor)  # type: ignore[attr-defined]
        assert ids.count(ours.processor.image_id) == ours.model.plan.inside  # a mark that a user writes is none
        if "<" in question:
            continue  # transformers would take it for an image
        given = processor(text=prompt, images=[Image.open(file)], return_tensors="pt")
        assert given["input_ids"][0].tolist() == ids
        square = torch.from_numpy(ours.open_image(file, Path(), "")).permute(2, 0, 1)[None]
        pixels = given["pixel_values"].reshape(1, 3, 32, 32)
        assert float((ours.model.image.normalise(square) - pixels).abs().max()) <= 2 / 255 + 1e-6  # one level of 255
        said = theirs.eval().generate(**given, max_new_tokens=6, do_sample=False)[0, len(ids) :]
        expected = processor.tokenizer.decode(said, skip_special_tokens=True).strip()
        assert ours.ask(file, question).value == expected
        assert expected


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_run_is_read_back_and_judged(runs: dict[str, Run], table: Path, tmp_path: Path, name: str) -> None:
    run = runs[name]
    assert not (run.folder / "heads.safetensors").exists()
    assert run.evaluation["tasks"]["answer"]["metrics"].keys() >= {"exact_match"}
    again = evaluate_run(run, table, split="test")
    assert again.tasks["answer"].metrics == run.evaluation["tasks"]["answer"]["metrics"]
    predict_table(run, table, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["error"] for row in rows] == [""] * 16
    alone = Predictor.open(run.folder).predict({**rows[11], "image": None}, task="answer")[0]
    assert rows[11]["image"] is None  # its prompt has no marks; the images of other rows change nothing
    assert rows[11]["answer_predicted"] == alone.value
    settled = load_recipe(run.recipe_path)
    assert (settled.image.fit, settled.image.resample) == ("squash", "lanczos")
    assert settled.model.fusion.projector in ("shuffle", "mlp")


def test_a_row_without_a_image_has_no_marks(runs: dict[str, Run]) -> None:
    ours = Predictor.open(runs["idefics3"].folder)
    task: Any = ours.tasks["answer"]
    blind = task.ask({"question": ["What?"], "image": [None]}, 0, ours.processor)
    assert ours.processor.image_id not in blind
    seen = task.ask({"question": ["What?"], "image": ["x.png"]}, 0, ours.processor)
    assert [one for one in seen if one not in ours.processor.image] == list(blind)
    assert len(seen) == len(blind) + len(ours.processor.image)
    names = [ours.processor.tokenizer.piece(one) for one in ours.processor.image]
    fake = "<fake_token_around_image>"
    assert names == [fake, "<global-img>", *["<image>"] * 4, fake]


def test_each_text_has_its_own_image_and_a_batch_changes_no_loss(table: Path) -> None:
    ready = assemble(recipe(table, {}, {}, "caption"), lambda _: None)
    ready.model.eval()
    batch = ready.builder.assemble([(0, 0), (0, 1)], ready.prepared.tasks)
    part = batch.targets["caption"]
    assert part["owner"].tolist() == [0, 0, 1, 1]  # two captions an image, a row each
    assert ready.model.image_id is not None
    assert (part["input_ids"] == ready.model.image_id).sum(1).tolist() == [4] * 4
    learned = part["labels"] != -100
    assert not bool((part["labels"][learned] == ready.model.image_id).any())
    with torch.no_grad():
        together = ready.model(batch)["caption"]
        alone = [ready.model(ready.builder.assemble([(0, index)], ready.prepared.tasks))["caption"] for index in (0, 1)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    other = image_batch(pixels_of(batch).flip(0), caption=part)
    with torch.no_grad():
        for layer in ready.model.decoder.layers:  # type: ignore[union-attr]  # else nothing is passed on at first
            torch.nn.init.normal_(layer.self_attn.o_proj.weight, std=0.2)  # type: ignore[union-attr, arg-type]
        assert not torch.allclose(ready.model(batch)["caption"], ready.model(other)["caption"], atol=1e-4)


def test_a_conversation_shows_its_image_where_it_was_shown(table: Path, tmp_path: Path) -> None:
    run = learn(recipe(table, {}, {}, "converse"), tmp_path / "run", log=lambda _: None, quiet=True)
    ours = Predictor.open(run.folder)
    task: Any = ours.tasks["converse"]
    turns = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "Yes."}]
    last = {"role": "user", "content": "Two."}

    def place(messages: list[dict[str, Any]]) -> int:
        ids: list[int] = task.ask({"messages": [messages], "image": ["x"]}, 0, ours.processor)
        text = ours.processor.tokenizer.decode(ids, skip_special=False)
        return text[: text.index("<image>")].count("<|user|>")

    assert place([*turns, last]) == 1
    assert place([*turns, {**last, "shown": True}]) == 2
    file = str(table.parent / "13.png")
    shown = {"role": "user", "content": [{"type": "image", "path": file}, {"type": "text", "text": "Two."}]}
    model = load(run.folder)
    assert model.chat([*turns, shown]) == ours.answer([*turns, shown]).value
    long = [{"role": "user", "content": "very long " * 60}, {"role": "assistant", "content": "red " * 40}]
    laid = task.lay({"messages": [long], "image": ["x"]}, 0, "", ours.processor)
    assert len(laid.ids) <= 2 * 32 + 1 + len(ours.processor.image)
    assert laid.ids.count(ours.processor.image_id) == 4  # the image stays whole where the text is cut
    assert any(laid.learned)


def test_other_tasks_lie_beside_the_layout(table: Path, tmp_path: Path) -> None:
    made = recipe(table, {}, {"qk_norm": False})
    made = made.replace({"tasks": made.tasks + recipe(table, {}, {}, "classify").tasks})
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    assert run.read_json("config.json")["model_type"] == "idefics3"
    parts = {name.split(".")[0] for name in load_weights(run.folder / "heads.safetensors")}
    assert parts == {"heads", "fusion", "places"}
    again = Predictor.open(run.folder)
    row = {"image": str(table.parent / "3.png"), "caption": "a square"}
    assert again.predict(row, task="classify")[0].value in COLOURS


@pytest.mark.parametrize("change", ["convnet", "pooled", "cross tower"])
def test_what_other_programs_have_no_place_for_is_saved_in_our_layout(table: Path, tmp_path: Path, change: str) -> None:
    more: dict[str, dict[str, Any]] = {
        "convnet": {"kind": "convnet"},
        "pooled": {"tokens": 9},
        "cross tower": {"pool": "probe"},
    }
    made = recipe(table, {}, {}, **more[change])
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    assert run.read_json("config.json")["model_type"] == "rebus"
    ours = Predictor.open(run.folder)
    assert ours.model.plan.inside == (9 if change == "pooled" else 4)
    assert ours.ask(table.parent / "13.png", QUESTIONS[0]).value is not None


def test_a_resumed_run_ends_with_the_same_weights(table: Path, tmp_path: Path) -> None:
    made = recipe(table, {"projector": "mlp"}, {})
    made = made.replace({"train.steps": 6, "train.save_every": 3, "train.validate_every": 3})
    whole = learn(made, tmp_path / "whole", log=lambda _: None, quiet=True, evaluate=False)
    (tmp_path / "half").mkdir()
    for name in ("recipe.yaml", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "check.json"):
        (tmp_path / "half" / name).write_bytes((whole.folder / name).read_bytes())
    first = sorted((whole.folder / "checkpoints").iterdir())[0]
    import shutil

    shutil.copytree(first, tmp_path / "half" / "checkpoints" / first.name)
    again = learn(Run(tmp_path / "half").recipe, tmp_path / "half", resume=True, log=lambda _: None, quiet=True)
    one, other = load_weights(whole.folder), load_weights(again.folder)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_features_of_a_frozen_tower_give_the_same_loss(table: Path) -> None:
    losses = []
    for frozen in (False, True):
        ready = assemble(recipe(table, {}, {}, frozen=frozen, tokens=4), lambda _: None)
        batch = ready.builder.parts_at(0, 1.0)[0]
        assert ("tokens" in batch.inputs["image"].tensors) == frozen
        losses.append(ready.tasks["answer"].loss(ready.model(batch)["answer"], batch.targets["answer"]))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("kind", ["smolvlm", "llava clip"])
def test_a_foreign_checkpoint_is_asked_and_fine_tuned(table: Path, tmp_path: Path, kind: str) -> None:
    write_seeing(tmp_path / "base", kind)
    model = load(tmp_path / "base")
    image = table.parent / "13.png"
    said = model.ask(image, "What is left?", max_new_tokens=4)
    told = CliRunner().invoke(
        app, ["ask", str(tmp_path / "base"), "--image", str(image), "What is left?", "--max-new-tokens", "4"]
    )
    assert told.exit_code == 0, told.output
    assert told.output.strip() == said.strip()
    content = [{"type": "image", "path": str(image)}, {"type": "text", "text": "What is left?"}]
    assert model.chat([{"role": "user", "content": content}], max_new_tokens=4)
    assert model.chat([{"role": "user", "content": "hello"}], max_new_tokens=4) is not None  # without an image
    made = Recipe().replace(
        {"data.path": str(table), "data.split.column": "split", "data.kinds": {"answer": "text", "question": "text"}}
    )
    columns = {"image": "image", "question": "question", "answer": "answer"}
    made = made.replace(
        {
            "tasks": [TaskSettings(name="answer", columns=columns, max_new_tokens=4)],
            "train.steps": 2,
            "train.batch_size": 12,
            "train.precision": "fp32",
            "base": str(tmp_path / "base"),
        }
    )
    lines: list[str] = []
    run = learn(made, tmp_path / "run", log=lines.append, quiet=True)
    taken = next(line for line in lines if line.startswith("started from"))
    assert "0 begin anew" in taken
    written = "llava" if "llava" in kind else "idefics3"
    assert run.read_json("config.json")["model_type"] == written
    before, after = load_weights(tmp_path / "base"), load_weights(run.folder)
    embeddings = next(name for name in after if name.endswith("embed_tokens.weight"))
    theirs = next(name for name in before if name.endswith("embed_tokens.weight"))
    assert after[embeddings].shape == before[theirs].shape  # the tokenizer had all marks
    assert (run.folder / "chat_template.jinja").read_text() == (tmp_path / "base" / "chat_template.jinja").read_text()


def test_a_text_tower_of_another_project_is_given_marks(table: Path, tmp_path: Path) -> None:
    """A tokenizer with a chat template that knows no images: both learn them, for transformers too."""
    from transformers import AutoProcessor

    from tiny_checkpoints import write_checkpoint

    write_checkpoint(tmp_path / "base", "llama", chat=True)
    made = recipe(table, {}, {})
    made = made.replace({"model.text": Tower(), "base": str(tmp_path / "base")})
    run = learn(made, tmp_path / "run", log=lambda _: None, quiet=True)
    assert run.read_json("config.json")["model_type"] == "idefics3"
    ours = Predictor.open(run.folder)
    processor = AutoProcessor.from_pretrained(run.folder, use_fast=False)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the cat was red"}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    given = processor(text=prompt, images=[Image.new("RGB", (40, 30))], return_tensors="pt", add_special_tokens=False)
    task: Any = ours.tasks["answer"]
    ids = task.ask({"question": ["the cat was red"], "image": ["x"]}, 0, ours.processor)
    assert given["input_ids"][0].tolist() == ids
    assert ids.count(ours.processor.image_id) == 4


def test_what_does_not_go_together_is_told(table: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model.fusion.layout: expected prefix, unless the fusion is unified"):
        assemble(recipe(table, {"kind": "cross"}, {}), lambda _: None)
    with pytest.raises(RecipeError, match=r"model.image.tokens: expected at most the 16 tokens"):
        assemble(recipe(table, {}, {}, tokens=64), lambda _: None)
    with pytest.raises(RecipeError, match=r"model.fusion.shuffle: expected a divisor"):
        assemble(recipe(table, {"projector": "shuffle", "shuffle": 3}, {}), lambda _: None)
    said: list[str] = []
    made = recipe(table, {}, {})
    made = made.replace({"image.fit": "pad"})
    assemble(made, said.append)
    assert any("squash images that are not square" in line for line in said)


def test_a_image_that_is_not_there_and_a_model_that_sees_none_are_told(
    runs: dict[str, Run], table: Path, tmp_path: Path
) -> None:
    told = CliRunner().invoke(app, ["ask", str(runs["idefics3"].folder), "--image", "nowhere.png", "What?"])
    assert told.exit_code == 2
    assert "nowhere.png" in told.output
    from rebus.checkpoints.export import export
    from tiny_checkpoints import write_checkpoint

    with pytest.raises(Exception, match="in the layout of idefics3"):
        export(runs["idefics3"].folder, tmp_path / "out")
    write_checkpoint(tmp_path / "text", "llama", chat=True)
    told = CliRunner().invoke(app, ["ask", str(tmp_path / "text"), "--image", "nowhere.png", "What?"])
    assert told.exit_code == 2
    assert "nowhere.png" in told.output  # before any model is loaded
    told = CliRunner().invoke(app, ["ask", str(tmp_path / "text"), "--image", str(table.parent / "0.png"), "What?"])
    assert told.exit_code == 2
    assert "leave --image out" in told.output
    with pytest.raises(DataError):
        load(tmp_path / "text").predict({"question": "x"}, task="answer")
