"""The whole model: towers, a fusion, heads. It knows nothing of tables, tokenizers, loops or files.

Letters: B pictures (or rows without one), R texts (several may belong to one picture), L text tokens,
P picture tokens, D width, V vocabulary, C classes.

A batch is a dictionary:
    ``picture``      (B, 3, H, W) uint8, absent when no row has a picture
    ``has_picture``  (B,) bool
    ``tasks``        {task: tensors}; each task holds ``owner`` (R,), the place of the picture each text belongs to, and
        for a head that writes: ``input_ids``, ``positions``, ``blocks``, ``labels``, all (R, L);
        for a head that reads text, or where a text tower reads the question: ``text_ids``, ``text_mask`` (R, L) and
        perhaps ``segment_ids`` (R, L), for a tower that has vectors for segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.features import Features
from rebus.models.fusion import Condition, attends_memory, make_fusion
from rebus.models.heads import make_head, masked_head
from rebus.models.layout import IGNORED, Places, after_prefix, block_mask, one_text_a_row, picked
from rebus.models.naming import Names, NamingHead
from rebus.models.towers import TOWERS
from rebus.models.towers.decoder import Decoder
from rebus.models.towers.encoder import Encoder
from rebus.nn.norms import RMSNorm

READS_FUSED = ("vector", "words")  # kinds of head that read what the fusion gives


@dataclass(frozen=True)
class HeadSpec:
    """What a task wants of the model.

    Attributes:
        kind: ``write`` (a causal decoder), ``vector`` (C numbers an item), ``words`` (C numbers a text token),
            ``tokens`` (C numbers a picture token) or ``mask`` (the vocabulary, for each hidden token of a text).
        outputs: C; not used by ``write``. ``vector``: 0 gives the fused vector itself, (R, D).
        reads: the modalities the task has columns for.
        names: ``tokens``: token ids of the labels' names, for a model with a decoder to compare patches with words.
    """

    kind: Literal["write", "vector", "words", "tokens", "mask"]
    outputs: int = 0
    reads: tuple[str, ...] = ("picture",)
    names: Names = ()


class VisionLanguageModel(nn.Module):
    """Towers, fusion and heads, built from a resolved recipe.

    Args:
        settings: the recipe's ``model``, no kind left at ``auto``.
        picture: the recipe's ``picture`` (size, mean and std).
        heads: task: what it wants.
        vocab_size: V of the decoder's tokenizer.
        max_length: the longest text.
        words: the vocabulary of a text tower that reads words; None: it reads the decoder's tokens.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        settings: recipe.Model,
        picture: recipe.Picture,
        heads: dict[str, HeadSpec],
        *,
        vocab_size: int,
        max_length: int,
        words: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.specs = heads
        writes = any(spec.kind == "write" for spec in heads.values())
        reads_text = any("text" in spec.reads for spec in heads.values())
        sees = settings.picture.kind != "none" and any("picture" in spec.reads for spec in heads.values())
        self.separate_text = settings.text.kind not in ("decoder", "none") and (reads_text or writes)
        width = settings.text.width

        self.picture: Any = None
        if sees:
            self.picture = TOWERS.get(settings.picture.kind)(settings.picture, size=picture.size)
        self.text: Any = None
        if self.separate_text:
            size = len(words) if words is not None else vocab_size
            self.text = TOWERS.get(settings.text.kind)(
                settings.text, vocab_size=size, max_length=max_length, words=words
            )
        self.decoder: Decoder | None = None
        if writes or (settings.text.kind == "decoder" and reads_text):
            tower = settings.text.model_copy(update={"kind": "decoder"})
            self.decoder = Decoder(
                tower,
                vocab_size,
                max_length=2 * max_length + 1,
                cross=writes and attends_memory(settings.fusion),
                memory_width=width,
            )
        widths: dict[str, int] = {}
        if self.picture is not None:
            widths["picture"] = self.picture.width
            self.places = Places(round(self.picture.num_tokens**0.5), self.picture.width)
        if self.text is not None:
            widths["text"] = self.text.width
        elif reads_text and self.decoder is not None:
            widths["text"] = self.decoder.width
        self.fusion = make_fusion(settings, widths, writes=writes and (self.separate_text or sees))
        if self.fusion is None and len(widths) == 1:
            width = next(iter(widths.values()))
        if self.fusion is not None and not any(spec.kind in READS_FUSED for spec in heads.values()):
            self.fusion.only_writes()
        self.heads = nn.ModuleDict()
        for name, spec in heads.items():
            if spec.kind in ("vector", "words"):
                self.heads[name] = make_head(width, spec.outputs, settings.fusion.dropout)
            elif spec.kind == "mask":
                self.heads[name] = masked_head(self.text)
            elif spec.kind == "tokens" and self.decoder is not None and spec.names and self.picture is not None:
                self.heads[name] = NamingHead(width, spec.names)
            elif spec.kind == "tokens" and self.picture is not None:
                self.heads[name] = nn.Sequential(
                    RMSNorm(self.picture.width), nn.Linear(self.picture.width, spec.outputs)
                )
        self.register_buffer("mean", torch.tensor(picture.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(picture.std).view(1, 3, 1, 1), persistent=False)

    def count_parameters(self) -> int:
        """How many numbers are learned, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, batch: dict[str, Any], names: list[str] | None = None) -> dict[str, Tensor]:
        """Every named task's outputs from one pass over the pictures.

        Returns:
            ``vector`` heads: (R, C). ``words`` heads: (R, L, C). ``tokens`` heads: (B, P, C). ``write`` and
            ``mask`` heads: logits (N, V) at the N positions whose label is read, in row-major order.
        """
        seen = self.see(batch)
        outputs: dict[str, Tensor] = {}
        for name in names if names is not None else list(batch["tasks"]):
            part, spec = batch["tasks"][name], self.specs[name]
            if spec.kind == "tokens":
                if seen is not None:
                    outputs[name] = self.name_tokens(name, seen)
            elif spec.kind == "vector":
                outputs[name] = self.heads[name](self.fused(seen, part).pooled)
            elif spec.kind == "words":
                outputs[name] = self.heads[name](self.text_tokens(seen, part))
            elif spec.kind == "mask":
                outputs[name] = self._guess(name, part)
            else:
                outputs[name] = self._write(seen if "picture" in spec.reads else None, part)
        return outputs

    def name_tokens(self, name: str, seen: Features) -> Tensor:
        """A ``tokens`` head's (B, P, C) for what the picture tower saw."""
        head = self.heads[name]
        if isinstance(head, NamingHead) and self.fusion is not None and self.decoder is not None:
            scores: Tensor = head(self.fusion.project["picture"](seen.tokens), self.decoder.embed_tokens.weight)
        else:
            scores = head(seen.tokens)
        return scores

    def see(self, batch: dict[str, Any]) -> Features | None:
        """The picture tower's Features for the batch's B pictures; None where the model has no picture tower."""
        if self.picture is None:
            return None
        if "picture_tokens" in batch:  # features of a frozen tower, computed once
            tokens, pooled = batch["picture_tokens"], batch["picture_pooled"]
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
            seen = Features(tokens, mask, pooled)
        elif "picture" in batch:
            seen = self.picture(self.normalise(batch["picture"]))
        else:
            return None
        return Features(seen.tokens, seen.mask & batch["has_picture"][:, None], seen.pooled)

    def normalise(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float, by the recipe's mean and std, channels last in memory."""
        pixels = (picture.to(self.mean.dtype) / 255.0 - self.mean) / self.std
        return pixels.contiguous(memory_format=torch.channels_last)

    def placed(self, seen: Features) -> Features:
        """The picture's Features on their way into the fusion: each token says where it is."""
        return Features(self.places(seen.tokens), seen.mask, seen.pooled)

    def read(self, part: dict[str, Tensor]) -> Features | None:
        """The text tower's Features for a task's R texts; None where the task gives it none."""
        if "text_ids" not in part:
            return None
        tower = self.text if self.text is not None else self.decoder
        if tower is None:
            return None
        segments = {}
        if "segment_ids" in part and isinstance(tower, Encoder):
            segments["segment_ids"] = part["segment_ids"].clamp(max=tower.segments.num_embeddings - 1)
        features: Features = tower(part["text_ids"], part["text_mask"], **segments)
        return features

    def gather(self, seen: Features | None, part: dict[str, Tensor]) -> dict[str, Features]:
        """``{modality: Features}`` of a task's R items."""
        features: dict[str, Features] = {}
        if seen is not None:
            features["picture"] = self.placed(seen).select(part["owner"])
        text = self.read(part)
        if text is not None:
            features["text"] = text
        return features

    def fused(self, seen: Features | None, part: dict[str, Tensor]) -> Features:
        """The fusion's Features for a task's R items; without a fusion, those of the one tower there is."""
        features = self.gather(seen, part)
        if self.fusion is None:
            return next(iter(features.values()))
        fused: Features = self.fusion(features)
        return fused

    def text_tokens(self, seen: Features | None, part: dict[str, Tensor]) -> Tensor:
        """(R, L, D): each text token of a task's R items, after it has met the picture if there is one."""
        features = self.gather(seen, part)
        return features["text"].tokens if self.fusion is None else self.fusion.text_tokens(features)

    def condition(self, seen: Features | None, part: dict[str, Tensor]) -> Condition:
        """What the decoder writes from, for a task's R texts."""
        if self.fusion is None or (seen is None and (not self.separate_text or "text_ids" not in part)):
            return Condition()
        if not self.separate_text and seen is not None:  # fuse once a picture, not once a text
            made: Condition = self.fusion.condition({"picture": self.placed(seen)})
            return self.named(made, seen).select(part["owner"])
        whole: Condition = self.fusion.condition(self.gather(seen, part))
        return whole if seen is None else self.named(whole, seen.select(part["owner"]))

    @property
    def naming(self) -> NamingHead | None:
        """The head that names patches in words, where there is one."""
        return next((head for head in self.heads.values() if isinstance(head, NamingHead)), None)

    def named(self, condition: Condition, seen: Features) -> Condition:
        """The condition with what words are looked up in, where a head names patches."""
        if self.naming is None or self.fusion is None:
            return condition
        project, placed = self.fusion.project["picture"], self.placed(seen)
        shown = Features(project(placed.tokens), seen.mask, placed.pooled)
        return replace(condition, shown=shown, names=project(seen.tokens))

    def embed(self, condition: Condition, input_ids: Tensor) -> Tensor:
        """(R, L) ids -> (R, L, D) as they enter the decoder."""
        assert self.decoder is not None  # noqa: S101 - a head that writes has one
        embedded = self.decoder.embed(input_ids)
        if self.naming is not None and condition.shown is not None and condition.names is not None:
            embedded = self.naming.find(embedded, condition.names, condition.shown)
        return embedded if self.fusion is None else self.fusion.enter(condition, embedded)

    def _write(self, seen: Features | None, part: dict[str, Tensor]) -> Tensor:
        assert self.decoder is not None  # noqa: S101 - a head that writes has one
        condition = self.condition(seen, part)
        x, blocks = self.embed(condition, part["input_ids"]), part["blocks"]
        positions, prefix = part["positions"], condition.prefix
        skip = 0
        if prefix is None and one_text_a_row(blocks):  # causal attention alone is faster without a mask
            return self._logits(self.decoder.forward_embeds(x, positions, memory=condition.memory), part)
        mask = block_mask(blocks)
        if prefix is not None:
            skip = prefix.tokens.shape[1]
            x, positions, mask = after_prefix(prefix, x, positions, mask, blocks >= 0)
        hidden = self.decoder.forward_embeds(x, positions, mask=mask[:, None], memory=condition.memory)
        return self._logits(hidden[:, skip:], part)

    def _logits(self, hidden: Tensor, part: dict[str, Tensor]) -> Tensor:
        assert self.decoder is not None  # noqa: S101 - a head that writes has one
        chosen = picked(hidden, part["labels"] != IGNORED)  # logits only where a loss reads them
        logits: Tensor = self.decoder.logits(chosen)
        return logits

    def _guess(self, name: str, part: dict[str, Tensor]) -> Tensor:
        features = self.read(part)
        assert features is not None  # noqa: S101 - masked_head asked for an encoder
        chosen = picked(features.tokens, part["labels"] != IGNORED)
        logits: Tensor = self.heads[name](chosen, self.text.words.weight)
        return logits
