"""GGUF files: written and read back, as the gguf package and transformers read them; broken ones told."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from rebus.errors import WeightsError
from rebus.formats.gguf import read_gguf, write_gguf
from rebus.formats.gguf_file import GgufFile
from rebus.text.tokenizer import MASK, Tokenizer
from tiny_checkpoints import DECODERS, reference_decoder
from tiny_tokenizers import CHATML, TEXTS, bert, chatml, llama2

WRITABLE = [name for name in DECODERS if "relu" not in name]


def grown(model: torch.nn.Module, rows: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and tensors of a reference model whose vocabulary fits a tokenizer."""
    model.resize_token_embeddings(rows, mean_resizing=False)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return model.config.to_dict(), state


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, 320, pattern="qwen2", specials=[MASK])


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_comes_back(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    config, state = grown(reference_decoder(name), 328)
    file = tmp_path / "model.gguf"
    write_gguf(file, config, state, tokenizer, precision="f32")
    found = read_gguf(file)
    again = found.state
    tied = config["tie_word_embeddings"]
    assert again.keys() == {key for key in state if not (tied and key == "lm_head.weight")}
    assert all(torch.equal(again[key], state[key]) for key in again)
    assert found.config["model_type"] == config["model_type"]
    if config["model_type"] == "gpt2":
        config["n_inner"] = 4 * config["n_embd"]
    same = [
        key for key in found.config if key in config and key not in ("rope_parameters", "rope_scaling", "architectures")
    ]
    assert len(same) >= 9
    assert {key: found.config[key] for key in same} == {key: config[key] for key in same}
    if "rope_parameters" in found.config:
        rope = {key: value for key, value in config["rope_parameters"].items() if value is not None}
        assert found.config["rope_parameters"] == rope
    assert found.tokenizer.fingerprint == tokenizer.fingerprint
    assert found.tokenizer.eos_ids == tokenizer.eos_ids


@pytest.mark.parametrize("name", ["llama", "llama all heads", "qwen2", "qwen3 tied", "gpt2"])
def test_transformers_reads_the_same_model(tokenizer: Tokenizer, tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model = reference_decoder(name)
    config, state = grown(model, 328)
    write_gguf(tmp_path / "model.gguf", config, state, tokenizer, precision="f32")
    given = {"config": model.config, "dtype": torch.float32}  # it reads no head sizes of its own
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", **given).eval()
    ids = torch.tensor([[5, 9, 300, 41, 7]])
    with torch.no_grad():
        assert torch.allclose(theirs(ids).logits, model(ids).logits, atol=1e-5)


def test_the_package_reads_the_same_metadata(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config, state = grown(reference_decoder("qwen3"), 328)
    write_gguf(tmp_path / "m.gguf", config, state, tokenizer, precision="bf16", name="tiny")
    reader, ours = gguf.GGUFReader(tmp_path / "m.gguf"), GgufFile.open(tmp_path / "m.gguf")
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert ours.fields == theirs
    assert theirs["general.name"] == "tiny"
    assert theirs["tokenizer.ggml.pre"] == "qwen2"
    assert len(theirs["tokenizer.ggml.tokens"]) == 328
    assert theirs["tokenizer.ggml.tokens"][320:] == [f"[PAD{n}]" for n in range(320, 328)]
    assert {entry.name: entry.tensor_type.name for entry in reader.tensors} == {
        name: entry.kind for name, entry in ours.entries.items()
    }
    kinds = {name: entry.kind for name, entry in ours.entries.items()}
    assert kinds["blk.0.attn_q.weight"] == "BF16"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


@pytest.mark.parametrize(("precision", "error"), [("f16", 2e-3), ("bf16", 1e-2), ("q8_0", 2e-2)])
def test_halves_and_bytes_are_near(tokenizer: Tokenizer, tmp_path: Path, precision: Any, error: float) -> None:
    config, state = grown(reference_decoder("llama tied"), 328)
    write_gguf(tmp_path / "m.gguf", config, state, tokenizer, precision=precision)
    found = read_gguf(tmp_path / "m.gguf")
    for name, tensor in found.state.items():
        assert (tensor.float() - state[name]).abs().max() <= error * state[name].abs().max()
    kinds = {entry.kind for entry in found.file.entries.values()}
    assert kinds <= {"F32", "F16"} | ({"BF16"} if precision == "bf16" else {"Q8_0"} if precision == "q8_0" else set())


def test_a_number_beyond_f16_is_told(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config, state = grown(reference_decoder("llama"), 328)
    state["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"ffn_up.*65504.*bf16"):
        write_gguf(tmp_path / "m.gguf", config, state, tokenizer, precision="f16")
    assert list(tmp_path.iterdir()) == []


QUANTS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K", "IQ4_NL"]


def one_tensor(path: Path, kind: str, data: Any, *, name: str = "token_embd.weight", **fields: Any) -> Path:
    writer = gguf.GGUFWriter(path, fields.pop("arch", "llama"))
    for key, value in fields.items():
        writer.add_uint32(key.replace("__", "."), value)
    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", QUANTS)
def test_quantised_tensors_are_turned_into_floats(tmp_path: Path, kind: str) -> None:
    code = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[code]
    rows = np.random.default_rng(0).integers(0, 60, (3, 2 * size), dtype=np.uint8)
    file = GgufFile.open(one_tensor(tmp_path / "q.gguf", kind, rows))
    found = file.tensor("token_embd.weight")
    assert found.shape == (3, 2 * block)
    assert np.array_equal(found.numpy(), gguf.quants.dequantize(rows, code))


# the tokenizer


def without_whole(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """The tokenizer as it is built from pieces and merges, without the tokenizer.json that lies in the file too."""
    config, state = grown(reference_decoder("llama"), tokenizer.vocab_size + 8)
    write_gguf(path, config, state, tokenizer)
    found = read_gguf(path)
    del found.file.fields["tokenizer.huggingface.json"]
    return found.tokenizer


@pytest.mark.parametrize("pattern", ["qwen2", "gpt-2", "smollm", "llama-bpe"])
def test_pieces_and_merges_are_enough(tmp_path: Path, pattern: Any) -> None:
    ours = Tokenizer.train(TEXTS, 400, pattern=pattern, nfkc=False)
    found = without_whole(ours, tmp_path / "m.gguf")
    assert found.pattern == pattern
    assert not found.is_foreign
    assert (found.bos_id, found.eos_id, found.pad_id) == (ours.bos_id, ours.eos_id, ours.pad_id)
    for text in [*TEXTS, "  a\n\n b 2024 it's ÉtÉ 猫<|eos|>", "\t", "🐈‍⬛"]:
        assert found.encode(text) == ours.encode(text)
        assert found.decode(found.encode(text)) == text
    talk = [{"role": "user", "content": "hi"}]
    assert found.chat(talk, prompt=True) == ours.chat(talk, prompt=True)


def test_a_tokenizer_of_another_project_goes_through(tmp_path: Path) -> None:
    theirs = Tokenizer.load(chatml(tmp_path / "hf"))
    found = without_whole(theirs, tmp_path / "m.gguf")
    assert found.chat_template == CHATML
    assert (found.bos_id, found.eos_ids, found.pad_id) == (theirs.bos_id, theirs.eos_ids, theirs.pad_id)
    talk = [{"role": "user", "content": "hi <think> <|im_end|>"}]
    assert found.chat(talk, prompt=True) == theirs.chat(talk, prompt=True)


def test_a_sentencepiece_vocabulary_is_read(tmp_path: Path) -> None:
    """Scores are the order of the merges, so the BPE built from them joins what the trained one joins."""
    source = Tokenizer.load(llama2(tmp_path / "hf"))
    content = json.loads(source.to_json())
    pieces = source.pieces()
    order = {"".join(pair): number for number, pair in reversed(list(enumerate(content["model"]["merges"])))}
    scores = [-float(order.get(piece, 10**6)) for piece in pieces]
    types = [2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259)
    writer = gguf.GGUFWriter(tmp_path / "sp.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for key in ("embedding_length", "block_count", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"llama.{key}", 8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("token_embd.weight", np.zeros((len(pieces), 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(tmp_path / "sp.gguf").tokenizer
    assert found.start() == [1]
    for text in [*TEXTS, "a  b", "猫 naïve 🐈", " x", ""]:
        assert found.encode(text) == source.encode(text)
        assert found.decode(found.encode(text)) == source.decode(source.encode(text))


def test_what_llama_cpp_cannot_cut_is_refused(tmp_path: Path) -> None:
    config, state = grown(reference_decoder("llama"), 700)
    for make in (bert, llama2):
        foreign = Tokenizer.load(make(tmp_path / make.__name__))
        with pytest.raises(WeightsError, match=r"byte-level BPE.*--format hf"):
            write_gguf(tmp_path / "m.gguf", config, state, foreign)
    small = {name: tensor[:50] if tensor.shape[0] == 700 else tensor for name, tensor in state.items()}
    with pytest.raises(WeightsError, match="at most 50 pieces"):
        write_gguf(tmp_path / "m.gguf", config, small, Tokenizer.train(TEXTS, 300))
    with pytest.raises(WeightsError, match=r"architecture.*'bert'"):
        write_gguf(tmp_path / "m.gguf", {"model_type": "bert"}, {}, Tokenizer.train(TEXTS, 300))
    config, state = grown(reference_decoder("gpt2 untied relu"), 320)
    with pytest.raises(WeightsError, match="activation_function"):
        write_gguf(tmp_path / "m.gguf", config, state, Tokenizer.train(TEXTS, 300))


# bad files


@pytest.fixture(scope="module")
def whole(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "m.gguf"
    config, state = grown(reference_decoder("llama"), 328)
    write_gguf(file, config, state, tokenizer)
    return file.read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.002, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_cut_file_is_told(whole: bytes, tmp_path: Path, share: float) -> None:
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match=r"cut\.gguf.*(cut short|ends within|cannot hold|a GGUF file)"):
        read_gguf(tmp_path / "cut.gguf")


def header(tensors: int = 0, pairs: int = 0, version: int = 3, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "a GGUF file"),
        (header(version=1), "version 1"),
        (header(version=3 << 16), "byte order"),
        (header(pairs=2**62), "cannot hold"),
        (header(tensors=2**40), "cannot hold"),
        (header(pairs=1, rest=struct.pack("<Q", 2**63) + b"x" * 20), "ends within"),
        (header(pairs=1, rest=text("a") + struct.pack("<IIQ", 9, 5, 2**60)), "cannot hold"),
        (header(pairs=1, rest=text("a") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 16), "a list of type 9"),
        (header(pairs=1, rest=text("a") + struct.pack("<I", 99) + b"\0" * 16), "type 99"),
        (header(tensors=1, rest=text("t") + struct.pack("<I", 1000) + b"\0" * 40), "4 dimensions"),
        (header(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 32, 255, 0) + b"\0" * 64), "type 255"),
        (header(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 33, 2, 0) + b"\0" * 64), "rows of 33"),
        (header(tensors=1, rest=text("t") + struct.pack("<IQIQ", 1, 2**62, 0, 0) + b"\0" * 64), "cut short"),
        (header(pairs=1, rest=text("general.alignment") + struct.pack("<II", 4, 7)), "power of two"),
        (header(), r"architecture.*'None'"),
        (header(pairs=1, rest=text("general.architecture") + struct.pack("<I", 8) + text("mamba")), "'mamba'"),
        (header(pairs=1, rest=text("general.architecture") + struct.pack("<II", 4, 7)), "int 7"),
        (header(pairs=1, rest=text("general.architecture") + struct.pack("<I", 8) + text("llama")), "token_embd"),
    ],
)
def test_strange_files_are_told(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_gguf(tmp_path / "x.gguf")


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        read_gguf(tmp_path / "x.gguf")


def test_missing_settings_tensors_and_tokenizer_are_named(tmp_path: Path) -> None:
    data = np.zeros((4, 8), dtype=np.float32)
    with pytest.raises(WeightsError, match=r"llama\.embedding_length"):
        read_gguf(one_tensor(tmp_path / "a.gguf", "F32", data))
    known = {f"llama__{key}": 8 for key in ("embedding_length", "block_count", "feed_forward_length")}
    file = one_tensor(tmp_path / "b.gguf", "F32", data, **known, llama__attention__head_count=2)
    with pytest.raises(WeightsError, match="layer_norm_rms_epsilon"):
        read_gguf(file)
    odd = gguf.GGMLQuantizationType.I32
    writer = one_tensor(tmp_path / "c.gguf", odd.name, data.astype(np.int32))
    with pytest.raises(WeightsError, match=r"'token_embd.weight'.*I32"):
        GgufFile.open(writer).tensor("token_embd.weight")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokenizer.ggml.model": "bert"}, "'bert'"),
        ({"tokenizer.ggml.model": None}, "a tokenizer"),
        ({"tokenizer.ggml.pre": "of-tomorrow"}, "of-tomorrow"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "as many types"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "ends a text"),
        ({"tokenizer.huggingface.json": "{}"}, "tokenizer.json"),
    ],
)
def test_tokenizers_that_cannot_be_read_are_named(
    whole: bytes, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    (tmp_path / "m.gguf").write_bytes(whole)
    found = read_gguf(tmp_path / "m.gguf")
    if "tokenizer.huggingface.json" not in change:
        del found.file.fields["tokenizer.huggingface.json"]
    if "tokenizer.ggml.eos_token_id" in change:
        tokens = found.file.fields["tokenizer.ggml.tokens"]
        found.file.fields["tokenizer.ggml.tokens"] = [f"<x{n}>" if n < 7 else piece for n, piece in enumerate(tokens)]
    found.file.fields.update(change)
    with pytest.raises(Exception, match=said) as caught:
        _ = found.tokenizer
    assert type(caught.value).__name__ in ("WeightsError", "RunError")


def test_an_unknown_tensor_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config, state = grown(reference_decoder("llama"), 328)
    state["model.layers.0.strange.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match="strange"):
        write_gguf(tmp_path / "m.gguf", config, state, tokenizer)


def changed(path: Path, tokenizer: Tokenizer, **fields: tuple[str, Any]) -> GgufFile | Any:
    """A model read from a file with further metadata: key: (type, value)."""
    config, state = grown(reference_decoder("llama"), 328)
    write_gguf(path, config, state, tokenizer, precision="f32")
    file = GgufFile.open(path)
    writer = gguf.GGUFWriter(path.with_suffix(".new"), "llama")
    kinds = {str: "string", int: "uint32", float: "float32", bool: "bool"}
    told = {key: value for key, value in file.fields.items() if key != "general.architecture"}
    for key, value in (told | {key.replace("__", "."): value for key, value in fields.items()}).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            getattr(writer, f"add_{kinds[type(value)]}")(key, value)
    for name in file.entries:
        writer.add_tensor(name, file.tensor(name).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_gguf(path.with_suffix(".new"))


@pytest.mark.parametrize(
    ("fields", "rope"),
    [
        ({"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}, {"factor": 4.0}),
        ({"llama__rope__scale_linear": 2.5}, {"factor": 2.5}),
        ({"llama__rope__scaling__factor": 4.0}, {"factor": 4.0}),  # the type is linear where none is said
        ({"llama__rope__scaling__type": "none", "llama__rope__scaling__factor": 4.0}, {}),
        ({"llama__rope__scale_linear": 1.0}, {}),
    ],
)
def test_scaled_positions_are_read(
    tokenizer: Tokenizer, tmp_path: Path, fields: dict[str, Any], rope: dict[str, Any]
) -> None:
    found = changed(tmp_path / "m.gguf", tokenizer, **fields).config["rope_parameters"]
    assert {key: value for key, value in found.items() if key == "factor"} == rope
    assert found["rope_type"] == ("linear" if rope else "default")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"llama__rope__scaling__type": "yarn", "llama__rope__scaling__factor": 4.0}, "'yarn'"),
        ({"llama__rope__scaling__type": "longrope"}, "'longrope'"),
        ({"llama__rope__dimension_count": 4}, "rope.dimension_count"),
        ({"llama__attention__value_length": 4}, "attention.value_length"),
        ({"llama__attention__sliding_window": 16}, "sliding_window"),
        ({"llama__logit_scale": 0.5}, "logit_scale"),
        ({"llama__attention__scale": 0.5}, "attention.scale"),
        ({"llama__block_count": 2**31}, "block_count"),
        ({"llama__attention__head_count": [2, 2]}, "head_count"),
    ],
)
def test_settings_without_a_counterpart_are_refused(
    tokenizer: Tokenizer, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(WeightsError, match=said):
        changed(tmp_path / "m.gguf", tokenizer, **fields)


def test_a_tokenizer_without_merges_is_refused(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(whole)
    for merges in ([], [1, 2]):
        found = read_gguf(tmp_path / "m.gguf")
        del found.file.fields["tokenizer.huggingface.json"]
        found.file.fields["tokenizer.ggml.merges"] = merges
        with pytest.raises(WeightsError, match="merges"):
            _ = found.tokenizer


def test_heads_that_do_not_divide_the_rows_are_refused() -> None:
    from rebus.formats.gguf_names import tensor_from_gguf

    config = {"model_type": "llama", "num_attention_heads": 16388, "num_key_value_heads": 2}
    with pytest.raises(WeightsError, match="16388 heads"):
        tensor_from_gguf("blk.0.attn_q.weight", torch.zeros(32, 24), config)
    assert tensor_from_gguf("blk.0.attn_k.weight", torch.zeros(32, 24), config).shape == (32, 24)
