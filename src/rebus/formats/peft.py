"""LoRA adapters in the layout of the library PEFT: written so that PEFT loads them, read where PEFT made them.

    adapter_config.json           which layers, rank, alpha, the model that it was trained on
    adapter_model.safetensors     base_model.model.<layer>.lora_A.weight (r, I) and .lora_B.weight (O, r)

Reading merges: the base's weights with what the adapter adds. It knows no models.
Letters: I inputs, O outputs, r rank, V vocabulary, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rebus import atomic
from rebus.errors import WeightsError
from rebus.formats.config import read_object
from rebus.formats.names import Rename, State
from rebus.formats.weights import load_weights, write_tensors

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LINEAR = ("lora_A.weight", "lora_B.weight")  # (r, I), (O, r)
_EMBEDDING = ("lora_embedding_A", "lora_embedding_B")  # (r, V), (D, r)
_PACKED = ("q_proj", "k_proj", "v_proj")  # GPT-2 keeps these three in one layer
# GPT-2's layers with (in, out) matrices, whatever fan_in_fan_out says: PEFT goes by the layer too
_CONV1D = re.compile(r"(^|\.)h\.\d+\.(attn\.(c_attn|c_proj)|mlp\.(c_fc|c_proj))$")
_EMBEDDING_NAME = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|token_embedding)\.weight$")
_HEAD = "lm_head.weight"
_HUGE = 1e9  # of a number in a configuration
# Ways to start the factors that leave the base's weights as they are; the others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA)
# change them, so that factors alone do not say what the model is.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_REFUSED = (
    *("use_qalora", "megatron_config", "alora_invocation_tokens", "target_parameters", "layer_replication"),
    *("use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config"),
)


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
        """The factor on what the adapter adds to a layer."""
        rank = _pattern_value(layer, self.config.get("rank_pattern"), self.config["r"])
        alpha = _pattern_value(layer, self.config.get("alpha_pattern"), self.config["lora_alpha"])
        # rank-stabilised scaling: Kalajdzievski (2023), "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"
        return float(alpha / (rank**0.5 if self.config.get("use_rslora") else rank))

    @property
    def changes_embeddings(self) -> bool:
        """Whether the embeddings or the output weights are adapted: then the two are no longer one matrix."""
        layers = {f"{_layer_of(name)}.weight" for name in self.tensors}
        return any(_EMBEDDING_NAME.search(layer) or layer.endswith(_HEAD) for layer in layers)

    @property
    def rows(self) -> int | None:
        """Rows of the embeddings, where the adapter brings them whole; None: they are the base's."""
        return next((len(tensor) for name, tensor in self.tensors.items() if _EMBEDDING_NAME.search(name)), None)


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter rather than a whole checkpoint."""
    return (Path(folder) / CONFIG).is_file()


def read_adapter(folder: str | Path) -> Adapter:
    """An adapter folder.

    Raises:
        WeightsError: a file is missing or damaged, or the adapter is of a kind that is not merged here.
    """
    folder = Path(folder)
    config = read_object(folder / CONFIG)
    _check_config(folder / CONFIG, config)
    tensors = {
        name.removeprefix(_PREFIX).replace(".modules_to_save.", ".").replace(".base_layer.", "."): tensor
        for name, tensor in load_weights(folder / WEIGHTS).items()
        if ".original_module." not in name
    }
    if not tensors:
        raise WeightsError(folder / WEIGHTS, "the tensors of an adapter", "none", "save it again with PEFT")
    return Adapter(folder, config, tensors)


def _check_config(file: Path, config: Mapping[str, Any]) -> None:
    """Raise WeightsError unless an adapter_config.json is that of an adapter that can be merged."""
    again = "save it again with PEFT"
    kind = str(config.get("peft_type"))
    if kind != "LORA":
        raise WeightsError(file, "a LoRA adapter", f"'{kind}'", "merge it with PEFT's merge_and_unload, use the result")
    if not isinstance(config.get("r"), int) or isinstance(config["r"], bool) or config["r"] < 1:
        raise WeightsError(file, "the rank 'r' of a LoRA adapter", repr(config.get("r")), again)
    if not _is_number(config.get("lora_alpha")):
        raise WeightsError(file, "a number 'lora_alpha'", repr(config.get("lora_alpha")), again)
    if not isinstance(config.get("base_model_name_or_path"), str) or not config["base_model_name_or_path"]:
        do = "write the base checkpoint's folder into base_model_name_or_path"
        raise WeightsError(file, "the model that the adapter was trained on", "none", do)
    start = config.get("init_lora_weights")
    wrong = [key for key in _REFUSED if config.get(key)]
    if not isinstance(start, bool | str | None) or start not in _PLAIN_STARTS:
        wrong.append(f"init_lora_weights '{start}', which changes the base's weights")
    if wrong:
        do = "merge it with PEFT's merge_and_unload, and use the result"
        raise WeightsError(file, "an adapter that is added to the base's weights", wrong[0], do)
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict) or not all(_is_number(value) and value > 0 for value in patterns.values()):
            raise WeightsError(file, f"'{key}' with numbers above 0", repr(patterns)[:80], again)
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise WeightsError(file, f"'{key}' with regular expressions", f"'{pattern[:60]}'", again) from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


@torch.no_grad()
def merge_adapter(state: Mapping[str, Tensor], adapter: Adapter, *, tied: bool = False, rename: Rename = dict) -> State:
    """A checkpoint with an adapter added to it.

    Args:
        state: the base's tensors under Hugging Face's names, with or without the base model's prefix.
        adapter: trained on it.
        tied: the base's output weights are its embeddings. An adapter of one of the two then parts them, as it did
            while it was trained: the result has output weights of its own.
        rename: names of the family's modules, which adapters go by, to those in files.

    Raises:
        WeightsError: a tensor of the adapter has no place in the base, or another shape.
    """
    out, tensors = dict(rename(state)), rename(adapter.tensors)
    head = next((name for name in tensors if name.startswith(("lm_head.", "language_model.lm_head."))), _HEAD)
    head = f"{_layer_of(head)}.weight"
    if tied and adapter.changes_embeddings and head not in out:
        embeddings = next((name for name in out if _EMBEDDING_NAME.search(name)), None)
        if embeddings is not None:
            out[head] = out[embeddings].clone()
    groups: dict[str, State] = {}
    for name in sorted(tensors):
        layer = _layer_of(name)
        if ".lora_" in name or ".token_adapter." in name:
            groups.setdefault(layer, {})[name.removeprefix(f"{layer}.")] = tensors[name]
        else:  # a whole layer or a bias that is kept beside
            _put(out, name, tensors[name], adapter)
    for layer, parts in groups.items():
        _merge_layer(out, layer, parts, adapter, tied=tied)
    return out


def _layer_of(name: str) -> str:
    """The layer that a tensor of an adapter belongs to."""
    inside = re.search(r"\.(lora_|token_adapter\.)", name)
    return name[: inside.start()] if inside else name.rpartition(".")[0]


def _put(out: State, name: str, tensor: Tensor, adapter: Adapter) -> None:
    """A tensor that the adapter has whole; rows for new tokens may come with it, and so may a head of its own."""
    place = _find(out, name)
    if place is None:
        saved = adapter.config.get("modules_to_save") or []
        heads = [str(item).rpartition(".")[2] for item in saved] if isinstance(saved, list) else []
        if not set(name.split(".")) & set(heads):
            raise _placeless(adapter, name)
        out[name] = tensor
        return
    rows = tensor.dim() == out[place].dim() == 2 and tensor.shape[1:] == out[place].shape[1:]
    if out[place].shape != tensor.shape and not (rows and (_EMBEDDING_NAME.search(place) or place.endswith(_HEAD))):
        raise _misfit(adapter, name, out[place], tensor)
    out[place] = tensor.to(out[place].dtype)


def _merge_layer(out: State, layer: str, parts: State, adapter: Adapter, *, tied: bool) -> None:
    """Add one layer's factors to its weight, or put its rows of single tokens in."""
    rows = parts.pop("token_adapter.trainable_tokens_delta", None)
    if rows is not None:
        _put_rows(out, layer, rows, adapter, tied=tied)
    if not parts:
        return
    linear, embedding = (all(name in parts for name in names) for names in (_LINEAR, _EMBEDDING))
    if not linear and not embedding:
        raise WeightsError(adapter.folder, f"both factors of '{layer}'", ", ".join(sorted(parts)), "save it again")
    a, b = (parts.pop(name).float() for name in (_LINEAR if linear else _EMBEDDING))
    bias = parts.pop("lora_B.bias", None)
    magnitude = parts.pop("lora_magnitude_vector", parts.pop("lora_magnitude_vector.weight", None))
    if parts or (magnitude is not None and (embedding or a.dim() != 2)):
        do = "merge it with PEFT's merge_and_unload, and use the result"
        received = f"'{layer}.{min(parts, default='lora_magnitude_vector')}'"
        raise WeightsError(adapter.folder, "factors of linear layers and embeddings", received, do)
    rank = _pattern_value(layer, adapter.config.get("rank_pattern"), adapter.config["r"])
    if a.dim() < 2 or b.dim() != a.dim() or len(a) != rank or b.shape[1] != rank or b[0, 0].numel() != 1:
        expected = f"factors of '{layer}' of rank {rank}"
        raise WeightsError(adapter.folder, expected, f"{tuple(a.shape)} and {tuple(b.shape)}", "save it again")
    place = _find(out, f"{layer}.weight")
    if place is None:
        raise _placeless(adapter, f"{layer}.weight")
    weight = out[place]
    delta = (b.flatten(1) @ a.flatten(1)).reshape(len(b), *a.shape[1:])  # a convolution's second factor is 1 x 1
    turned = embedding or bool(_CONV1D.search(layer))
    if (delta.T if turned else delta).shape != weight.shape:
        raise _misfit(adapter, place, weight, delta.T if turned else delta)
    whole = weight.float() + adapter.scale(layer) * (delta.T if turned else delta)
    if magnitude is not None:
        whole = _with_magnitude(whole, magnitude.float(), adapter, layer, turned=turned)
    out[place] = whole.to(weight.dtype)
    if bias is not None:
        beside = _find(out, f"{layer}.bias")
        if beside is None or out[beside].shape != bias.shape:
            raise (
                _placeless(adapter, f"{layer}.bias") if beside is None else _misfit(adapter, beside, out[beside], bias)
            )
        out[beside] = (out[beside].float() + adapter.scale(layer) * bias.float()).to(out[beside].dtype)


