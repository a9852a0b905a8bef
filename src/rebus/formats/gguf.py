"""GGUF files, llama.cpp's: a model in Hugging Face's terms from one, and one from such a model.

It knows no towers: configurations, tensors and the tokenizer come and go under Hugging Face's names, which the adapters
of each family then take.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from rebus import atomic
from rebus.errors import WeightsError
from rebus.formats.config import MOST
from rebus.formats.gguf_file import GgufFile, gguf_package
from rebus.formats.gguf_names import (
    MAPS,
    ROPE,
    config_from_gguf,
    rope_factors,
    settings_to_gguf,
    tensor_from_gguf,
    tensor_to_gguf,
)
from rebus.formats.gguf_tokenizer import read_tokenizer, tokenizer_to_gguf
from rebus.text.tokenizer import Tokenizer

Precision = Literal["f32", "f16", "bf16", "q8_0"]
_KINDS = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
_FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}


@dataclass(frozen=True)
class GgufModel:
    """A model in a GGUF file.

    Attributes:
        file: the container.
        config: as Hugging Face's config.json says it, ``model_type`` first.
    """

    file: GgufFile
    config: dict[str, Any]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Each tensor under its Hugging Face name, read from the disk when asked for; quantised ones as float32.

        Raises:
            WeightsError: one of a type that cannot be read, or a name that the architecture has not.
        """
        names = MAPS[self.config["model_type"]]
        for name in self.file.entries:
            if name == ROPE:
                continue
            (target,) = names.to_hf({name: torch.empty(0)})
            yield target, tensor_from_gguf(name, self.file.tensor(name), self.config)

    @property
    def state(self) -> dict[str, Tensor]:
        """All of ``tensors``."""
        return dict(self.tensors())

    @property
    def shapes(self) -> dict[str, Tensor]:
        """All of ``tensors`` without their numbers, on the device ``meta``. Raises WeightsError for an unknown name."""
        names = MAPS[self.config["model_type"]]
        result: dict[str, Tensor] = {}
        for name, entry in self.file.entries.items():
            if name != ROPE:
                (target,) = names.to_hf({name: torch.empty(0)})
                result[target] = tensor_from_gguf(name, torch.empty(entry.shape, device="meta"), self.config)
        return result

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the file. Raises WeightsError where there is none, or one of a kind that is not known."""
        return read_tokenizer(self.file)


def read_gguf(path: str | Path) -> GgufModel:
    """Open a GGUF file; tensors stay on the disk.

    Raises:
        WeightsError: it is no GGUF file, it is cut short, or it holds a model of an architecture that is not known.
        MissingPackageError: ``gguf`` is not installed.
    """
    file = GgufFile.open(path)
    arch = file.get("general.architecture", str)
    if arch not in MAPS:
        known = ", ".join(MAPS)
        do = "use a model of one of these"
        raise WeightsError(file.path, f"an architecture that is known ({known})", f"'{arch}'", do)
    embeddings = file.entries.get("token_embd.weight")
    if embeddings is None or len(embeddings.shape) != 2:
        raise WeightsError(file.path, "embeddings 'token_embd.weight'", "none", "fetch the whole model, not a part")

    def read(key: str, kind: type, default: Any) -> Any:
        place, again = f"{file.path}, '{arch}.{key}'", "fetch the file again"
        result = file.get(f"{arch}.{key}", (int, float) if kind is float else kind, None if default is ... else default)
        if result is None:
            raise WeightsError(place, "a value", "none", again)
        if kind is not str and not 0 <= result <= MOST:
            raise WeightsError(place, f"a number from 0 to {MOST}", str(result), again)
        return result

    factors = file.tensor(ROPE) if ROPE in file.entries else None
    config = config_from_gguf(arch, read, embeddings.shape[0], set(file.entries), factors)
    if arch == "gpt2" and not config["tie_word_embeddings"]:
        config["tie_word_embeddings"] = torch.equal(file.tensor("output.weight"), file.tensor("token_embd.weight"))
    return GgufModel(file, config)


def write_gguf(
    path: str | Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    *,
    precision: Precision = "f16",
    name: str = "",
) -> None:
    """Write a model as one GGUF file that llama.cpp reads; whole or not at all.

    Args:
        path: the file.
        config: config.json of a llama, qwen2, qwen3 or gpt2.
        state: tensors under Hugging Face's names, a copy of tied embeddings left out or not.
        tokenizer: the model's.
        precision: of matrices; vectors stay float32, and rows that q8_0 cannot cut into 32s become f16.
        name: what llama.cpp shows as the model's name.

    Raises:
        WeightsError: another architecture, a tokenizer that llama.cpp cannot follow, or a number beyond f16.
        RunError: the disk is full, or the folder cannot be written.
    """
    gguf = gguf_package()
    arch = str(config.get("model_type"))
    if arch not in MAPS:
        known = f"an architecture that can be written ({', '.join(MAPS)})"
        raise WeightsError("the model", known, f"'{arch}'", "export with --format hf")
    names = MAPS[arch].from_hf(state)
    tied = bool(config.get("tie_word_embeddings", arch == "gpt2"))
    tensors = {
        key: tensor_to_gguf(key, item, config) for key, item in names.items() if not (tied and key == "output.weight")
    }
    factors = rope_factors(config)
    if factors is not None:
        tensors[ROPE] = factors
    rows = len(tensors["token_embd.weight"])
    pairs = [(f"{arch}.{key}", kind, value) for key, kind, value in settings_to_gguf(config, rows)]
    pairs += tokenizer_to_gguf(tokenizer, rows)

    def write(beside: Path) -> None:
        writer = gguf.GGUFWriter(beside, arch)
        writer.add_file_type(_FILE_TYPES[precision])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if name:
            writer.add_name(name)
        for key, kind, value in pairs:
            getattr(writer, f"add_{kind.rstrip('s')}" if not kind.endswith("s") else "add_array")(key, value)
        ready = {key: _encoded(key, item, precision, gguf) for key, item in tensors.items()}
        for key, (data, quantised) in ready.items():
            writer.add_tensor(key, data, raw_dtype=quantised)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    atomic.write_with(Path(path), write)


def _encoded(name: str, tensor: Tensor, precision: Precision, gguf: Any) -> tuple[Any, Any]:
    """A tensor's numbers in the file's type, and that type where numpy has none."""
    plain = tensor.detach().float().cpu().contiguous()
    kind = _KINDS[precision]
    if plain.dim() < 2 or name == "position_embd.weight":
        kind = "F32"
    elif kind == "Q8_0" and plain.shape[-1] % 32:
        kind = "F16"
    if kind == "F16" and float(plain.abs().max()) > torch.finfo(torch.float16).max:
        do = "choose bf16 or f32"
        raise WeightsError(f"'{name}'", "numbers that f16 can hold, up to 65504", f"{float(plain.abs().max()):.3g}", do)
    if kind == "F32":
        return plain.numpy(), None
    if kind == "F16":
        return plain.half().numpy(), None
    code = gguf.GGMLQuantizationType[kind]
    return gguf.quants.quantize(plain.numpy(), code), code
