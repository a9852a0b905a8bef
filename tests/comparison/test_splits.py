"""How rows are dealt: the same for every strategy, images together, each row judged once in folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rebus.comparison.strategies import Arm
from rebus.data.splits import assign_splits
from rebus.data.table import Table
from rebus.errors import DataError
from rebus.recipe import Split, load_recipe
from rebus.resolve.from_table import prepare

from .conftest import settle, small_recipe

ROWS = [{"image": f"{n // 3}.png", "text": f"t{n}"} for n in range(300)]


def dealt(split: Split, rows: list[dict[str, str]] = ROWS) -> list[str]:
    return assign_splits(Table.from_rows(rows), split, ["image"])


def test_each_row_is_judged_in_one_fold_and_images_stay_together() -> None:
    folds = [dealt(Split(folds=4, fold=number)) for number in range(4)]
    for row in range(300):
        assert [names[row] for names in folds].count("test") == 1
        assert all(names[row] == names[row // 3 * 3] for names in folds)
    for names in folds:
        assert names.count("test") == 75
        assert 0.02 < names.count("valid") / (300 - names.count("test")) < 0.25  # a tenth of the others watches
    assert dealt(Split(folds=4, fold=1, valid=0.0)).count("valid") == 0


def test_folds_do_not_ask_the_split_column_and_another_deal_deals_otherwise() -> None:
    said = [{**row, "split": "train"} for row in ROWS]
    assert dealt(Split(folds=2, fold=0), said) == dealt(Split(folds=2, fold=0))
    assert dealt(Split(deal=1)) != dealt(Split())
    assert dealt(Split(folds=2, deal=3)) != dealt(Split(folds=2))
    assert dealt(Split(deal=0)) == dealt(Split())


def test_a_fold_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"data\.split\.fold.*from 0 to 2.*3"):
        dealt(Split(folds=3, fold=3))


def test_the_recipe_of_a_run_deals_the_same_rows(tables: Callable[[str], Path], tmp_path: Path) -> None:
    setup = settle(tables("both"), folds=3)
    for arm in (Arm("text"), Arm("cross", "cross")):
        (tmp_path / "recipe.yaml").write_text(setup.recipe(arm, 1).save_text(), encoding="utf-8")
        prepared = prepare(load_recipe(tmp_path / "recipe.yaml"), lambda _: None)
        assert prepared.splits == setup.names(1)
        assert prepared.recipe.model.model_dump() == setup.recipe(arm, 1).model.model_dump()


def test_the_tables_own_test_rows_are_kept_unless_folds_are_asked_for(tmp_path: Path) -> None:
    from .conftest import write_table

    table = write_table(tmp_path, "both", rows=60)
    import json

    rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        row["split"] = "test" if number < 20 else "train"
    table.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    given = settle(table, repeats=2)
    assert given.how == "given"
    assert [given.names(0).count("test"), given.names(1) == given.names(0)] == [20, True]
    assert given.recipe(Arm("text"), 0).seed != given.recipe(Arm("text"), 1).seed
    assert len(settle(table).splits) == 1
    assert settle(table, folds=2).how == "folds"
    free = settle(write_table(tmp_path / "free", "both", rows=60), repeats=2)
    assert free.how == "repeats"
    assert free.names(0) != free.names(1)
    assert "valid" not in free.names(0)  # nothing is chosen by it


def test_early_stopping_keeps_rows_to_watch(tables: Callable[[str], Path]) -> None:
    from rebus.comparison.setup import set_up

    recipe = small_recipe(tables("both"))
    recipe = recipe.replace({"train.patience": 2})
    assert "valid" in set_up(recipe, lambda _: None, folds=3).names(0)
