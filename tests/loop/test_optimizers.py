from __future__ import annotations

import pytest
import torch
import training_tiny as tiny
from torch import nn

from rebus.errors import RecipeError
from rebus.loop.muon import Muon, orthogonalise
from rebus.loop.optim import build_optimizers, factor_of, set_rates, train_mode


def names_in(model, optimizer):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter] for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("shape", [(12, 12), (24, 6), (6, 24)])
def test_muon_equals_torchs_on_matrices(shape):
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(shape, generator=generator) for _ in range(3)]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    mine = Muon(ours, lr=0.1, momentum=0.9, weight_decay=0.1)
    torchs = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(shape, generator=generator)
            other.grad = one.grad.clone()
        mine.step()
        torchs.step()
    moved = max(float((one.detach() - start).abs().max()) for one, start in zip(ours, starts, strict=True))
    assert moved > 0.1
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=0.01, rtol=0)  # bf16 products, in another order


def test_muon_reads_a_kernel_as_a_matrix():
    generator = torch.Generator().manual_seed(2)
    kernel = nn.Parameter(torch.randn(6, 4, 3, 3, generator=generator))
    matrix = nn.Parameter(kernel.detach().reshape(6, 36).clone())
    kernel.grad = torch.randn(6, 4, 3, 3, generator=generator)
    matrix.grad = kernel.grad.reshape(6, 36).clone()
    Muon([kernel], lr=0.1, dtype=torch.float32).step()
    Muon([matrix], lr=0.1, dtype=torch.float32).step()
    torch.testing.assert_close(kernel.reshape(6, 36), matrix, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(5, 16, 16), (2, 8, 32), (2, 32, 8)])
def test_orthogonalise_brings_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    values = torch.linalg.svdvals(orthogonalise(matrices, dtype=torch.float32))
    assert orthogonalise(matrices).shape == shape
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_hidden_weights_go_to_muon_and_the_rest_to_adamw():
    model = tiny.net()
    muon, adamw = build_optimizers(model, tiny.train())
    assert names_in(model, muon) == {"stem.weight", "hidden.0.weight", "hidden.3.weight"}
    assert isinstance(adamw, torch.optim.AdamW)
    assert names_in(model, adamw) | names_in(model, muon) == {name for name, _ in model.named_parameters()}


def test_a_weight_tied_to_an_embedding_is_not_a_hidden_matrix_and_is_there_once():
    model = nn.ModuleDict({"proj": nn.Linear(8, 11, bias=False), "embed": nn.Embedding(11, 8)})
    model["proj"].weight = model["embed"].weight
    optimizers = build_optimizers(model, tiny.train())
    assert [type(optimizer) for optimizer in optimizers] == [torch.optim.AdamW]
    assert len(optimizers[0].param_groups[0]["params"]) == 1


def test_first_and_depthwise_convolutions_are_left_to_adamw():
    model = nn.ModuleDict(
        {"stem": nn.Conv2d(3, 8, 3), "depth": nn.Conv2d(8, 8, 3, groups=8), "point": nn.Conv2d(8, 8, 1)}
    )
    muon, _ = build_optimizers(model, tiny.train())
    assert names_in(model, muon) == {"point.weight"}


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_vectors_do_not_decay(name):
    model = tiny.net()
    decays = {}
    for optimizer in build_optimizers(model, tiny.train(optimizer=name, weight_decay=0.3)):
        for group in optimizer.param_groups:
            decays |= {tuple(parameter.shape): group["weight_decay"] for parameter in group["params"]}
    assert {len(shape) for shape, decay in decays.items() if decay == 0.3} == {2, 4}
    assert {len(shape) for shape, decay in decays.items() if decay == 0.0} == {1}


def test_rates_follow_the_longest_prefix_and_the_schedule():
    rates = {"hidden": 0.5, "hidden.3": 0.1}
    assert factor_of("hidden.0.weight", rates) == 0.5
    assert factor_of("hidden.3.weight", rates) == 0.1
    assert factor_of("hidden2.weight", rates) == 1.0
    model = tiny.net()
    muon, _ = optimizers = build_optimizers(model, tiny.train(muon_lr=0.02, rates=rates))
    set_rates(optimizers, 0.25)
    assert sorted(group["lr"] for group in muon.param_groups) == pytest.approx([0.0005, 0.0025, 0.005])


def test_a_factor_of_zero_freezes_the_part_and_its_statistics():
    model = tiny.net()
    optimizers = build_optimizers(model, tiny.train(rates={"norm": 0, "hidden": 0}))
    train_mode(model)
    assert model.training
    assert model.stem.training
    assert not model.norm.training
    assert not model.hidden[2].training  # dropout within a frozen part
    assert not {"norm.weight", "hidden.0.weight"} & set().union(*(names_in(model, one) for one in optimizers))


def test_a_part_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(RecipeError, match="did you mean 'hidden'"):
        build_optimizers(tiny.net(), tiny.train(rates={"hiden": 0.1}))


def test_nothing_to_learn_is_refused():
    rates = dict.fromkeys(["embedding", "stem", "norm", "hidden", "head"], 0.0)
    with pytest.raises(RecipeError, match="every parameter is frozen"):
        build_optimizers(tiny.net(), tiny.train(rates=rates))
