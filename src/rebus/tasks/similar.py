"""``similar``: texts as vectors that lie close together where the texts mean the same.

Learned from pairs by telling each pair's second text from those of the other pairs in the batch (Henderson et al. 2017,
"Efficient Natural Language Response Suggestion for Smart Reply"; van den Oord et al. 2018, "Representation Learning
with Contrastive Predictive Coding"; Gao et al. 2021, "SimCSE"), or from pairs with scores by putting their cosines in
the scores' order (Su 2022, "CoSENT").

Letters: R texts, N pairs, M candidates, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rebus import recipe
from rebus.catalogue import Note
from rebus.data import names
from rebus.data.cells import number
from rebus.data.declared import SHORT, Columns, Role
from rebus.errors import DataError
from rebus.generation.sampling import Sampling
from rebus.models.features import Features as Image
from rebus.models.heads import HeadSpec
from rebus.tasks.answer_view import AnswerView
from rebus.tasks.base import TASKS, ExampleKey, Item, Prediction, Task, Values, cut_notes
from rebus.tasks.cells import as_text, missing, pad_texts
from rebus.tasks.contrast import Comparing, spared_cross_entropy, text_key
from rebus.tasks.explanation import Example, Goal, Target, begin_example
from rebus.tasks.metrics.intervals import Statistic, mean_of
from rebus.tasks.metrics.retrieval import Likeness, WordBags, percentile_ranks, rank_statistics, ranks, spearman
from rebus.tasks.session import Portion, Session
from rebus.tasks.text_processor import TextProcessor

ANCHOR, POSITIVE, NEGATIVE = 0, 1, 2
TEXTS = ("anchor", "positive", "negative")  # in the order of these numbers
Vectors = NDArray[np.float32]


@TASKS.register("similar")
class Similar(Comparing, Task):
    """Columns: ``anchor`` and ``positive``, texts that mean the same; perhaps ``negative``, or ``score``: how much."""

    name = "similar"
    pipelines = ("sentence-similarity", "sentence-similarity")
    roles: ClassVar[dict[str, Role]] = {
        "anchor": Role(SHORT),
        "positive": Role(SHORT, learned=True),
        "negative": Role(SHORT, required=False),
        "score": Role(("number", "category"), required=False, names=names.SCORE),
    }
    inputs = ("anchor",)
    question_role = "anchor"
    says_confidence = False
    answers = "likeness"

    @classmethod
    def suggestion(cls, columns: Columns) -> tuple[int, str] | None:
        """Pairs of texts and no images."""
        if columns.image is not None or columns.named(names.LABEL, "category") or not cls.find_columns(columns):
            return None
        return 80, Note("reason.pairs_of_texts_that")

    @classmethod
    def find_columns(cls, columns: Columns) -> dict[str, str | None]:
        """Two texts that mean the same, perhaps a third that does not."""
        for first, second, third in names.PAIRS:
            anchor, positive = columns.named((first,), *SHORT), columns.named((second,), *SHORT)
            if anchor and positive:
                negative = columns.named((third,), *SHORT) if third else None
                score = columns.named(names.SCORE, "number", "category")
                return {"anchor": anchor, "positive": positive, "negative": negative, "score": score}
        return {}

    def __init__(self, settings: recipe.TaskSettings) -> None:
        super().__init__(settings)
        self.scored = "score" in settings.columns
        self.watch = "spearman" if self.scored else "mrr"

    def fit(self, values: Values, rows: Sequence[int]) -> None:
        """There must be something to tell apart."""
        known = [row for row in rows if self.usable(values, row)]
        role = "score" if self.scored else "positive"
        if len({as_text(values[role][row]) for row in known}) < 2:
            raise DataError(
                f"column '{self.settings.columns[role]}'",
                "at least two different values among the training rows",
                "one" if known else "none",
                f"add rows, or name another column with --set tasks.0.columns.{role}=COLUMN",
            )

    def judgeable(self, values: Values, row: int) -> bool:
        """Both texts, and a score where scores are learned."""
        texts = all(role in values and not missing(values[role][row]) for role in TEXTS[:2])
        return texts and (not self.scored or ("score" in values and number(values["score"][row]) is not None))

    def head(self, processor: TextProcessor) -> HeadSpec:
        """The text's vector as it is: one that was learned elsewhere is kept."""
        return HeadSpec("vector", 0, ("text",))

    def texts(self, values: Values, rows: Sequence[int]) -> list[str]:
        """All texts."""
        columns = [values[role] for role in TEXTS if role in values]
        return [as_text(column[row]) for row in rows for column in columns if not missing(column[row])]

    def notes(self, values: Values, rows: Sequence[int], processor: TextProcessor) -> list[str]:
        """How many texts are cut."""
        return cut_notes(self, values, rows, processor)

    def items(
        self, values: Values, rows: Sequence[int], processor: TextProcessor, key: ExampleKey | None
    ) -> list[Item]:
        """Two or three texts a row; each has a number by which equal texts are known."""
        result: list[Item] = []
        for row in rows:
            if not self.usable(values, row):
                continue
            item: Item = {}
            for role in TEXTS:
                if role in values and not missing(values[role][row]):
                    item |= {role: _ids(processor, values[role][row]), f"{role}_key": text_key(values[role][row])}
            if self.scored:
                item["score"] = np.asarray(number(values["score"][row]), dtype=np.float32)
            result.append(item)
        return result

    def collate(self, items: list[Item], owner: list[int]) -> dict[str, Tensor]:
        """All anchors, then all positives, then all negatives as the rows of one part.

        ``sort`` (R,) says which is which, ``pair`` (R,) which row a text is of; equal texts have equal ``keys`` (R,).
        """
        laid = [(sort, place) for sort, role in enumerate(TEXTS) for place, item in enumerate(items) if role in item]
        part = {
            "sort": torch.tensor([sort for sort, _ in laid]),
            "pair": torch.tensor([place for _, place in laid]),
            "keys": torch.tensor([int(items[place][f"{TEXTS[sort]}_key"]) for sort, place in laid]),
            "owner": torch.tensor([owner[place] for _, place in laid], dtype=torch.long),
        }
        part["text_ids"], part["text_mask"] = pad_texts([items[place][TEXTS[sort]] for sort, place in laid])
        if self.scored:
            part["score"] = torch.tensor(np.stack([item["score"] for item in items]))
        return part

    def merged(self, outputs: list[Tensor], parts: list[dict[str, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """All anchors first again, then all positives, then all negatives."""
        counts = [int((part["sort"] == ANCHOR).sum()) for part in parts]
        starts = [sum(counts[:place]) for place in range(len(parts))]
        sort = torch.cat([part["sort"] for part in parts])
        order = sort.argsort(stable=True)
        part = {
            "sort": sort[order],
            "pair": torch.cat([part["pair"] + start for part, start in zip(parts, starts, strict=True)])[order],
            "keys": torch.cat([part["keys"] for part in parts])[order],
        }
        if self.scored:
            part["score"] = torch.cat([part["score"] for part in parts])
        return torch.cat(outputs)[order], part

    def loss(self, outputs: Tensor, part: dict[str, Tensor]) -> Tensor:
        """Of vectors (R, D)."""
        vectors = functional.normalize(outputs.float(), dim=-1)
        anchors, others = vectors[part["sort"] == ANCHOR], part["sort"] != ANCHOR
        if self.scored:
            cosines = (anchors * vectors[part["sort"] == POSITIVE]).sum(-1)
            return order_loss(cosines, part["score"], self.settings.temperature)
        own, positive = (part["keys"][part["sort"] == sort] for sort in (ANCHOR, POSITIVE))
        asker = own[part["pair"][others]]  # whose candidate each is
        spared = no_negatives(own, positive, part["keys"][others], asker, part["sort"][others] == POSITIVE)
        return contrastive_loss(anchors @ vectors[others].T, spared, self.settings.temperature)

    def predict(
        self, session: Session, values: Values, portion: Portion, sampling: Sampling | None = None
    ) -> list[Prediction]:
        """The cosine of each row's two texts; where there is one text only, its vector."""
        rows = portion.rows
        there = {role: values[role] for role in TEXTS if role in values}
        texts = list(dict.fromkeys(as_text(column[row]) for row in rows for column in there.values()))
        vectors = dict(zip(texts, session.embed_texts(texts), strict=True))
        lines = []
        for row in rows:
            entries = {role: vectors[as_text(c[row])] for role, c in there.items() if not missing(c[row])}
            if "positive" in entries and "anchor" in entries:
                lines.append(Prediction(round(float(entries["anchor"] @ entries["positive"]), 6), extra=entries))
            else:
                value = entries.get("anchor")
                lines.append(Prediction(None if value is None else [round(float(x), 6) for x in value], extra=entries))
        return lines

    def explanation_targets(self, example: Example, target: Target) -> None:
        """The cosine with another text, the target or else the row's own."""
        other = as_text(target if target is not None else example.values.get("positive", [""])[0])
        if not other.strip():
            do = "give the other text as the target, or as the column 'positive'"
            raise DataError(f"task '{self.name}'", "two texts to compare", "one", do)
        begin_example(example, as_text(example.values["anchor"][0]))
        model, name = example.model, self.name
        device = model.device
        fixed = torch.from_numpy(example.session.embed_texts([other])).to(device)  # (1, D)
        example.outputs = lambda batch: model.text_vectors(batch.targets[name])
        example.measure = lambda outputs: (outputs * fixed).sum(-1, keepdim=True)
        cosine = float(example.scores())
        example.answer, example.goals = (
            f"{cosine:.4f}",
            [Goal(Note("target.likeness_to", text=other), cosine, unit=1.0)],
        )

    def answer_view(self, example: Example, outputs: Any, seen: Image | None) -> AnswerView:
        """The text's vector."""
        facts = {"cosine": example.answer, "length": f"{float(outputs[0].detach().float().norm()):.2f}"}
        return AnswerView("likeness", facts, {"vector": ("(R, D)", outputs)}, vectors={"vector": outputs[0]})

    def statistics(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> dict[str, Statistic]:
        """Where the positive stands among all rows' positives; with scores, the rank correlation with them."""
        if self.scored:
            return {"spearman": spearman([p.value for p in predictions], self._scores(values, rows))}
        result = rank_statistics(self._ranks(values, rows, predictions))
        three = [p.extra for p in predictions]
        if all("negative" in item and "anchor" in item for item in three):
            nearer = [float(item["anchor"] @ item["positive"] > item["anchor"] @ item["negative"]) for item in three]
            result["nearer_than_negative"] = mean_of(nearer)
        return result

    def right(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        """1 where the positive comes first; with scores, how far the row's place in the order is off, 0 to 1."""
        if self.scored:
            message, truth = (percentile_ranks(x) for x in ([p.value for p in predictions], self._scores(values, rows)))
            return np.abs(message - truth)
        return (self._ranks(values, rows, predictions) <= 1).astype(np.float64)

    def naive(
        self, values: Values, rows: Sequence[int], known: Values, train_rows: Sequence[int]
    ) -> tuple[list[Prediction], str]:
        """How many words two texts share, rare words counting more."""
        bags = WordBags(self.texts({role: known[role] for role in TEXTS[:2]}, train_rows))
        pairs = [(as_text(values["anchor"][row]), as_text(values["positive"][row])) for row in rows]
        lines = [bags.cosine(*pair) for pair in pairs]
        places = np.zeros(len(rows))
        if not self.scored:
            queries, own = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            places = ranks(queries, own, lambda candidates: bags.likeness(queries, candidates))
        predictions = [Prediction(item, extra={"rank": place}) for item, place in zip(lines, places, strict=True)]
        return predictions, "words in common (TF-IDF)"

    def truth(self, values: Values, row: int) -> Any:
        """The score, or that the two mean the same."""
        return number(values["score"][row]) if self.scored else 1.0

    def _scores(self, values: Values, rows: Sequence[int]) -> list[float]:
        return [float(number(values["score"][row]) or 0.0) for row in rows]

    def _ranks(self, values: Values, rows: Sequence[int], predictions: list[Prediction]) -> NDArray[np.float64]:
        if predictions and "rank" in predictions[0].extra:
            return np.asarray([p.extra["rank"] for p in predictions])
        queries = [as_text(values["anchor"][row]) for row in rows]
        own = [as_text(values["positive"][row]) for row in rows]
        asked: Vectors = np.stack([p.extra["anchor"] for p in predictions])
        vector = dict(zip(own, (p.extra["positive"] for p in predictions), strict=True))

        def likeness_of(candidates: Sequence[str]) -> Likeness:
            table = np.stack([vector[text] for text in candidates])
            return lambda start, end: np.asarray(asked[start:end] @ table.T, dtype=np.float64)

        return ranks(queries, own, likeness_of)


def no_negatives(own: Tensor, positive: Tensor, candidates: Tensor, asker: Tensor, is_positive: Tensor) -> Tensor:
    """(N, M) which candidates say the same as an anchor: its positive, itself, or the positive of an equal anchor.

    Args:
        own: (N,) keys of the anchors.
        positive: (N,) keys of their positives.
        candidates: (M,) keys.
        asker: (M,) key of the anchor that each candidate was given with.
        is_positive: (M,) whether it was given as a positive.
    """
    equal = (positive[:, None] == candidates[None]) | (own[:, None] == candidates[None])
    return equal | ((own[:, None] == asker[None]) & is_positive[None])


def contrastive_loss(cosines: Tensor, spared: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each anchor's own candidate among all: (N, M) cosines -> a scalar.

    Anchor i's own candidate is i; of the others, those that ``spared`` (N, M) marks are left out.
    """
    return spared_cross_entropy(cosines / temperature, torch.arange(len(cosines), device=cosines.device), spared)


def order_loss(cosines: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """log(1 + the sum of exp((cosine j - cosine i) / temperature) over all pairs where i's score is the higher one)."""
    gaps = (cosines[None, :] - cosines[:, None]) / temperature
    wrong = gaps[scores[:, None] > scores[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def _ids(processor: TextProcessor, value: Any) -> NDArray[np.int64]:
    return np.asarray(processor.read(as_text(value)), dtype=np.int64)
