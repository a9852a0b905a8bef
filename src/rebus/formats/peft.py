"""LoRA adapters in the layout of the library PEFT: written so that PEFT loads them, read where PEFT made them.

    adapter_config.json           which layers, rank, alpha, the model that it was trained on
    adapter_model.safetensors     base_model.model.<layer>.lora_A.weight (r, I) and .lora_B.weight (O, r)

Reading merges: the base's weights with what the adapter adds. It knows no models.
Letters: I inputs, O outputs, r rank, V vocabulary, D width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rebus import atomic
from rebus.errors import WeightsError
from rebus.formats.names import State
from rebus.formats.weights import load_weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LINEAR = ("lora_A.weight", "lora_B.weight")  # (r, I), (O, r)
_EMBEDDING = ("lora_embedding_A", "lora_embedding_B")  # (r, V), (D, r)
_PACKED = ("q_proj", "k_proj", "v_proj")  # GPT-2 keeps these three in one layer
Rename = Callable[[Mapping[str, Tensor]], State]


@dataclass(frozen=True)
class Adapter:
    """An adapter as PEFT saves it.

    Attributes:
        folder: where it was read.
        config: adapter_config.json.
        tensors: by name, without ``base_model.model.``.
    """

    folder: Path
    config: dict[str, Any]
    tensors: State

    @property
    def base(self) -> str:
        """The checkpoint that it was trained on, a path or a hub id; a relative path is looked for beside it too."""
        named = str(self.config["base_model_name_or_path"])
        beside = self.folder / named
        return str(beside) if not Path(named).exists() and beside.exists() else named

    def scale(self, layer: str) -> float:
        """What the adapter of a layer counts."""
        rank = _of(layer, self.config.get("rank_pattern"), self.config["r"])
        alpha = _of(layer, self.config.get("alpha_pattern"), self.config["lora_alpha"])
        # rank-stabilised scaling: Kalajdzievski (2023), "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"
        return float(alpha / (rank**0.5 if self.config.get("use_rslora") else rank))


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter rather than a whole checkpoint."""
    return (Path(folder) / CONFIG).is_file()


