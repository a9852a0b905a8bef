"""What was trained on a BERT or a ViT, opened by transformers' pipelines: the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rebus
from rebus.checkpoints.export import export
from rebus.checkpoints.run_folder import Run
from tiny_checkpoints import write_bert
from tiny_images import saved
from tiny_seeing import write_seeing

TEXTS = ["the dog number 4 is blue", "a cat", "THE red thing, 17!", "two dogs are tan", "café ½ 红色", "x " * 80]
WORDS = {"red": "cat", "blue": "dog", "tan": "cow"}


def rows_of(task: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(24):
        colour, animal = list(WORDS.items())[number % 3]
        words = ["the", animal, "number", str(number), "is", colour]
        text = " ".join(words)
        row: dict[str, Any] = {"text": text, "label": colour}
        if task == "ner":
            tags = ["O", "B-ANIMAL", "O", "O", "O", "B-COLOUR"]
            row = {"tokens": words, "tags": tags}
        found.append(row)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    write_bert(folder / "bert")
    made = {}
    for task in ("classify", "ner"):
        table = folder / f"{task}.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows_of(task)), encoding="utf-8")
        settings = {"train.steps": 25, "train.lr": 3e-3, "train.optimizer": "adamw", "report.explained": 0}
        made[task] = rebus.train(
            table, task=task, base=folder / "bert", settings=settings, out=folder / task, quiet=True
        )
    return made


def test_text_classification(runs: dict[str, Run]) -> None:
    from transformers import pipeline

    run = runs["classify"]
    config = run.read_json("config.json")
    assert config["architectures"] == ["BertForSequenceClassification"]
    pipe = pipeline("text-classification", str(run.folder), top_k=None)
    ours = run.load().predict([{"text": text} for text in TEXTS])
    for text, mine, theirs in zip(TEXTS, ours, pipe(TEXTS, truncation=True), strict=True):
        scores = {one["label"]: one["score"] for one in theirs}
        assert scores.keys() == mine.scores.keys(), text
        np.testing.assert_allclose([scores[label] for label in mine.scores], list(mine.scores.values()), atol=1e-4)
        assert max(scores, key=lambda label: scores[label]) == mine.value


def test_token_classification(runs: dict[str, Run]) -> None:
    from transformers import pipeline

    run = runs["ner"]
    assert run.read_json("config.json")["architectures"] == ["BertForTokenClassification"]
    pipe = pipeline("token-classification", str(run.folder), aggregation_strategy="first")
    texts = [" ".join(row["tokens"]) for row in rows_of("ner")[:6]]
    ours = run.load().predict([{"tokens": text} for text in texts])
    found = 0
    for text, mine in zip(texts, ours, strict=True):
        theirs = [(one["start"], one["end"], one["entity_group"]) for one in pipe(text)]
        assert [(span["start"], span["end"], span["label"]) for span in mine.value] == theirs
        found += len(theirs)
    assert found


@pytest.mark.parametrize("family", ["vit"])
def test_image_classification(tmp_path: Path, family: str) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    saved(tmp_path / "base", family)
    colours = {"red": (200, 30, 30), "blue": (30, 30, 200)}
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        name = ("red", "blue")[number % 2]
        pixels = np.clip(np.asarray(colours[name]) + rng.integers(-30, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "label": name})
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"train.steps": 12, "report.explained": 0}
    run = rebus.train(
        tmp_path / "t.jsonl", vision=tmp_path / "base", settings=settings, out=tmp_path / "run", quiet=True
    )
    told = export(run.folder, tmp_path / "hf")
    assert told.notes == []
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "hf").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "hf")
    loaded = run.load()
    for row in rows[:3]:
        image = Image.open(tmp_path / row["image"])
        with torch.no_grad():
            theirs = model(**processor(image, return_tensors="pt")).logits.softmax(-1)[0]
        mine = loaded.predict({"image": str(tmp_path / row["image"])})[0]
        scores = {model.config.id2label[number]: float(score) for number, score in enumerate(theirs)}
        np.testing.assert_allclose([scores[label] for label in mine.scores], list(mine.scores.values()), atol=1e-4)


ODD = [
    "",
    " ",
    "  a",
    "a  b",
    "I'm don't 'S",
    "1234567890 3.14",
    "中文，测试。：；（）",
    "\n\n a\n",
    "\t\tx",
    "ﬁ ½ №5 ™",
]
ODD += [
    "10 m²",
    "emoji 😀👍🏽",
    "كتاب русский",
    "café cafe\u0301",
    "x\u2028y",
    "\u00a0nbsp",
    "ｆｕｌｌ　ｗ",
    "\r\nwin\r\n",
    "...!!!???",
]


@pytest.mark.parametrize("bias", ["qkv", "none"])
def test_ids_are_those_of_auto_tokenizer(tmp_path: Path, bias: str) -> None:
    from transformers import AutoConfig, AutoTokenizer

    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows_of("classify")), encoding="utf-8")
    settings = {"train.steps": 1, "text.vocab_size": 400, "model.text.kind": "decoder", "model.text.bias": bias}
    settings |= {"model.text.qk_norm": bias != "qkv", "report.explained": 0}
    run = rebus.train(table, task="classify", settings=settings, out=tmp_path / "run", quiet=True)
    assert AutoConfig.from_pretrained(run.folder).model_type == ("qwen2" if bias == "qkv" else "qwen3")
    theirs = AutoTokenizer.from_pretrained(run.folder)
    ours = run.load().predictor.processor.tokenizer
    generator = np.random.default_rng(0)
    marks = [
        chr(code) for code in (*range(32, 127), *range(0xA0, 0x180), *range(0x4E00, 0x4E40), 0x2028, 0x301, 0x3000)
    ]
    texts = [*ODD, *("".join(generator.choice(marks, 20)) for _ in range(390))]
    assert [theirs(text, add_special_tokens=False)["input_ids"] for text in texts] == [ours.encode(t) for t in texts]


def test_a_language_model_begins_texts_alike_in_transformers_and_in_gguf(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rebus.formats.gguf_file import GgufFile

    text = tmp_path / "t.txt"
    text.write_text("\n\n".join(f"the dog number {number} is blue, and a cat is red." for number in range(60)))
    settings = {"train.steps": 2, "corpus.block": 16, "text.vocab_size": 320, "corpus.document": "paragraph"}
    shape = {"model.text.width": 16, "model.text.depth": 1, "model.text.heads": 2}
    run = rebus.train(text, task="lm", settings=settings | shape, out=tmp_path / "run", quiet=True)
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    ours = run.load()
    ids = tokenizer("the dog", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == ours.predictor.writing.prompt("the dog")
    model = AutoModelForCausalLM.from_pretrained(run.folder).eval()
    assert model.config.bos_token_id == ids[0, 0]
    written = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert tokenizer.decode(written, skip_special_tokens=True) == ours.generate("the dog", max_new_tokens=6)
    assert np.isfinite(list(rebus.evaluate(run, quiet=True).tasks["lm"].metrics.values())).all()
    rebus.export(run.folder, tmp_path / "m.gguf", precision="f32")
    fields = GgufFile.open(tmp_path / "m.gguf").fields
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.bos_token_id"] == ids[0, 0]


def test_sentence_vectors(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    write_bert(tmp_path / "bert")
    rows = [{"anchor": f"the dog number {n}", "positive": f"a dog is number {n}"} for n in range(24)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings, base = {"train.steps": 4, "report.explained": 0}, tmp_path / "bert"
    table, out = tmp_path / "t.jsonl", tmp_path / "run"
    run = rebus.train(table, task="similar", base=base, settings=settings, out=out, quiet=True)
    theirs = SentenceTransformer(str(run.folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(run.load().embed(TEXTS), theirs, atol=1e-5)
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    for line in ("library_name: sentence-transformers", "pipeline_tag: sentence-similarity", "base_model: bert"):
        assert line in card
    (run.folder / "touched").touch()
    assert run.weights_path.stat().st_mode == (run.folder / "touched").stat().st_mode


@pytest.mark.parametrize("kind", ["smolvlm", "llava clip"])
def test_adapters_of_a_model_that_sees_open_in_peft(tmp_path: Path, kind: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    write_seeing(tmp_path / "base", kind)
    rows = []
    for number in range(12):
        Image.new("RGB", (48, 48), (number * 20, 90, 200 - number * 10)).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "question": "what is it?", "answer": f"number {number}"})
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"train.steps": 4, "train.tune": "lora", "train.lr": 1e-2, "report.explained": 0, "train.batch_size": 4}
    run = rebus.train(tmp_path / "t.jsonl", base=tmp_path / "base", settings=settings, out=tmp_path / "run", quiet=True)
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    merged = PeftModel.from_pretrained(base, run.folder / "adapter").merge_and_unload().state_dict()
    whole = AutoModelForImageTextToText.from_pretrained(run.folder).state_dict()
    adapted = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert adapted
    for name in adapted:
        before = AutoModelForImageTextToText.from_pretrained(tmp_path / "base").state_dict()[f"{name}.weight"]
        assert not torch.allclose(before, whole[f"{name}.weight"], atol=1e-5) or "q_proj" not in name
        torch.testing.assert_close(merged[f"{name}.weight"], whole[f"{name}.weight"], atol=1e-5, rtol=1e-5)
