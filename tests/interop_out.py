"""What Rebus saves, opened by other libraries: what each case is, and how far their numbers are from ours.

``CASES``: name: a function that saves a model with random weights into a folder, opens it with the other library and
gives the largest difference of logits, scores or vectors. A RebusError is a refusal. ``scripts/interop_table.py`` makes
docs/INTEROP.md of them, together with those of ``interop_in``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage

from rebus.checkpoints.export import export
from rebus.checkpoints.hf_load import open_checkpoint
from rebus.checkpoints.save_load import build_model, processor_of, save_model
from rebus.inference.predictor import Predictor
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Fusion, Image, Recipe, TaskSettings, Tower
from rebus.tasks import TASKS
from rebus.text.frames import with_end
from rebus.text.tokenizer import Tokenizer
from tiny_checkpoints import write_tokenizer
from tiny_duals import clip_folder, siglip_folder
from tiny_seeing import write_seeing

Case = Callable[[Path], float]
TEXTS = ["the cat is red", "a dog", "good and bad"]
LABELS = ["red", "蓝", "not blue"]
DECODERS: dict[str, dict[str, Any]] = {
    "qwen3": {"qk_norm": True},
    "qwen2": {"qk_norm": False, "bias": "qkv"},
    "llama": {"qk_norm": False, "tied": False},
    "llama tied": {"qk_norm": False, "tied": True},
    "gpt2": {
        **{"qk_norm": False, "norm": "layer", "feedforward": "mlp", "positions": "learned", "bias": "all"},
        "activation": "gelu_tanh",
    },
}
COLUMNS = {
    "classify": {"text": "text", "label": "label"},
    "tag": {"text": "text", "labels": "labels"},
    "ner": {"tokens": "tokens", "tags": "tags"},
    "extract": {"question": "question", "passage": "passage", "answer": "answer"},
    "similar": {"anchor": "text", "positive": "other"},
    "lm": {"text": "text"},
    "mlm": {"text": "text"},
}
STATES: dict[str, dict[str, Any]] = {
    "classify": {"labels": LABELS},
    "tag": {"labels": LABELS},
    "extract": {"unanswerable": False, "longest": 8},
}


def run_of(folder: Path, settings: Recipe, tokenizer: Tokenizer) -> VisionLanguageModel:
    """A Run with random weights, none of them at a start that would hide a mistake."""
    tasks = {entry.name: TASKS.get(entry.name)(entry) for entry in settings.tasks}
    for name, task in tasks.items():
        if name in STATES:
            task.restore(STATES[name])
        elif name == "ner":
            task.fit({"tokens": [["cat", "is", "red"]], "tags": [["B-ANIMAL", "O", "B-COLOUR"]]}, [0])
    model = build_model(settings, tasks, processor_of(settings, tokenizer, None)).eval()
    torch.manual_seed(2)
    for tensor in model.parameters():
        tensor.data.add_(torch.randn_like(tensor) * 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model, settings, tasks, processor_of(settings, tokenizer, None))
    (folder / "recipe.yaml").write_text(settings.save_text(), encoding="utf-8")
    return model


def text_recipe(task: str, **tower: Any) -> Recipe:
    """Of one text tower."""
    return Recipe().replace(
        {
            "model.image.kind": "none",
            "model.fusion.kind": "none",
            "model.text": Tower(**{"width": 24, "depth": 2, "heads": 4, **tower}),
            "model.head": "linear",
            "text.max_length": 32,
            "tasks": [TaskSettings(name=task, columns=COLUMNS[task])],
        }
    )


def encoder(folder: Path, task: str, pool: str = "mean") -> Predictor:
    """A BERT-shaped Run of one task, with BERT's kind of tokenizer, opened here."""
    write_tokenizer(folder / "words", bert=True)
    run_of(folder / "run", text_recipe(task, kind="encoder", pool=pool), Tokenizer.load(folder / "words"))
    return Predictor.open(folder / "run")


