"""Checkpoints of other libraries opened by Rebus: what each case is, and how far its numbers are from the library's.

``CASES``: name: a function that writes a checkpoint into a folder with the other library, opens it and gives the
largest difference of logits, scores or vectors. A WeightsError is a refusal. ``scripts/interop_table.py`` makes
docs/INTEROP.md of them, together with those of ``interop_out`` where these are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from batches import image_batch
from rebus.checkpoints.hf_load import open_checkpoint
from rebus.inference.predictor import Predictor
from rebus.models.batch import Batch
from tiny_checkpoints import DECODERS, V, reference_decoder, write_bert, write_checkpoint, write_tokenizer
from tiny_duals import clip_folder, siglip_folder
from tiny_images import IMAGES, saved, seen_by
from tiny_seeing import SIDE, write_seeing

Case = Callable[[Path], float]
IDS = torch.tensor([[5, 4, 9, 30, 2, 7]])
TEXTS = ["the cat is red", "a dog", "here and there"]


def far(ours: Any, theirs: Any) -> float:
    """The largest difference."""
    return float(np.abs(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)).max())


def edit(file: Path, **values: Any) -> None:
    """Change entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | values), encoding="utf-8")


def logits(place: Path, ids: Tensor = IDS) -> Tensor:
    """Of a decoder, opened here."""
    decoder = open_checkpoint(place)[0].decoder
    assert decoder is not None
    return decoder.logits(decoder.forward_embeds(decoder.embed(ids), torch.arange(ids.shape[1])[None]))


def decoder(folder: Path, *, name: str, **changes: Any) -> float:
    """A language model."""
    theirs = write_checkpoint(folder, name)(IDS).logits
    if changes:
        edit(folder / "config.json", **changes)
    return far(logits(folder), theirs)


def mistral(folder: Path, *, window: int | None) -> float:
    """A Mistral."""
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    model = MistralForCausalLM(MistralConfig(**sizes, **heads, **ids, sliding_window=window)).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return far(logits(folder), model(IDS).logits)


def masked(folder: Path) -> float:
    """A BERT that guesses words."""
    theirs = write_bert(folder, head=True)
    model, _, tasks, _ = open_checkpoint(folder)
    assert list(tasks) == ["mlm"]
    assert model.text is not None
    tokens = model.text(IDS, torch.ones_like(IDS, dtype=torch.bool)).tokens
    return far(model.heads["mlm"].outputs(tokens, model.text.words.weight), theirs(IDS).logits)


def headed(folder: Path, *, kind: str, labels: list[str]) -> float:
    """A BERT with a linear head."""
    import transformers as t

    from tiny_checkpoints import loud

    sizes = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}
    config = t.BertConfig(**sizes, num_attention_heads=4, max_position_embeddings=32, **named)
    torch.manual_seed(1)
    theirs: Any = loud(getattr(t, f"BertFor{kind}")(config).eval())
    theirs.save_pretrained(folder)
    write_tokenizer(folder, bert=True)
    model, _, tasks, _ = open_checkpoint(folder)
    (name,) = tasks
    part = {
        "text_ids": IDS,
        "text_mask": torch.ones_like(IDS, dtype=torch.bool),
        "owner": torch.zeros(1, dtype=torch.long),
    }
    ours = model(Batch.of_target(name, part), [name])[name]
    out = theirs(IDS)
    return far(ours, torch.stack([out.start_logits, out.end_logits], -1) if name == "extract" else out.logits)


def sentences(folder: Path, *, pooling: str, dense: bool = False) -> float:
    """A folder of sentence-transformers."""
    from sentence_transformers import SentenceTransformer, models

    write_bert(folder / "base")
    modules = [models.Transformer(str(folder / "base"), max_seq_length=12), models.Pooling(24, pooling_mode=pooling)]
    model = SentenceTransformer(
        modules=[*modules, *([models.Dense(24, 8)] if dense else []), models.Normalize()], device="cpu"
    )
    model.save(str(folder / "model"))
    return far(Predictor.open(folder / "model").embed(TEXTS), model.encode(TEXTS))


