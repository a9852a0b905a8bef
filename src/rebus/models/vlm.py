"""The whole model: towers, a fusion, heads. It knows nothing of tables, tokenizers, loops or files.

What it reads is a ``models.batch.Batch``. Letters: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from rebus import recipe
from rebus.models.batch import Batch
from rebus.models.features import Features
from rebus.models.heads import HEADS, Head, HeadContext, HeadSpec
from rebus.models.parts import TEXT, Parts


class VisionLanguageModel(Parts):
    """Towers, fusion and heads, built from a resolved recipe.

    Args:
        settings: the recipe's ``model``, no kind left at ``auto``.
        image: the recipe's ``image`` (size, mean and std).
        heads: task: what it wants.
        vocab_size: V of the decoder's tokenizer.
        max_length: the longest text.
        words: the vocabulary of a text tower that reads words; None: it reads the decoder's tokens.
        image_id: the token that an image token takes the place of, where images stand inside the text.
        contexts: modality: what its tower is built with beside its settings; of images and texts that is known.
    """

    def __init__(
        self,
        settings: recipe.Model,
        image: recipe.Image,
        heads: dict[str, HeadSpec],
        *,
        vocab_size: int,
        max_length: int,
        words: list[str] | None = None,
        image_id: int | None = None,
        contexts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        size = vocab_size if words is None else len(words)
        known: dict[str, Mapping[str, Any]] = {
            "image": {"size": image.size, "mean": image.mean, "std": image.std},
            TEXT: {"vocab_size": size, "max_length": max_length, "words": words},
        }
        super().__init__(
            settings,
            {**known, **{name: {**known.get(name, {}), **given} for name, given in (contexts or {}).items()}},
            list(dict.fromkeys(name for spec in heads.values() for name in spec.reads)),
            {HEADS.get(spec.kind).consumes for spec in heads.values()},
            vocab_size=vocab_size,
            max_length=max_length,
            image_id=image_id,
        )
        self.specs = heads
        for name, spec in heads.items():
            self.heads[name] = HEADS.get(spec.kind)(spec, self)

    def head(self, name: str) -> Head:
        """A task's head."""
        return cast(Head, self.heads[name])

    def count_parameters(self) -> int:
        """How many numbers are learned, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, batch: Batch, names: Sequence[str] | None = None) -> dict[str, Any]:
        """The outputs of the named tasks' heads, or of all tasks of the batch, from one pass through the towers."""
        names = list(batch.targets) if names is None else names
        looking = [self.specs[name].reads for name in names if self.head(name).consumes != "inputs"]
        features = self.see(batch, {modality for reads in looking for modality in reads})
        outputs = {name: self.output(name, features, batch.targets[name], batch) for name in names}
        return {name: output for name, output in outputs.items() if output is not None}

    def output(
        self, name: str, features: Mapping[str, Features], part: dict[str, Tensor], batch: Batch | None = None
    ) -> Any:
        """One task's outputs for what towers gave of B examples; ``batch`` for heads that consume inputs."""
        reads = {modality: each for modality, each in features.items() if modality in self.specs[name].reads}
        return self.heads[name](HeadContext(self, batch or Batch(0), part, reads))
