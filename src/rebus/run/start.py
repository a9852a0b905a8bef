"""Weights to start from: a Run for the whole model, a Run or a Hugging Face checkpoint for one tower."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from rebus import recipe
from rebus.errors import WeightsError
from rebus.formats import bert, llama, qwen3, siglip
from rebus.formats.config import load_config
from rebus.formats.weights import load_weights
from rebus.models.towers.wordvectors import WordVectors
from rebus.models.vlm import VisionLanguageModel
from rebus.run.prepare import Tell
from rebus.tasks import Codec

FAMILIES = {"llama": llama, "qwen3": qwen3, "bert": bert, "siglip": siglip, "siglip_vision_model": siglip}


def start_from(
    model: VisionLanguageModel, settings: recipe.Recipe, codec: Codec, base: Path | None, tell: Tell
) -> None:
    """Take over weights where names and shapes agree, and say how many; freeze what the recipe says is frozen.

    Raises:
        WeightsError: nothing fits, or a tower's checkpoint is of another shape.
    """
    if base is not None:
        taken, left = take_fitting(model, load_weights(base))
        if not taken:
            raise WeightsError(
                base, "weights that fit this model", "none of the same name and shape", "use the base's recipe"
            )
        tell(f"started from {base}: {taken} tensors taken over, {left} begin anew")
    if isinstance(model.text, WordVectors) and settings.model.text.vectors is not None and codec.reader is not None:
        known = model.text.fill(codec.reader.words)
        tell(f"{settings.model.text.vectors}: vectors for {known} of {len(codec.reader.words)} words")
    towers: dict[str, tuple[recipe.Tower, nn.Module | None]] = {
        "picture": (settings.model.picture, model.picture),
        "text": (settings.model.text, model.text if model.text is not None else model.decoder),
    }
    for name, (tower, module) in towers.items():
        if module is None:
            continue
        if tower.weights is not None:
            state = tower_weights(Path(tower.weights), name)
            expected = module.state_dict()
            wrong = [key for key, tensor in state.items() if key in expected and expected[key].shape != tensor.shape]
            if wrong:
                shapes = f"{tuple(expected[wrong[0]].shape)} for '{wrong[0]}'"
                found = str(tuple(state[wrong[0]].shape))
                do = f"set model.{name}'s width, depth and heads to the checkpoint's"
                raise WeightsError(tower.weights, shapes, found, do)
            taken, left = take_fitting(module, state)
            if not taken:
                raise WeightsError(
                    tower.weights, f"weights of a {tower.kind}", "none that fits", "check model." + name + ".kind"
                )
            tell(f"{name} tower started from {tower.weights}: {taken} tensors taken over, {left} begin anew")
        if tower.frozen:
            module.requires_grad_(False)


def tower_weights(folder: Path, name: str) -> dict[str, Tensor]:
    """One tower's tensors out of a Run or a Hugging Face checkpoint, under the names that Rebus gives them.

    Raises:
        WeightsError: there are no weights, or they are of a family that is not read.
    """
    config = load_config(folder)
    family = str(config.get("model_type"))
    if family == "rebus":
        prefixes = ("picture.",) if name == "picture" else ("text.", "decoder.")
        state = load_weights(folder)
        return {key.removeprefix(p): tensor for key, tensor in state.items() for p in prefixes if key.startswith(p)}
    if family not in FAMILIES:
        known = ", ".join(["rebus", *FAMILIES])
        raise WeightsError(
            folder, f"a checkpoint of a known family ({known})", f"'{family}'", "convert it to one of these"
        )
    found: dict[str, Tensor] = FAMILIES[family].from_hf(load_weights(folder))
    return found


def take_fitting(module: nn.Module, state: dict[str, Tensor]) -> tuple[int, int]:
    """Copy tensors of the same name and shape; gives how many were taken and how many of the module's were not."""
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    module.load_state_dict(fitting, strict=False)
    return len(fitting), len(own) - len(fitting)