def dual(folder: Path, *, make: Callable[[Path], Any], whole: bool) -> float:
    """A CLIP or SigLIP with its processor, in one file as transformers 5 writes it or in the older one."""
    import transformers as t

    model = make(folder)
    images, tokenizer = t.AutoImageProcessor.from_pretrained(folder), t.AutoTokenizer.from_pretrained(folder)
    if whole:
        (folder / "preprocessor_config.json").unlink()
        family = "CLIP" if make is clip_folder else "Siglip"
        getattr(t, f"{family}Processor")(images, tokenizer).save_pretrained(folder)
        assert not (folder / "preprocessor_config.json").exists()
    rng = np.random.default_rng(0)
    shown = [Image.fromarray(rng.integers(0, 256, (41, 57, 3), dtype=np.uint8)) for _ in range(2)]
    for number, image in enumerate(shown):
        image.save(folder / f"{number}.png")
    padding = True if make is clip_folder else "max_length"
    read = tokenizer(["a red car", "cats"], padding=padding, truncation=True, return_tensors="pt")
    theirs = model.eval()(**read, **images(shown, return_tensors="pt"))
    ours = Predictor.open(folder)
    seen = ours.embed_images([folder / "0.png", folder / "1.png"])
    return max(far(seen, theirs.image_embeds), far(ours.embed(["a red car", "cats"]), theirs.text_embeds))


def image_tower(folder: Path, *, name: str) -> float:
    """A tower for images alone."""
    from rebus.checkpoints.hf_load import read_checkpoint
    from rebus.formats.names import below
    from rebus.models.towers import TOWERS

    model = saved(folder, name)
    size = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
    found = read_checkpoint(folder, image_only=True)
    tower = TOWERS.get(found.tower.kind)(found.tower, size=32).eval()
    tower.load_state_dict(below("image.", found.state()))
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return far(tower(pixels).tokens, seen_by(model, pixels)[0])


def seeing(folder: Path, *, kind: str, adapted: bool = False) -> float:
    """A model that sees and writes."""
    theirs: Any = write_seeing(folder / "base", kind)
    place = folder / "base"
    if adapted:
        place = folder / "adapter"
        adapt(theirs, folder / "base", place, target_modules=["q_proj", "down_proj"])
    ours = Predictor.open(place)
    seen = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8))
    values = {"messages": [[{"role": "user", "content": "What is this?"}]], "image": ["x"]}
    ids = torch.tensor([ours.tasks["converse"].ask(values, 0, ours.processor)])  # type: ignore[attr-defined]
    condition = ours.model.condition(ours.model.see(image_batch(seen)), {"owner": torch.tensor([0])})
    assert ours.model.decoder is not None
    hidden = ours.model.decoder.forward_embeds(ours.model.embed(condition, ids), torch.arange(ids.shape[1])[None])
    pixels = ours.model.image.normalise(seen)
    given = theirs(input_ids=ids, pixel_values=pixels if "llava" in kind else pixels[:, None])
    return far(ours.model.decoder.logits(hidden), given.logits)


def adapt(model: Any, base: Path, place: Path, **settings: Any) -> Any:
    """A random adapter of PEFT's, saved; gives PEFT's model."""
    import peft

    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, **settings)).eval()
    torch.manual_seed(3)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.3)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(place)
    return wrapped


def adapter(folder: Path, *, name: str, **settings: Any) -> float:
    """A PEFT adapter of a language model."""
    wrapped = adapt(write_checkpoint(folder / "base", name), folder / "base", folder / "adapter", **settings)
    return far(logits(folder / "adapter"), wrapped(IDS).logits)


def gguf(folder: Path, *, name: str, precision: Any = "f32", **fields: Any) -> float:
    """A GGUF file, against transformers' own model of the same numbers."""
    from rebus.formats.gguf import GgufModel, read_gguf, write_gguf
    from rebus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["the cat was red", "the dog was blue"] * 3, 300, pattern="gpt-2")
    model: Any = reference_decoder(name)
    model.resize_token_embeddings(tokenizer.vocab_size, mean_resizing=False)
    folder.mkdir(exist_ok=True)
    write_gguf(folder / "m.gguf", model.config.to_dict(), model.state_dict(), tokenizer, precision=precision)
    if fields:
        read_gguf_with(folder / "m.gguf", fields)
    found: GgufModel = read_gguf(folder / "m.gguf")
    state = {key: one.float() for key, one in found.state.items()}
    model.load_state_dict(state, strict=False)
    return far(logits(folder / "m.gguf"), model(IDS).logits)