def _with_magnitude(whole: Tensor, magnitude: Tensor, adapter: Adapter, layer: str, *, turned: bool) -> Tensor:
    """Each output's weights with a norm of its own.

    Source: Liu et al. (2024), "DoRA: Weight-Decomposed Low-Rank Adaptation".
    """
    rows = whole.T if turned else whole
    if magnitude.shape != rows.shape[:1]:
        raise WeightsError(
            adapter.folder, f"{len(rows)} magnitudes of '{layer}'", str(tuple(magnitude.shape)), "save it again"
        )
    norms = torch.linalg.vector_norm(rows, dim=1)
    scaled: Tensor = rows * (magnitude / norms)[:, None]
    return scaled.T if turned else scaled


def _put_rows(out: State, layer: str, rows: Tensor, adapter: Adapter, *, tied: bool) -> None:
    """Rows of the embeddings that were trained for single tokens; tied output weights have them too."""
    named = adapter.config.get("trainable_token_indices")
    by_layer = named if isinstance(named, dict) else {}
    own = next((value for key, value in by_layer.items() if layer == key or layer.endswith(f".{key}")), None)
    ids: Any = own if isinstance(named, dict) else named
    place = _find(out, f"{layer}.weight")
    if place is None:
        raise _placeless(adapter, f"{layer}.weight")
    wrong = not isinstance(ids, list) or not all(isinstance(item, int) and 0 <= item < len(out[place]) for item in ids)
    if wrong or rows.shape != (len(ids), *out[place].shape[1:]):
        expected = f"'trainable_token_indices' with {len(rows)} ids of '{layer}'"
        raise WeightsError(adapter.folder / CONFIG, expected, repr(ids)[:80], "save it again with PEFT")
    both = tied and _EMBEDDING_NAME.search(place) and not any(str(key).endswith("lm_head") for key in by_layer)
    for target in (place, *([_HEAD] if both and _HEAD in out else [])):
        out[target] = out[target].clone()
        out[target][ids] = rows.to(out[target].dtype)


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
    write_tensors(Path(folder) / WEIGHTS, tensors)
    atomic.write_json(Path(folder) / CONFIG, config)


