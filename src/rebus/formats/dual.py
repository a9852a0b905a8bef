"""CLIP and SigLIP whole: both towers, the maps into one space, temperature, bias: names and configuration, both ways.

Ours are those of a model with the task ``retrieve``: ``image.``, ``text.`` and ``heads.retrieve.``.
What is easily read wrong: CLIP's text tower is pooled where the text ends, and files made before 2023 name id 2 for
that, which is an exclamation mark; SigLIP's is pooled at the last of all places, so that texts are always filled up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from rebus.errors import WeightsError
from rebus.formats import clip, siglip
from rebus.formats.config import ACTIVATIONS, activation_to_hf, decimal, demand, number, section, tower_of
from rebus.formats.names import NameMap, State
from rebus.recipe import Tower

NAMES = ("clip", "siglip")
HEAD = "heads.retrieve."
_LAYER = "text_model.encoder.layers.{n}"
TEXT_ROWS = (
    ("text.words.weight", "text_model.embeddings.token_embedding.weight"),
    ("text.positions.weight", "text_model.embeddings.position_embedding.weight"),
    ("text.layers.{n}.norm1.{p}", f"{_LAYER}.layer_norm1.{{p}}"),
    ("text.layers.{n}.attention.q_proj.{p}", f"{_LAYER}.self_attn.q_proj.{{p}}"),
    ("text.layers.{n}.attention.k_proj.{p}", f"{_LAYER}.self_attn.k_proj.{{p}}"),
    ("text.layers.{n}.attention.v_proj.{p}", f"{_LAYER}.self_attn.v_proj.{{p}}"),
    ("text.layers.{n}.attention.o_proj.{p}", f"{_LAYER}.self_attn.out_proj.{{p}}"),
    ("text.layers.{n}.norm2.{p}", f"{_LAYER}.layer_norm2.{{p}}"),
    ("text.layers.{n}.mlp.fc1.{p}", f"{_LAYER}.mlp.fc1.{{p}}"),
    ("text.layers.{n}.mlp.fc2.{p}", f"{_LAYER}.mlp.fc2.{{p}}"),
    ("text.last_norm.{p}", "text_model.final_layer_norm.{p}"),
    (f"{HEAD}logit_scale", "logit_scale"),
)
_IGNORED = r"position_ids$|^vision_model\."
MAPS = {
    "clip": NameMap(
        "clip",
        (
            *TEXT_ROWS,
            (f"{HEAD}maps.image.weight", "visual_projection.weight"),
            (f"{HEAD}maps.text.weight", "text_projection.weight"),
        ),
        ignored=_IGNORED,
    ),
    "siglip": NameMap(
        "siglip",
        (*TEXT_ROWS, (f"{HEAD}maps.text.{{p}}", "text_model.head.{p}"), (f"{HEAD}logit_bias", "logit_bias")),
        ignored=_IGNORED,
    ),
}
_IMAGES = {"clip": clip, "siglip": siglip}
# what files leave out of a text_config
_TEXT = {
    "clip": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 49408},
    "siglip": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 32000},
}
_CONTEXT = {"clip": 77, "siglip": 64}
_ACTIVATION = {"clip": "quick_gelu", "siglip": "gelu_pytorch_tanh"}
_EPS = {"clip": 1e-5, "siglip": 1e-6}
NO_END = 2  # the wrong id of old files


@dataclass(frozen=True)
class Dual:
    """A checkpoint of both towers in our terms.

    Attributes:
        family: ``clip`` or ``siglip``.
        tower: settings of the image tower.
        size: side of the images it sees.
        text: settings of the text tower.
        rows: of its embeddings.
        embed: numbers of a vector in the shared space.
        end: the id where a text is pooled, as the configuration says; None: it does not, or not rightly.
    """

    family: str
    tower: Tower
    size: int
    text: Tower
    rows: int
    embed: int
    end: int | None = None

    @property
    def loss(self) -> Literal["softmax", "sigmoid"]:
        """What it was trained with: ``softmax`` or ``sigmoid``."""
        return "softmax" if self.family == "clip" else "sigmoid"

    @property
    def maps(self) -> Literal["both", "text"]:
        """Which towers have a map into the shared space, as the recipe's ``model.maps``."""
        return "both" if self.family == "clip" else "text"


def settings_from_hf(config: Mapping[str, Any]) -> Dual:
    """What a config.json says.

    Raises:
        WeightsError: it asks for something that is not done here.
    """
    family = str(demand(config, "CLIP or SigLIP", "model_type", NAMES))
    tower, size = _IMAGES[family].settings_from_hf(config)
    text = {"num_hidden_layers": 12, **_TEXT[family], **section(config, "text")}
    width = number(text, family, "hidden_size")
    activation = demand(text, family, "hidden_act", tuple(ACTIVATIONS), _ACTIVATION[family])
    pad = text.get("pad_token_id")
    filler = (pad if isinstance(pad, int) and pad >= 0 else 1) if family == "siglip" else None
    settings = tower_of(
        family,
        kind="encoder",
        width=width,
        depth=number(text, family, "num_hidden_layers"),
        heads=number(text, family, "num_attention_heads"),
        hidden=number(text, family, "intermediate_size"),
        context=number(text, family, "max_position_embeddings", _CONTEXT[family]),
        eps=decimal(text, family, "layer_norm_eps", _EPS[family]),
        activation=ACTIVATIONS[activation],
        dropout=decimal(text, family, "attention_dropout", 0.0),
        norm_first=True,
        segments=0,
        pool="last",
        causal=family == "clip",
        filler=filler,
    )
    if family == "clip":
        end = text.get("eos_token_id")
        embed = number(config, family, "projection_dim", 512)
        known = end if isinstance(end, int) and end != NO_END else None
        return Dual(family, tower, size, settings, number(text, family, "vocab_size"), embed, known)
    demand(section(config, "vision"), family, "vision_use_head", (True,), True)
    embed = number(text, family, "projection_size", width)
    if embed != tower.width:
        expected = f"{tower.width}, as wide as the image tower, whose vectors are the shared space"
        do = "use the config.json that came with the weights"
        raise WeightsError("the siglip configuration, 'projection_size'", expected, str(embed), do)
    return Dual(family, tower, size, settings, number(text, family, "vocab_size"), embed)


