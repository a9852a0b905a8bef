"""Curves, the pointing game, random weights and the rule for the default, each against what is known by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from rebus.explain.faithfulness.curves import area, counts_of, curves, kept, onto_grid, order_of, random_orders
from rebus.explain.faithfulness.figures import ENOUGH, MethodFigures, chosen
from rebus.explain.faithfulness.pointing import chance, hit, named_in
from rebus.explain.faithfulness.sanity import SAME, STAGES, cascade, rank_correlation, stages
from rebus.tasks.metrics.intervals import Interval

PARTS, PLACE = 9, 4


def reads_one(place: int) -> Callable[[np.ndarray], np.ndarray]:
    """The score of a model that reads one part and nothing else."""
    return lambda there: there[:, place].astype(float)


def both_areas(relevance: np.ndarray) -> tuple[float, float]:
    order = order_of(relevance)[None]
    gone = area(*curves(reads_one(PLACE), order, inserting=False, steps=PARTS))
    come = area(*curves(reads_one(PLACE), order, inserting=True, steps=PARTS))
    return float(gone[0]), float(come[0])


def test_a_perfect_map_and_its_opposite_have_the_areas_that_are_known_by_hand() -> None:
    perfect = np.zeros(PARTS)
    perfect[PLACE] = 1.0
    # the one part goes first: the score falls from 1 to 0 within the first ninth, a triangle of half a ninth
    assert both_areas(perfect) == pytest.approx((1 / 18, 17 / 18))
    assert both_areas(-perfect) == pytest.approx((17 / 18, 1 / 18))


def test_random_orders_delete_half_of_what_one_part_carries() -> None:
    orders = random_orders(PARTS, 400, seed=1)
    areas = area(*curves(reads_one(PLACE), orders, inserting=False, steps=PARTS))
    assert areas.mean() == pytest.approx(0.5)  # each order has its reverse beside it
    assert sorted(np.unique(np.round(areas * 18).astype(int))) == list(range(1, 18, 2))
    assert all(sorted(order) == list(range(PARTS)) for order in orders.tolist())
    assert np.array_equal(orders, random_orders(PARTS, 400, seed=1))
    assert random_orders(5, 3, seed=0).shape == (3, 5)


@given(st.integers(1, 40), st.integers(1, 20))
def test_a_curve_begins_with_all_parts_and_ends_with_none(parts: int, steps: int) -> None:
    counts = counts_of(parts, steps)
    assert counts[0] == 0
    assert counts[-1] == parts
    assert len(counts) == min(parts, steps) + 1
    variants = kept(random_orders(parts, 2, seed=0), counts, inserting=False)
    assert variants.sum(-1).tolist() == [(parts - counts).tolist()] * 2
    assert np.array_equal(kept(random_orders(parts, 2, seed=0), counts, inserting=True), ~variants)


def test_equal_parts_keep_their_order() -> None:
    assert order_of([0.5, 2.0, 0.5, 2.0]).tolist() == [1, 3, 0, 2]


def test_maps_of_other_grids_are_averaged_over_the_same_area() -> None:
    fine = np.arange(16.0).reshape(4, 4)
    assert onto_grid(fine, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert onto_grid([[1.0, 2.0], [3.0, 4.0]], 4)[0].tolist() == [1.0, 1.0, 2.0, 2.0]
    assert onto_grid([[0.0, 3.0, 6.0]] * 3, 2)[0].tolist() == pytest.approx([1.0, 5.0])  # a cell and a half each
    assert np.allclose(onto_grid(fine, 4), fine)


def test_a_maximum_on_the_thing_is_a_hit() -> None:
    drawn = np.zeros((6, 6))
    drawn[1, 4] = 3.0  # its centre is at (0.75, 0.25)
    assert hit(drawn, (0.7, 0.2, 0.8, 0.3)) == 1.0
    assert hit(drawn, (0.0, 0.0, 0.7, 1.0)) == 0.0
    assert hit(drawn, (0.0, 0.0, 0.7, 1.0), tolerance=0.06) == 1.0
    assert hit(-drawn, (0.7, 0.2, 0.8, 0.3)) == 0.0  # what is least relevant is no hit
    drawn[0, 0] = np.nan
    assert hit(drawn, (0.7, 0.2, 0.8, 0.3)) == 1.0


def test_equal_maxima_share_the_hit_whatever_their_order() -> None:
    drawn = np.zeros((4, 4))
    drawn[0, 0] = drawn[3, 3] = 1.0
    half = (0.0, 0.0, 0.5, 0.5)
    assert hit(drawn, half) == hit(drawn[::-1, ::-1], half) == 0.5
    assert hit(np.zeros((4, 4)), half) == 0.25  # a map that says nothing is a random part
    assert chance(half) == 0.25
    assert chance((0.0, 0.5, 0.5, 1.0), tolerance=0.1) == pytest.approx(0.6 * 0.6)  # cut at the edges


BOXES = [
    {"label": "dog|狗", "box": [0.0, 0.0, 0.3, 0.3]},
    {"label": "hot dog|热狗", "box": [0.5, 0.5, 0.9, 0.9]},
    {"label": "apple", "box": [0.6, 0.0, 0.9, 0.2]},
]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Where is the dog?", "dog"),
        ("Where is the hot dog?", "hot dog"),
        ("热狗在哪里？", "热狗"),
        ("狗在哪里？", "狗"),
        ("Are there APPLES?", "apple"),
        ("Is there a dogma?", None),
        ("Is the dog above the apple?", None),
        ("What do you see?", None),
        ("", None),
    ],
)
def test_the_one_thing_that_a_question_names(text: str, name: str | None) -> None:
    found = named_in(text, BOXES)
    assert (found.name if found else None) == name


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=30).flatmap(lambda a: st.tuples(
    st.just(a), st.lists(st.integers(-3, 3), min_size=len(a), max_size=len(a)))))  # fmt: skip
def test_rank_correlation_is_spearmans(pair: tuple[list[int], list[int]]) -> None:
    one, other = pair
    if len(set(one)) > 1 and len(set(other)) > 1:
        assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)


def test_maps_that_say_nothing_have_no_order_to_compare() -> None:
    flat, steep = np.ones((3, 3)), np.arange(9.0).reshape(3, 3)
    assert rank_correlation(flat, flat * 2) == 1.0
    assert rank_correlation(flat, steep) == rank_correlation(steep, flat) == 0.0
    assert rank_correlation(steep, steep**3) == 1.0
    assert rank_correlation(steep, -steep) == -1.0


def test_weights_are_lost_from_the_top_down_and_keep_their_size() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(40, 40) for name in ("image", "text", "fusion", "decoder", "heads")})
    model.register_parameter("scale", nn.Parameter(torch.tensor(3.0)))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    lost: list[set[str]] = []
    assert stages(model) == list(STAGES)
    for stage in cascade(model, seed=0):
        changed = {name for name, one in model.named_parameters() if not torch.equal(one, before[name])}
        assert stage == STAGES[len(lost)]
        lost.append(changed)
    parts = [{name.split(".")[0] for name in changed} for changed in lost]
    assert parts == [
        {"decoder", "heads"},
        {"decoder", "heads", "fusion"},
        {"decoder", "heads", "fusion", "text"},
        {"decoder", "heads", "fusion", "text", "image"},
    ]
    for name, one in model.named_parameters():
        if one.numel() > 100:
            assert float(one.detach().std()) == pytest.approx(float(before[name].std()), rel=0.1)
            assert abs(rank_correlation(one.detach().numpy(), before[name].numpy())) < 0.1
    again = nn.ModuleDict({name: nn.Linear(40, 40) for name in ("image", "text", "fusion", "decoder", "heads")})
    again.register_parameter("scale", nn.Parameter(torch.tensor(3.0)))
    again.load_state_dict(before)
    assert list(cascade(again, seed=0)) == list(STAGES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def figured(pointing: float | None = None, gap: float | None = None, sanity: float = 0.0) -> MethodFigures:
    made = MethodFigures(sanity={"image tower": sanity})
    if pointing is not None:
        made.figures["pointing"] = Interval(pointing, 0.0, 1.0)
    if gap is not None:
        made.figures |= {"insertion": Interval(gap, 0.0, 1.0), "deletion": Interval(0.0, 0.0, 1.0)}
    return made


def test_the_default_points_best_among_those_that_pass_the_sanity_check() -> None:
    methods = {
        "edges": figured(0.95, 0.9, sanity=1.0),
        "first": figured(0.7, 0.8),
        "second": figured(0.9, 0.1, sanity=SAME),  # at the limit is not above it
    }
    assert chosen(methods, ENOUGH) == ("second", "pointing")
    assert chosen(methods, ENOUGH - 1) == ("first", "curves")  # too few questions to decide by


def test_equal_rates_are_decided_by_the_curves_and_then_by_the_order() -> None:
    methods = {"a": figured(0.9, 0.1), "b": figured(0.9, 0.3), "c": figured(0.9, 0.3), "d": figured(None, 0.9)}
    assert chosen(methods, 100) == ("b", "pointing")


def test_without_boxes_and_curves_the_order_decides() -> None:
    assert chosen({"a": figured(), "b": figured()}, 0) == ("a", "only")
    assert chosen({"a": figured(gap=-0.2), "b": figured(gap=-0.1)}, 0) == ("b", "curves")
    assert chosen({"a": figured(gap=0.2, sanity=0.9), "b": figured(gap=0.1, sanity=0.8)}, 0) == ("a", "curves")


def test_a_gap_is_the_mean_over_image_and_text() -> None:
    both = figured(gap=0.4)
    both.figures |= {"text_insertion": Interval(0.5, 0, 1), "text_deletion": Interval(0.3, 0, 1)}
    assert both.gap == pytest.approx(0.3)
    assert figured().gap is None
