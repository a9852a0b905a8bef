"""One dial for a language model: from ``--size``, the text and the time to everything else. Knows no tensors.

The rule, in the order in which it is applied. What the recipe says itself is never changed.

    vocabulary  the power of two next to sqrt(bytes of text), 512 to 32768, but no more than gives the embeddings as
                many weights as the layers have
    shape       nano 4 layers of width 128, micro 6 of 192, mini 8 of 256, small 8 of 512, base 12 of 768; heads of 64
    size        where none is named: with a time limit the largest whose layers can read 4 tokens a weight in that time,
                by the measured speed of the machine; without one, the largest whose horizon the text is long enough for
    horizon     20 tokens a weight of the layers (Hoffmann et al. 2022), but no text more than 8 times: repeated text
                teaches less and less (Muennighoff et al. 2023); a time limit, steps or epochs decide instead
    batch       tokens a step: the power of two next to 4 * sqrt(tokens of the horizon), 2048 to 2^19
    rates       Muon 0.02, AdamW 0.006 (embeddings, norms), both times sqrt(192 / width); warm-up over a fiftieth of the
                run, decay over its last half; betas 0.9 and 0.95
    decay       weights lose 0.1 times the rate a step where text is read more than twice, else 0.05
    validation  at most 64 rows, as often as the recipe says
    memory      batches are cut so that the logits of a part take at most a gigabyte

Letters: N weights of the layers, T tokens of the text, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from rebus.recipe import Recipe, Section
from rebus.recipe.model import Size

SHAPES: dict[Size, tuple[int, int]] = {  # width, depth
    "nano": (128, 4),
    "micro": (192, 6),
    "mini": (256, 8),
    "small": (512, 8),
    "base": (768, 12),
}
HEAD = 64
SIZES: tuple[Size, ...] = get_args(Size)
SMALLEST_VOCABULARY, LARGEST_VOCABULARY = 512, 32_768
TOKENS_A_WEIGHT, READ_AT_MOST = 20.0, 8.0
QUICK = 4.0  # tokens a weight below which a model is too large for its time
DIALLED = (
    "model.text.width",
    "model.text.depth",
    "model.text.heads",
    "train.batch_size",
    "train.accumulate",
    "train.steps",
    "train.optimizer",
    "train.lr",
    "train.muon_lr",
    "train.muon_steps",
    "train.betas",
    "train.weight_decay",
    "train.schedule",
    "train.warmup",
    "train.decay",
    "train.final",
    "train.valid_rows",
    "text.vocab_size",
)
VALID_ROWS = 64
_LOGITS = 1 << 30  # bytes

Speed = Callable[[float], float]  # FLOPs a token -> tokens a second


@dataclass(frozen=True)
class Horizon:
    """What a run will have read at its end.

    Attributes:
        tokens: over all epochs.
        epochs: how often that is the whole text.
    """

    tokens: float
    epochs: float


def vocabulary_for(text_bytes: int, size: Size | None) -> int:
    """Pieces for a tokenizer, by the bytes of the text and the size of the model (None: not chosen yet)."""
    wanted = _power_of_two(math.sqrt(max(text_bytes, 1)))
    width, depth = SHAPES[size or "mini"]
    most = 1 << int(math.log2(layer_weights(width, depth) / width))
    return min(max(wanted, SMALLEST_VOCABULARY), LARGEST_VOCABULARY, max(most, SMALLEST_VOCABULARY))


def layer_weights(width: int, depth: int) -> int:
    """N: four projections of attention and three of SwiGLU, each layer about 12 D^2."""
    return 12 * depth * width**2


def flops_a_token(weights: int, depth: int, width: int, block: int) -> float:
    """Work of a training step for each token: 6 a weight, and attention to the half of the row that came before.

    Source: Kaplan et al. (2020), "Scaling Laws for Neural Language Models", appendix B, causal rows counted by half.
    """
    return 6.0 * weights + 6.0 * depth * width * block


def choose_size(tokens: int, vocabulary: int, block: int, seconds: float | None, speed: Speed | None) -> Size:
    """The dial where nobody has set it: see the module's rule."""
    chosen = SIZES[0]
    for size in SIZES:
        width, depth = SHAPES[size]
        weights = layer_weights(width, depth)
        if seconds is not None and speed is not None:
            read = seconds * speed(flops_a_token(weights + vocabulary * width, depth, width, block))
            enough = min(read, READ_AT_MOST * tokens) >= QUICK * weights
        else:
            enough = READ_AT_MOST * tokens >= TOKENS_A_WEIGHT * weights
        if enough:
            chosen = size
    return chosen


