"""A short form of the storm of damaged files (``tests/storm/fuzz.py``), and what it found."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from rebus.checkpoints.hf_load import open_checkpoint, read_checkpoint
from rebus.errors import RebusError, RunError, WeightsError, enough_memory
from rebus.text.tokenizer import Tokenizer
from storm.fuzz import run
from tiny_checkpoints import write_checkpoint
from tiny_duals import clip_folder


def test_damaged_files_open_or_are_refused() -> None:
    line = run(8.0, seed=7, most=200, runs=False)
    counts = dict(part.split()[::-1] for part in line.partition("(")[2].partition(")")[0].split(", "))
    assert set(counts) == {"opened", "refused"}, line
    assert int(counts["refused"]) > int(counts["opened"]) // 4


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    "values",
    [
        {"head_dim": 10**9},
        {"head_dim": 10**7},
        {"num_hidden_layers": 1_000_000},
        {"hidden_size": 2**26},
        {"intermediate_size": 60_000_000},
        {"vocab_size": 60_000_000},
        {"num_key_value_heads": 60_000_000},
        {"num_attention_heads": 5},
        {"hidden_size": 4},
        {"rms_norm_eps": 0},
        {"rope_parameters": [1]},
        {"rope_parameters": {"rope_type": "llama3", "factor": 1e400}},
        {"model_type": ["llama"]},
        {"tie_word_embeddings": "false"},
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_at_once(tmp_path: Path, values: dict[str, Any]) -> None:
    write_checkpoint(tmp_path, "llama")
    change(tmp_path, **values)
    with pytest.raises(WeightsError):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "clip"])
def test_positions_for_very_long_texts_are_not_built(tmp_path: Path, name: str) -> None:
    if name == "gpt2":
        write_checkpoint(tmp_path, "gpt2")
        change(tmp_path, n_positions=60_000_000)
    else:
        clip_folder(tmp_path)
        text = json.loads((tmp_path / "config.json").read_text())["text_config"]
        change(tmp_path, text_config=text | {"max_position_embeddings": 60_000_000})
    with pytest.raises(WeightsError, match="received"):
        read_checkpoint(tmp_path)


def test_a_image_tower_of_a_million_layers_is_refused_at_once(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    vision = json.loads((tmp_path / "config.json").read_text())["vision_config"]
    change(tmp_path, vision_config=vision | {"num_hidden_layers": 1_000_000})
    for image_only in (False, True):
        with pytest.raises(WeightsError, match=r"at most .* layers"):
            read_checkpoint(tmp_path, image_only=image_only)


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    file.write_bytes(content[:8] + content[8 : 8 + size].replace(b'"F32"', b'"I32"', 1) + content[8 + size :])
    assert len(load_file(file)) > 3
    with pytest.raises(WeightsError, match=r"1 of another type: torch\.int32"):
        open_checkpoint(tmp_path)


def test_an_id_beyond_all_vocabularies_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["cat"] = 2**30
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match="the id 1073741824"):
        Tokenizer.load(tmp_path)


def test_json_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    for name in ("generation_config.json", "tokenizer_config.json", "tokenizer.json", "config.json"):
        whole = (tmp_path / name).read_text()
        (tmp_path / name).write_text("[" * 100_000)
        with pytest.raises(RebusError, match=name.replace(".", r"\.")):
            open_checkpoint(tmp_path)
        (tmp_path / name).write_text(whole)


def test_memory_that_runs_out_is_said_so(tmp_path: Path) -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")):
        with pytest.raises(RunError, match="room in memory"), enough_memory("the model"):
            raise error
    with pytest.raises(RuntimeError, match="other"), enough_memory("the model"):
        raise RuntimeError("other")


def test_tensors_of_a_gguf_file_that_share_bytes_are_refused(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    import numpy as np

    from rebus.formats.gguf import read_gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for name in ("token_embd.weight", "output.weight"):
        writer.add_tensor(name, np.ones((8, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = (tmp_path / "m.gguf").read_bytes()
    at = content.index(b"output.weight") + len("output.weight") + 4 + 2 * 8 + 4
    (tmp_path / "m.gguf").write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    with pytest.raises(WeightsError, match="share bytes"):
        read_gguf(tmp_path / "m.gguf")


def test_a_shard_alone_is_no_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    state = load_file(tmp_path / "model.safetensors")
    save_file(dict(list(state.items())[:5]), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("preprocessor_config.json", {"size": {"height": [32], "width": [32]}}),
        ("preprocessor_config.json", {"size": {"height": {}, "width": 32}}),
        ("preprocessor_config.json", {"image_mean": {"0": 0.5}}),
        ("config.json", {"vision_config": 7}),
        ("config.json", {"text_config": [1]}),
        ("config.json", {"architectures": [["CLIPModel"]]}),
        ("config.json", {"vision_config": {"patch_size": 64, "image_size": 32}}),
        ("tokenizer_config.json", {"eos_token": {"content": 5}}),
    ],
)
def test_values_of_another_type_are_refused_or_passed_over(tmp_path: Path, file: str, values: dict[str, Any]) -> None:
    clip_folder(tmp_path)
    place = tmp_path / file
    place.write_text(json.dumps(json.loads(place.read_text()) | values))
    with contextlib.suppress(RebusError):
        open_checkpoint(tmp_path)


def test_a_parquet_file_with_texts_that_are_not_utf_8_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rebus import api
    from rebus.errors import DataError

    table = pa.table({"text": ["a word", "marker-x"], "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "t.parquet", compression="NONE", use_dictionary=False, write_statistics=False)
    content = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(content.replace(b"marker-x", b"marker-\xc3"))
    with pytest.raises(DataError, match="damage"):
        api.check(tmp_path / "t.parquet")


@pytest.mark.parametrize("at", [200, 700, 1500, -40])
def test_a_damaged_sheet_is_refused(tmp_path: Path, at: int) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    from rebus import api
    from rebus.errors import DataError

    book = openpyxl.Workbook()
    for row in range(30):
        book.active.append([f"text {row}", "ab"[row % 2]])
    book.save(tmp_path / "t.xlsx")
    content = bytearray((tmp_path / "t.xlsx").read_bytes())
    content[at : at + 30] = bytes(30)
    (tmp_path / "t.xlsx").write_bytes(content)
    with pytest.raises(DataError):
        api.check(tmp_path / "t.xlsx")


def test_files_of_a_run_that_are_too_deep_are_refused(tmp_path: Path) -> None:
    from rebus.checkpoints.digests import read_digests
    from rebus.checkpoints.run_folder import Run

    for name in ("digests.json", "config.json"):
        (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"digests\.json"):
        read_digests(tmp_path)
    with pytest.raises(RunError, match="whole JSON"):
        Run(tmp_path).read_json("config.json")
