"""What heads are built on: a tower for each modality, what joins them, and a decoder. It knows no head by name.

Letters: B examples, R texts (several may belong to one example), L text tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rebus import recipe
from rebus.errors import RecipeError
from rebus.models.batch import Batch, Inputs
from rebus.models.features import Features
from rebus.models.fusion import FUSIONS, Condition, make_fusion
from rebus.models.fusion.inline import InlineProjector, placed_inside
from rebus.models.image_tokens import INLINE, ImagePlan, plan_for
from rebus.models.layout import Places
from rebus.models.modalities import tower_kind
from rebus.models.negatives import with_negatives
from rebus.models.towers import TOWERS
from rebus.models.towers.base import all_real
from rebus.models.towers.decoder import Decoder

TEXT = "text"
AROUND = 4  # tokens that may stand around an image inside the text


class Parts(nn.Module):
    """Towers by modality, a fusion and a decoder, as far as heads consume them.

    Args:
        settings: the recipe's ``model``, no kind left at ``auto``.
        contexts: modality: what its tower is built with beside its settings.
        reads: the modalities that tasks have columns for.
        consumes: what heads consume, see ``heads.base.Head``.
        vocab_size: V of the decoder's tokenizer.
        max_length: the longest text.
        image_id: the token that an image token takes the place of, where images stand inside the text.

    Attributes:
        modalities: that have a tower, in the order in which fusions join them; text last.
        widths: modality: width of what reads it, tower or decoder.
        width: D, of what the fusion gives.
        plan: how image tokens get into the text, where they stand inside it.
        heads: by task.
    """

    def __init__(
        self,
        settings: recipe.Model,
        contexts: Mapping[str, Mapping[str, Any]],
        reads: Collection[str],
        consumes: Collection[str],
        *,
        vocab_size: int,
        max_length: int,
        image_id: int | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.image_id = settings, image_id
        writes, fuses = "decoder" in consumes, "fused" in consumes
        kind = settings.text.kind
        one_tower = kind == "none" or TOWERS.get(kind).writes  # no tower that reads beside a decoder
        names = [name for name in reads if name != TEXT and tower_kind(settings, name) != "none"]
        names += [TEXT] if not one_tower and (writes or TEXT in reads) else []
        self.image: Any = None
        self.text: Any = None
        self.modalities, self.plan = tuple(names), ImagePlan(0)
        for name in names:
            built = self._build(name, contexts.get(name, {}))
            if built.grid:
                wanted = getattr(built.settings, "tokens", None)
                plan = plan_for(settings.fusion if name == INLINE else None, wanted, built.num_tokens)
                built.side, self.plan = plan.side or 0, plan if name == INLINE else self.plan
        inside = writes and self.plan.projector is not None  # images stand inside the text
        self.decoder: Decoder | None = None
        if writes or (kind != "none" and one_tower and TEXT in reads):
            self.decoder = Decoder(
                settings.text.replace(kind="decoder"),
                vocab_size,
                max_length=2 * max_length + 1 + (self.plan.inside + AROUND if inside else 0),
                cross=writes and settings.fusion.kind != "none" and FUSIONS.get(settings.fusion.kind).attends_memory,
                memory_width=settings.text.width,
            )
        self.widths = {name: int(tower.width) for name, tower in self.towers.items()}
        if TEXT in reads and TEXT not in self.widths and self.decoder is not None:
            self.widths[TEXT] = self.decoder.width
        # where the decoder alone joins images to its text, the fusion has none of them
        joins = {name: width for name, width in self.widths.items() if fuses or not (inside and name == INLINE)}
        grids = {name: tower.side or tower.grid for name, tower in self.towers.items() if name in joins and tower.grid}
        used = grids if fuses or writes else {}
        self.places = nn.ModuleDict({name: Places(side, joins[name]) for name, side in used.items()})
        self.fusion = make_fusion(settings, joins, writes=writes and bool(names), reads=fuses)
        self.width = settings.text.width
        if self.fusion is None and len(self.widths) == 1:
            (self.width,) = self.widths.values()
        if self.fusion is not None and not fuses:
            self.fusion.only_writes()
        self.inline = InlineProjector(self.plan, self.widths[INLINE], settings.text.width) if inside else None
        self.heads = nn.ModuleDict()

    def _build(self, modality: str, context: Mapping[str, Any]) -> Any:
        """A tower under its modality's name, as recipes and files call it. Raises RecipeError for a name in use."""
        if getattr(self, modality, None) is not None:
            raise RecipeError(f"the modality '{modality}'", "a name that no part of a model has", "one", "rename it")
        settings = self.settings.tower(modality)
        tower = TOWERS.get(tower_kind(self.settings, modality))
        own = tower.own_settings
        fitting = settings if isinstance(settings, own) else own.model_validate(settings.model_dump())
        setattr(self, modality, tower(fitting, **context))
        return self.tower(modality)

    @property
    def towers(self) -> dict[str, Any]:
        """By modality, in the order in which fusions join them; text last."""
        return {name: getattr(self, name) for name in self.modalities}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def writer(self) -> Decoder:
        """The decoder of a model that has one."""
        assert self.decoder is not None  # noqa: S101 - asked by what consumes it
        return self.decoder

    @property
    def reader(self) -> Any:
        """What reads text: a tower of its own, or the decoder; None: nothing does."""
        return self.tower(TEXT) if TEXT in self.modalities else self.decoder

    def tower(self, modality: str) -> Any:
        """The tower of a modality, or None."""
        return getattr(self, modality) if modality in self.modalities else None

    def see(self, batch: Batch, reads: Collection[str] | None = None) -> dict[str, Features]:
        """Features of B examples by modality; items of one example are laid end to end.

        Args:
            batch: what it does not hold is left out.
            reads: the modalities that are wanted; None: all.
        """
        wanted = [name for name in self.modalities if name in batch.inputs and (reads is None or name in reads)]
        given = {name: batch.inputs[name] for name in wanted}
        return {
            name: self._encoded(name, inputs).per_example(inputs.owner, batch.size, inputs.most)
            for name, inputs in given.items()
        }

    def _encoded(self, modality: str, inputs: Inputs) -> Features:
        given, tower = inputs.tensors, self.tower(modality)
        if not len(inputs):
            weight = next(tower.parameters())
            return all_real(weight.new_zeros(0, tower.length, tower.width), weight.new_zeros(0, tower.width))
        if "pooled" in given:  # features of a frozen tower, computed once
            features = all_real(given["tokens"], given["pooled"])
            return replace(features, mask=given.get("mask", features.mask))
        encoded: Features = tower.encode(**given)
        return encoded

    def read(self, part: Mapping[str, Tensor]) -> Features | None:
        """The text tower's Features for a task's R texts; None where the task gives it none."""
        if "text_ids" not in part or self.reader is None:
            return None
        features: Features = self.reader(part["text_ids"], part["text_mask"], part.get("segment_ids"))
        return features

    def placed(self, modality: str, features: Features) -> Features:
        """Features on their way into the fusion: each token of a grid says where it is."""
        return replace(features, tokens=self.places[modality](features.tokens)) if modality in self.places else features

    def projected(self, modality: str, tokens: Tensor) -> Tensor:
        """A tower's tokens (..., D_m) at the fusion's width."""
        assert self.fusion is not None  # noqa: S101 - asked by what consumes it
        projected: Tensor = self.fusion.project[modality](tokens)
        return projected

    def gather(self, features: Mapping[str, Features], part: dict[str, Tensor]) -> dict[str, Features]:
        """``{modality: Features}`` of a task's R rows, of what the fusion joins."""
        text = self.read(part)
        if "belongs" in part and text is not None and features:
            part = with_negatives(part, self.likeness(features, text, part))
            text = text.select(part["text_rows"])
        joined = {
            name: self.placed(name, each).select(part["owner"])
            for name, each in features.items()
            if self.fusion is None or name in self.fusion.modalities
        }
        return joined if text is None else {**joined, TEXT: text}

    @property
    def pairs(self) -> Any:
        """The head that puts items and texts into one space, or None."""
        return next((head for head in self.heads.values() if head.shares_vectors), None)

    @torch.no_grad()
    def likeness(self, features: Mapping[str, Features], text: Features, part: Mapping[str, Tensor]) -> Tensor | None:
        """(I, R) logits of I items and R texts in the shared space; None where there is none."""
        if self.pairs is None:
            return None
        pairs = self.pairs.compare(features[self.pairs.spec.item].pooled[part["images"]], text.pooled)
        logits: Tensor = pairs.scale * pairs.images @ pairs.texts.T
        return logits

    def fused(self, features: Mapping[str, Features], part: dict[str, Tensor]) -> Features:
        """The fusion's Features for a task's R rows; without a fusion, those of the one tower there is."""
        joined = self.gather(features, part)
        if self.fusion is None:
            return next(iter(joined.values()))
        fused: Features = self.fusion(joined)
        return fused

    def text_tokens(self, features: Mapping[str, Features], part: dict[str, Tensor]) -> Tensor:
        """(R, L, D): each text token of a task's R rows, after it has met the other modalities."""
        joined = self.gather(features, part)
        return joined[TEXT].tokens if self.fusion is None else self.fusion.text_tokens(joined)

    def text_vectors(self, part: dict[str, Tensor]) -> Tensor:
        """(R, D) of length one: R texts as they are compared, in the space they share with items where there is one."""
        alone = self.pairs is not None or self.fusion is None or TEXT not in self.fusion.modalities
        features = self.read(part) if alone else self.fused({}, part)
        assert features is not None  # noqa: S101 - the task reads text
        return self.item_vectors(TEXT, features.pooled)

    def item_vectors(self, modality: str, pooled: Tensor) -> Tensor:
        """(N, D) of length one: a tower's pooled vectors as they are compared."""
        if self.pairs is None:
            return nn.functional.normalize(pooled.float(), dim=-1)
        vectors: Tensor = self.pairs.embed(modality, pooled)
        return vectors

    def condition(self, features: Mapping[str, Features], part: dict[str, Tensor]) -> Condition:
        """What the decoder writes from, for a task's R texts."""
        if self.inline is not None and INLINE in features:
            others = {name: each for name, each in features.items() if name != INLINE}
            inside = self.inline(features[INLINE]).select(part["owner"])
            return replace(self.condition(others, part), inside=inside)
        read = TEXT in self.modalities and "text_ids" in part
        if self.fusion is None or not (features or read):
            return Condition()
        if read:
            joined = self.gather(features, part)
            features = {name: each.select(part["owner"]) for name, each in features.items()}
        else:  # fuse once an example, not once a text
            joined = {name: self.placed(name, each) for name, each in features.items()}
        condition: Condition = self.fusion.condition(joined)
        head: Any
        for head in self.heads.values():
            condition = head.conditioned(condition, self, features)
        return condition if read else condition.select(part["owner"])

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
        embedded = self.writer.embed(input_ids)
        if condition.inside is not None:
            embedded = placed_inside(embedded, self.marks(input_ids), condition.inside, before)
        head: Any
        for head in self.heads.values():
            embedded = head.entered(condition, embedded)
        return embedded if self.fusion is None else self.fusion.enter(condition, embedded)
