"""Reading and writing safetensors checkpoints, whole or in shards, and telling whether they fit a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rebus import atomic
from rebus.errors import RunError, WeightsError, enough_memory

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
# by what a header calls them; the others are read as they are, and taken for floats of 32 bits here
_TYPES = {
    **{"F64": torch.float64, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool, "U8": torch.uint8},
    **{"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
}
_SHOWN = 6  # names in a message


def load_weights(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU: a .safetensors file, or a folder with one or with an index of shards.

    Raises:
        WeightsError: there is none, it is broken or cut short, or the index names a file outside the folder.
    """
    folder = Path(folder)
    if folder.is_file():
        return _read(folder)
    if (folder / FILE).is_file():
        return _read(folder / FILE)
    if not (folder / INDEX).is_file():
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        received = f"only {', '.join(others[:3])}" if others else "neither"
        do = "convert the weights to safetensors: other formats may run code" if others else "check the path"
        raise WeightsError(folder, f"{FILE} or {INDEX}", received, do)
    shards = _shards(folder / INDEX)
    state: dict[str, Tensor] = {}
    for shard, names in shards.items():
        tensors = _read(folder / shard)
        lacking = sorted(names - tensors.keys())
        if lacking:
            message = _some(lacking, "missing")
            raise WeightsError(folder / shard, f"the tensors that {INDEX} promises", message, "fetch it again")
        state.update({name: tensors[name] for name in sorted(names)})
    return state


def load_shapes(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint without their numbers, on the device ``meta``: the headers alone are read.

    Raises:
        WeightsError: as ``load_weights``.
    """
    folder = Path(folder)
    files = [folder if folder.is_file() else folder / FILE]
    if not files[0].is_file() and (folder / INDEX).is_file():
        files = [folder / shard for shard in _shards(folder / INDEX)]
    result: dict[str, Tensor] = {}
    for file in files:
        if not file.is_file():
            return load_weights(folder)  # says what is missing
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - it is no dictionary
                    part = opened.get_slice(name)
                    result[name] = torch.empty(part.get_shape(), dtype=_TYPES.get(part.get_dtype()), device="meta")
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise _broken(file, error) from error
    return result


def save_weights(
    folder: str | Path,
    state: Mapping[str, Tensor],
    *,
    max_shard_mb: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write tensors as transformers reads them: ``model.safetensors``, or shards with an index that comes last.

    Args:
        folder: is made where there is none.
        state: any device.
        max_shard_mb: largest size of a file, in MB (10^6 bytes); a tensor is never cut. None: one file.
        dtype: what floating-point tensors are written as; None: as they are.

    Raises:
        RunError: the folder cannot be written.
    """
    folder = Path(folder)
    shards: list[dict[str, Tensor]] = [{}]
    size, limit = 0, (max_shard_mb or 0) * 1_000_000
    for name, tensor in state.items():
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        more = tensor.numel() * kind.itemsize
        if limit and shards[-1] and size + more > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().to("cpu", kind).contiguous()
        size += more
    if len(shards) == 1:
        write_tensors(folder / FILE, shards[0])
        (folder / INDEX).unlink(missing_ok=True)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_tensors(folder / file, shard)
        places.update(dict.fromkeys(shard, file))
    total = sum(tensor.numel() * tensor.element_size() for shard in shards for tensor in shard.values())
    atomic.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    (folder / FILE).unlink(missing_ok=True)  # readers prefer it to the index


def check_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Tell whether ``state`` fits ``model``; nothing is loaded.

    Raises:
        WeightsError: tensors are missing, left over or of another shape or type; all of them are listed.
    """
    check_tensors(f"weights for {type(model).__name__}", model.state_dict(), state)


def check_tensors(
    where: str, expected: Mapping[str, Tensor], state: Mapping[str, Tensor], *, exact: bool = True
) -> None:
    """Tell whether tensors are those that are expected.

    Args:
        where: for the message.
        expected: names and shapes.
        state: the tensors.
        exact: whether further ones are wrong.

    Raises:
        WeightsError: as ``check_state``.
    """
    complaints = [
        _some(sorted(expected.keys() - state.keys()), "missing"),
        _some(sorted(state.keys() - expected.keys()) if exact else [], "left over"),
        _some(
            [
                f"expected {tuple(expected[name].shape)}, received {tuple(state[name].shape)} for '{name}'"
                for name in sorted(expected.keys() & state.keys())
                if expected[name].shape != state[name].shape
            ],
            "of another shape",
            quote=False,
        ),
        _some(
            [
                f"{state[name].dtype} for '{name}'"
                for name in sorted(expected.keys() & state.keys())
                if expected[name].is_floating_point() != state[name].is_floating_point()
            ],
            "of another type",
            quote=False,
        ),
    ]
    received = "; ".join(complaint for complaint in complaints if complaint)
    if received:
        raise WeightsError(
            where=where,
            expected=f"the {len(expected)} tensors of the model, in its shapes",
            found=received,
            do="use the recipe or configuration that the weights were made with",
        )


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one safetensors file, whole or not at all, readable by whom the umask allows.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """

    def write(beside: Path) -> None:
        beside.touch()
        mode = beside.stat().st_mode
        save_file(tensors, beside, metadata={"format": "pt"})  # which makes a file for its owner alone
        beside.chmod(mode)

    atomic.write_with(path, write)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with enough_memory(str(path)):
            return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> WeightsError:
    message = " ".join(str(error).split())[:160]
    return WeightsError(path, "a whole safetensors file", f"'{message}'", "copy or fetch the file again")


def _shards(index: Path) -> dict[str, set[str]]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards: dict[str, set[str]] = {}
        for name, shard in places.items():
            shards.setdefault(str(shard), set()).add(str(name))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        do = "copy or fetch the file again"
        raise WeightsError(index, "a weight_map from tensors to files", "other content", do) from error
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            do = "do not use this checkpoint"
            raise WeightsError(index, "safetensors files in the same folder", f"'{shard}'", do)
    return dict(sorted(shards.items()))


def _some(names: list[str], what: str, *, quote: bool = True) -> str:
    if not names:
        return ""
    shown = [f"'{name}'" if quote else name for name in names[:_SHOWN]]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(shown)}{more}"
