"""Checkpoints: folders that are whole or not there, with a checksum for every file. Knows no loop.

    checkpoints/step-00000300/
        model.safetensors       weights and buffers
        optimizer.safetensors   every tensor of every optimizer's state, under optimizer/parameter/name
        ema.safetensors         averaged weights, where they are kept
        state.json              the step, the best validation and what else the loop must remember
        manifest.json           size and SHA-256 of each file above

The state of random generators is not saved: the loop seeds them anew at every step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rebus import atomic
from rebus.errors import RunError, WeightsError

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, read and checked.

    Attributes:
        step: updates made.
        model: tensors by the names of ``state_dict``.
        optimizers: tensors by ``optimizer/parameter/name``.
        ema: averaged weights by name; empty where none are kept.
        state: the loop's own JSON.
    """

    step: int
    model: dict[str, Tensor]
    optimizers: dict[str, Tensor]
    ema: dict[str, Tensor]
    state: dict[str, Any]


def path_of(run: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` is."""
    return run / FOLDER / f"step-{step:08d}"


def steps_saved(run: Path) -> list[int]:
    """The steps that have a folder, lowest first; whether they are whole is not looked at."""
    if not (run / FOLDER).is_dir():
        return []
    matches = (_NAME.fullmatch(path.name) for path in (run / FOLDER).iterdir() if path.is_dir())
    return sorted(int(match[1]) for match in matches if match)


def save(
    run: Path,
    step: int,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    ema: dict[str, Tensor] | None,
    state: dict[str, Any],
) -> Path:
    """Write the checkpoint of ``step``: into a folder beside, every file flushed, then renamed.

    Raises:
        RunError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    final = path_of(run, step)
    beside = final.with_name(f".{final.name}.tmp")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        _write_tensors(beside / "model.safetensors", _unshared(model.state_dict()))
        _write_tensors(beside / "optimizer.safetensors", _optimizer_tensors(model, optimizers))
        if ema is not None:
            _write_tensors(beside / "ema.safetensors", ema)
        (beside / "state.json").write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
        files = sorted(beside.iterdir())
        manifest = {file.name: {"bytes": file.stat().st_size, "sha256": _digest(file)} for file in files}
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in [*files, beside / "manifest.json"]:
            with open(file, "rb+") as handle:
                os.fsync(handle.fileno())
        atomic.sync_folder(beside)
        if final.exists():  # only one that was found damaged, or this run would have gone on from it
            shutil.rmtree(final)
        os.replace(beside, final)
        atomic.sync_folder(final.parent)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise atomic.explained(final, error) from error
    return final


def prune(run: Path, newest: int, keep: int, best: int | None) -> None:
    """Remove all but the ``keep`` checkpoints up to ``newest``, and the ``best`` one.

    Folders of later steps are leftovers of a run that was resumed from before them.

    Raises:
        RunError: the folder cannot be written.
    """
    steps = steps_saved(run)
    kept = {*[step for step in steps if step <= newest][-keep:], newest, best}
    try:
        for step in steps:
            if step not in kept:
                _remove(path_of(run, step))
    except OSError as error:
        raise atomic.explained(run / FOLDER, error) from error
    sweep(run)


def sweep(run: Path) -> None:
    """Remove what a kill left half written or half removed."""
    for half in (run / FOLDER).glob(".step-*"):
        shutil.rmtree(half, ignore_errors=True)


def load_newest(run: Path, note: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; ``note`` is told of each that is not. None where there is none."""
    for step in reversed(steps_saved(run)):
        try:
            return load(run, step)
        except RunError as error:
            note(f"skipped a damaged checkpoint: {error.where}: {error.found}")
    return None


def newest_whole(run: Path, note: Callable[[str], None]) -> int | None:
    """The step of the newest checkpoint that is whole; see ``load_newest``."""
    newest = load_newest(run, note)
    return None if newest is None else newest.step


def load(run: Path, step: int) -> Checkpoint:
    """Read one checkpoint and compare every file with its checksum.

    Raises:
        RunError: a file is missing, cut short or changed.
    """
    folder = path_of(run, step)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not {"model.safetensors", "optimizer.safetensors", "state.json"} <= manifest.keys():
            raise _damaged(folder / "manifest.json", "a manifest that does not name every file")
        for name, entry in manifest.items():
            if (folder / name).stat().st_size != entry["bytes"] or _digest(folder / name) != entry["sha256"]:
                raise _damaged(folder / name, "a file that differs from its checksum")
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        ema = folder / "ema.safetensors"
        return Checkpoint(
            step=step,
            model=load_file(folder / "model.safetensors"),
            optimizers=load_file(folder / "optimizer.safetensors"),
            ema=load_file(ema) if ema.name in manifest else {},
            state=state,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, RunError):
            raise
        raise _damaged(folder, f"'{error}'") from error


def restore(model: nn.Module, optimizers: list[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors into a model and its optimizers.

    Raises:
        WeightsError: the checkpoint is of another model.
    """
    restore_model(model, checkpoint.model, checkpoint.step)
    names = {parameter: name for name, parameter in model.named_parameters()}
    left = set(checkpoint.optimizers)
    for at, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for index, parameter in enumerate(order):
            prefix = f"{at}/{names[parameter]}/"
            entries = {
                key[len(prefix) :]: value for key, value in checkpoint.optimizers.items() if key.startswith(prefix)
            }
            if entries:
                state[index] = {key: _laid_out(value, parameter) for key, value in entries.items()}
                left -= {prefix + key for key in entries}
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if left:
        raise WeightsError(
            where=f"the checkpoint of step {checkpoint.step}",
            expected="the state of the optimizers in the recipe",
            found=f"'{min(left)}' and {len(left) - 1} more that belong to others",
            do="resume with the recipe that the run was started with",
        )


def restore_model(model: nn.Module, tensors: dict[str, Tensor], step: int) -> None:
    """Put saved weights into a model, tied ones included.

    Raises:
        WeightsError: a tensor is missing, extra or of another shape.
    """
    own = model.state_dict()
    expected = _unshared(own)
    for name in sorted(expected.keys() | tensors.keys()):
        ours = list(expected[name].shape) if name in expected else "no such tensor"
        theirs = list(tensors[name].shape) if name in tensors else "no such tensor"
        if ours != theirs:
            raise WeightsError(
                where=f"the checkpoint of step {step}, '{name}'",
                expected=f"the model's {ours}",
                found=f"{theirs}",
                do="resume with the recipe that the run was started with",
            )
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(tensors[name])


def _laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """With the parameter's strides (channels last, say): fused optimizers walk both in memory order."""
    if value.shape != parameter.shape or value.ndim < 2:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _unshared(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """One name for each storage: tied weights once, under their first name."""
    result: dict[tuple[object, ...], str] = {}
    unique: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            continue
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else (name,)
        if result.setdefault(key, name) == name:
            unique[name] = tensor
    return unique


def _optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {}
    for at, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                if value is None:  # SGD without momentum
                    continue
                if not isinstance(value, Tensor):
                    raise TypeError(f"the state '{key}' of {type(optimizer).__name__} is not a tensor")
                tensors[f"{at}/{names[parameter]}/{key}"] = value
    return tensors


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path)
    except SafetensorError as error:  # it wraps the error of the system in words: (os error 28)
        code = re.search(r"os error (\d+)", str(error))
        number = int(code[1]) if code else 0
        raise OSError(number, os.strerror(number) if code else str(error)) from error


def _remove(folder: Path) -> None:
    """A folder disappears at once: a kill in the middle leaves a name that no one reads."""
    beside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(beside, ignore_errors=True)
    os.replace(folder, beside)
    shutil.rmtree(beside, ignore_errors=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(where: Path, text: str) -> RunError:
    return RunError(where, "a whole checkpoint", text, "resume without it: earlier checkpoints are tried in turn")
