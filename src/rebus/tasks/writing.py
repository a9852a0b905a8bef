"""What caption and answer share: texts written by the decoder, several of them packed in one pass over a picture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus.models.vlm import IGNORED, HeadSpec
from rebus.tasks.base import Codec, Item, Task, Values
from rebus.tasks.cells import missing, pad_to


class WritingTask(Task):
    """A task whose answer is text. Subclasses say what the prompt and the wanted texts of a row are."""

    @abstractmethod
    def prompt(self, values: Values, row: int) -> str:
        """The question, or nothing."""

    @abstractmethod
    def targets(self, values: Values, row: int) -> list[str]:
        """The texts that would be right."""

    def head(self, codec: Codec) -> HeadSpec:
        """A decoder."""
        return HeadSpec("write", reads=("picture",) if self.uses_picture else ())

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """Prompts and targets."""
        found: list[str] = []
        for row in rows:
            found.extend([self.prompt(values, row), *self.targets(values, row)])
        return [text for text in found if text]

    def prompt_ids(self, text: str, codec: Codec) -> list[int]:
        """A prompt as one turn of a conversation: ``<|bos|><|user|>text<|assistant|>``."""
        t = codec.tokenizer
        return [t.bos_id, t.user_id, *t.encode(text)[: codec.max_length], t.assistant_id]

    def items(self, values: Values, rows: Sequence[int], codec: Codec, key: tuple[int, int, int] | None) -> list[Item]:
        """All texts of a picture packed in one item, or one item a text where a text tower reads the question."""
        pairs = [(row, target) for row in rows if self.usable(values, row) for target in self.targets(values, row)]
        if not pairs:
            return []
        if key is not None:
            chosen = np.random.default_rng(key).permutation(len(pairs))[: self.settings.per_picture]
            pairs = [pairs[i] for i in chosen]
        if codec.text_tower:
            return [self._packed([pair], values, codec) for pair in pairs]
        return [self._packed(pairs, values, codec)]

    def _packed(self, pairs: list[tuple[int, str]], values: Values, codec: Codec) -> Item:
        ids: list[int] = []
        labels: list[int] = []
        blocks: list[int] = []
        positions: list[int] = []
        for number, (row, target) in enumerate(pairs):
            prompt = self.prompt_ids(self.prompt(values, row), codec)
            answer = [*codec.tokenizer.encode(target)[: codec.max_length], codec.tokenizer.eos_id]
            whole = prompt + answer
            # The label at a position is the token that follows; the prompt itself is never learned.
            ids += whole[:-1]
            labels += [IGNORED] * (len(prompt) - 1) + answer
            blocks += [number] * (len(whole) - 1)
            positions += range(len(whole) - 1)
        item: Item = {
            "input_ids": np.asarray(ids, dtype=np.int64),
            "labels": np.asarray(labels, dtype=np.int64),
            "blocks": np.asarray(blocks, dtype=np.int64),
            "positions": np.asarray(positions, dtype=np.int64),
        }
        if codec.text_tower:
            item["text_ids"] = np.asarray(codec.read(self.prompt(values, pairs[0][0])), dtype=np.int64)
        return item

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """Pad to a multiple of 16: (R, L) each."""
        length = pad_to(max(len(item["input_ids"]) for item in items), 16)
        blank = {"input_ids": 0, "labels": IGNORED, "blocks": -1, "positions": 0}
        part = {name: stack([item[name] for item in items], length, fill) for name, fill in blank.items()}
        part["owner"] = torch.tensor(owner, dtype=torch.long)
        if "text_ids" in items[0]:
            width = pad_to(max(len(item["text_ids"]) for item in items))
            part["text_ids"] = stack([item["text_ids"] for item in items], width, 0)
            lengths = torch.tensor([len(item["text_ids"]) for item in items])
            part["text_mask"] = torch.arange(width)[None, :] < lengths[:, None]
        return part

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Weighted mean cross-entropy of the answers' tokens: logits (N, V) at the N labelled positions.

        A token weighs ``1 / length ** length_weight`` of its text: at 0 a long caption outweighs a yes or no by its
        length, at 1 every text weighs the same.
        """
        chosen = part["labels"] != IGNORED
        smoothing = self.settings.label_smoothing
        each = functional.cross_entropy(
            outputs.float(), part["labels"][chosen], reduction="none", label_smoothing=smoothing
        )
        rows, length = part["labels"].shape
        text = (torch.arange(rows, device=chosen.device)[:, None] * length + part["blocks"].clamp(min=0))[chosen]
        lengths = torch.zeros(rows * length, device=chosen.device).index_add_(0, text, torch.ones_like(each))
        weight = lengths[text] ** -self.settings.length_weight
        return (each * weight).sum() / weight.sum()

    def truth(self, values: Values, row: int) -> Any:
        """The first right text."""
        return (self.targets(values, row) or [""])[0]

    def types(self, values: Values, rows: Sequence[int]) -> list[str] | None:
        """The type of each row's question, where there is such a column."""
        if "type" not in values:
            return None
        return ["" if missing(values["type"][row]) else str(values["type"][row]) for row in rows]


def stack(arrays: list[NDArray[Any]], length: int, fill: int) -> Tensor:
    """R arrays padded on the right with ``fill`` -> (R, length)."""
    out = torch.full((len(arrays), length), fill, dtype=torch.long)
    for row, array in enumerate(arrays):
        out[row, : len(array)] = torch.from_numpy(array)
    return out
