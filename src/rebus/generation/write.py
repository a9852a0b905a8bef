"""Write with a model that was given an image or a text of its own to write from: ids in, ids out.

It knows no tokenizer, no tables and no tasks. Letters: R texts, L prompt tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from torch import Tensor

from rebus.generation.engine import Constraint, Engine, Written
from rebus.generation.reading import Source, Writer
from rebus.generation.sampling import Sampling
from rebus.generation.writers import Plain
from rebus.models.fusion import Condition
from rebus.models.towers.decoder import Decoder
from rebus.models.vlm import VisionLanguageModel


class Conditioned(Source):
    """What a fusion made of images and texts, one item a text.

    Args:
        model: embeds ids on their way into the decoder.
        condition: of R items.
    """

    alike = False

    def __init__(self, model: VisionLanguageModel, condition: Condition) -> None:
        self.model, self.condition = model, condition
        self._before: Tensor | None = None  # (R,) image marks read so far
        self._take(condition)

    def embed(self, ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D); the next part of each text: image marks are counted."""
        embedded = self.model.embed(self.condition, ids, self._before)
        if self.condition.inside is not None:
            more = self.model.marks(ids).sum(1)
            self._before = more if self._before is None else self._before + more
        return embedded

    def select(self, items: Tensor) -> None:
        """Each text keeps its own item."""
        self._take(self.condition.select(items))
        self._before = None if self._before is None else self._before[items]

    def _take(self, condition: Condition) -> None:
        self.condition, self.prefix, self.memory = condition, condition.prefix, condition.memory


def write(
    model: VisionLanguageModel,
    condition: Condition,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    eos_id: int | Sequence[int],
    vocab_size: int | None = None,
    constraint: Constraint | None = None,
    writer: Writer | None = None,
) -> list[Written]:
    """Continue R prompts of unequal length, each given its own item of ``condition``.

    Args:
        model: asked as it is at this moment: it may be in the middle of training.
        condition: of R items, or an empty one.
        prompts: ids.
        sampling: how.
        eos_id: the tokens that end a text.
        vocab_size: ids there are text for; None: all.
        constraint: what each text must be like.
        writer: the model's decoder in a faster layout, where its weights no longer change; None: as it is.
    """
    ends = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    engine = Engine(
        writer or Plain(decoder_of(model)), ends, vocab_size=vocab_size, rows=max(len(prompts) * sampling.n, 1)
    )
    source = None if is_empty(condition) else Conditioned(model, condition)
    return engine.write(prompts, sampling, source=source, constraint=constraint)


def is_empty(condition: Condition) -> bool:
    """Whether there is nothing to write from but the prompt."""
    return all(getattr(condition, part.name) is None for part in fields(condition))


def only_inside(condition: Condition) -> bool:
    """Whether all there is beside the prompt are image tokens that stand in it: then any writer will do."""
    given = [part.name for part in fields(condition) if getattr(condition, part.name) is not None]
    return given == ["inside"]


def decoder_of(model: VisionLanguageModel) -> Decoder:
    """The model's decoder."""
    if model.decoder is None:
        raise TypeError("this model has no decoder: none of its tasks writes text")
    return model.decoder
