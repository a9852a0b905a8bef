"""What learns and how fast: the whole model, adapters and heads, or heads only. It knows no loop and no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rebus import recipe
from rebus.errors import RecipeError, nearest
from rebus.formats.names import State
from rebus.formats.peft import write_adapter
from rebus.models.vlm import VisionLanguageModel
from rebus.nn.lora import adapters, add_lora, ends_with, inside_block, merged

Tell = Callable[[str], None]
TOWERS = ("picture", "text", "decoder")
HEADS = "heads"
ADAPTER = "adapter"  # a folder in the Run
# From nothing; from a Run, with the optimizer that made it; from a checkpoint that AdamW made, whose fine-tuning rates
# are those of Devlin et al. (2019); parts that no base has weights for then learn this many times as fast.
SCRATCH = {"optimizer": "muon", "lr": 2e-3, "muon_lr": 1e-2}
FROM_RUN = {"optimizer": "muon", "lr": 4e-4, "muon_lr": 2e-3}
FROM_FOREIGN = {"optimizer": "adamw", "lr": 5e-5, "muon_lr": 1e-3}
ADAPTERS = {"optimizer": "adamw", "lr": 1e-3, "muon_lr": 1e-3}
ANEW = 20.0


def apply_tuning(model: VisionLanguageModel, settings: recipe.Recipe, tell: Tell = lambda _: None) -> None:
    """Freeze what does not learn, put adapters where they belong, and fill in the rates that the recipe leaves open.

    Call it once, after the model has taken over what it starts from; calling it on a model built anew from the filled
    recipe, whatever weights that has, gives the same parts the same rates: a resumed run needs no base.

    Args:
        model: changed in place.
        settings: the resolved recipe; ``train.optimizer``, ``lr``, ``muon_lr``, ``learns`` and ``rates`` are filled in.
        tell: prints a line for people.

    Raises:
        RecipeError: there is nothing to start from, no layer for an adapter, or nothing that learns.
    """
    train = settings.train
    anew = begun_anew(model)
    fill_rates(settings, anew, heads=any(_under(name, HEADS) for name, _ in model.named_parameters()))
    if train.tune == "full":
        return
    if train.learns is None:
        if not any(taken_over(parameter) for parameter in model.parameters()):
            do = "name a Run or checkpoint with --from, or set train.tune=full"
            raise RecipeError("train.tune", f"weights to start from, for '{train.tune}'", "none", do)
        train.learns = anew
    named: list[str] = []
    for name, parameter in model.named_parameters():
        if not any(_under(name, part) for part in [HEADS, *train.learns]):
            parameter.requires_grad_(False)
    if train.tune == "lora":
        named = add_adapters(model, settings)
    settings.model.picture.frozen |= train.tune == "head" and not any(_under(part, "picture") for part in train.learns)
    learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not learned:
        do = "use train.tune=lora: the words it writes are its embeddings, which are not a head"
        raise RecipeError("train.tune", "a head to learn", "a model without one", do)
    told = f"adapters of rank {settings.model.lora.rank} on {len(named)} layers, and heads" if named else "heads only"
    tell(f"{told}: {learned:,} of {model.count_parameters():,} numbers learn")


def add_adapters(model: VisionLanguageModel, settings: recipe.Recipe) -> list[str]:
    """Put adapters beside the frozen layers of towers that are not frozen as a whole; gives the layers' names.

    Raises:
        RecipeError: a target names no layer there, or there is none.
    """
    lora = settings.model.lora
    kept = [name for name in ("picture", "text") if getattr(settings.model, name).frozen]
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
    base = settings.base
    if train.tune != "full":
        usual: Mapping[str, Any] = ADAPTERS
    elif base is None:
        usual = SCRATCH
    elif _is_run(base):
        usual = FROM_RUN
    else:
        usual = FROM_FOREIGN
        if train.lr is None and not train.rates:
            train.rates = dict.fromkeys([*anew, *([HEADS] if heads else [])], ANEW)
    for name, value in usual.items():
        if getattr(train, name) is None:
            setattr(train, name, value)


def usual_epochs(settings: recipe.Recipe) -> float:
    """Passes over the rows where the recipe does not say: a checkpoint of another library needs few."""
    return 20.0 if settings.base is None or _is_run(settings.base) else 3.0


def taken_over(parameter: nn.Parameter) -> bool:
    """Whether a parameter's values come from a base (``rebus.run.start`` marks those that do)."""
    return bool(getattr(parameter, "taken_over", False))


def begun_anew(model: nn.Module) -> list[str]:
    """Parts outside the heads that no base has weights for: whole parts where nothing of them is taken over."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if not _under(name, HEADS)]
    partly = {name.partition(".")[0] for name, parameter in named if taken_over(parameter)}
    fresh = [name for name, parameter in named if not taken_over(parameter)]
    parts = [name if name.partition(".")[0] in partly else name.partition(".")[0] for name in fresh]
    return list(dict.fromkeys(parts))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's tensors with its adapters, if it has any, added to the weights they stand beside."""
    return merged(model, model.state_dict())


def save_adapters(
    folder: Path,
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    rename: Callable[[Mapping[str, Tensor]], State] | None = None,
    task: str | None = None,
) -> None:
    """Write a model's adapters into the Run's folder ``adapter``, in PEFT's layout; nothing, where it has none.

    Not beside the weights: transformers reads a folder with an adapter_config.json as its base and the adapter, and the
    Run's own weights hold the adapters already.

    Args:
        folder: the Run.
        model: with adapters.
        settings: its recipe.
        rename: the names of a lone tower's parameters to its family's; None: Rebus' own names are kept.
        task: PEFT's name of the task.
    """
    layers = adapters(model)
    if not layers:
        return
    factors = {name: (layer.lora_A, layer.lora_B) for name, layer in layers.items()}
    if rename is not None:
        factors = {name.partition(".")[2]: pair for name, pair in factors.items()}
    lora, base = settings.model.lora, settings.base
    if base is not None and Path(base).exists():
        base = str(Path(base).resolve())
    write_adapter(
        folder / ADAPTER, factors, alpha=lora.alpha, dropout=lora.dropout, base=base, task=task, rename=rename
    )


def _is_run(base: str) -> bool:
    return (Path(base) / "recipe.yaml").is_file()


def _under(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")
