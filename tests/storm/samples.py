"""Small whole files of every kind that Rebus reads, and how each is opened."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SMALL = {
    **{"image.size": 32, "model.image.width": 16, "model.image.depth": 1, "model.image.heads": 2},
    **{"model.text.width": 16, "model.text.depth": 1, "model.text.heads": 2, "text.vocab_size": 300},
    **{"train.steps": 1, "train.batch_size": 4, "train.precision": "fp32"},
}


def make_samples(folder: Path, *, runs: bool = True) -> dict[str, tuple[str, Path]]:
    """Write them. Returns name: (how it is opened, where it is)."""
    samples: dict[str, tuple[str, Path]] = {}
    _checkpoints(folder, samples)
    _tables(folder, samples)
    if runs:
        _runs(folder, samples)
    return samples


def _checkpoints(folder: Path, samples: dict[str, tuple[str, Path]]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ResNetModel, ViTConfig, ViTModel

    from tiny_checkpoints import write_bert, write_checkpoint
    from tiny_duals import clip_folder, siglip_folder
    from tiny_seeing import write_seeing

    for name in ("llama", "llama 3 positions", "qwen2", "qwen3 tied", "gpt2"):
        place = folder / name.replace(" ", "-")
        model: Any = write_checkpoint(place, name, chat=name == "llama")
        samples[name] = ("checkpoint", place)
        if name == "llama":
            adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"]))
            adapter.peft_config["default"].base_model_name_or_path = str(place)
            adapter.save_pretrained(folder / "adapter")
            samples["adapter"] = ("checkpoint", folder / "adapter")
    write_bert(folder / "bert", head=True)
    clip_folder(folder / "clip")
    siglip_folder(folder / "siglip")
    for name in ("bert", "clip", "siglip"):
        samples[name] = ("checkpoint", folder / name)
    for kind in ("llava clip", "idefics3"):
        write_seeing(folder / kind.split()[0], kind)
        samples[kind] = ("checkpoint", folder / kind.split()[0])
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    single: dict[str, Any] = {
        "vit": ViTModel(ViTConfig(**sizes, intermediate_size=32)),
        "dinov2": Dinov2Model(Dinov2Config(**sizes)),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")),
    }
    for name, model in single.items():
        model.save_pretrained(folder / name)
        said = {
            "image_processor_type": "ViTImageProcessor",
            "size": 32,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        (folder / name / "preprocessor_config.json").write_text(json.dumps(said))
        samples[name] = ("image tower", folder / name)
    samples["clip's tower"] = ("image tower", folder / "clip")
    if find_spec("gguf"):
        _gguf(folder, samples)


def _gguf(folder: Path, samples: dict[str, tuple[str, Path]]) -> None:
    from rebus.formats.gguf import write_gguf
    from rebus.text.tokenizer import Tokenizer
    from tiny_checkpoints import reference_decoder

    tokenizer = Tokenizer.train(["the cat was red", "the dog was blue"] * 3, 300, pattern="gpt-2")
    for name, precision in (("llama tied", "f32"), ("gpt2", "q8_0")):
        model: Any = reference_decoder(name)
        model.resize_token_embeddings(tokenizer.vocab_size)
        place = folder / f"gguf-{name.split()[0]}" / "model.gguf"
        place.parent.mkdir()
        write_gguf(place, model.config.to_dict(), model.state_dict(), tokenizer, precision=precision)  # type: ignore[arg-type]
        samples[f"gguf {name}"] = ("gguf", place.parent)


def _tables(folder: Path, samples: dict[str, tuple[str, Path]]) -> None:
    rows = [{"image": f"{n % 3}.png", "text": f"row {n}, ü 猫", "label": "ab"[n % 2], "x": n / 7} for n in range(24)]
    shown = folder / "shown"
    shown.mkdir()
    for number, (end, options) in enumerate(
        (("png", {}), ("jpg", {"quality": 80}), ("webp", {}), ("gif", {}), ("bmp", {}))
    ):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(shown / f"{number}.{end}", **options)
    samples["images"] = ("images", shown)

    def write(name: str, content: Callable[[Path], object]) -> None:
        place = folder / f"table-{name}"
        place.mkdir()
        content(place / f"table.{name}")
        samples[f"table {name}"] = ("table", place)

    def delimited(path: Path, delimiter: str) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)

    write("csv", lambda path: delimited(path, ","))
    write("tsv", lambda path: delimited(path, "\t"))
    write("jsonl", lambda path: path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8"))
    write("json", lambda path: path.write_text(json.dumps(rows), encoding="utf-8"))
    if find_spec("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        write("parquet", lambda path: pq.write_table(pa.Table.from_pylist(rows), path))
    if find_spec("openpyxl"):
        import openpyxl

        def sheet(path: Path) -> None:
            book = openpyxl.Workbook()
            for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
                book.active.append(row)
            book.save(path)

        write("xlsx", sheet)


def _runs(folder: Path, samples: dict[str, tuple[str, Path]]) -> None:
    from rebus import api

    lines = []
    for number in range(12):
        Image.fromarray(np.full((32, 32, 3), 20 * number, dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{'dark' if number < 6 else 'light'},how light is it?")
    table = folder / "runs.csv"
    table.write_text("image,label,question\n" + "\n".join(lines), encoding="utf-8")
    for task, columns in (("classify", {"label": "label"}), ("answer", {"question": "question", "answer": "label"})):
        entry = {"name": task, "columns": {"image": "image", **columns}}
        api.train(table, out=folder / f"run-{task}", settings={**SMALL, "tasks": [entry]}, quiet=True)
        samples[f"run {task}"] = ("run", folder / f"run-{task}")


def open_sample(how: str, place: Path) -> None:
    """Open what lies there and use it a little. Raises whatever that raises."""
    if how in ("checkpoint", "gguf", "run"):
        _question(next(place.glob("*.gguf")) if how == "gguf" else place)
    elif how == "image tower":
        _image_tower(place)
    elif how == "table":
        from rebus import api

        api.check(next(one for one in place.iterdir() if one.name.startswith("table.")))
    elif how == "images":
        _images(place)
    else:
        raise AssertionError(how)


def _question(place: Path) -> None:
    import torch

    from rebus.inference.predictor import Predictor

    predictor = Predictor.open(place)
    model = predictor.model
    with torch.inference_mode():
        if model.image is not None:
            side = predictor.recipe.image.size
            predictor.embed_images([np.zeros((side, side, 3), dtype=np.uint8)])
        if model.text is not None:
            predictor.embed(["the cat"])
        elif model.decoder is not None:
            ids = torch.tensor([predictor.processor.tokenizer.encode("the cat was red")[:8] or [0]])
            model.decoder.logits(
                model.decoder.forward_embeds(model.decoder.embed(ids), torch.arange(ids.shape[1])[None])
            )


def _image_tower(place: Path) -> None:
    from rebus.checkpoints.hf_load import read_checkpoint
    from rebus.formats.names import below
    from rebus.formats.weights import check_state
    from rebus.models.towers import TOWERS

    found = read_checkpoint(place, image_only=True)
    state = below("image.", found.state())
    check_state(TOWERS.get(found.tower.kind)(found.tower, size=found.image["size"]), state)


def _images(place: Path) -> None:
    from rebus.data.transforms import fitted_image
    from rebus.errors import ImageError

    refused: ImageError | None = None
    for path in sorted(place.iterdir()):
        try:
            fitted_image(
                path.read_bytes(), place, size=32, fit="pad", background="white", pixel_budget=50_000_000, where="x"
            )
        except ImageError as error:
            refused = error
    if refused is not None:
        raise refused
