"""What learns and how fast: the whole model, adapters and heads, or heads only. It knows no loop and no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from rebus import recipe
from rebus.errors import RecipeError, nearest
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.lora import FACTORS, adapters, add_lora, ends_with, inside_block
from rebus.recipe import load_recipe

Log = Callable[[str], None]
TOWERS = ("image", "text", "decoder")
HEADS = "heads"
# From nothing; from a Run, with the optimizer that made it; from a checkpoint that AdamW made, whose fine-tuning rates
# are those of Devlin et al. (2019); parts that no base has weights for then learn this many times as fast.
SCRATCH = {"optimizer": "muon", "lr": 2e-3, "muon_lr": 1e-2}
FROM_RUN = {"optimizer": "muon", "lr": 4e-4, "muon_lr": 2e-3}
FROM_FOREIGN = {"optimizer": "adamw", "lr": 5e-5, "muon_lr": 1e-3}
ADAPTERS = {"optimizer": "adamw", "lr": 1e-3, "muon_lr": 1e-3}
ANEW = 20.0
# Towers from elsewhere (model.image.weights, model.text.weights): parts begun anew beside a Run's text tower learn as
# from nothing; an image tower that came with other rates of its own learns more slowly than what is begun anew.
BESIDE_RUN = 5.0
TAKEN_IMAGE = 0.1


def apply_tuning(model: VisionLanguageModel, settings: recipe.Recipe, log: Log = lambda _: None) -> None:
    """Freeze what does not learn, put adapters where they belong, and fill in the rates that the recipe leaves open.

    Call it once, after the model has taken over what it starts from; calling it on a model built anew from the filled
    recipe, whatever weights that has, gives the same parts the same rates: a resumed run needs no base.

    Args:
        model: changed in place.
        settings: the resolved recipe; ``train.optimizer``, ``lr``, ``muon_lr``, ``learns`` and ``rates`` are filled in.
        log: prints a line for people.

    Raises:
        RecipeError: there is nothing to start from, no layer for an adapter, or nothing that learns.
    """
    train = settings.train
    anew = begun_anew(model)
    fill_rates(settings, anew, heads=has_heads(model))
    if train.tune == "full":
        return
    if train.learns is None:
        check_taken_over(model, "train.tune", train.tune)
        train.learns = anew
    named = restrict(model, settings, train.tune, train.learns)
    seen = [parameter.requires_grad for name, parameter in model.named_parameters() if _under(name, "image")]
    settings.model.image.frozen |= bool(seen) and not any(seen)
    log(what_learns(model, settings, len(named)))


def check_taken_over(model: nn.Module, where: str, tune: str) -> None:
    """Refuse to train adapters or heads alone on a model begun from nothing. Raises RecipeError."""
    if not any(taken_over(parameter) for parameter in model.parameters()):
        do = "name a Run or checkpoint with --from, or set train.tune=full"
        raise RecipeError(where, f"weights to start from, for '{tune}'", "none", do)


def restrict(model: VisionLanguageModel, settings: recipe.Recipe, tune: str, learns: list[str]) -> list[str]:
    """Freeze all but heads, the parts named and, for ``lora``, adapters; gives the adapted layers.

    Adapters are added where there are none yet.

    Raises:
        RecipeError: no layer for an adapter, or nothing that learns.
    """
    named = list(adapters(model)) if tune == "lora" else []
    for name, parameter in model.named_parameters():
        kept = bool(named) and name.rpartition(".")[2] in FACTORS
        if not kept and not any(_under(name, part) for part in [HEADS, *learns]):
            parameter.requires_grad_(False)
    if tune == "lora" and not named:
        named = add_adapters(model, settings)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        do = "use train.tune=lora: the words it writes are its embeddings, which are not a head"
        raise RecipeError("train.tune", "a head to learn", "a model without one", do)
    return named


def what_learns(
    model: VisionLanguageModel, settings: recipe.Recipe, adapted: int, parts: Sequence[str] | None = None
) -> str:
    """A sentence about what learns in a model that is partly frozen; ``parts`` are named, where given."""
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    rank = settings.model.lora.rank
    told = f"adapters of rank {rank} on {adapted} layers, and heads" if adapted else "heads only"
    if parts is not None:
        named = [*parts[:3], *([f"{len(parts) - 3} more"] if len(parts) > 3 else [])]
        named += [HEADS] if has_heads(model) else []
        named += [f"adapters of rank {rank} on {adapted} layers"] if adapted else []
        told = ", ".join(named)
    return f"{told}: {learned:,} of {model.count_parameters():,} numbers learn"


def has_heads(model: nn.Module) -> bool:
    """Whether there are heads with weights."""
    return any(_under(name, HEADS) for name, _ in model.named_parameters())


def add_adapters(model: VisionLanguageModel, settings: recipe.Recipe) -> list[str]:
    """Put adapters beside the frozen layers of towers that are not frozen as a whole; gives the layers' names.

    Raises:
        RecipeError: a target names no layer there, or there is none.
    """
    lora = settings.model.lora
    kept = [name for name in ("image", "text") if getattr(settings.model, name).frozen]
    towers = [name for name in TOWERS if name not in kept and not (name == "decoder" and "text" in kept)]
    wanted = ends_with(lora.targets) if lora.targets else inside_block

    def choose(name: str, layer: nn.Linear, parent: nn.Module) -> bool:
        below = any(_under(name, tower) for tower in towers) and not name.endswith("lm_head")  # a head
        return below and not layer.weight.requires_grad and wanted(name, layer, parent)

    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    named = add_lora(model, choose, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, seed=settings.seed)
    unused = [target for target in lora.targets if not any(f".{name}".endswith(f".{target}") for name in named)]
    if unused or not named:
        there = sorted({name.rpartition(".")[2] for name in linear if any(_under(name, tower) for tower in towers)})
        found = f"'{unused[0]}'" if unused else "none in the towers that learn"
        do = nearest(unused[0], there) if unused else "set train.tune to full or head"
        raise RecipeError("model.lora.targets", "the end of the name of a linear layer in a tower", found, do)
    return named


def fill_rates(settings: recipe.Recipe, anew: list[str], *, heads: bool = True) -> None:
    """Give ``train.optimizer``, ``lr`` and ``muon_lr`` values where the recipe leaves them open, in place.

    Args:
        settings: the recipe; what it says stays.
        anew: parts that no base has weights for.
        heads: whether the model has heads with weights.
    """
    train = settings.train
    usual, rates = usual_rates(settings, train.tune, anew, heads=heads)
    if train.lr is None and not train.rates:
        train.rates = rates
    for name, value in usual.items():
        if getattr(train, name) is None:
            setattr(train, name, value)


def usual_rates(
    settings: recipe.Recipe, tune: str, anew: list[str], *, heads: bool = True
) -> tuple[Mapping[str, Any], dict[str, float]]:
    """The optimizer and rates that what is trained usually needs, and factors for its parts.

    Args:
        settings: says what is taken over.
        tune: full, lora or head.
        anew: parts that nothing has weights for.
        heads: whether the model has heads with weights.
    """
    image, text = settings.model.image.weights, settings.model.text.weights
    fresh = [*anew, *([HEADS] if heads else [])]
    if tune != "full":
        return ADAPTERS, {}
    if settings.base is not None:
        if _is_run(settings.base):  # beside a tower that learned from images alone, all else learns as from nothing
            return FROM_RUN, dict.fromkeys(fresh, BESIDE_RUN) if _sees_only(settings.base) else {}
        return FROM_FOREIGN, dict.fromkeys(fresh, ANEW)
    if text is not None and not _is_run(text):
        return FROM_FOREIGN, dict.fromkeys(fresh, ANEW)
    slowly = {"image": TAKEN_IMAGE} if image is not None else {}
    if text is None:
        return SCRATCH, slowly
    if image is not None:
        slowly = {"image": 1.0 if _is_run(image) else TAKEN_IMAGE * BESIDE_RUN}
    return FROM_RUN, {**dict.fromkeys(fresh, BESIDE_RUN), **slowly}


def usual_epochs(settings: recipe.Recipe) -> float:
    """Passes over the rows where the recipe does not say: a checkpoint of another library needs few.

    A text tower of another library that is joined to an image tower needs more: what joins them is begun anew.
    """
    if settings.base is not None:
        return 20.0 if _is_run(settings.base) else 3.0
    text = settings.model.text.weights
    return 20.0 if text is None or _is_run(text) else 10.0


def taken_over(parameter: nn.Parameter) -> bool:
    """Whether a parameter's values come from a base (``rebus.resolve.from_base`` marks those that do)."""
    return bool(getattr(parameter, "taken_over", False))


def begun_anew(model: nn.Module) -> list[str]:
    """Parts outside the heads that no base has weights for: whole parts where nothing of them is taken over."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if not _under(name, HEADS)]
    partly = {name.partition(".")[0] for name, parameter in named if taken_over(parameter)}
    fresh = [name for name, parameter in named if not taken_over(parameter)]
    parts = [name if name.partition(".")[0] in partly else name.partition(".")[0] for name in fresh]
    return list(dict.fromkeys(parts))


def _is_run(base: str) -> bool:
    return (Path(base) / "recipe.yaml").is_file()


def _sees_only(base: str) -> bool:
    """Whether a Run is an image tower that learned without any other part."""
    return load_recipe(Path(base) / "recipe.yaml").model.text.kind == "none"


def _under(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")
