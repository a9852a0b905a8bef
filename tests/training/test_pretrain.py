"""Raw text in, a language model out: the road of lm and mlm."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import rebus
from batches import in_parts
from rebus import api
from rebus.errors import RecipeError
from rebus.inference.predictor import Predictor
from rebus.models.batch import Batch
from rebus.models.layout import IGNORED, one_text_a_row
from rebus.recipe import Recipe, TaskSettings, load_recipe, override
from rebus.resolve.corpus import CorpusBatchBuilder
from rebus.tasks.lm import as_part
from rebus.training.pretrain import Pretraining, goes_by_corpus
from rebus.training.train import make_ready

ENGLISH = ["The {} cat sat on the {} mat, and nobody's dog saw it.", "Every {} evening a {} bird sang in the garden."]
CHINESE = ["{}的猫坐在{}的垫子上，谁也没有看见它。", "每天晚上都有一只{}的小鸟在{}的花园里唱歌。"]
WORDS = (["old", "grey", "small", "quiet", "distant", "green"], ["年老", "灰色", "小小", "安静", "遥远", "绿色"])


def documents(many: int = 240) -> list[str]:
    """Short texts in both languages, no two the same."""
    rng, found = np.random.default_rng(0), []
    for number in range(many):
        texts, words = ((ENGLISH, WORDS[0]), (CHINESE, WORDS[1]))[number % 2]
        lines = [texts[i].format(*rng.choice(words, 2)) for i in rng.integers(0, 2, 3)]
        found.append(f"{number}\n" + "\n".join(lines))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\n<|endoftext|>\n".join(documents()), encoding="utf-8")
    return path


def small(task: str | None = None) -> dict[str, object]:
    """Settings of a run of a second."""
    return {
        "text.vocab_size": 320,
        "model.text.width": 32,
        "model.text.depth": 2,
        "model.text.heads": 2,
        "corpus.block": 48,
        "train.steps": 8,
        "train.batch_size": 6,
        "train.precision": "fp32",
        "train.validate_every": 4,
        "seed": 3,
        **({"model.text.dropout": 0.1} if task == "mlm" else {}),
    }


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> rebus.Run:
    return rebus.train(corpus, out=tmp_path_factory.mktemp("runs") / "lm", settings=small(), quiet=True)


@pytest.fixture(scope="module")
def masked(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> rebus.Run:
    out = tmp_path_factory.mktemp("runs") / "mlm"
    return rebus.train(corpus, task="mlm", out=out, settings=small("mlm"), quiet=True)


def ready_for(corpus: Path, folder: Path, task: str = "lm", **settings: object) -> Pretraining:
    words = {**small(task), **settings}
    recipe = override(Recipe(), [f"{key}={value}" for key, value in words.items()])
    recipe = recipe.replace({"data.path": str(corpus), "tasks": [TaskSettings(name=task)]})
    ready = make_ready(recipe, lambda _: None, folder / "shards")
    assert isinstance(ready, Pretraining)
    return ready


def test_a_text_file_becomes_a_language_model(run: rebus.Run) -> None:
    recipe, found = run.recipe, run.evaluation
    assert [task.name for task in recipe.tasks] == ["lm"]
    assert recipe.model.text.kind == "decoder"
    assert recipe.model.size is not None
    assert found["tasks"]["lm"]["metrics"]["bits_per_byte"] < found["tasks"]["lm"]["baseline"]["bits_per_byte"]
    assert found["training"]["text"]["train"]["tokens"] > 0
    lines = [line for line in run.metrics() if line["kind"] == "train"]
    assert all(line["tokens_per_second"] > 0 and 0 < line["share_of_peak"] < 1.5 for line in lines)
    assert {line["kind"] for line in run.metrics()} == {"train", "valid", "sample"}
    assert [line["step"] for line in run.metrics() if line["kind"] == "valid"] == [4, 8]
    assert Predictor.open(run.folder).model.decoder is not None


def test_bits_per_byte_is_the_sum_over_all_tokens(run: rebus.Run) -> None:
    """Counted here in the plainest way: one text, one token at a time, the ends of texts left out."""
    predictor = Predictor.open(run.folder)
    tokenizer, decoder = predictor.processor.tokenizer, predictor.model.decoder
    assert decoder is not None
    shards = ready_shards(run)
    nats, size = 0.0, 0
    for number in range(len(shards)):
        text = tokenizer.decode(shards[number][:-1].tolist())
        ids = tokenizer.encode(text)
        size += len(text.encode())
        for start in range(0, len(ids), 48):
            end = min(start + 48, len(ids))
            row = torch.tensor([[tokenizer.eos_id, *ids][max(0, end - 48) : end + 1]])  # the last window is as long
            with torch.no_grad():
                hidden = decoder.forward_embeds(decoder.embed(row[:, :-1]), torch.arange(row.shape[1] - 1)[None])
                chances = decoder.logits(hidden)[0, :, : tokenizer.vocab_size].double().log_softmax(-1)
            wanted = row[0, 1:].tolist()
            for at in range(len(wanted) - (end - start), len(wanted)):
                nats -= float(chances[at, wanted[at]])
    told = run.evaluation["tasks"]["lm"]["metrics"]["bits_per_byte"]
    assert told == pytest.approx(nats / math.log(2) / size, rel=1e-4)


def ready_shards(run: rebus.Run):  # type: ignore[no-untyped-def]
    from rebus.data.corpus import Shards

    return Shards.open(run.folder / "shards").documents("valid")


def test_transformers_opens_the_run_and_agrees(run: rebus.Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(run.folder)
    words = AutoTokenizer.from_pretrained(run.folder)
    predictor = Predictor.open(run.folder)
    decoder = predictor.model.decoder
    assert decoder is not None
    text = "The old cat 坐在灰色的垫子上。"
    ids = words(text, return_tensors="pt").input_ids
    assert ids[0].tolist() == predictor.writing.prompt(text)
    with torch.no_grad():
        ours = decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(ids.shape[1])[None]))
        torch.testing.assert_close(theirs(ids).logits, ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["lm", "mlm"])
def test_stopped_and_resumed_to_the_same_bits(
    task: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    calm: rebus.Run = request.getfixturevalue({"lm": "run", "mlm": "masked"}[task])
    plain = CorpusBatchBuilder.parts_at

    def stops(self: CorpusBatchBuilder, step: int, progress: float) -> dict[str, object]:
        if step == 6:  # the step before may be in hand
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, step, progress)

    with monkeypatch.context() as patch:
        patch.setattr(CorpusBatchBuilder, "parts_at", stops)
        stormy = rebus.train(corpus, task=task, out=tmp_path / "stormy", settings=small(task), quiet=True)
    assert not stormy.weights_path.exists()
    corpus.touch()  # the text itself is not needed any more: the shards are there
    api.resume(stormy.folder, quiet=True)
    first, second = (load_file(one.folder / "model.safetensors") for one in (calm, stormy))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_saved_recipe_repeats_the_run(run: rebus.Run, corpus: Path, tmp_path: Path) -> None:
    again = rebus.train(corpus, recipe=run.recipe_path, out=tmp_path / "again", quiet=True)
    assert again.recipe.model_dump() == run.recipe.model_dump()
    first, second = (load_file(one.folder / "model.safetensors") for one in (run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_ignores_padding(corpus: Path, tmp_path: Path) -> None:
    ready = ready_for(corpus, tmp_path)
    rows = [(np.arange(20, 32), np.zeros(11, dtype=np.int64)), (np.arange(40, 46), np.zeros(5, dtype=np.int64))]
    part = as_part(rows, inner_mask=False)
    assert part["labels"][1, 5:].eq(IGNORED).all()
    batch = Batch.of_target("lm", part)
    clean = ready.task.loss(ready.model(batch)["lm"], part)
    part["input_ids"][1, 5:] = 7
    assert torch.equal(ready.task.loss(ready.model(batch)["lm"], part), clean)
    alone = [as_part([row], inner_mask=False) for row in rows]
    losses = [ready.task.loss(ready.model(Batch.of_target("lm", one))["lm"], one) for one in alone]
    torch.testing.assert_close(clean, (11 * losses[0] + 5 * losses[1]) / 16)


def test_documents_in_a_row_see_each_other_only_without_the_inner_mask(corpus: Path, tmp_path: Path) -> None:
    ready = ready_for(corpus, tmp_path)
    for layer in ready.model.decoder.layers:  # at first, layers do nothing
        torch.nn.init.normal_(layer.self_attn.o_proj.weight)
    ids, blocks = np.arange(20, 33), np.repeat([0, 1], [5, 7])
    for inner_mask in (False, True):
        part = as_part([(ids, blocks)], inner_mask=inner_mask)
        assert one_text_a_row(part["blocks"]) is not inner_mask
        before = ready.model(Batch.of_target("lm", part))["lm"]
        part["input_ids"][0, :5] = 9
        after = ready.model(Batch.of_target("lm", part))["lm"]
        assert torch.allclose(before[5:], after[5:], atol=1e-6) is inner_mask
    assert part["positions"][0].tolist() == [*range(5), *range(7)]


def test_a_batch_is_a_function_of_the_step(corpus: Path, tmp_path: Path) -> None:
    for task in ("lm", "mlm"):
        one, other = ready_for(corpus, tmp_path / task, task), ready_for(corpus, tmp_path / task, task)
        for step in (0, 3):
            first, second = (
                one.builder.parts_at(step, 0.0)[0].targets[task],
                other.builder.parts_at(step, 1.0)[0].targets[task],
            )
            assert all(torch.equal(first[name], second[name]) for name in first)
        batch = one.builder.parts_at(0, 0.0)[0]
        parts = in_parts(one.builder, 0, 0.0, 3)
        assert [key for part in parts for key in part.keys] == batch.keys
        with pytest.raises(RecipeError, match="divides into 4"):
            in_parts(one.builder, 0, 0.0, 4)


def test_whole_words_are_hidden_in_both_languages(corpus: Path, tmp_path: Path) -> None:
    from rebus.data.corpus.word_starts import starts_of_tokens, word_places

    ready = ready_for(corpus, tmp_path, "mlm")
    tokenizer = ready.processor.tokenizer
    for text in ("The distant evening, nobody saw the garden.", "每天晚上都有一只安静的小鸟在花园里唱歌。"):
        ids, offsets = tokenizer.encode_with_offsets(text)
        words = np.cumsum(starts_of_tokens(word_places(text), offsets))
        assert len(set(words)) < len(ids)  # some word takes several tokens
        seen = set()
        for number in range(20):
            ((read, labels),) = ready.task.hidden(text, ready.processor, (0, 0, 0, number))
            hidden = {int(word) for word in words[labels != IGNORED]}
            assert hidden
            assert all((labels[words == word] != IGNORED).all() for word in hidden)
            assert (labels[labels != IGNORED] == np.array(ids)[labels != IGNORED]).all()
            seen |= {int(one) for one in read[labels != IGNORED]}
        assert tokenizer.mask_id in seen
        assert 0.08 < np.mean([self_share(ready, text, number) for number in range(60)]) < 0.25


def self_share(ready: Pretraining, text: str, number: int) -> float:
    ((_, labels),) = ready.task.hidden(text, ready.processor, (1, 0, 0, number))
    return float((labels != IGNORED).mean())


def test_a_masked_model_is_bert(masked: rebus.Run) -> None:
    from transformers import AutoModelForMaskedLM

    assert masked.evaluation["tasks"]["mlm"]["metrics"].keys() == {"masked_accuracy", "perplexity"}
    theirs = AutoModelForMaskedLM.from_pretrained(masked.folder)
    predictor = Predictor.open(masked.folder)
    task = predictor.tasks["mlm"]
    part = task.collate(task.items({"text": ["A small bird 在花园里"]}, [0], predictor.processor, None), [0])
    with torch.no_grad():
        ours = predictor.model(Batch.of_target("mlm", part))["mlm"]
        logits = theirs(part["text_ids"], attention_mask=part["text_mask"].long()).logits
    torch.testing.assert_close(logits[part["labels"] != IGNORED], ours, atol=1e-5, rtol=1e-5)


def test_a_run_is_judged_on_its_own_held_out_text_and_on_any_other(run: rebus.Run, tmp_path: Path) -> None:
    own = api.evaluate(run.folder)
    assert own.tasks["lm"].metrics == pytest.approx(run.evaluation["tasks"]["lm"]["metrics"])
    other = tmp_path / "other.txt"
    other.write_text("The grey cat sat on the old mat.\n花园里的猫。\n" * 20, encoding="utf-8")
    found = api.evaluate(run.folder, other).tasks["lm"]
    assert 0 < found.metrics["bits_per_byte"] < 8
    assert found.baseline_name in ("gzip -9", "bzip2 -9", "xz -9")


def test_the_report_tells_of_text_speed_and_samples(run: rebus.Run, masked: rebus.Run) -> None:
    for one, words in ((run, ("xz -9", "token frequencies", "tokens a second")), (masked, ("|", "tokens a second"))):
        card = (one.folder / "README.md").read_text(encoding="utf-8")
        assert all(word in card for word in words)
        assert "What it wrote while it learned" in card
        page = one.report_path.read_text(encoding="utf-8")
        assert "data:image/png" in page
    api.write_report(run.folder, lang="zh")
    assert "每字节比特数" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_columns_of_a_table_take_the_same_road(tmp_path: Path) -> None:
    for name, line in (
        ("texts.jsonl", json.dumps),
        ("story.csv", lambda row: '"' + row["story"].replace('"', "'") + '"'),
    ):
        lines = [line({"story": text}) for text in documents(120)]
        (tmp_path / name).write_text("\n".join(["story"] * name.endswith("csv") + lines), encoding="utf-8")
        recipe = override(Recipe(), [f"{key}={value}" for key, value in small().items()])
        recipe = recipe.replace({"data.path": str(tmp_path / name)})
        ready = make_ready(recipe, lambda _: None, tmp_path / f"{name}-shards")
        assert isinstance(ready, Pretraining), name
        assert ready.shards.documents("train").tokens > 500


def test_which_road_a_recipe_takes(corpus: Path, tmp_path: Path) -> None:
    recipe = Recipe().replace({"data.path": str(corpus)})
    assert goes_by_corpus(recipe)
    recipe = recipe.replace({"tasks": [TaskSettings(name="mlm")]})
    assert goes_by_corpus(recipe)
    recipe = recipe.replace({"data.split.column": "split"})
    assert not goes_by_corpus(recipe)
    recipe = Recipe(tasks=[TaskSettings(name="lm"), TaskSettings(name="classify")])
    assert not goes_by_corpus(recipe)


def test_a_language_model_beside_another_task(tmp_path: Path) -> None:
    rows = [{"text": text.split("\n", 1)[1], "tongue": "en" if text.isascii() else "zh"} for text in documents(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    settings = {key: value for key, value in small().items() if key != "train.validate_every"} | {"train.steps": 3}
    run = rebus.train(
        tmp_path / "rows.jsonl", task=["classify", "lm"], out=tmp_path / "both", settings=settings, quiet=True
    )
    assert set(run.evaluation["tasks"]) == {"classify", "lm"}
    assert run.evaluation["tasks"]["lm"]["baseline"].keys() == {"bits_per_byte", "perplexity"}


def test_a_base_goes_on_with_its_own_tokenizer(run: rebus.Run, corpus: Path, tmp_path: Path) -> None:
    settings = {"train.steps": 2, "train.batch_size": 4, "corpus.block": 32, "train.precision": "fp32"}
    more = rebus.train(corpus, task="lm", base=run.folder, out=tmp_path / "more", settings=settings, quiet=True)
    assert (more.folder / "tokenizer.json").read_bytes() == (run.folder / "tokenizer.json").read_bytes()
    before, after = (one.evaluation["tasks"]["lm"]["metrics"]["bits_per_byte"] for one in (run, more))
    assert after < before + 0.2


def test_the_wrong_tower_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="encoder, for the task 'mlm'"):
        ready_for(corpus, tmp_path, "mlm", **{"model.text.kind": "decoder"})


def test_dry_run_prints_what_the_dial_decides(corpus: Path) -> None:
    plan = api.dry_run(corpus, settings={"model.size": "nano", "corpus.block": 32, "text.vocab_size": 320})
    recipe = override(Recipe(), [])
    path = corpus.parent / "dry.yaml"
    path.write_text(plan.recipe_text, encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.model.size, recipe.model.text.width, recipe.model.text.depth) == ("nano", 128, 4)
    assert recipe.train.steps is not None
    assert plan.seconds is not None
    assert plan.seconds > 0
