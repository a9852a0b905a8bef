"""What families that see and write have in common: an image tower, a projection, and a text decoder of a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.config import mapping
from rebus.formats.families import FAMILIES, Family
from rebus.formats.names import State
from rebus.recipe import Fusion, Tower

DECODERS = ("llama", "qwen2", "qwen3")  # text families that are written inside such a checkpoint
_SIZES = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
_QWEN = {**_SIZES, "intermediate_size": 22016, "num_key_value_heads": 32, "vocab_size": 151936}
# What a text_config leaves out is as the family's class in transformers has it; whole checkpoints leave nothing out
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_SIZES, "intermediate_size": 11008, "vocab_size": 32000},
    "mistral": {**_SIZES, "intermediate_size": 14336, "vocab_size": 32000},
    "qwen2": {**_QWEN, "max_position_embeddings": 32768},
    "qwen3": {**_QWEN, "max_position_embeddings": 32768, "head_dim": 128},
}


@dataclass(frozen=True)
class VisionText:
    """A checkpoint that sees and writes, in our terms.

    Attributes:
        tower: settings of the image tower.
        size: side of the images it sees.
        fusion: how image tokens get into the text.
        family: of the text decoder.
        text: the decoder's settings.
        rows: of its embeddings.
        image_id: the token that image tokens take the place of.
    """

    tower: Tower
    size: int
    fusion: Fusion
    family: Family
    text: Tower
    rows: int
    image_id: int


def text_config_of(config: Mapping[str, Any], where: str, *, tied: bool) -> tuple[Family, Tower, int]:
    """The text decoder of a checkpoint: its family, its settings and the rows of its embeddings.

    Args:
        config: config.json.
        where: the file, for messages.
        tied: whether output weights are the embeddings, which the outer configuration says.

    Raises:
        WeightsError: it is of a family that is not read here, or asks for something that is not done.
    """
    given = mapping(config, "vision and text", "text_config")
    name = str(given.get("model_type", "llama"))
    if name not in _DEFAULTS:
        do = "use a checkpoint with one of these"
        raise WeightsError(where, f"a text_config of {', '.join(_DEFAULTS)}", f"'{name}'", do)
    family = FAMILIES[name]
    settings, rows = family.settings_from_hf(
        {**_DEFAULTS[name], **given, "model_type": name, "tie_word_embeddings": tied}
    )
    return family, settings, rows


def below(prefix: str, state: Mapping[str, Tensor], *, keep: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors under a prefix, which is taken off unless it is kept."""
    for name, tensor in state.items():
        if name.startswith(prefix):
            yield (name if keep else name.removeprefix(prefix)), tensor


def moved(state: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> State:
    """The same tensors, each name with the first prefix that it has replaced."""
    out: State = {}
    for name, tensor in state.items():
        old = next((one for one in prefixes if name.startswith(one)), None)
        out[name if old is None else prefixes[old] + name.removeprefix(old)] = tensor
    return out
