"""The plain model beside a trained one: what it learns for each task, and the bounds on its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from batches import image_inputs
from rebus.errors import ImageError
from rebus.evaluation import plain as plain_module
from rebus.evaluation.plain import plain_model
from rebus.evaluation.rows import Rows
from rebus.models.modalities.rows import RowInputs
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Prediction
from rebus.tasks.linear import image_features

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220), "green": (40, 200, 60)}
GOOD, BAD = ["lovely", "great", "warm", "fine"], ["awful", "dull", "cold", "poor"]
NEUTRAL = ["the", "room", "food", "staff", "was", "and", "very", "it"]


class Images:
    """Noise of a row's colour, in place of a store; some cannot be read."""

    def __init__(self, colours: list[str], broken: tuple[int, ...] = ()) -> None:
        self.colours, self.broken = colours, broken

    def get(self, row: int) -> Any:
        if row in self.broken:
            raise ImageError(f"row {row}", "an image", "nothing", "mend it")
        shade = np.array(COLOURS[self.colours[row]]) + np.random.default_rng(row).integers(-30, 30, (32, 32, 3))
        return shade.clip(0, 255).astype(np.uint8)


def source_of(name: str, columns: dict[str, list[Any]], store: Any = None) -> Rows:
    task = TASKS.get(name)(TaskSettings(name=name, columns={role: role for role in columns}))
    values = task.values(columns)
    task.fit(values, range(len(next(iter(columns.values())))))
    return Rows(task, values, image_inputs(store.get) if store else RowInputs({}, {}))


def told_by(source: Rows, rows: int, **changes: Any) -> Any:
    """Fitted on all but the last ``rows`` and asked about these."""
    count = len(next(iter(source.values.values())))
    found = plain_model(source, range(count - rows, count), source, range(count - rows), changes.get("minutes"))
    assert found is not None
    return found