def far(ours: Any, theirs: Any) -> float:
    """The largest difference."""
    return float(np.abs(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)).max())


def text_classification(folder: Path, task: str) -> float:
    """``pipeline("text-classification")``."""
    from transformers import pipeline

    ours = encoder(folder, task, "cls").predict([{"text": text} for text in TEXTS])
    pipe = pipeline("text-classification", str(folder / "run"), top_k=None)
    worst = 0.0
    for mine, theirs in zip(ours, pipe(TEXTS, truncation=True), strict=True):
        scores = {one["label"]: one["score"] for one in theirs}
        worst = max(worst, far([scores[label] for label in mine.scores], list(mine.scores.values())))
    return worst


def token_logits(folder: Path, task: str, architecture: str) -> float:
    """The numbers for each token by an architecture of transformers."""
    import transformers

    predictor = encoder(folder, task)
    model = getattr(transformers, architecture).from_pretrained(folder / "run").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "run")
    pair = ("the cat", "the red dog is good") if task == "extract" else ("the cat is red",)
    inputs = tokenizer(*pair, return_tensors="pt")
    told = model(**inputs)
    theirs = told.logits if task == "ner" else torch.stack([told.start_logits, told.end_logits], -1)
    segments = inputs["token_type_ids"] if task == "extract" else None
    tower = predictor.model.text
    assert tower is not None
    mask = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    ours = predictor.model.heads[task].outputs(tower(inputs["input_ids"], mask, segments).tokens)
    return far(ours, theirs)


def fill_mask(folder: Path) -> float:
    """``BertForMaskedLM``."""
    from transformers import AutoModelForMaskedLM

    model = encoder(folder, "mlm").model
    assert model.text is not None
    ids = torch.tensor([[1, 5, 4, 9, 2]])
    ours = model.heads["mlm"].outputs(
        model.text(ids, torch.ones_like(ids, dtype=torch.bool)).tokens, model.text.words.weight
    )
    return far(ours, AutoModelForMaskedLM.from_pretrained(folder / "run").eval()(ids).logits)


def sentences(folder: Path, pool: str) -> float:
    """``SentenceTransformer``."""
    from sentence_transformers import SentenceTransformer

    predictor = encoder(folder, "similar", pool)
    return far(predictor.embed(TEXTS), SentenceTransformer(str(folder / "run"), device="cpu").encode(TEXTS))


def decoder(folder: Path, name: str, form: str) -> float:
    """``AutoModelForCausalLM`` on the ids of ``AutoTokenizer``: of the Run itself, or exported."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cut: dict[str, Any] = {"pattern": "qwen2", "nfkc": False, "nfc": name == "qwen2"}
    tokenizer = Tokenizer.train(["the cat is red. " * 9, "a dog; 12 good things"], 320, **cut)
    model = run_of(folder / "run", text_recipe("lm", kind="decoder", **DECODERS[name]), tokenizer)
    place = folder / "run"
    if form == "export":
        place = export(folder / "run", folder / "hf").path
    predictor = Predictor.open(folder / "run")
    ids = AutoTokenizer.from_pretrained(place)("the cat is café", return_tensors="pt")["input_ids"]
    if ids[0].tolist() != predictor.writing.prompt("the cat is café"):
        return float("inf")
    tower = model.decoder
    assert tower is not None
    ours = tower.logits(tower.forward_embeds(tower.embed(ids), torch.arange(ids.shape[1])[None]))
    return far(ours, AutoModelForCausalLM.from_pretrained(place).eval()(ids).logits)


def image_classification(folder: Path, **tower: Any) -> float:
    """``AutoModelForImageClassification`` with ``AutoImageProcessor``, of an exported Run."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    made = Recipe().replace(
        {
            "model.image": Tower(**{"width": 32, "depth": 1, "heads": 4, "patch": 8, **tower}),
            "model.text.kind": "none",
            "model.fusion.kind": "none",
            "model.head": "linear",
            "image": Image(size=32, fit="squash", resample="bicubic"),
            "tasks": [TaskSettings(name="classify", columns={"image": "p", "label": "l"})],
        }
    )
    run_of(folder / "run", made, Tokenizer.train(["a", "b"], 300))
    place = export(folder / "run", folder / "hf").path
    pixels = np.random.default_rng(0).integers(0, 256, (50, 41, 3), dtype=np.uint8)
    model = AutoModelForImageClassification.from_pretrained(place).eval()
    inputs = AutoImageProcessor.from_pretrained(place)(PILImage.fromarray(pixels), return_tensors="pt")
    theirs = model(**inputs).logits.softmax(-1)[0]
    mine = Predictor.open(folder / "run").predict({"p": pixels})[0].scores
    return far([mine[model.config.id2label[number]] for number in range(len(theirs))], theirs)


