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
from dataclasses import dataclass
from typing import get_args

from rebus.catalogue import Note
from rebus.recipe import Recipe
from rebus.recipe.model import Size
from rebus.resolve.known import Log, RawText, Speed, Tokens
from rebus.tasks.cells import pad_to

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
DIALLED = (  # what the dial fills in: reset it before the dial is turned anew
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
_HELD_OUT = 2_000_000  # bytes of text: enough to judge a model on


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


def horizon_of(recipe: Recipe, known: Tokens, weights: int) -> Horizon:
    """Tokens that the run will read, as far as it can be known before it; ``weights``: N."""
    train, text, block = recipe.train, recipe.model.text, recipe.corpus.block
    if train.time_limit is not None and known.speed is not None:
        flops = flops_a_token(weights + known.vocabulary * text.width, text.depth, text.width, block)
        read = train.time_limit * 60 * known.speed(flops)
    elif train.steps is not None:
        rows = train.batch_size if recipe.sets("train.batch_size") else 16 * train.steps / block
        read = train.steps * max(rows, 1) * block
    elif train.epochs is not None:
        read = train.epochs * known.training
    else:
        read = min(TOKENS_A_WEIGHT * weights, READ_AT_MOST * known.training)
    return Horizon(float(read), read / max(known.training, 1))


def settle_vocabulary(recipe: Recipe, known: RawText, _: Log) -> Recipe:
    """The size of the tokenizer, where there is none yet, and the share of text held out, by the size of the text."""
    if known.size is None:
        return recipe
    if not known.tokenizer:
        recipe = recipe.fill({"text.vocab_size": vocabulary_for(known.size, recipe.model.size)})
    return recipe.fill({"data.split.valid": round(min(0.1, max(_HELD_OUT / max(known.size, 1), 0.001)), 4)})


def turn_dial(recipe: Recipe, known: Tokens, log: Log) -> Recipe:
    """What the dial decides, printed; what the recipe says itself stays. With a base, only how long it is trained."""
    if recipe.base is not None:
        train = recipe.train
        if train.steps is None and train.epochs is None and train.time_limit is None:
            recipe = recipe.replace({"train.epochs": 1.0})
        return recipe.fill({"train.valid_rows": VALID_ROWS})
    block, tokens, vocabulary = recipe.corpus.block, known.training, known.vocabulary
    size = recipe.model.size
    if size is None:
        seconds = None if recipe.train.time_limit is None else 60 * recipe.train.time_limit
        size = choose_size(tokens, vocabulary, block, seconds, known.speed)
    width, depth = SHAPES[size]
    recipe = recipe.replace({"model.size": size}).fill({"model.text.width": width, "model.text.depth": depth})
    text = recipe.model.text
    weights = layer_weights(text.width, text.depth)
    horizon = horizon_of(recipe, known, weights)
    rows = max(1, batch_for(horizon.tokens) // block)
    recipe = recipe.fill({"model.text.heads": max(1, text.width // HEAD), "train.batch_size": rows})
    train = recipe.train
    if train.time_limit is None and train.steps is None and train.epochs is None:
        recipe = recipe.replace({"train.steps": max(1, round(horizon.tokens / (train.batch_size * block)))})
    most = max(1, _LOGITS // (10 * vocabulary * block))  # rows: logits in bfloat16 and float32, their gradient
    rows = train.batch_size
    usual = {
        "accumulate": next(n for n in range(1, rows + 1) if rows % n == 0 and rows // n <= most),
        "optimizer": "muon",
        "muon_steps": 3,
        "muon_lr": 0.02 * math.sqrt(192 / text.width),
        "lr": 0.006 * math.sqrt(192 / text.width),
        "betas": (0.9, 0.95),
        "weight_decay": 0.1 if horizon.epochs > 2 else 0.05,
        "schedule": "wsd",
        "warmup": 0.02,
        "decay": 0.5,
        "final": 0.0,
        "valid_rows": VALID_ROWS,
    }
    log(Note("inference.size", size=size, depth=text.depth, width=text.width, weights=weights))
    log(Note("inference.horizon", tokens=tokens, epochs=horizon.epochs, rows=rows, block=block))
    recipe = recipe.fill({f"train.{name}": value for name, value in usual.items()})
    return recipe.replace({"model.text.rows": pad_to(vocabulary, 64)})


def batch_for(tokens: float) -> int:
    """Tokens a step for a run that reads so many."""
    return min(max(_power_of_two(4 * math.sqrt(max(tokens, 1.0))), 2048), 1 << 19)


def _power_of_two(value: float) -> int:
    return 1 << max(0, round(math.log2(value)))
