"""What a family of checkpoints is, and the registry of them.

    spec = family.settings(config, where)             what a config.json says, in Rebus' terms
    state = family.from_hf(tensors, spec)             its tensors under the names that they have in a model
    family.config(spec), family.to_hf(state, spec)    the way back

A family knows no models: dictionaries of settings and of tensors go in and come out. What a layout asks for and Rebus
does not compute raises WeightsError; nothing is skipped.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats.names import NameMap, State
from rebus.formats.processors import FILE, image_to_hf, load_image
from rebus.recipe import Fusion, Image, Tower
from rebus.registry import Registry

FAMILIES: Registry[type[CheckpointFamily]] = Registry("family")


@dataclass(frozen=True)
class CheckpointSpec:
    """A model in Rebus' terms, as a config.json describes it or as it was trained.

    Attributes:
        text: settings of the decoder or of the text encoder, ``rows`` of its embeddings included; None: it has none.
        image: settings of the image tower; None: it has none.
        size: side of the images that it sees, in pixels.
        fusion: how image tokens get into the text, where they do.
        image_id: the token that image tokens take the place of, where they do.
        image_tokens: how many they are.
        embed: numbers of a vector in the space that images and texts share, where they do.
        maps: which towers have a map into that space, as the recipe's ``model.maps``.
        loss: what that space was trained with: ``softmax`` or ``sigmoid``.
        end: the id where a text is pooled; None: not known.
        architecture: with a head, where the family has one for it; None: without.
    """

    text: Tower | None = None
    image: Tower | None = None
    size: int = 0
    fusion: Fusion | None = None
    image_id: int | None = None
    image_tokens: int = 0
    embed: int | None = None
    maps: Literal["both", "text"] = "both"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    end: int | None = None
    architecture: str | None = None

    @property
    def rows(self) -> int:
        """Of the text's embeddings."""
        return (self.text.rows or 0) if self.text is not None else 0


class CheckpointFamily(ABC):
    """One family: its configuration, and the names of its tensors.

    Attributes:
        name: ``model_type`` of its config.json, and its name in the registry.
        model_types: all that it reads; () stands for ``name`` alone.
        owns: prefixes of the tensors, in a model, that its files have a place for.
        names: the one table of names, both ways.
        base: the architecture without a head.
        heads: architecture with a linear head: what its files call the layer.
        masked: the architecture with a head that guesses hidden words.
        image_family: name of the family that its image tower has alone.
        processor: the image processor that its files name, without ``ImageProcessor``.
        usual: what published files of the processor say, for a folder without one; None: nothing is known.
        pattern: the one pattern by which transformers' tokenizer of the family cuts text; None: any.
        inside: what a text_config inside a larger configuration leaves out; None: it is not read inside one.
        file_names: regular expressions that turn names of transformers' modules, which adapters go by, into those in
            files, where the two differ.
        module_names: the other way round, for the names that ``to_hf`` gives.
        note: what to know of a folder in this layout.
    """

    name: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]] = ()
    owns: ClassVar[tuple[str, ...]]
    names: ClassVar[NameMap]
    base: ClassVar[str]
    heads: ClassVar[Mapping[str, str]] = {}
    masked: ClassVar[str | None] = None
    image_family: ClassVar[str | None] = None
    processor: ClassVar[str] = "Bit"
    usual: ClassVar[Mapping[str, Any] | None] = {}
    pattern: ClassVar[str | None] = None
    inside: ClassVar[Mapping[str, Any] | None] = None
    file_names: ClassVar[Mapping[str, str]] = {}
    module_names: ClassVar[Mapping[str, str]] = {}
    note: ClassVar[str] = ""

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether a config.json is of this family."""
        return config.get("model_type") in (self.model_types or (self.name,))

    @abstractmethod
    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says.

        Raises:
            WeightsError: it asks for something that is not done here.
        """

    def image_settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says of the image tower alone. Raises as ``settings``."""
        return self.settings(config, where)

    @abstractmethod
    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a model that the family has a place for.

        Args:
            spec: what it is.
            context: max_length (where the settings have no context), dtype, and bos_token_id, eos_token_id and
                pad_token_id of the tokenizer.
        """

    @abstractmethod
    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so, and is read again as what it is."""

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors of a checkpoint under the names that they have in a model. Raises WeightsError for unknown ones."""
        return self.names.from_hf(state)

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round, for tensors that the family ``owns``. Raises WeightsError for one that it has not."""
        return self.names.to_hf(state)

    def image_fields(self, folder: Path, spec: CheckpointSpec, log: Callable[[str], None]) -> dict[str, Any]:
        """The fields of ``recipe.Image`` that a folder of the family decides. Raises WeightsError."""
        return load_image(folder, self.name, self.processor, self.usual, spec.size, log)

    def processor_files(self, image: Image, spec: CheckpointSpec, mark: str) -> dict[str, dict[str, Any]]:
        """Files that say how images and texts are prepared, by name; ``mark`` stands for an image in a text."""
        return {FILE: image_to_hf(image, self.processor)}


@cache
def _family(kind: type[CheckpointFamily]) -> CheckpointFamily:
    return kind()


def family(name: str) -> CheckpointFamily:
    """A family by its name. Raises RecipeError where there is none."""
    return _family(FAMILIES.get(name))


def families() -> list[CheckpointFamily]:
    """All of them, those of plug-ins included."""
    return [family(name) for name in FAMILIES.names()]


def known_family(config: Mapping[str, Any]) -> CheckpointFamily | None:
    """The family of a config.json; None where no family knows it."""
    return next((known for known in families() if known.matches(config)), None)


def family_of(config: Mapping[str, Any], where: str = "config.json") -> CheckpointFamily:
    """The family of a checkpoint.

    Raises:
        WeightsError: it is not known. Code that comes with a checkpoint (``auto_map``) is never run.
    """
    result = known_family(config)
    if result is not None:
        return result
    name = str(config.get("model_type"))
    known = f"a family that Rebus knows ({', '.join(FAMILIES.names())})"
    if "auto_map" in config:
        received = f"'{name}', which comes with code of its own (auto_map)"
        raise WeightsError(where, known, received, "use another checkpoint: code from a checkpoint is never run")
    raise WeightsError(where, known, f"'{name}'", "convert it to one of these")


def family_for(spec: CheckpointSpec) -> CheckpointFamily | None:
    """The family that a model can be written as, so that other libraries open it; None: there is none."""
    return next((known for known in families() if known.fits(spec)), None)
