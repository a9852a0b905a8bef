"""How whole columns are read, and what the check says where another reading comes close."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rebus.checkpoints.save_load import make_processor
from rebus.recipe import Recipe
from rebus.resolve.from_table import Checked, check_data
from rebus.tasks import TASKS


def checked(path: Path, *tasks: str, **data: Any) -> Checked:
    return check_data(
        Recipe.model_validate({"data": {"path": str(path), **data}, "tasks": [{"name": t} for t in tasks]})
    )


def table(folder: Path, **columns: list[Any]) -> Path:
    path = folder / "t.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def texts(count: int) -> list[str]:
    return [f"some words about thing number {row} in week {row % 7}" for row in range(count)]


def said(found: Checked, *parts: str) -> bool:
    lines = [*found.report.notes, *found.report.warnings]
    return any(all(part in line for part in parts) for line in lines)


@pytest.mark.parametrize(
    ("name", "values", "kind", "nearly"),
    [
        ("label", ["0.0", "1.0", "2.0", ""], "category", False),
        ("label", ["0", "1", "2", "7"], "category", False),
        ("label", ["1.10", "1.1", "2.0", "1E3"], "category", True),
        ("label", [str(7 * row * row) for row in range(60)], "number", True),
        ("label", [str(row) for row in range(60)], "category", False),
        ("label", [f"{row}.5" for row in range(60)], "number", False),
        ("target", ["0", "1"], "category", False),
        ("target", ["0.0", "1.0", ""], "category", False),
        ("target", [str(row) for row in range(11)], "category", True),
        ("target", [f"{row / 7:.3f}" for row in range(60)], "number", False),
        ("score", ["0", "1"], "category", True),
        ("price", ["3", "5", "8"], "number", False),
        ("rating", ["1", "2", "3", "4", "5"], "number", False),
    ],
)
def test_whole_numbers_are_classes_where_there_is_evidence(
    tmp_path: Path, name: str, values: list[str], kind: str, nearly: bool
) -> None:
    column = [values[row % len(values)] for row in range(66)]
    found = checked(table(tmp_path, text=texts(66), **{name: column}))
    assert found.report.kinds[name] == kind
    assert found.recipe.tasks[0].name == {"category": "classify", "number": "regress"}[kind]
    other = {"category": "number", "number": "category"}[kind]
    assert said(found, f"'{name}' is taken as {kind}", f"--kind {name}={other}") == nearly


@pytest.mark.parametrize(
    ("cells", "style", "median"),
    [
        (["0,05", "1,5", "12,25"], "comma", 1.5),
        (["$1.50", "$2.50", "$3.50"], "point", 2.5),
        (["5%", "6%", "７％"], "point", 6.0),
        (["1.234,50", "2.234,50", "3.234,50"], "comma", 2234.5),
        (["(1.5)", "2.5", "\u22123.5"], "point", -1.5),
        (["(1,000.0)", "2,500", "(3,000)"], "point", -1000.0),
        (["1'000.50 CHF", "2'000.50 CHF", "900 CHF"], "point", 1000.5),
    ],
)
def test_numbers_are_numbers_however_they_are_written(
    tmp_path: Path, cells: list[str], style: str, median: float
) -> None:
    found = checked(table(tmp_path, text=texts(30), price=cells * 10))
    assert found.report.good
    assert found.recipe.tasks[0].name == "regress"
    assert found.recipe.tasks[0].numbers == style
    assert found.report.columns["price"]["median"] == median
    assert said(found, f"read with a decimal {style}", "--set data.numbers.price=")


def test_where_no_cell_settles_the_decimal_mark_both_readings_are_shown(tmp_path: Path) -> None:
    path = table(tmp_path, text=texts(30), price=[f"{row + 1},{100 + row}" for row in range(30)])
    found = checked(path)
    assert said(found, "'1,100' is 1100, or 1.1", "'2,101' is 2101, or 2.101", "--set data.numbers.price=comma")
    assert found.recipe.tasks[0].numbers == "point"
    told = checked(path, numbers={"price": "comma"})
    assert told.report.columns["price"]["min"] == pytest.approx(1.1)
    assert not said(told, ", or ")


def test_why_a_column_is_no_number_is_said(tmp_path: Path) -> None:
    found = checked(table(tmp_path, text=texts(30), price=["1.5", *(f"about {row}" for row in range(29))]), "regress")
    (error,) = found.report.errors
    assert "in 'price', 29 of 30 cells are no numbers, e.g. 'about 0', 'about 1', 'about 2'" in error.found

    mixed = checked(table(tmp_path, text=texts(30), price=["1.5", "2,5", "3.5"] * 10), "regress")
    assert len(mixed.report.bad_rows) == 10
    first = mixed.report.bad_rows[1]
    assert first.found == "'2,5'"
    assert "--set data.numbers.price=comma" in first.do


def test_percent_beside_plain_numbers_is_warned_of(tmp_path: Path) -> None:
    found = checked(table(tmp_path, text=texts(30), price=["5%", "6%", "0.07"] * 10))
    assert said(found, "20 cells are in percent and 10 are not")


def test_labels_divided_by_commas(tmp_path: Path) -> None:
    sets = ["Comedy", "Comedy, Drama", "Drama, Horror", "Horror", "Action, Horror", "Action, Comedy, Drama"]
    found = checked(table(tmp_path, text=texts(60), genres=sets * 10))
    assert found.recipe.tasks[0].name == "tag"
    assert found.recipe.tasks[0].separator == ","
    assert found.report.columns["genres"]["different"] == 4
    assert said(found, "'Comedy, Drama' is 'Comedy' and 'Drama'", "--set \"data.separators.genres=''\"")
    whole = checked(
        table(tmp_path, text=texts(60), genres=sets * 10), separators={"genres": ""}, kinds={"genres": "labels"}
    )
    assert whole.report.columns["genres"]["different"] == 6

    towns = ["New York, NY", "Boston, MA", "Buffalo, NY", "Worcester, MA"]
    found = checked(table(tmp_path, text=texts(60), label=towns * 15))
    assert found.recipe.tasks[0].name == "classify"
    assert found.report.columns["label"]["different"] == 4
    assert said(found, "'New York, NY' is one label, or 'New York' and 'NY'", "data.separators.label=")


def test_labels_that_look_alike_are_warned_of_and_those_that_are_alike_are_one(tmp_path: Path) -> None:
    spelt = [" pos", "pos ", "pos", "neg", "Neg", "caf\xe9", "cafe\u0301"]
    found = checked(table(tmp_path, text=texts(70), label=spelt * 10))
    assert found.report.columns["label"]["counts"] == {"pos": 30, "caf\xe9": 20, "neg": 10, "Neg": 10}
    assert said(found, "'neg' (10), 'Neg' (10)", "count as different")


def test_words_for_nothing_are_counted_and_said(tmp_path: Path) -> None:
    column = ["yes", "no", "NaN", "None", "yes"] * 12
    found = checked(table(tmp_path, text=texts(60), label=column))
    assert said(found, "24 cells", "'NaN' 12", "'None' 12", "taken for blank", "--set data.blanks=[]")
    assert found.report.columns["label"]["counts"] == {"yes": 24, "no": 12}
    kept = checked(table(tmp_path, text=texts(60), label=column), blanks=[])
    assert kept.report.columns["label"]["counts"] == {"yes": 24, "no": 12, "NaN": 12, "None": 12}
    assert not said(kept, "taken for blank")

    answers = checked(table(tmp_path, question=[f"{t}?" for t in texts(30)], answer=["None", "two", "three"] * 10))
    assert said(answers, "10 cells ('None' 10)", "taken for a text to be learned", "--set 'data.blanks=[")


def test_not_a_number_in_json_is_no_caption(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = [{"image": f"{row}.png", "caption": float("nan") if row % 6 == 0 else f"a thing {row}"} for row in range(12)]
    for row in range(12):
        Image.new("RGB", (16, 16), (row * 20, 0, 255 - row * 20)).save(tmp_path / f"{row}.png")
    path.write_text("\n".join(map(json.dumps, rows)))
    found = checked(path)
    assert found.recipe.tasks[0].name == "caption"
    assert sorted(found.report.bad_rows) == [0, 6]


@pytest.mark.parametrize("spelt", ["{}.png ", " {}.png", '"{}.png"', "\u3000{}.png\n", ".\\{}.png", "{}%2Epng"])
def test_a_path_in_another_spelling_is_still_a_image(tmp_path: Path, spelt: str) -> None:
    for row in range(10):
        Image.new("RGB", (16, 16), (row * 20, 0, 255 - row * 20)).save(tmp_path / f"{row}.png")
    path = table(tmp_path, image=[spelt.format(row) for row in range(10)], label=["red", "blue"] * 5)
    found = checked(path)
    assert found.report.kinds["image"] == "image"
    assert found.report.good, found.report.errors or found.report.bad_rows


def test_names_of_images_that_are_not_there_are_no_text(tmp_path: Path) -> None:
    path = table(tmp_path, image=[f"pic {row}.png " for row in range(10)], label=["red", "blue"] * 5)
    found = checked(path)
    assert found.report.kinds["image"] == "image"
    assert len(found.report.bad_rows) == 10


def test_another_spelling_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "out.png")
    outside = tmp_path / "out.png"
    for spelt in ("%2E%2E/out.png", '"../out.png"', f'"{outside}"', str(outside).replace("/", "%2F"), "..\\out.png"):
        path = table(tmp_path / "in", image=[spelt] * 4, label=["red", "blue"] * 2)
        assert len(checked(path).report.bad_rows) == 4, spelt


@pytest.mark.parametrize("text", ["10 m²", "½", "№5 ™", "全角，。！ＡＢ", "18.50", "ﬁve"])
def test_what_is_written_is_not_folded_and_what_is_read_is(text: str) -> None:
    writes = Recipe.model_validate({"tasks": [{"name": "answer"}]})
    reads = Recipe.model_validate({"tasks": [{"name": "classify"}]})
    for recipe, kept in ((writes, text), (reads, unicodedata.normalize("NFKC", text))):
        tokenizer = make_processor(recipe, ["some words", text]).tokenizer
        assert tokenizer.decode(tokenizer.encode(text)) == kept
    folded = writes.model_copy(update={"text": writes.text.model_copy(update={"nfkc": True})})
    tokenizer = make_processor(folded, [text]).tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFKC", text)


def test_texts_that_a_tokenizer_cannot_give_back_are_counted() -> None:
    recipe = Recipe.model_validate({"tasks": [{"name": "generate", "columns": {"prompt": "p", "output": "o"}}]})
    task = TASKS.get("generate")(recipe.tasks[0])
    values = task.values({"p": ["one", "two"], "o": ["plain text", "if x:\n    return  1"]})
    notes = task.notes(values, [0, 1], make_processor(recipe, ["plain text return"]))
    assert notes == [
        "task generate: the tokenizer changes 1 of 2 texts to be written: 'if x:\\n    return  1' is learned as "
        "'if x:\\nreturn 1'"
    ]
