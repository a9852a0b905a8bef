"""Which parameter gets which optimizer, rate and decay. Knows names and shapes; knows no task and no schedule.

Muon gets the weights of linear layers and of convolutions that are hidden: not embeddings, not output heads
(a layer named ``head``, ``..._head`` or ``classifier``), not a convolution that reads raw pixels (fewer than five
channels) or one channel at a time, not an adapter's factors. AdamW gets the rest. Decay is for weights of two or more
dimensions only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from rebus.errors import RecipeError, nearest
from rebus.loop.muon import Muon
from rebus.recipe import Train

LR, MUON_LR = 2e-3, 1e-2  # from scratch, where the recipe does not say
_ABOVE = ("fusion", "heads")  # parts that stand on the towers: their layers are not counted
_LAYER = re.compile(r"(?:layers|body)\.(\d+)\.|cells\.\w+_l(\d+)(?:_reverse)?$")


def freeze(model: nn.Module, rates: dict[str, float]) -> None:
    """Stop the gradients of every part whose rate factor is 0.

    Raises:
        RecipeError: a prefix in ``rates`` names no part of the model.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for prefix in rates:
        if not any(_under(name, prefix) for name in names):
            parts = {".".join(name.split(".")[: 1 + prefix.count(".")]) for name in names}
            raise RecipeError(
                where=f"train.rates.{prefix}",
                expected="the beginning of a parameter's name, up to a dot",
                found=f"'{prefix}', which no parameter's name begins with",
                do=nearest(prefix, parts),
            )
    for name, parameter in model.named_parameters():
        if factor_of(name, rates) == 0.0:
            parameter.requires_grad_(False)


def train_mode(model: nn.Module) -> None:
    """Training mode, except modules whose every parameter is frozen: those keep their statistics and drop nothing.

    A frozen module is never in training mode, not even on the way: another thread may be using it.
    """
    parameters = list(model.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        model.eval()
        return
    model.training = True
    for child in model.children():
        train_mode(child)


def factor_of(name: str, rates: dict[str, float]) -> float:
    """The factor on a parameter's rate: that of the longest prefix in ``rates`` that fits, else 1."""
    fitting = [prefix for prefix in rates if _under(name, prefix)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def layer_factors(names: Iterable[str], decay: float) -> dict[str, float]:
    """Factors on the rates by depth: 1 for a tower's top layer, ``decay`` for the next, and so on down.

    What a tower has before its first layer (embeddings) counts as one layer more, what it has after its last as the
    top. Source: Clark et al. (2020), "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators".

    Args:
        names: of all parameters, in the model's order.
        decay: above 0, at most 1.

    Returns:
        name: factor, for the parameters of towers that have numbered layers.
    """
    towers: dict[str, list[tuple[str, int | None]]] = defaultdict(list)
    for name in names if decay < 1 else ():
        tower = name.partition(".")[0]
        if tower not in _ABOVE:
            match = _LAYER.search(name)
            towers[tower].append((name, int(match[1] or match[2] or 0) if match else None))
    factors: dict[str, float] = {}
    for members in towers.values():
        depth = max((number for _, number in members if number is not None), default=-1) + 1
        below = depth  # how far under the top what comes next stands
        for name, number in members if depth else ():
            below = depth - 1 - number if number is not None else depth if below == depth else 0
            factors[name] = decay**below
    return factors


def build_optimizers(
    model: nn.Module, settings: Train, muon_dtype: torch.dtype = torch.bfloat16
) -> list[torch.optim.Optimizer]:
    """The optimizers of a run, over the parameters that learn; the peak rate of a group is under ``peak``.

    Parts with factor 0 in ``settings.rates`` are frozen by this call.

    Args:
        model: on its device already.
        settings: optimizer, lr, muon_lr, weight_decay, betas, momentum, rates and layer_decay are read.
        muon_dtype: in which Muon makes its products.

    Raises:
        RecipeError: a prefix in ``rates`` names no part, or nothing is left to learn.
    """
    freeze(model, settings.rates)
    groups: dict[str, dict[tuple[float, bool], list[nn.Parameter]]] = {
        "muon": defaultdict(list),
        "other": defaultdict(list),
    }
    lr, muon_lr = settings.lr or LR, settings.muon_lr or MUON_LR
    by_layer = layer_factors([name for name, _ in model.named_parameters()], settings.layer_decay)
    for name, parameter, hidden in _sorted_out(model):
        sort = "muon" if settings.optimizer in ("muon", None) and hidden else "other"
        factor = factor_of(name, settings.rates) * by_layer.get(name, 1.0)
        groups[sort][factor, parameter.ndim >= 2].append(parameter)
    if not groups["muon"] and not groups["other"]:
        raise RecipeError(
            where="train.rates",
            expected="at least one part that learns",
            found="a model in which every parameter is frozen",
            do="give some part a factor above 0",
        )
    optimizers: list[torch.optim.Optimizer] = []
    if groups["muon"]:
        packed = _packed(groups["muon"], muon_lr, settings.weight_decay)
        given = (settings.momentum, settings.weight_decay, muon_dtype, settings.muon_steps)
        optimizers.append(Muon(packed, muon_lr, *given))
    if groups["other"]:
        packed = _packed(groups["other"], lr, settings.weight_decay)
        if settings.optimizer == "sgd":
            optimizers.append(torch.optim.SGD(packed, lr=lr, momentum=settings.momentum))
        else:  # fused: 2.6 ms instead of 6.6 for 3.4M parameters on two CPU cores
            optimizers.append(torch.optim.AdamW(packed, lr=lr, betas=settings.betas, fused=True))
    return optimizers


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Every group's rate becomes its peak times ``factor``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def _packed(
    groups: dict[tuple[float, bool], list[nn.Parameter]], lr: float, weight_decay: float
) -> list[dict[str, object]]:
    return [
        {"params": parameters, "lr": lr * factor, "peak": lr * factor, "weight_decay": weight_decay * decays}
        for (factor, decays), parameters in groups.items()
    ]


def _sorted_out(model: nn.Module) -> list[tuple[str, nn.Parameter, bool]]:
    """Every parameter that learns, once, with whether it is a hidden matrix in every place that uses it."""
    result: dict[nn.Parameter, tuple[str, bool]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full = f"{module_name}.{name}" if module_name else name
            first, hidden = result.get(parameter, (full, True))
            result[parameter] = (first, hidden and name == "weight" and _is_hidden(module_name, module))
    return [(name, parameter, hidden) for parameter, (name, hidden) in result.items()]


def _is_hidden(name: str, module: nn.Module) -> bool:
    last = name.rsplit(".", 1)[-1]
    if last in ("head", "classifier") or last.endswith("_head"):
        return False
    if isinstance(module, nn.Linear):
        return min(module.weight.shape) > 1
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return module.groups == 1 and module.in_channels > 4
    return False


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")
