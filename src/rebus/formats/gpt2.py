"""GPT-2 checkpoints and the decoder.

GPT-2 keeps its matrices the other way round, (in, out), and queries, keys and values in one: turned and cut here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rebus.formats.config import Fields, activation_to_hf, shared_entries, tower_of
from rebus.formats.family import FAMILIES, CheckpointFamily, CheckpointSpec
from rebus.formats.llama import without_tied_copy
from rebus.formats.names import NameMap, State, pack_qkv, prefixed, unpack_qkv

_LAYER = "transformer.h.{n}"
_ROWS = prefixed(
    "decoder.",
    (
        ("embed_tokens.weight", "transformer.wte.weight"),
        ("embed_positions.weight", "transformer.wpe.weight"),
        ("layers.{n}.input_layernorm.{p}", f"{_LAYER}.ln_1.{{p}}"),
        ("layers.{n}.self_attn.in_proj.{p}", f"{_LAYER}.attn.c_attn.{{p}}"),  # one tensor there, three here
        ("layers.{n}.self_attn.o_proj.{p}", f"{_LAYER}.attn.c_proj.{{p}}"),
        ("layers.{n}.post_attention_layernorm.{p}", f"{_LAYER}.ln_2.{{p}}"),
        ("layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.c_fc.{{p}}"),
        ("layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.c_proj.{{p}}"),
        ("norm.{p}", "transformer.ln_f.{p}"),
        ("lm_head.weight", "lm_head.weight"),
    ),
)
_TURNED = (".in_proj.weight", ".o_proj.weight", ".fc1.weight", ".fc2.weight")


@FAMILIES.register("gpt2")
class Gpt2(CheckpointFamily):
    """Layer norms, learned positions, biases everywhere."""

    name, base, owns = "gpt2", "GPT2Model", ("decoder.",)
    # files of older libraries also hold the causal mask
    names = NameMap("gpt2", _ROWS, base="transformer.", ignored=r"\.attn\.(masked_)?bias$")

    def settings(self, config: Mapping[str, Any], where: str = "config.json") -> CheckpointSpec:
        """What a config.json says. Raises WeightsError."""
        fields = Fields(config, self.name)
        fields.demand("model_type", (self.name,))
        fields.demand("scale_attn_weights", (True,), True)
        fields.demand("scale_attn_by_inverse_layer_idx", (False,), False)
        fields.demand("add_cross_attention", (False,), False)
        width, heads = fields.number("n_embd", 768), fields.number("n_head", 12)
        text = tower_of(
            self.name,
            kind="decoder",
            width=width,
            depth=fields.number("n_layer", 12),
            heads=heads,
            kv_heads=heads,
            hidden=fields.number("n_inner", 4 * width),
            qk_norm=False,
            tied=fields.flag("tie_word_embeddings", True),
            eps=fields.decimal("layer_norm_epsilon", 1e-5),
            bias="all",
            norm="layer",
            feedforward="mlp",
            activation=fields.activation("activation_function", "gelu_new"),
            positions="learned",
            context=fields.number("n_positions", 1024),
            rows=fields.number("vocab_size", 50257),
        )
        return CheckpointSpec(text)

    def config(self, spec: CheckpointSpec, **context: Any) -> dict[str, Any]:
        """The config.json of a decoder."""
        text = spec.text
        assert text is not None  # noqa: S101 - it fits
        length = text.context or context.get("max_length", 1024)
        return {
            "model_type": self.name,
            "architectures": [spec.architecture or "GPT2LMHeadModel"],
            "n_embd": text.width,
            "n_layer": text.depth,
            "n_head": text.heads,
            "n_inner": text.hidden or 4 * text.width,
            "n_positions": length,
            "n_ctx": length,  # read by older libraries
            "vocab_size": spec.rows,
            "activation_function": activation_to_hf(text.activation or "gelu_tanh"),
            "layer_norm_epsilon": text.eps or 1e-6,
            "tie_word_embeddings": text.tied,
            "scale_attn_weights": True,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), text.dropout),
            **shared_entries(context),
        }

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model is such a decoder."""
        text = spec.text
        if text is None or text.kind != "decoder" or spec.image is not None or text.norm != "layer":
            return False
        whole = text.width % text.heads == 0 and text.head_dim in (None, text.width // text.heads)
        plain = whole and text.kv_heads in (None, text.heads) and not text.qk_norm
        return plain and text.feedforward == "mlp" and text.positions == "learned" and text.bias == "all"

    def from_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """Tensors under the decoder's names; where output weights are tied, a copy of the embeddings is left out."""
        named = without_tied_copy(self.names.from_hf(state), spec)
        return unpack_qkv({name: _turned(name, tensor) for name, tensor in named.items()}, "in_proj")

    def to_hf(self, state: Mapping[str, Tensor], spec: CheckpointSpec) -> State:
        """The other way round. Raises WeightsError for layers that GPT-2 has not."""
        packed = pack_qkv(state, "self_attn.", "in_proj")
        return self.names.to_hf({name: _turned(name, tensor) for name, tensor in packed.items()})


def _turned(name: str, tensor: Tensor) -> Tensor:
    return tensor.T.contiguous() if name.endswith(_TURNED) and tensor.dim() == 2 else tensor
