"""What goes wrong while a model learns, told in a sentence with advice: the loop asks, the report keeps it.

    collapse   nearly the same output for all validation rows, though their truths differ
    blind      answers that stay as they are when images are shuffled, or that the question alone explains
    zero loss  a loss of nearly nothing within the first steps: the answer stands in the prompt, or is known already
    template   the same tokens are learned for all answers, though these differ
    overfitting  validations that became worse while the training loss went on falling
    flat loss  a loss that has not fallen by two fifths of the run

It decides nothing: a run goes on whatever is said, except that one without any token to learn cannot begin.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from rebus.catalogue import Note, named
from rebus.errors import DataError
from rebus.loop.plan import Observer
from rebus.models.batch import Batch
from rebus.models.layout import IGNORED
from rebus.models.modalities.rows import RowInputs
from rebus.tasks import Prediction, Task
from rebus.tasks.base import Values
from rebus.tasks.cells import as_text, missing
from rebus.tasks.metrics import LOWER_IS_BETTER

Remark = tuple[str, str]  # name, sentence
ROWS = 64  # validation rows that are looked at
MIDDLE = 0.5  # share of the run after which answers are looked at
FEWER = 0.2  # outputs that are so much less varied than the truths are a collapse
VARIED = 4.0  # truths that are not so varied say nothing about it
SAME = 0.95  # share of answers that shuffling images may leave as they are
ENOUGH = 8  # rows below which nothing can be said
EARLY, RECENT = 10, 20  # steps whose mean loss is compared
JUDGED = 0.4  # share of the run after which a loss should have fallen
NEAR_ZERO, SMALL = 0.01, 0.05
LASTING = ("collapse", "blind")  # what is looked for again at the end


class Watchers:
    """Several observers as one."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.observers = list(observers)

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> list[Remark]:
        """What any of them says."""
        return [remark for observer in self.observers for remark in observer.stepped(step, progress, parts)]

    def validated(self, progress: float) -> list[Remark]:
        """What any of them says."""
        return [remark for observer in self.observers for remark in observer.validated(progress)]