def config_to_hf(found: Dual, **tokens: Any) -> dict[str, Any]:
    """The config.json of a whole CLIP or SigLIP.

    Args:
        found: with ``end`` where it is a CLIP, and a text tower with a context.
        tokens: bos_token_id and pad_token_id.
    """
    family = found.family
    vision = _IMAGES[family].config_to_hf(found.tower, found.size)
    said = text_config_to_hf(found.text, found.rows, **tokens)
    common = {"torch_dtype": "float32", "dtype": "float32", "vision_config": vision, "text_config": said}
    if family == "siglip":
        said |= {"projection_size": found.embed, "eos_token_id": tokens.get("eos_token_id")}
        return {"model_type": family, "architectures": ["SiglipModel"], **common}
    said |= {"projection_dim": found.embed, "eos_token_id": found.end}
    vision["projection_dim"] = found.embed
    return {"model_type": family, "architectures": ["CLIPModel"], "projection_dim": found.embed, **common}


def text_config_to_hf(settings: Tower, rows: int, **tokens: Any) -> dict[str, Any]:
    """The text tower's part of a configuration; see ``config_to_hf``."""
    return {
        "model_type": "clip_text_model" if settings.causal else "siglip_text_model",
        "vocab_size": rows,
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden or 4 * settings.width,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "max_position_embeddings": settings.context,
        "layer_norm_eps": settings.eps or 1e-12,
        "hidden_act": activation_to_hf(settings.activation or "gelu"),
        "attention_dropout": settings.dropout,
        "bos_token_id": tokens.get("bos_token_id"),
        "pad_token_id": tokens.get("pad_token_id") if settings.filler is None else settings.filler,
    }


def text_settings_from_hf(config: Mapping[str, Any]) -> tuple[Tower, int]:
    """The text tower of a whole CLIP or SigLIP, and the rows of its embeddings. Raises as ``settings_from_hf``."""
    found = settings_from_hf(config)
    return found.text, found.rows


def text_from_hf(state: Mapping[str, Tensor], settings: Tower) -> State:
    """The text tower of a whole CLIP or SigLIP under the names of ours. Raises WeightsError for an unknown name."""
    named = MAPS["clip" if settings.causal else "siglip"].from_hf(state)
    return {name.removeprefix("text."): tensor for name, tensor in named.items() if name.startswith("text.")}


def text_to_hf(state: Mapping[str, Tensor]) -> State:
    """The other way round."""
    return MAPS["clip"].to_hf({f"text.{name}": tensor for name, tensor in state.items()})


def from_hf(state: Mapping[str, Tensor], found: Dual) -> State:
    """A checkpoint's tensors under the names that they have in a model of ours.

    Raises:
        WeightsError: a name that the family has not.
    """
    seen = {name: tensor for name, tensor in state.items() if name.startswith("vision_model.")}
    image = _IMAGES[found.family].from_hf(seen, found.tower)
    rest = MAPS[found.family].from_hf(state)
    for name in (f"{HEAD}logit_scale", f"{HEAD}logit_bias"):
        if name in rest and rest[name].numel() == 1:
            rest[name] = rest[name].reshape(())
    return {**{f"image.{name}": tensor for name, tensor in image.items()}, **rest}


def to_hf(state: Mapping[str, Tensor], family: str) -> State:
    """A model's tensors of both towers and of the head under the names of a CLIPModel or a SiglipModel."""
    image = {name.removeprefix("image."): one for name, one in state.items() if name.startswith("image.")}
    rest = {name: tensor for name, tensor in state.items() if not name.startswith("image.")}
    out = {**_IMAGES[family].to_hf(image), **MAPS[family].to_hf(rest)}
    if family == "siglip":  # one number there is a list of one
        out |= {name: out[name].reshape(1) for name in ("logit_scale", "logit_bias") if name in out}
    return out


def family_for(image: Tower, text: Tower, maps: str, loss: str) -> str | None:
    """``clip`` or ``siglip``, where two towers and what is between them can be written so; else None.

    Args:
        image: the image tower.
        text: the text tower.
        maps: the recipe's ``model.maps``.
        loss: of the task.
    """
    plain = text.kind == "encoder" and text.norm_first and not text.segments and text.pool == "last"
    if not plain:
        return None
    if clip.fits(image) and text.causal and text.filler is None and (maps, loss) == ("both", "softmax"):
        return "clip"
    whole = siglip.fits(image) and image.pool == "probe" and not text.causal and text.filler is not None
    return "siglip" if whole and (maps, loss) == ("text", "sigmoid") else None


def like(family: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an image tower and a text tower of a family have, apart from their sizes."""
    if family == "clip":
        image = {"class_token": True, "patch_bias": False, "pre_norm": True, "pool": "cls", "last_norm": "pooled"}
        image |= {"activation": "quick_gelu", "eps": 1e-5}
        text: dict[str, Any] = {"causal": True, "activation": "quick_gelu", "eps": 1e-5}
    else:
        image = {"pool": "probe", "activation": "gelu_tanh", "eps": 1e-6}
        text = {"filler": 0, "activation": "gelu_tanh", "eps": 1e-6}
    both = {"norm_first": True, "segments": 0, "pool": "last"}
    return {"kind": "vit", **image}, {"kind": "encoder", **both, **text}
