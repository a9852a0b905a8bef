"""The recipe: complete, stable through a file, and refused in four parts when it is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rebus.errors import RecipeError
from rebus.recipe import Recipe, TaskSettings, describe, load_recipe, override, recipe_from


def test_a_saved_recipe_reads_back_as_the_same_recipe(tmp_path: Path) -> None:
    recipe = override(Recipe(), ["seed=7", "train.lr=1e-3", "data.kinds.年龄=number", "model.fusion.kind=joint"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.save_text(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_every_setting_has_a_meaning() -> None:
    rows = list(describe())
    assert len(rows) > 90
    assert [name for name, _, _, meaning in rows if not meaning] == []


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("seed=3", lambda recipe: recipe.seed == 3),
        ("train.lr=1e-3", lambda recipe: recipe.train.lr == 1e-3),
        ("train.steps=null", lambda recipe: recipe.train.steps is None),
        ("train.betas=[0.8, 0.9]", lambda recipe: recipe.train.betas == (0.8, 0.9)),
        ("train.rates.image=0.1", lambda recipe: recipe.train.rates == {"image": 0.1}),
        ("model.image.frozen=true", lambda recipe: recipe.model.image.frozen is True),
        ("data.split.column=fold=2", lambda recipe: recipe.data.split.column == "fold=2"),
        ('data.split.column="yes"', lambda recipe: recipe.data.split.column == "yes"),
    ],
)
def test_a_word_sets_one_setting(word: str, read: object) -> None:
    assert callable(read)
    assert read(override(Recipe(), [word]))


BAD_WORDS = [
    ("seed", "key=value"),
    ("=3", "key=value"),
    ("train.lrr=1", "lr"),
    ("lr=1", "train.lr"),
    ("trian.lr=1", "train"),
    ("train.lr=fast", "number"),
    ("train.lr=0", "greater than 0"),
    ("train.batch_size=0", "greater than or equal to 1"),
    ("train.batch_size=2.5", "integer"),
    ("train.optimizer=adam", "adamw"),
    ("train.schedule=step", "cosine"),
    ("train.betas=[0.9]", "train.betas"),
    ("data.split.valid=1.5", "less than 1"),
    ("data.on_bad=ignore", "refuse"),
    ("data.kinds.age=integer", "number"),
    ("data.pixel_budget=-1", "greater than 0"),
    ("image.size=4", "greater than or equal to 8"),
    ("image.fit=stretch", "squash"),
    ("model.fusion.how=product", "concat"),
    ("model.image.width.deep=3", "setting that exists"),
    ("tasks.0.weight=2", "name it as well: --task NAME"),
    ("tasks=caption", "list"),
    ("seed=[1", "YAML"),
    ("seed=-1", "greater than or equal to 0"),
    ("train=3", "train"),
]


@pytest.mark.parametrize(("word", "hint"), BAD_WORDS)
def test_a_bad_word_is_refused_in_four_parts(word: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        override(Recipe(), [word])
    parts = caught.value.as_dict()
    assert all(part.strip() for part in parts.values())
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_FILES = {
    "empty": (b"", "mapping"),
    "a list": (b"- 1\n- 2\n", "mapping"),
    "a word": (b"hello\n", "mapping"),
    "not yaml": (b"train: [1\n", "YAML"),
    "tabs": (b"train:\n\tlr: 1\n", "YAML"),
    "not text": (b"\xff\xfe\x00\x01", "recipe"),
    "unknown section": (b"trian: {lr: 1}\n", "train"),
    "unknown key": (b"train: {learning_rate: 1}\n", "lr"),
    "a number for a section": (b"train: 3\n", "train"),
    "text for a number": (b"seed: many\n", "integer"),
    "python object": (b"seed: !!python/object/apply:os.getcwd []\n", "YAML"),
    "a rate without end": (b"train: {lr: .inf}\n", "finite"),
    "a share that is no number": (b"train: {warmup: .nan}\n", "finite"),
    "a key twice": (b"seed: 1\nseed: 2\n", "twice"),
    "a key twice, deeper": (b"train:\n  lr: 1\n  steps: 3\n  lr: 2\n", "twice"),
    "a recipe within itself": (b"data: &d {path: *d}\n", "path"),
    "a task without a name": (b"tasks: [{weight: 1}]\n", "tasks.0.name"),
    "task weight": (b"tasks: [{name: caption, weight: 0}]\n", "tasks.0.weight"),
}


@pytest.mark.parametrize("case", sorted(BAD_FILES))
def test_a_bad_file_is_refused_in_four_parts(case: str, tmp_path: Path) -> None:
    content, hint = BAD_FILES[case]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert all(part.strip() for part in caught.value.as_dict().values())
    assert hint in str(caught.value)
    assert str(path) in caught.value.where


def test_a_value_is_told_in_short(tmp_path: Path) -> None:
    lines = [
        "a: &a 1",
        *(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in zip("abcd", "bcde", strict=True)),
    ]
    (tmp_path / "recipe.yaml").write_text("\n".join(["data:", "  path:", *(f"    {line}" for line in lines)]))
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert len(str(caught.value)) < 1000


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RecipeError, match="What to do"):
            load_recipe(path)


def test_the_first_of_two_words_is_not_lost() -> None:
    recipe = override(Recipe(), ["train.steps=5", "train.batch_size=2"])
    assert (recipe.train.steps, recipe.train.batch_size) == (5, 2)


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_word_brings_anything_but_a_recipe_error(key: str, value: str) -> None:
    with contextlib.suppress(RecipeError):
        override(Recipe(), [f"{key}={value}"])


@given(st.dictionaries(st.sampled_from(["seed", "train", "data", "model", "x"]), st.none() | st.integers() | st.text()))
def test_no_content_brings_anything_but_a_recipe_error(content: dict[str, object]) -> None:
    with contextlib.suppress(RecipeError):
        recipe_from(content)


def test_a_column_whose_name_holds_a_dot_is_one_key() -> None:
    base = Recipe(tasks=[TaskSettings(name="classify")])
    recipe = override(base, ["data.numbers.Preis i.d.R.=comma", "tasks.0.columns.text=Ticket-Nr."])
    assert recipe.data.numbers == {"Preis i.d.R.": "comma"}
    assert recipe.tasks[0].columns == {"text": "Ticket-Nr."}
    assert override(recipe, ["data.kinds.a.b=text"]).data.kinds == {"a.b": "text"}


def test_a_recipe_is_changed_in_a_copy_alone() -> None:
    recipe = Recipe(tasks=[TaskSettings(name="caption")], model={"towers": {"sound": {"kind": "spectral"}}})  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.lr = 0.5  # type: ignore[misc]
    kept = recipe.model_dump()
    changes = {"train.lr": 0.5, "tasks.0.weight": 2, "data.kinds.a.b": "text", "model.towers.sound.width": 16}
    changed = recipe.replace(changes)
    assert recipe.model_dump() == kept
    assert (changed.train.lr, changed.tasks[0].weight, changed.data.kinds) == (0.5, 2.0, {"a.b": "text"})
    assert (changed.model.towers["sound"].kind, changed.model.towers["sound"].width) == ("spectral", 16)
    with pytest.raises(ValidationError):
        recipe.replace({"train.lr": -1})
    with pytest.raises(ValidationError):
        recipe.replace({"train.rate": 1})


def test_what_was_set_is_known_and_can_be_forgotten() -> None:
    recipe = Recipe().replace({"train.steps": 3})
    assert recipe.sets("train.steps")
    assert not recipe.sets("train.epochs")
    assert not recipe.sets("train")
    filled = recipe.fill({"train.steps": 5, "train.epochs": 2.0})
    assert (filled.train.steps, filled.train.epochs) == (3, 2.0)
    forgotten = filled.reset(["train.steps"])
    assert forgotten.train.steps is None
    assert not forgotten.sets("train.steps")
    assert forgotten.sets("train.epochs")


def test_a_tower_takes_the_settings_of_its_kind_alone(tmp_path: Path) -> None:
    recipe = override(Recipe(), ["model.text.kind=decoder", "model.text.kv_heads=2", "model.image.kind=vit"])
    assert "cell" not in recipe.model_dump()["model"]["text"]
    assert recipe.model.text.cell == "gru"  # reads as its default
    assert recipe_from(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(RecipeError, match=r"kind 'decoder'.*'cell', which another kind has"):
        override(recipe, ["model.text.cell=lstm"])
    with pytest.raises(RecipeError, match=r"did you mean 'kv_heads'"):
        override(recipe, ["model.text.kvheads=1"])
    with pytest.raises(RecipeError, match=r"kind 'vit'; found 'model.image.stage'.*"):
        recipe_from({"model": {"image": {"kind": "vit", "stage": [1]}}})
    path = tmp_path / "recipe.yaml"
    path.write_text(Recipe().save_text().replace("kind: auto", "kind: resnet", 1), encoding="utf-8")
    assert load_recipe(path).model.image.kind == "resnet"  # what other kinds have is at its default


def test_another_kind_keeps_what_both_have_and_an_open_kind_what_was_set() -> None:
    recipe = override(Recipe(), ["model.text.width=24", "model.text.pool=last"])
    assert recipe.replace({"model.text.kind": "encoder"}).model.text.pool == "last"
    with pytest.raises(ValidationError, match="pool"):
        recipe.replace({"model.text.kind": "decoder"})
    encoder = recipe.replace({"model.text.kind": "encoder"})
    recurrent = encoder.replace({"model.text.kind": "recurrent"})
    assert (recurrent.model.text.width, "pool" in recurrent.model_dump()["model"]["text"]) == (24, False)