def reviews(count: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(1)
    labels = ["good" if one else "bad" for one in rng.random(count) < 0.6]
    texts = [" ".join([*rng.choice(NEUTRAL, 6), *rng.choice(GOOD if one == "good" else BAD, 2)]) for one in labels]
    return texts, labels


def test_a_text_is_classified_by_its_words() -> None:
    texts, labels = reviews(300)
    found = told_by(source_of("classify", {"text": texts, "label": labels}), 100)
    assert found.name == "linear model on TF-IDF"
    assert (found.rows, found.of) == (200, 200)
    right = [one.value == label for one, label in zip(found.told, labels[200:], strict=True)]
    assert np.mean(right) > 0.95
    assert all(abs(sum(one.scores.values()) - 1) < 1e-6 for one in found.told)


def test_chinese_has_no_words_but_letters() -> None:
    labels = ["好", "坏"] * 60
    texts = [f"房间{'干净舒服' if one == '好' else '又脏又吵'}第{n}号" for n, one in enumerate(labels)]
    found = told_by(source_of("classify", {"text": texts, "label": labels}), 40)
    assert [one.value for one in found.told] == labels[80:]


def test_a_number_and_labels_are_told_from_words() -> None:
    texts, labels = reviews(300)
    numbers = [20.0 + (5.0 if one == "good" else -5.0) for one in labels]
    told = told_by(source_of("regress", {"text": texts, "target": numbers}), 100).told
    assert np.abs([one.value for one in told] - np.array(numbers[200:])).mean() < 1.5
    tags = [[one, "long"] if len(text) > 40 else [one] for one, text in zip(labels, texts, strict=True)]
    told = told_by(source_of("tag", {"text": texts, "labels": tags}), 100).told
    assert np.mean([labels[200 + n] in one.value for n, one in enumerate(told)]) > 0.95


def test_a_image_is_classified_by_its_colours() -> None:
    colours = [list(COLOURS)[n % 3] for n in range(120)]
    names = [f"{n}.png" for n in range(120)]
    source = source_of("classify", {"image": names, "label": colours}, Images(colours, broken=(3, 4)))
    found = told_by(source, 30)
    assert found.name == "linear model on colours and edges"
    assert (found.rows, found.of) == (88, 90)
    assert [one.value for one in found.told] == colours[90:]


def test_a_question_about_a_image_needs_both() -> None:
    colours = [list(COLOURS)[n % 3] for n in range(240)]
    asked = ["what colour is it?" if n % 2 else "how many things?" for n in range(240)]
    answers = [colours[n] if n % 2 else "one" for n in range(240)]
    columns = {"image": [f"{n}.png" for n in range(240)], "question": asked, "answer": answers}
    found = told_by(source_of("answer", columns, Images(colours)), 60)
    assert found.name == "linear model on TF-IDF, colours and edges"
    assert [one.value for one in found.told] == answers[180:]


def test_texts_that_are_all_different_are_copied_from_the_nearest_row() -> None:
    prompts = [f"describe the {colour} number {n}" for n in range(40) for colour in COLOURS]
    outputs = [f"a {prompt.split()[2]} thing, {n}" for n, prompt in enumerate(prompts)]
    found = told_by(source_of("generate", {"prompt": prompts, "output": outputs}), 30)
    assert found.name == "text of the nearest training row by TF-IDF"
    assert all(one.value in outputs[:90] for one in found.told)
    alike = [one.value.split()[1] == true.split()[1] for one, true in zip(found.told, outputs[90:], strict=True)]
    assert np.mean(alike) > 0.8


def test_images_are_retrieved_by_a_linear_map() -> None:
    colours = [list(COLOURS)[n % 3] for n in range(90)]
    columns = {"image": [f"{n}.png" for n in range(90)], "text": [f"something {one}" for one in colours]}
    source = source_of("retrieve", columns, Images(colours))
    found = told_by(source, 30)
    rows = range(60, 90)
    keyed = [Prediction(0.0, extra={**one.extra, "image_key": row}) for row, one in zip(rows, found.told, strict=True)]
    by_chance = source.task.naive(source.values, rows, source.values, range(60))
    beside = source.task.compared(source.values, rows, keyed, found.told, found.name, n=50)
    chance = source.task.compared(source.values, rows, keyed, *by_chance, n=50)
    assert beside.baseline["text_to_image_recall_at_1"] == 1.0
    assert chance.baseline["text_to_image_recall_at_1"] < 0.8


@pytest.mark.parametrize(("minutes", "most"), [(None, 10.0), (3.0, 10.0), (0.1, 1.0)])
def test_its_time_is_bounded(monkeypatch: pytest.MonkeyPatch, minutes: float | None, most: float) -> None:
    now = [0.0]
    monkeypatch.setattr(plain_module.time, "monotonic", lambda: now[0])
    texts, labels = reviews(1700)
    source = source_of("classify", {"text": texts, "label": labels})
    fitted = []

    def slow(*args: Any) -> Any:
        fitted.append(len(args[3]))
        now[0] += 0.0009 * len(args[3])  # seconds a row
        return [Prediction("good")], "slow"

    monkeypatch.setattr(source.task, "plain", slow)
    found = told_by(source, 10, minutes=minutes)
    assert found.seconds <= most * 1.2
    assert fitted == ([1000, 1690] if most > 1 else [1000])
    assert found.rows == fitted[-1]


def test_tasks_without_a_plain_model_have_none() -> None:
    source = source_of("caption", {"image": ["a", "b"], "caption": ["one", "two"]})
    assert plain_model(source, [0], source, [0, 1], None) is None


def test_features_of_an_image_have_no_bad_numbers() -> None:
    for image in (None, np.zeros((32, 32, 3), np.uint8), np.full((300, 200, 3), 255, np.uint8)):
        found = image_features(image)
        assert found.shape == (400,)
        assert np.isfinite(found).all()


def test_what_is_shown_of_retrieval_names_texts() -> None:
    colours = ["red", "blue", "green"] * 4
    columns = {"image": [f"{n}.png" for n in range(12)], "text": [f"something {one}" for one in colours]}
    source = source_of("retrieve", columns, Images(colours))
    task, rows = source.task, [0, 1, 2]
    told = [
        task.predicted(np.eye(3, dtype=np.float32)[image], row, np.eye(3, dtype=np.float32)[[row]])
        for row, image in ((0, 0), (1, 2), (2, 2))
    ]
    assert task.shown(source.values, rows, told) == [
        ("something red", "something red", 1.0),
        ("something green", "something blue", 0.0),
        ("something green", "something green", 1.0),
    ]