def horizon_of(recipe: Recipe, tokens: int, weights: int, vocabulary: int, speed: Speed | None) -> Horizon:
    """Tokens that the run will read, as far as it can be known before it."""
    train, text, block = recipe.train, recipe.model.text, recipe.corpus.block
    if train.time_limit is not None and speed is not None:
        flops = flops_a_token(weights + vocabulary * text.width, text.depth, text.width, block)
        read = train.time_limit * 60 * speed(flops)
    elif train.steps is not None:
        rows = train.batch_size if is_said(recipe, "train.batch_size") else 16 * train.steps / block
        read = train.steps * max(rows, 1) * block
    elif train.epochs is not None:
        read = train.epochs * tokens
    else:
        read = min(TOKENS_A_WEIGHT * weights, READ_AT_MOST * tokens)
    return Horizon(float(read), read / max(tokens, 1))


def turn_dial(recipe: Recipe, tokens: int, vocabulary: int, speed: Speed | None = None) -> list[str]:
    """Fill in what the dial decides, in place; what the recipe says itself stays.

    Args:
        recipe: its ``model.size`` may be None.
        tokens: T, of the training split.
        vocabulary: V.
        speed: what this machine can do, needed with a time limit.

    Returns:
        What was decided, for people.
    """
    model, train, corpus = recipe.model, recipe.train, recipe.corpus
    if model.size is None:
        seconds = None if train.time_limit is None else 60 * train.time_limit
        model.size = choose_size(tokens, vocabulary, corpus.block, seconds, speed)
    width, depth = SHAPES[model.size]
    _fill(recipe, "model.text.width", width)
    _fill(recipe, "model.text.depth", depth)
    _fill(recipe, "model.text.heads", max(1, model.text.width // HEAD))
    weights = layer_weights(model.text.width, model.text.depth)
    horizon = horizon_of(recipe, tokens, weights, vocabulary, speed)
    batch = batch_for(horizon.tokens)
    _fill(recipe, "train.batch_size", max(1, batch // corpus.block))
    if train.time_limit is None and train.steps is None and train.epochs is None:
        train.steps = max(1, round(horizon.tokens / (train.batch_size * corpus.block)))
    part = max(1, _LOGITS // (10 * vocabulary * corpus.block))  # rows: logits in bfloat16 and float32, their gradient
    pieces = next(
        p for p in range(1, train.batch_size + 1) if train.batch_size % p == 0 and train.batch_size // p <= part
    )
    for name, value in {
        "accumulate": pieces,
        "optimizer": "muon",
        "muon_steps": 3,
        "muon_lr": 0.02 * math.sqrt(192 / model.text.width),
        "lr": 0.006 * math.sqrt(192 / model.text.width),
        "betas": (0.9, 0.95),
        "weight_decay": 0.1 if horizon.epochs > 2 else 0.05,
        "schedule": "wsd",
        "warmup": 0.02,
        "decay": 0.5,
        "final": 0.0,
        "valid_rows": VALID_ROWS,
    }.items():
        _fill(recipe, f"train.{name}", value)
    return [
        f"size {model.size}: {model.text.depth} layers of width {model.text.width}, about {weights:,} weights in them",
        f"{tokens:,} training tokens, read about {horizon.epochs:.2g} times; "
        f"{train.batch_size} rows of {corpus.block} tokens a step",
    ]


def batch_for(tokens: float) -> int:
    """Tokens a step for a run that reads so many."""
    return min(max(_power_of_two(4 * math.sqrt(max(tokens, 1.0))), 2048), 1 << 19)


def is_said(recipe: Recipe, dotted: str) -> bool:
    """Whether somebody has set this setting, be it to its default."""
    section, last = _place(recipe, dotted)
    return last in section.model_fields_set


def unsay(recipe: Recipe) -> None:
    """Forget what an earlier turn of the dial has filled in, so that it can be turned anew."""
    for dotted in DIALLED:
        section, last = _place(recipe, dotted)
        setattr(section, last, type(section).model_fields[last].get_default(call_default_factory=True))
        section.model_fields_set.discard(last)


def _fill(recipe: Recipe, dotted: str, value: Any) -> None:
    section, last = _place(recipe, dotted)
    if last not in section.model_fields_set:
        setattr(section, last, value)


def _place(recipe: Recipe, dotted: str) -> tuple[Section, str]:
    *path, last = dotted.split(".")
    section: Any = recipe
    for part in path:
        section = getattr(section, part)
    return section, last


def _power_of_two(value: float) -> int:
    return 1 << max(0, round(math.log2(value)))
