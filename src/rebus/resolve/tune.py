"""What learns, how fast and in which precision: the whole model, adapters and heads, or heads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rebus import recipe
from rebus.errors import RecipeError, nearest
from rebus.loop.probe import native_precision
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.lora import FACTORS, adapters, add_lora, ends_with, inside_block
from rebus.recipe import load_recipe
from rebus.resolve.known import Built, Log, Start

FIRST = 0.3  # share of the run in which only what joins the towers learns
ADAPTED = ("decoder", "encoder")  # text towers with layers for adapters
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


def settle_precision(settings: recipe.Recipe, _: Start, log: Log) -> recipe.Recipe:
    """The precision that this machine's processor suggests: the saved recipe says which."""
    if settings.train.precision != "auto":
        return settings
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return settings.replace({"train.precision": native_precision(device)})


def settle_stages(settings: recipe.Recipe, known: Built, log: Log) -> recipe.Recipe:
    """What each stage trains and how fast; where the recipe names no stages, ``usual_stages``."""
    model, train = known.model, settings.train
    if not train.stages:
        settings = usual_stages(settings, model)
        train = settings.train
    if not train.stages:
        return settings
    check_stages(model, train.stages)
    anew, stages = begun_anew(model), []
    for number, stage in enumerate(train.stages):
        if stage.tune != "full" and stage.learns is None:
            check_taken_over(model, f"train.stages.{number}.tune", stage.tune)
            stage = stage.replace(learns=anew)
        usual, rates = usual_rates(settings, stage.tune, anew, heads=has_heads(model))
        if stage.rates is None:
            fast = stage.lr is not None or train.lr is not None
            stage = stage.replace(rates=train.rates or ({} if fast else rates))
        for name, value in usual.items():
            if stage.get(name) is None:
                stage = stage.replace({name: value if train.get(name) is None else train.get(name)})
        stages.append(stage)
    return settings.replace({"train.stages": stages})


def settle_rates(settings: recipe.Recipe, known: Built, log: Log) -> recipe.Recipe:
    """``train.optimizer``, ``lr``, ``muon_lr``, ``rates`` and ``learns``, where one stage is the whole run.

    On a model built anew from the result, whatever weights that has, the same parts get the same rates: a resumed run
    needs no base.

    Raises:
        RecipeError: there is nothing to start from.
    """
    train, model = settings.train, known.model
    if train.stages:
        return settings
    anew = begun_anew(model)
    usual, rates = usual_rates(settings, train.tune, anew, heads=has_heads(model))
    changes: dict[str, Any] = {name: value for name, value in usual.items() if getattr(train, name) is None}
    if train.lr is None and not train.rates:
        changes["rates"] = rates
    if train.tune != "full" and train.learns is None:
        check_taken_over(model, "train.tune", train.tune)
        changes["learns"] = anew
    return settings.replace(train=train.replace(changes))


def usual_stages(settings: recipe.Recipe, model: VisionLanguageModel) -> recipe.Recipe:
    """Two stages where an image tower and a text tower both come from elsewhere and something joins them anew.

    With adapters in the second, the image tower is frozen unless the recipe says otherwise, so that its features are
    computed once for the whole run.
    """
    towers, train = settings.model, settings.train
    text = towers.text.weights is not None or settings.base is not None
    if towers.image.weights is None or not text or model.image is None or not begun_anew(model):
        return settings
    tune = train.tune if train.sets("tune") else "lora" if towers.text.kind in ADAPTED else "full"
    if tune == "head":  # both stages would be the same
        return settings
    if tune == "lora":
        settings = settings.fill({"model.image.frozen": True})
    first = recipe.Stage(share=FIRST, tune="head", learns=train.learns)
    second = recipe.Stage(share=1 - FIRST, tune=tune, learns=train.learns)
    return settings.replace({"train.stages": [first, second]})


def check_stages(model: nn.Module, stages: Sequence[recipe.Stage]) -> None:
    """Refuse stages that are not the whole run, or that name parts which are not there. Raises RecipeError."""
    whole = sum(stage.share for stage in stages)
    if abs(whole - 1) > 1e-6:
        shares = " + ".join(f"{stage.share:g}" for stage in stages)
        raise RecipeError("train.stages", "shares that add up to 1", f"{shares} = {whole:g}", "change the shares")
    names = [name for name, _ in model.named_parameters()]
    for number, stage in enumerate(stages):
        for part in [*(stage.learns or []), *(stage.rates or {})]:
            if not any(_under(name, part) for name in names):
                parts = {".".join(name.split(".")[: 1 + part.count(".")]) for name in names}
                raise RecipeError(f"train.stages.{number}", "parts of the model", f"'{part}'", nearest(part, parts))


def apply_tuning(model: VisionLanguageModel, settings: recipe.Recipe, log: Log = lambda _: None) -> recipe.Recipe:
    """Freeze what does not learn and put adapters where they belong, once, as ``train.tune`` says.

    Args:
        model: changed in place.
        settings: complete.
        log: prints a line for people.

    Returns:
        The recipe; ``model.image.frozen`` is true where nothing of the image tower learns.

    Raises:
        RecipeError: no layer for an adapter, or nothing that learns.
    """
    train = settings.train
    if train.tune == "full":
        return settings
    adapted = restrict(model, settings, train.tune, train.learns or [])
    learning = [parameter.requires_grad for name, parameter in model.named_parameters() if _under(name, "image")]
    if learning and not any(learning):
        settings = settings.replace({"model.image.frozen": True})
    log(what_learns(model, settings, len(adapted)))
    return settings


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
    text = f"adapters of rank {rank} on {adapted} layers, and heads" if adapted else "heads only"
    if parts is not None:
        named = [*parts[:3], *([f"{len(parts) - 3} more"] if len(parts) > 3 else [])]
        named += [HEADS] if has_heads(model) else []
        named += [f"adapters of rank {rank} on {adapted} layers"] if adapted else []
        text = ", ".join(named)
    return f"{text}: {learned:,} of {model.count_parameters():,} numbers learn"


def has_heads(model: nn.Module) -> bool:
    """Whether there are heads with weights."""
    return any(_under(name, HEADS) for name, _ in model.named_parameters())


def add_adapters(model: VisionLanguageModel, settings: recipe.Recipe) -> list[str]:
    """Put adapters beside the frozen layers of towers that are not frozen as a whole; gives the layers' names.

    Raises:
        RecipeError: a target names no layer there, or there is none.
    """
    lora = settings.model.lora
    towers = [name for name in model.towers if not settings.model.tower(name).frozen]
    towers += [] if settings.model.text.frozen else ["decoder"]
    wanted = ends_with(lora.targets) if lora.targets else inside_block

    def choose(name: str, layer: nn.Linear, parent: nn.Module) -> bool:
        below = any(_under(name, tower) for tower in towers) and not name.endswith("lm_head")  # a head
        return below and not layer.weight.requires_grad and wanted(name, layer, parent)

    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    named = add_lora(model, choose, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, seed=settings.seed)
    unused = [target for target in lora.targets if not any(f".{name}".endswith(f".{target}") for name in named)]
    if unused or not named:
        there = sorted({name.rpartition(".")[2] for name in linear if any(_under(name, tower) for tower in towers)})
        received = f"'{unused[0]}'" if unused else "none in the towers that learn"
        do = nearest(unused[0], there) if unused else "set train.tune to full or head"
        raise RecipeError("model.lora.targets", "the end of the name of a linear layer in a tower", received, do)
    return named


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