@dataclass
class LossWatch:
    """Looks at the losses of single steps and at the labels of the first batch.

    Attributes:
        tasks: name: task.
        values: name: its columns.
        rows: some training rows.
    """

    tasks: Mapping[str, Task]
    values: Mapping[str, Values]
    rows: Sequence[int]
    first: dict[str, list[float]] = field(default_factory=dict)
    recent: dict[str, deque[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    said: set[tuple[str, str]] = field(default_factory=set)
    waiting: list[Remark] = field(default_factory=list)
    looked: bool = False

    def recall(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take up what metrics.jsonl holds, where a run is resumed."""
        for record in records:
            if record.get("kind") == "train":
                self._remember({name: loss for name, loss in record.get("parts", {}).items() if loss is not None})
            elif record.get("kind") == "remark":
                self.said |= {(str(record.get("name")), name) for name in self.tasks}
        self.looked = bool(records)

    def batch(self, batch: Batch) -> None:
        """Look at the labels of the first batch.

        Raises:
            DataError: a task that writes finds no token to learn in it.
        """
        if self.looked:
            return
        self.looked = True
        for name, part in batch.targets.items():
            task = self.tasks[name]
            if not task.writes or "blocks" not in part:
                continue
            texts = labelled(part)
            if not any(texts):
                received = f"none in the {len(texts)} texts of the first batch"
                do = "look at the tokenizer's chat template, or set tasks.0.layout=plain; and raise text.max_length"
                raise DataError(f"task '{name}'", "answers with tokens to learn", received, do)
            truths = {text for row in self.rows for text in task.targets(self.values[name], row)}
            if len(texts) >= ENOUGH and len(set(texts)) == 1 and len(truths) > 1:
                self.waiting.append(("template", Note("watch.template", task=name, count=len(texts))))

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> list[Remark]:
        """Compare."""
        result, self.waiting = self.waiting, []
        self._remember(parts)
        for key in parts:
            name = key.removeprefix("loss/")
            for remark in (self._zero(step, key, name), self._flat(progress, key, name)):
                if remark is not None and (remark[0], name) not in self.said:
                    self.said.add((remark[0], name))
                    result.append(remark)
        return result

    def validated(self, progress: float) -> list[Remark]:
        """Nothing."""
        return []

    def _remember(self, parts: Mapping[str, float]) -> None:
        for key, loss in parts.items():
            self.counts[key] += 1
            if len(self.first.setdefault(key, [])) < EARLY:
                self.first[key].append(loss)
            self.recent.setdefault(key, deque(maxlen=RECENT)).append(loss)

    def _zero(self, step: int, key: str, name: str) -> Remark | None:
        losses = self.first[key]
        if step >= EARLY or len(losses) < 2 or name not in self.tasks or not self.tasks[name].writes:
            return None
        if not sum(losses[-2:]) / 2 < NEAR_ZERO:
            return None
        inside = self._answers_inside(name)
        key = "watch.zero_inside" if inside >= 0.5 else "watch.zero_known"
        return "zero loss", Note(key, task=name, loss=losses[-1], steps=step + 1, share=inside)

    def _answers_inside(self, name: str) -> float:
        task, values = self.tasks[name], self.values[name]
        rows = [row for row in self.rows if task.usable(values, row)]
        inside = [any(text and text in task.prompt(values, row) for text in task.targets(values, row)) for row in rows]
        return sum(inside) / max(len(inside), 1)

    def _flat(self, progress: float, key: str, name: str) -> Remark | None:
        if progress < JUDGED or self.counts[key] < EARLY + RECENT or name not in self.tasks:
            return None
        before, now = (sum(losses) / len(losses) for losses in (self.first[key], self.recent[key]))
        if before < SMALL or not now > 0.99 * before:
            self.said.add(("flat loss", name))  # once is enough: it may rise again when the rows are known by heart
            return None
        do = Note("watch.lower" if now > 1.05 * before else "watch.raise")
        return "flat loss", Note("watch.flat", task=name, progress=progress, before=before, now=now, do=do)


@dataclass
class AnswerWatch:
    """Looks at answers to validation rows, halfway and at the end.

    Attributes:
        task: that predicts.
        values: its columns.
        rows: validation rows, at most ``most`` of them looked at.
        training: rows that the answers of one who never looks come from.
        predict: (rows, their inputs) -> predictions.
        inputs: of rows.
        most: rows looked at.
    """

    task: Task
    values: Values
    rows: Sequence[int]
    training: Sequence[int]
    predict: Callable[[Sequence[int], RowInputs], list[Prediction]]
    inputs: RowInputs
    done: bool = False
    most: int = ROWS

    def stepped(self, step: int, progress: float, parts: Mapping[str, float]) -> list[Remark]:
        """Nothing."""
        return []

    def validated(self, progress: float) -> list[Remark]:
        """Look, once, when half of the run is over."""
        if self.done or progress < MIDDLE:
            return []
        self.done = True
        return self.look()

    def look(self) -> list[Remark]:
        """What is wrong with the answers as they are now."""
        chosen = self.rows[:: max(1, math.ceil(len(self.rows) / self.most))]
        if len(chosen) < ENOUGH:
            return []
        predictions = self.predict(chosen, self.inputs)
        truths = [as_text(self.task.truth(self.values, row)) for row in chosen]
        remark = self._collapse(predictions, truths) if self.task.answers != "number" else None
        if remark is None and "image" in self.inputs.modalities and self.task.uses_image:
            remark = self._blind(chosen, predictions, truths)
        return [remark] if remark is not None else []

    def _collapse(self, predictions: Sequence[Prediction], truths: Sequence[str]) -> Remark | None:
        counter = Counter(as_text(item.value) for item in predictions)
        there = variety(Counter(truths))
        if there < VARIED or variety(counter) > FEWER * there:
            return None
        common, times = counter.most_common(1)[0]
        outputs = Note("watch.outputs", count=len(counter)) if len(counter) > 1 else Note("watch.same_output")
        do = Note("watch.collapse_do_rows" if times > 1 else "watch.collapse_do")
        facts = {"task": self.task.name, "rows": len(predictions), "common": common[:60], "times": times}
        return "collapse", Note("watch.collapse", outputs=outputs, do=do, **facts)

    def _blind(self, rows: Sequence[int], predictions: Sequence[Prediction], truths: Sequence[str]) -> Remark | None:
        right = self.task.right(self.values, rows, list(predictions))
        known = self.task.answers != "number" and float(np.mean(right)) >= SAME
        shuffled = shuffled_images(self.values["image"], rows, self.inputs)
        if known or shuffled is None or variety(Counter(truths)) < 1.5:
            return None  # nothing to gain, or nothing to tell apart
        other = self.predict(rows, shuffled)
        same = float(np.mean([self._alike(item, two, truths) for item, two in zip(predictions, other, strict=True)]))
        if same >= SAME:
            return "blind", Note("watch.blind_shuffled", task=self.task.name, share=same)
        naive, what = self.task.naive(self.values, rows, self.values, self.training) if self.training else ([], "")
        if self.task.answers == "number" or not naive:
            return None
        prior = float(np.mean([as_text(a.value) == as_text(b.value) for a, b in zip(predictions, naive, strict=True)]))
        if prior >= SAME:
            return "blind", Note("watch.blind_naive", task=self.task.name, share=prior, naive=named("baseline", what))
        return None

    def _alike(self, prediction: Prediction, two: Prediction, truths: Sequence[str]) -> bool:
        if self.task.answers == "number":
            spread = float(np.std([float(truth) for truth in truths])) or 1.0
            return abs(float(prediction.value) - float(two.value)) < 0.02 * spread
        return bool(prediction.value == two.value)


def overfitting(records: Sequence[Mapping[str, Any]]) -> Remark | None:
    """What to say where validations became worse while the training loss went on falling; None where they did not.

    Args:
        records: the lines of metrics.jsonl.
    """
    losses = [
        (record["step"], record["loss"]) for record in records if record.get("kind") == "train" and record.get("loss")
    ]
    valid = [(record["step"], record["metrics"]) for record in records if record.get("kind") == "valid"]
    if len(valid) < 3 or not losses:
        return None
    for name in valid[-1][1]:
        metric = name.rpartition("/")[2]
        seen = [(step, metrics[name]) for step, metrics in valid if metrics.get(name) is not None]
        if metric not in LOWER_IS_BETTER or metric.endswith("rank") or len(seen) < 3:
            continue
        (low_step, low), (last_step, last) = min(seen, key=lambda record: record[1]), seen[-1]
        worse = last - low > 0.1 and last > 2 * low if metric == "ece" else last > 1.1 * low
        before, after = _loss_at(losses, low_step), _loss_at(losses, last_step)
        if worse and after < 0.9 * before:
            figures = {"low": low, "low_step": low_step, "last": last, "last_step": last_step}
            return "overfitting", Note("watch.overfitting", figure=name, before=before, after=after, **figures)
    return None


def _loss_at(losses: Sequence[tuple[int, float]], step: int) -> float:
    """The mean of the few logged losses nearest to a step."""
    near = sorted(losses, key=lambda item: abs(item[0] - step))[:5]
    return sum(loss for _, loss in near) / len(near)


def watches(task: Task | None) -> bool:
    """Whether answers of this task can be looked at so: those that are texts, labels or numbers."""
    return task is not None and task.answers in ("text", "label", "number")


def variety(counts: Counter[str]) -> float:
    """How many equally frequent values would be as uncertain: the exponential of the entropy."""
    whole = sum(counts.values())
    return math.exp(-sum(n / whole * math.log(n / whole) for n in counts.values()))


def shuffled_images(images: Sequence[Any], rows: Sequence[int], inputs: RowInputs) -> RowInputs | None:
    """Gives each row the image of another one; None where there are fewer than four different ones.

    Rows that share an image also share the one that they are given.
    """
    first: dict[Any, int] = {}
    for row in rows:
        if not missing(images[row]):
            first.setdefault(as_text(images[row]), row)
    places = list(first.values())
    if len(places) < 4:
        return None
    order = np.random.default_rng(0).permutation(len(places))
    given = {as_text(images[places[a]]): places[b] for a, b in zip(order, np.roll(order, 1), strict=True)}
    return inputs.replaced(
        "image", lambda row: [] if missing(images[row]) else inputs.items("image", given[as_text(images[row])])
    )


def labelled(part: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    """The tokens that are learned of each text in a batch of (R, L) labels and blocks."""
    items = []
    for labels, blocks in zip(part["labels"].tolist(), part["blocks"].tolist(), strict=True):
        texts: dict[int, list[int]] = {block: [] for block in blocks if block >= 0}
        for token, block in zip(labels, blocks, strict=True):
            if block >= 0 and token != IGNORED:
                texts[block].append(token)
        items += [tuple(text) for text in texts.values()]
    return items


def remarks_of(
    records: Sequence[Mapping[str, Any]], ended: Sequence[Remark], looked: bool, step: int
) -> list[dict[str, Any]]:
    """All that was said of a run, for evaluation.json.

    Args:
        records: the lines of metrics.jsonl.
        ended: what is wrong with the answers at the end.
        looked: whether they were looked at.
        step: the last one.

    Returns:
        ``{"name", "step", "text", "passed"}`` each: passed where it is no longer so at the end.
    """
    items = [
        {
            "name": record["name"],
            "step": record["step"],
            "text": record["text"],
            "passed": looked and record["name"] in LASTING,
        }
        for record in records
        if record.get("kind") == "remark"
    ]
    now = {name for name, _ in ended}
    items = [record for record in items if record["name"] not in now]
    return items + [{"name": name, "step": step, "text": text, "passed": False} for name, text in ended]
