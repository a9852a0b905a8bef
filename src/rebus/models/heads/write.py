"""``write``: what a causal decoder says next of each token of a text."""

from __future__ import annotations

from torch import Tensor

from rebus.models.heads.base import HEADS, Head, HeadContext
from rebus.models.layout import IGNORED, after_prefix, block_mask, one_text_a_row, pick


@HEADS.register("write")
class WriteHead(Head):
    """Logits (N, V) at the N places whose label is read, in row-major order; its weights are the decoder's."""

    consumes = "decoder"

    def forward(self, context: HeadContext) -> Tensor:
        """Teacher forcing: all places at once."""
        part, parts = context.part, context.parts
        decoder, condition = parts.writer, context.condition()
        x, blocks, positions = parts.embed(condition, part["input_ids"]), part["blocks"], part["positions"]
        prefix, skip, mask = condition.prefix, 0, None
        if prefix is not None or not one_text_a_row(blocks):  # causal attention alone is faster without a mask
            mask = block_mask(blocks)
        if prefix is not None and mask is not None:
            skip = prefix.tokens.shape[1]
            x, positions, mask = after_prefix(prefix, x, positions, mask, blocks >= 0)
        hidden = decoder.forward_embeds(x, positions, mask, memory=condition.memory)[:, skip:]
        return decoder.logits(pick(hidden, part["labels"] != IGNORED))  # logits only where a loss reads them
