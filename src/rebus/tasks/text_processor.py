"""How text becomes ids for a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rebus.models.modalities import Modality
from rebus.tasks.cuts import cut
from rebus.text.readers import TextReader
from rebus.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextProcessor:
    """How text becomes ids for a task.

    Attributes:
        tokenizer: the decoder's.
        reader: the text tower's own, where it splits text differently; None: the same.
        max_length: most tokens of a text.
        text_tower: whether a tower of its own reads the question of a task that writes.
        image: ids that stand for an image inside a text, one for each image token and what stands around them;
            none: images do not stand inside texts.
        image_id: the one among them that an image token takes the place of.
        modalities: what else the model reads, by name.
    """

    tokenizer: Tokenizer
    reader: TextReader | None = None
    max_length: int = 256
    text_tower: bool = False
    image: tuple[int, ...] = ()
    image_id: int | None = None
    modalities: Mapping[str, Modality] = field(default_factory=dict)

    def read(self, text: str) -> list[int]:
        """Ids for the text tower, cut to ``max_length`` with ``cuts.cut``, never empty."""
        if self.reader is not None:
            return cut(list(self.reader.encode(text)), self.max_length, text, "start") or [self.reader.unknown_id]
        before, after = self.tokenizer.frame
        room = max(self.max_length - len(before) - len(after), 0)
        return [*before, *cut(self.tokenizer.encode(text), room, text, "start"), *after] or [self.tokenizer.eos_id]