def read_adapter(folder: str | Path) -> Adapter:
    """An adapter folder.

    Raises:
        WeightsError: a file is missing or damaged, or the adapter is of a kind that is not merged here.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(folder / CONFIG, "an adapter's configuration", f"'{error}'", "save it again") from error
    if not isinstance(config, dict) or not isinstance(config.get("r"), int) or config["r"] < 1:
        raise WeightsError(folder / CONFIG, "the rank 'r' of a LoRA adapter", "none", "save it again with PEFT")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise WeightsError(folder / CONFIG, "a number 'lora_alpha'", "none", "save it again with PEFT")
    if not config.get("base_model_name_or_path"):
        do = "write the base checkpoint's folder into base_model_name_or_path"
        raise WeightsError(folder / CONFIG, "the model that the adapter was trained on", "none", do)
    kind = str(config.get("peft_type"))
    wrong = [key for key in ("use_dora", "use_qalora", "megatron_config") if config.get(key)]
    if kind != "LORA" or wrong:
        do = "merge it with PEFT's merge_and_unload, and use the result"
        raise WeightsError(folder / CONFIG, "a plain LoRA adapter", wrong[0] if wrong else f"'{kind}'", do)
    tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in load_weights(folder / WEIGHTS).items()}
    return Adapter(folder, config, tensors)


@torch.no_grad()
def merge_adapter(state: Mapping[str, Tensor], adapter: Adapter) -> State:
    """A checkpoint with an adapter added to it.

    Args:
        state: the base's tensors under Hugging Face's names, with or without the base model's prefix.
        adapter: trained on it.

    Raises:
        WeightsError: a tensor of the adapter has no place in the base, or another shape.
    """
    out = dict(state)
    factors = {name for name in adapter.tensors if ".lora_" in name}
    for name in sorted(adapter.tensors.keys() - factors):  # whole layers and biases that are kept beside
        place = _place(out, name.replace(".base_layer.", "."), adapter)
        if out[place].shape != adapter.tensors[name].shape:
            raise _misfit(adapter, name, out[place], adapter.tensors[name])
        out[place] = adapter.tensors[name].to(out[place].dtype)
    for name in sorted(factors):
        for (first, second), embeds in ((_LINEAR, False), (_EMBEDDING, True)):
            layer = name.removesuffix("." + first)
            if layer == name:
                continue
            if f"{layer}.{second}" not in factors:
                raise WeightsError(adapter.folder, f"both factors of '{layer}'", "one", "save it again")
            product = adapter.tensors[f"{layer}.{second}"].float() @ adapter.tensors[name].float()
            _add(out, f"{layer}.weight", product.T if embeds else product, adapter, layer)
            factors -= {name, f"{layer}.{second}"}
    if factors:
        raise WeightsError(
            adapter.folder, "factors of linear layers and embeddings", f"'{min(factors)}'", "merge it with PEFT"
        )
    return out


def write_adapter(
    folder: str | Path,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    *,
    alpha: float,
    dropout: float,
    base: str | None,
    task: str | None,
    rename: Rename | None = None,
) -> None:
    """Save adapters in PEFT's layout.

    Args:
        folder: gets the two files.
        factors: our name of each layer: A (r, I) and B (O, r), all of one rank.
        alpha: outputs count alpha / r.
        dropout: what they were trained with.
        base: the checkpoint that they were trained on.
        task: PEFT's name of the task, e.g. CAUSAL_LM; None: none.
        rename: our parameter names to the family's; None: names stay.

    Raises:
        RunError: the folder cannot be written.
    """
    rank = next(iter(factors.values()))[0].shape[0]
    tensors: State = {}
    shared: dict[str, int] = {}
    turned = False
    for name, pair in factors.items():
        place, together, turned = _place_there(name, rename)
        if f"{_PREFIX}{place}.lora_A.weight" in tensors:
            continue  # went along with another
        a, b = _packed(name, factors) if together else pair
        if together:
            shared[place.rpartition(".")[2]] = a.shape[0] // rank
        tensors[f"{_PREFIX}{place}.lora_A.weight"] = a.detach().float().cpu().contiguous()
        tensors[f"{_PREFIX}{place}.lora_B.weight"] = b.detach().float().cpu().contiguous()
    layers = [name.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for name in tensors if "lora_A" in name]
    config = {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": layers,  # whole names: an ending alone may fit layers that have no adapter
        "bias": "none",
        "fan_in_fan_out": turned,
        "rank_pattern": {layer: rank * times for layer, times in shared.items()},
        "alpha_pattern": {layer: alpha * times for layer, times in shared.items()},
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    atomic.write_with(Path(folder) / WEIGHTS, lambda beside: save_file(tensors, beside, metadata={"format": "pt"}))
    atomic.write_json(Path(folder) / CONFIG, config)


def _place_there(name: str, rename: Rename | None) -> tuple[str, bool, bool]:
    """A layer's name in the family's layout, whether it shares it with its two neighbours, whether it is turned."""
    if rename is None:
        return name, False, False
    whole, _, last = name.rpartition(".")
    asked = [f"{whole}.{part}" for part in _PACKED] if last in _PACKED else [name]
    told = rename({f"{one}.weight": torch.zeros(1, 2) for one in asked})  # a matrix whose sides can be told apart
    together = len(told) < len(asked)
    place, probe = list(told.items())[0 if together else asked.index(name)]
    return place.removesuffix(".weight"), together, probe.shape[-1] != 2


def _packed(name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Three adapters as one of three times the rank: the first factors stacked, the second along a diagonal.

    A neighbour without an adapter counts as one of zeros, and must then be as large as this one.
    """
    whole = name.rpartition(".")[0]
    nothing = tuple(torch.zeros_like(factor) for factor in factors[name])
    pairs = [factors.get(f"{whole}.{part}", nothing) for part in _PACKED]
    return torch.cat([pair[0] for pair in pairs]), torch.block_diag(*[pair[1] for pair in pairs])  # type: ignore[no-untyped-call]


def _add(out: State, name: str, delta: Tensor, adapter: Adapter, layer: str) -> None:
    place = _place(out, name, adapter)
    weight = out[place]
    if adapter.config.get("fan_in_fan_out"):
        delta = delta.T
    if weight.shape != delta.shape:
        raise _misfit(adapter, place, weight, delta)
    out[place] = (weight.float() + adapter.scale(layer) * delta).to(weight.dtype)


def _place(out: State, name: str, adapter: Adapter) -> str:
    """The base's name for a tensor: files of the bare model lack its prefix."""
    for shorter in (name, name.partition(".")[2]):
        if shorter in out:
            return shorter
    do = "use the base that the adapter was trained on"
    raise WeightsError(adapter.folder, f"layers of its base, {adapter.base}", f"'{name}'", do)


def _misfit(adapter: Adapter, name: str, ours: Tensor, theirs: Tensor) -> WeightsError:
    do = "use the base that the adapter was trained on"
    return WeightsError(f"{adapter.folder}, '{name}'", f"the base's {tuple(ours.shape)}", f"{tuple(theirs.shape)}", do)


def _of(layer: str, patterns: dict[str, Any] | None, usual: Any) -> Any:
    """The entry whose key a layer's name ends with, else the usual value."""
    return next((value for key, value in (patterns or {}).items() if layer == key or layer.endswith("." + key)), usual)