def joined(folder: Path) -> float:
    """An image and a text joined in a way that no other library has."""
    made = Recipe().replace(
        {
            "model.image": Tower(kind="convnet", width=16, depth=1, heads=4),
            "model.text": Tower(kind="encoder", width=24, depth=1, heads=4),
            "model.fusion": Fusion(kind="joint"),
            "image.size": 32,
            "tasks": [TaskSettings(name="classify", columns={"image": "p", "text": "text", "label": "l"})],
        }
    )
    run_of(folder / "run", made, with_end(Tokenizer.train(["a", "b"], 300)))
    export(folder / "run", folder / "hf")
    return 0.0


def saved_again(folder: Path, *, write: Callable[[Path], Any], auto: str) -> float:
    """A checkpoint with two towers, opened here and saved as a Run: the tensors that transformers then finds."""
    import transformers

    write(folder / "base")
    theirs = getattr(transformers, auto).from_pretrained(folder / "base").state_dict()
    model, settings, tasks, processor = open_checkpoint(folder / "base")
    (folder / "run").mkdir()
    save_model(folder / "run", model, settings, tasks, processor)
    found, told = getattr(transformers, auto).from_pretrained(folder / "run", output_loading_info=True)
    if told["missing_keys"] or told["unexpected_keys"]:
        return float("inf")
    ours = found.state_dict()
    # Llava reads its image tower below the last layer: what lies above is not kept, and the model has no place for it
    floats = {name: tensor for name, tensor in theirs.items() if tensor.is_floating_point() and name in ours}
    return max(far(ours[name], tensor) for name, tensor in floats.items())


CASES: dict[str, Case] = {
    'pipeline("text-classification"), classify': partial(text_classification, task="classify"),
    'pipeline("text-classification"), tag': partial(text_classification, task="tag"),
    "AutoModelForTokenClassification, ner": partial(
        token_logits, task="ner", architecture="AutoModelForTokenClassification"
    ),
    "AutoModelForQuestionAnswering, extract": partial(
        token_logits, task="extract", architecture="AutoModelForQuestionAnswering"
    ),
    "AutoModelForMaskedLM, mlm": fill_mask,
    **{f"SentenceTransformer, {pool}": partial(sentences, pool=pool) for pool in ("mean", "max", "first", "weighted")},
    **{f"AutoModelForCausalLM, {name}": partial(decoder, name=name, form="run") for name in DECODERS},
    "AutoModelForCausalLM, qwen3 exported": partial(decoder, name="qwen3", form="export"),
    "AutoModelForImageClassification, vit": partial(
        image_classification, kind="vit", class_token=True, pool="cls", activation="gelu"
    ),
    "AutoModelForImageClassification, resnet": partial(image_classification, kind="resnet"),
    **{
        f"AutoModelForImageTextToText, {kind}": partial(
            saved_again, write=partial(write_seeing, kind=kind), auto="AutoModelForImageTextToText"
        )
        for kind in ("idefics3", "smolvlm", "llava clip")
    },
    "AutoModel, clip": partial(saved_again, write=clip_folder, auto="AutoModel"),
    "AutoModel, siglip": partial(saved_again, write=siglip_folder, auto="AutoModel"),
    "images and texts joined (joint)": joined,
}