def read_gguf_with(path: Path, fields: dict[str, Any]) -> None:
    """Write a file again with further metadata."""
    import gguf as package

    from rebus.formats.gguf_file import GgufFile

    file = GgufFile.open(path)
    writer = package.GGUFWriter(path.with_suffix(".new"), file.fields["general.architecture"])
    kinds = {str: "string", int: "uint32", float: "float32", bool: "bool"}
    for key, value in ({k: v for k, v in file.fields.items() if k != "general.architecture"} | fields).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            getattr(writer, f"add_{kinds[type(value)]}")(key, value)
    for name in file.entries:
        writer.add_tensor(name, file.tensor(name).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".new").replace(path)


CASES: dict[str, Case] = {
    **{f"{name}": partial(decoder, name=name) for name in DECODERS},
    "llama, yarn positions": partial(decoder, name="llama", rope_parameters={"rope_type": "yarn", "factor": 2.0}),
    "mistral without a window": partial(mistral, window=None),
    "mistral with a window": partial(mistral, window=8),
    "another family (mamba)": partial(decoder, name="llama", model_type="mamba"),
    "BertForMaskedLM": masked,
    "BertForSequenceClassification": partial(headed, kind="SequenceClassification", labels=["x", "y", "z"]),
    "BertForTokenClassification": partial(headed, kind="TokenClassification", labels=["O", "B-A", "I-A"]),
    "BertForQuestionAnswering": partial(headed, kind="QuestionAnswering", labels=["a", "b"]),
    **{
        f"sentence-transformers, {pooling}": partial(sentences, pooling=pooling)
        for pooling in ("mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens")
    },
    "sentence-transformers, Dense": partial(sentences, pooling="mean", dense=True),
    "clip, processor_config.json": partial(dual, make=clip_folder, whole=True),
    "clip, preprocessor_config.json": partial(dual, make=clip_folder, whole=False),
    "siglip, processor_config.json": partial(dual, make=siglip_folder, whole=True),
    "siglip, preprocessor_config.json": partial(dual, make=siglip_folder, whole=False),
    **{f"{name}, tower": partial(image_tower, name=name) for name in IMAGES},
    **{kind: partial(seeing, kind=kind) for kind in ("idefics3", "smolvlm", "llava clip", "llava siglip")},
    "PEFT on llama": partial(adapter, name="llama", target_modules=["q_proj", "up_proj"]),
    "PEFT on llama, DoRA": partial(adapter, name="llama", target_modules=["q_proj"], use_dora=True),
    "PEFT on llama, rsLoRA": partial(adapter, name="llama", target_modules=["q_proj"], use_rslora=True),
    "PEFT on llama, rank_pattern": partial(
        adapter, name="llama", target_modules=["q_proj", "k_proj"], rank_pattern={r"layers\.1\..*_proj": 4}
    ),
    "PEFT on llama tied, embeddings": partial(adapter, name="llama tied", target_modules=["embed_tokens", "q_proj"]),
    "PEFT on gpt2": partial(adapter, name="gpt2", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    "PEFT on llama, PiSSA": partial(adapter, name="llama", target_modules=["q_proj"], init_lora_weights="pissa"),
    "PEFT on llama, OLoRA": partial(adapter, name="llama", target_modules=["q_proj"], init_lora_weights="olora"),
    "PEFT on llava": partial(seeing, kind="llava clip", adapted=True),
    "PEFT on idefics3": partial(seeing, kind="idefics3", adapted=True),
    "GGUF llama": partial(gguf, name="llama"),
    "GGUF qwen3, q8_0": partial(gguf, name="qwen3 tied", precision="q8_0"),
    "GGUF gpt2": partial(gguf, name="gpt2"),
    "GGUF llama, llama3 positions": partial(gguf, name="llama 3 positions"),
    "GGUF llama, linear positions": partial(gguf, name="llama linear positions"),
    "GGUF llama, yarn": partial(gguf, name="llama", **{"llama.rope.scaling.type": "yarn"}),
}
