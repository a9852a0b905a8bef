"""A model's adapters: merged into its weights, or written in PEFT's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from rebus import recipe
from rebus.formats.names import State
from rebus.formats.peft import write_adapter
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.lora import adapters, merged

ADAPTER = "adapter"  # a folder in the Run


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors with its adapters, if it has any, added to the weights they stand beside."""
    return merged(model, model.state_dict())


def save_adapters(
    folder: Path,
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    rename: Callable[[Mapping[str, Tensor]], State] | None = None,
    task: str | None = None,
) -> None:
    """Write a model's adapters into the Run's folder ``adapter``, in PEFT's layout; nothing, where it has none.

    Not beside the weights: transformers reads a folder with an adapter_config.json as its base and the adapter, and the
    Run's own weights hold the adapters already.

    Args:
        folder: the Run.
        model: with adapters.
        settings: its recipe.
        rename: the names of the model's parameters to its family's; None: Rebus' own names are kept.
        task: PEFT's name of the task.
    """
    layers = adapters(model)
    if not layers:
        return
    factors = {name: (layer.lora_A, layer.lora_B) for name, layer in layers.items()}
    lora, base = settings.model.lora, settings.base
    if base is not None and Path(base).exists():
        base = str(Path(base).resolve())
    write_adapter(
        folder / ADAPTER, factors, alpha=lora.alpha, dropout=lora.dropout, base=base, task=task, rename=rename
    )
