"""What families that see and write have in common: a picture tower, a projection, and a text decoder of a family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.families import FAMILIES, Family
from rebus.formats.names import State
from rebus.recipe import Fusion, Tower

DECODERS = ("llama", "qwen2", "qwen3")  # text families that are read and written inside such a checkpoint


@dataclass(frozen=True)
class VisionText:
    """A checkpoint that sees and writes, in our terms.

    Attributes:
        tower: settings of the picture tower.
        size: side of the pictures it sees.
        fusion: how picture tokens get into the text.
        family: of the text decoder.
        text: the decoder's settings.
        rows: of its embeddings.
        picture_id: the token that picture tokens take the place of.
    """

    tower: Tower
    size: int
    fusion: Fusion
    family: Family
    text: Tower
    rows: int
    picture_id: int


def text_config_of(config: Mapping[str, Any], where: str, *, tied: bool) -> tuple[Family, Tower, int]:
    """The text decoder of a checkpoint: its family, its settings and the rows of its embeddings.

    Args:
        config: config.json.
        where: the file, for messages.
        tied: whether output weights are the embeddings, which the outer configuration says.

    Raises:
        WeightsError: it is of a family that is not read here, or asks for something that is not done.
    """
    text = {"model_type": "llama", **(config.get("text_config") or {})}
    name = str(text["model_type"])
    if name not in DECODERS:
        do = "use a checkpoint with one of these"
        raise WeightsError(where, f"a text_config of {', '.join(DECODERS)}", f"'{name}'", do)
    family = FAMILIES[name]
    settings, rows = family.settings_from_hf({**text, "tie_word_embeddings": tied})
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
