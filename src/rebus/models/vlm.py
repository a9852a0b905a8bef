"""The whole model: towers, a fusion, heads. It knows nothing of tables, tokenizers, loops or files.

Letters: B images (or rows without one), R texts (several may belong to one image), L text tokens,
P image tokens, D width, V vocabulary, C classes.

What it reads is a ``models.batch.Batch``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.models.batch import Batch
from rebus.models.features import Features
from rebus.models.fusion import Condition, attends_memory, make_fusion
from rebus.models.fusion.inline import InlineProjector, placed_inside
from rebus.models.heads import make_head, masked_head
from rebus.models.image_tokens import ImagePlan, plan_for
from rebus.models.layout import IGNORED, Places, after_prefix, block_mask, one_text_a_row, picked
from rebus.models.naming import Names, NamingHead
from rebus.models.pairs import PairHead, Pairs, with_negatives
from rebus.models.pretext import make_pretext
from rebus.models.towers import TOWERS
from rebus.models.towers.decoder import Decoder
from rebus.nn.norms import RMSNorm

READS_FUSED = ("vector", "words")  # kinds of head that read what the fusion gives
AROUND = 4  # tokens that may stand around an image inside the text


@dataclass(frozen=True)
class HeadSpec:
    """What a task wants of the model.

    Attributes:
        kind: ``write`` (a causal decoder), ``vector`` (C numbers an item), ``words`` (C numbers a text token),
            ``tokens`` (C numbers an image token), ``mask`` (the vocabulary, for each hidden token of a text),
            ``pairs`` (images and texts as vectors of one space) or ``pretext`` (what an image tower learns from
            alone).
        outputs: C; not used by ``write``. ``vector``: 0 gives the fused vector itself, (R, D).
        reads: the modalities the task has columns for.
        names: ``tokens``: token ids of the labels' names, for a model with a decoder to compare patches with words.
        loss: ``pairs``: softmax or sigmoid, which decides where the temperature starts; ``pretext``: simclr or masked.
        hide: ``pretext``: share of patches hidden; 0: the method's own.
        hidden: ``vector``: a hidden layer this many times as wide as the vector, for what is true of two things
            together but of neither alone; 0: none.
    """

    kind: Literal["write", "vector", "words", "tokens", "mask", "pairs", "pretext"]
    outputs: int = 0
    reads: tuple[str, ...] = ("image",)
    names: Names = ()
    loss: str = "softmax"
    hide: float = 0.0
    hidden: int = 0


class VisionLanguageModel(nn.Module):
    """Towers, fusion and heads, built from a resolved recipe.

    Args:
        settings: the recipe's ``model``, no kind left at ``auto``.
        image: the recipe's ``image`` (size, mean and std).
        heads: task: what it wants.
        vocab_size: V of the decoder's tokenizer.
        max_length: the longest text.
        words: the vocabulary of a text tower that reads words; None: it reads the decoder's tokens.
        image_id: the token that an image token takes the place of, where images stand inside the text.
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
    ) -> None:
        super().__init__()
        self.settings, self.specs, self.image_id = settings, heads, image_id
        writes = any(spec.kind == "write" for spec in heads.values())
        reads_text = any("text" in spec.reads for spec in heads.values())
        sees = settings.image.kind != "none" and any("image" in spec.reads for spec in heads.values())
        self.separate_text = settings.text.kind not in ("decoder", "none") and (reads_text or writes)
        width = settings.text.width

        self.image: Any = None
        if sees:
            self.image = TOWERS.get(settings.image.kind)(
                settings.image, size=image.size, mean=image.mean, std=image.std
            )
        self.plan = ImagePlan(0) if self.image is None else plan_for(settings, self.image.num_tokens)
        if self.image is not None:
            self.image.side = self.plan.side or 0
        inside = writes and self.plan.projector is not None  # images stand inside the text
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
                max_length=2 * max_length + 1 + (self.plan.inside + AROUND if inside else 0),
                cross=writes and attends_memory(settings.fusion),
                memory_width=width,
            )
        widths: dict[str, int] = {}
        if self.image is not None:
            widths["image"] = self.image.width
            self.places = Places(round(self.plan.pooled**0.5), self.image.width)
        if self.text is not None:
            widths["text"] = self.text.width
        elif reads_text and self.decoder is not None:
            widths["text"] = self.decoder.width
        reads = any(spec.kind in READS_FUSED for spec in heads.values())
        joins = widths
        if inside and not reads:  # the decoder alone joins images to its text
            joins = {name: size for name, size in widths.items() if name != "image"}
            del self.places
        elif self.image is not None and all(spec.kind in ("pairs", "pretext") for spec in heads.values()):
            del self.places  # these read the towers themselves
        self.fusion = make_fusion(settings, joins, writes=writes and (self.separate_text or sees), reads=reads)
        if self.fusion is None and len(widths) == 1:
            width = next(iter(widths.values()))
        if self.fusion is not None and not any(spec.kind in READS_FUSED for spec in heads.values()):
            self.fusion.only_writes()
        self.inline: InlineProjector | None = None
        if inside:
            self.inline = InlineProjector(self.plan, self.image.width, settings.text.width)
        self.heads = nn.ModuleDict()
        for name, spec in heads.items():
            if spec.kind in ("vector", "words"):
                self.heads[name] = make_head(
                    width,
                    spec.outputs,
                    settings.fusion.dropout,
                    spec.hidden * width,
                    normed=settings.head != "linear",
                )
            elif spec.kind == "mask":
                self.heads[name] = masked_head(self.text)
            elif spec.kind == "pairs":
                self.heads[name] = PairHead(
                    widths.get("image", width),
                    widths.get("text", width),
                    settings.embed or width,
                    spec.loss,
                    maps=settings.maps,
                )
            elif spec.kind == "pretext":
                self.heads[name] = make_pretext(self.image, spec.loss, size=image.size, hide=spec.hide)
            elif spec.kind == "tokens" and self._compares(spec):
                self.heads[name] = NamingHead(width, spec.names)
            elif spec.kind == "tokens" and self.image is not None:
                self.heads[name] = nn.Sequential(RMSNorm(self.image.width), nn.Linear(self.image.width, spec.outputs))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def count_parameters(self) -> int:
        """How many numbers are learned, shared ones once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, batch: Batch, names: list[str] | None = None) -> dict[str, Any]:
        """Every named task's outputs from one pass over the images.

        Returns:
            ``vector`` heads: (R, C). ``words`` heads: (R, L, C). ``tokens`` heads: (B, P, C). ``write`` and
            ``mask`` heads: logits (N, V) at the N positions whose label is read, in row-major order. ``pairs`` heads:
            ``Pairs``. ``pretext`` heads: (2, R, E) or (R, 2), by the method.
        """
        names = names if names is not None else list(batch.targets)
        seen = None if all(self.specs[name].kind == "pretext" for name in names) else self.see(batch)
        outputs: dict[str, Any] = {}
        for name in names:
            part, spec = batch.targets[name], self.specs[name]
            if spec.kind == "tokens":
                if seen is not None:
                    outputs[name] = self.name_tokens(name, seen)
            elif spec.kind == "vector":
                outputs[name] = self.heads[name](self.fused(seen, part).pooled)
            elif spec.kind == "words":
                outputs[name] = self.heads[name](self.text_tokens(seen, part))
            elif spec.kind == "mask":
                outputs[name] = self._guess(name, part)
            elif spec.kind == "pairs":
                outputs[name] = self._pair(name, seen, part)
            elif spec.kind == "pretext":
                outputs[name] = self.heads[name](self.image, self.image.normalise, batch, part)
            else:
                outputs[name] = self._write(seen if "image" in spec.reads else None, part)
        return outputs

    def name_tokens(self, name: str, seen: Features) -> Tensor:
        """A ``tokens`` head's (B, P, C) for what the image tower saw."""
        head = self.heads[name]
        if isinstance(head, NamingHead) and self.fusion is not None and self.decoder is not None:
            scores: Tensor = head(self.fusion.project["image"](seen.tokens), self.decoder.embed_tokens.weight)
        else:
            scores = head(seen.tokens)
        return scores

    def see(self, batch: Batch) -> Features | None:
        """The image tower's Features for the batch's B examples; None where the model has no image tower."""
        inputs = batch.inputs.get("image")
        if self.image is None or inputs is None:
            return None
        given = inputs.tensors
        if not len(inputs):
            empty = self.image.mean.new_zeros(0, self.plan.pooled, self.image.width)
            seen = Features(empty, empty[..., 0].bool(), empty[:, 0])
        elif "tokens" in given:  # features of a frozen tower, computed once
            mask = torch.ones(given["tokens"].shape[:2], dtype=torch.bool, device=given["tokens"].device)
            seen = Features(given["tokens"], mask, given["pooled"])
        else:
            seen = self.image.encode(given["pixels"])
        return seen.per_example(inputs.owner, batch.size, inputs.most)

    def placed(self, seen: Features) -> Features:
        """The image's Features on their way into the fusion: each token says where it is."""
        return Features(self.places(seen.tokens), seen.mask, seen.pooled)

    def read(self, part: dict[str, Tensor]) -> Features | None:
        """The text tower's Features for a task's R texts; None where the task gives it none."""
        if "text_ids" not in part:
            return None
        tower = self.text if self.text is not None else self.decoder
        if tower is None:
            return None
        features: Features = tower(part["text_ids"], part["text_mask"], part.get("segment_ids"))
        return features

    def gather(self, seen: Features | None, part: dict[str, Tensor]) -> dict[str, Features]:
        """``{modality: Features}`` of a task's R items."""
        features: dict[str, Features] = {}
        text = self.read(part)
        if "belongs" in part and text is not None and seen is not None:
            part = with_negatives(part, self.likeness(seen.pooled[part["images"]], text.pooled))
            text = text.select(part["text_rows"])
        if seen is not None:
            features["image"] = self.placed(seen).select(part["owner"])
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
        """(R, L, D): each text token of a task's R items, after it has met the image if there is one."""
        features = self.gather(seen, part)
        return features["text"].tokens if self.fusion is None else self.fusion.text_tokens(features)

    def condition(self, seen: Features | None, part: dict[str, Tensor]) -> Condition:
        """What the decoder writes from, for a task's R texts."""
        if self.inline is not None and seen is not None:
            return replace(self.condition(None, part), inside=self.inline(seen).select(part["owner"]))
        if self.fusion is None or (seen is None and (not self.separate_text or "text_ids" not in part)):
            return Condition()
        if not self.separate_text and seen is not None:  # fuse once an image, not once a text
            made: Condition = self.fusion.condition({"image": self.placed(seen)})
            return self.named(made, seen).select(part["owner"])
        whole: Condition = self.fusion.condition(self.gather(seen, part))
        return whole if seen is None else self.named(whole, seen.select(part["owner"]))

    @property
    def pairs(self) -> PairHead | None:
        """The head that puts images and texts into one space, where there is one."""
        return next((head for head in self.heads.values() if isinstance(head, PairHead)), None)

    @torch.no_grad()
    def likeness(self, images: Tensor, texts: Tensor) -> Tensor | None:
        """(I, R) logits of I images and R texts in the shared space, of the towers' pooled vectors; None without."""
        if self.pairs is None:
            return None
        found: Pairs = self.pairs(images, texts)
        return found.scale * found.images @ found.texts.T

    @property
    def naming(self) -> NamingHead | None:
        """The head that names patches in words, where there is one."""
        return next((head for head in self.heads.values() if isinstance(head, NamingHead)), None)

    def named(self, condition: Condition, seen: Features) -> Condition:
        """The condition with what words are looked up in, where a head names patches."""
        if self.naming is None or self.fusion is None:
            return condition
        project, placed = self.fusion.project["image"], self.placed(seen)
        shown = Features(project(placed.tokens), seen.mask, placed.pooled)
        return replace(condition, shown=shown, names=project(seen.tokens))

    def marks(self, input_ids: Tensor) -> Tensor:
        """(R, L) ids -> (R, L) bool, where an image token belongs."""
        return input_ids == (-1 if self.image_id is None else self.image_id)

    def embed(self, condition: Condition, input_ids: Tensor, before: Tensor | None = None) -> Tensor:
        """(R, L) ids -> (R, L, D) as they enter the decoder.

        Args:
            condition: of R texts.
            input_ids: the texts, or their next parts.
            before: (R,) image marks in earlier parts of each text; None: none.
        """
        assert self.decoder is not None  # noqa: S101 - a head that writes has one
        embedded = self.decoder.embed(input_ids)
        if condition.inside is not None:
            embedded = placed_inside(embedded, self.marks(input_ids), condition.inside, before)
        if self.naming is not None and condition.shown is not None and condition.names is not None:
            embedded = self.naming.find(embedded, condition.names, condition.shown)
        return embedded if self.fusion is None else self.fusion.enter(condition, embedded)

    def _compares(self, spec: HeadSpec) -> bool:
        """Whether a head can name patches by comparing them with the decoder's words."""
        return self.decoder is not None and bool(spec.names) and self.fusion is not None and self.inline is None

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

    def _pair(self, name: str, seen: Features | None, part: dict[str, Tensor]) -> Pairs:
        text = self.read(part)
        assert seen is not None and text is not None  # noqa: S101, PT018 - prepare asked for both towers
        pairs: Pairs = self.heads[name](seen.pooled[part["images"]], text.pooled)
        return pairs

    def _guess(self, name: str, part: dict[str, Tensor]) -> Tensor:
        features = self.read(part)
        assert features is not None  # noqa: S101 - masked_head asked for an encoder
        chosen = picked(features.tokens, part["labels"] != IGNORED)
        logits: Tensor = self.heads[name](chosen, self.text.words.weight)
        return logits