def _place_there(name: str, rename: Rename | None) -> tuple[str, bool, bool]:
    """A layer's name in the family's layout, whether it shares it with its two neighbours, whether it is turned."""
    if rename is None:
        return name, False, False
    whole, _, last = name.rpartition(".")
    asked = [f"{whole}.{part}" for part in _PACKED] if last in _PACKED else [name]
    message = rename({f"{item}.weight": torch.zeros(1, 2) for item in asked})  # a matrix whose sides can be told apart
    together = len(message) < len(asked)
    place, probe = list(message.items())[0 if together else asked.index(name)]
    return place.removesuffix(".weight"), together, probe.shape[-1] != 2


def _packed(name: str, factors: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Three adapters as one of three times the rank: the first factors stacked, the second along a diagonal.

    A neighbour without an adapter counts as one of zeros, and must then be as large as this one.
    """
    whole = name.rpartition(".")[0]
    nothing = tuple(torch.zeros_like(factor) for factor in factors[name])
    pairs = [factors.get(f"{whole}.{part}", nothing) for part in _PACKED]
    return torch.cat([pair[0] for pair in pairs]), torch.block_diag(*[pair[1] for pair in pairs])  # type: ignore[no-untyped-call]


def _find(out: Mapping[str, Tensor], name: str) -> str | None:
    """The base's name for a tensor, which may have a prefix more or less there; None: it has none."""
    for shorter in (name, name.partition(".")[2]):
        if shorter in out:
            return shorter
    longer = [other for other in out if other.endswith(f".{name}")]
    return longer[0] if len(longer) == 1 else None


def _placeless(adapter: Adapter, name: str) -> WeightsError:
    do = f"check that '{adapter.base}' is the model the adapter was trained on, with the same head"
    return WeightsError(adapter.folder, f"tensors that its base, {adapter.base}, has too", f"'{name}'", do)


def _misfit(adapter: Adapter, name: str, ours: Tensor, theirs: Tensor) -> WeightsError:
    do = "use the base that the adapter was trained on"
    return WeightsError(f"{adapter.folder}, '{name}'", f"the base's {tuple(ours.shape)}", f"{tuple(theirs.shape)}", do)


def _pattern_value(layer: str, patterns: Mapping[str, Any] | None, default: Any) -> Any:
    """The value of the first regular expression that the end of a layer's name matches, as PEFT has it."""
    result = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", layer))
    return next(result, default)
