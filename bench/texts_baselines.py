"""Strong simple baselines from scikit-learn, beside which Rebus' figures stand.

Each fits on the split train, chooses what it must choose on valid, and is judged on test.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sacrebleu

Row = dict[str, Any]
Figures = dict[str, float]
CHOICES = (1.0, 3.0, 10.0, 30.0)  # inverse strength of the regularisation of logistic regression


def parts(rows: Sequence[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    return tuple([row for row in rows if row["split"] == name] for name in ("train", "valid", "test"))  # type: ignore[return-value]


def has_chinese(rows: Sequence[Row]) -> bool:
    return sum(bool(re.search(r"[\u4e00-\u9fff]", row["text"])) for row in rows[:200]) > 100


def classify(rows: Sequence[Row]) -> dict[str, Figures]:
    """Accuracy and macro F1 of the commonest label and of TF-IDF with logistic regression.

    Features: words and pairs of words; for Chinese runs of one to three characters.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score

    train, valid, test = parts(rows)
    truth = [row["label"] for row in test]

    def judged(told: Sequence[str]) -> Figures:
        return {
            "accuracy": float(accuracy_score(truth, told)),
            "macro_f1": float(f1_score(truth, told, average="macro")),
        }

    ways = (
        {"analyzer": "char", "ngram_range": (1, 3)}
        if has_chinese(train)
        else {"ngram_range": (1, 2), "token_pattern": r"(?u)\w+|[!?]"}
    )
    reader = TfidfVectorizer(sublinear_tf=True, min_df=2, **ways)
    seen = reader.fit_transform([row["text"] for row in train])
    models = [LogisticRegression(C=c, max_iter=2000).fit(seen, [row["label"] for row in train]) for c in CHOICES]
    held = reader.transform([row["text"] for row in valid])
    best = max(models, key=lambda model: model.score(held, [row["label"] for row in valid]))
    usual = Counter(row["label"] for row in train).most_common(1)[0][0]
    told = best.predict(reader.transform([row["text"] for row in test]))
    return {"majority": judged([usual] * len(test)), "TF-IDF + LR": judged(told)}


def ner(rows: Sequence[Row]) -> dict[str, Figures]:
    """Span F1 of a dictionary of training spans, and of logistic regression over windows of characters."""
    train, _, test = parts(rows)
    truth = [{(s["start"], s["end"], s["label"]) for s in row["entities"]} for row in test]
    return {
        "dictionary": span_f1(truth, dictionary(train, test)),
        "LR on characters": span_f1(truth, windows(train, test)),
    }


def span_f1(truth: Sequence[set[Any]], told: Sequence[set[Any]]) -> Figures:
    right = sum(len(a & b) for a, b in zip(truth, told, strict=True))
    said, there = sum(map(len, told)), sum(map(len, truth))
    precision, recall = right / max(1, said), right / max(1, there)
    return {"f1": 2 * precision * recall / max(1e-9, precision + recall), "precision": precision, "recall": recall}


def dictionary(train: Sequence[Row], test: Sequence[Row]) -> list[set[Any]]:
    """The longest known name at each place, where it was more often a name than not."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for span in row["entities"]:
            kinds[row["text"][span["start"] : span["end"]]][span["label"]] += 1
    longest = max(map(len, kinds))
    seen: Counter[str] = Counter()
    for row in train:
        text = row["text"]
        for size in range(1, longest + 1):
            seen.update(part for at in range(len(text) - size + 1) if (part := text[at : at + size]) in kinds)
    names = {name: count.most_common(1)[0][0] for name, count in kinds.items() if 2 * sum(count.values()) > seen[name]}
    found = []
    for row in test:
        text, at, spans = row["text"], 0, set()
        while at < len(text):
            size = next((n for n in range(min(longest, len(text) - at), 0, -1) if text[at : at + n] in names), 0)
            if size:
                spans.add((at, at + size, names[text[at : at + size]]))
            at += size or 1
        found.append(spans)
    return found


def windows(train: Sequence[Row], test: Sequence[Row]) -> list[set[Any]]:
    """The BIO tag of each character from the characters around it, each for itself; the likeliest lawful path."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    def features(text: str) -> list[list[str]]:
        padded = f"__{text}__"
        found = []
        for at in range(2, len(text) + 2):
            one = [f"{step}{padded[at + step]}" for step in range(-2, 3)]
            two = [f"{step}+{padded[at + step : at + step + 2]}" for step in range(-2, 2)]
            found.append([*one, *two, f"3{padded[at - 1 : at + 2]}"])
        return found

    hasher = FeatureHasher(2**20, input_type="string", alternate_sign=False)
    rows = list(train)
    seen = hasher.transform(part for row in rows for part in features(row["text"]))
    model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=5, tol=None, random_state=0)
    model.fit(seen, [tag for row in rows for tag in tags_of(row)])
    names = list(model.classes_)
    follows = np.array([[not b.startswith("I-") or a[2:] == b[2:] for b in names] for a in names])
    found = []
    for row in test:
        scores = model.predict_log_proba(hasher.transform(features(row["text"]))).clip(-50)
        found.append(spans_from([names[i] for i in best_path(scores, follows, names)]))
    return found


def best_path(scores: Any, follows: Any, names: list[str]) -> list[int]:
    """Viterbi: the path of greatest sum in which an I- tag follows one of its own kind."""
    total = scores[0] + np.where([name.startswith("I-") for name in names], -1e9, 0.0)
    back = []
    for row in scores[1:]:
        through = np.where(follows, total[:, None], -1e9)
        back.append(through.argmax(0))
        total = through.max(0) + row
    path = [int(total.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return path[::-1]


def tags_of(row: Row) -> list[str]:
    tags = ["O"] * len(row["text"])
    for span in row["entities"]:
        tags[span["start"]] = f"B-{span['label']}"
        tags[span["start"] + 1 : span["end"]] = [f"I-{span['label']}"] * (span["end"] - span["start"] - 1)
    return tags


def spans_from(tags: Sequence[str]) -> set[Any]:
    spans, start = set(), None
    for at, tag in enumerate([*tags, "O"]):
        if start is not None and not tag.startswith("I-"):
            spans.add((start, at, tags[start][2:]))
            start = None
        if tag.startswith("B-"):
            start = at
    return spans


def translate(rows: Sequence[Row]) -> dict[str, Figures]:
    """BLEU and chrF of the translation of the nearest training message, by TF-IDF over runs of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, _, test = parts(rows)
    reader = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    seen = reader.fit_transform([row["english"] for row in train])
    asked = reader.transform([row["english"] for row in test])
    nearest = [int((asked[i : i + 1] @ seen.T).toarray().argmax()) for i in range(asked.shape[0])]
    told = [train[i]["chinese"] for i in nearest]
    return {"nearest message": translated(told, [row["chinese"] for row in test])}


def translated(told: Sequence[str], truth: Sequence[str]) -> Figures:
    return {
        "bleu": sacrebleu.corpus_bleu(list(told), [list(truth)], tokenize="zh").score,
        "chrf": sacrebleu.corpus_chrf(list(told), [list(truth)]).score,
    }


BASELINES: dict[str, Callable[[Sequence[Row]], dict[str, Figures]]] = {
    "sentiment-en": classify,
    "sentiment-zh": classify,
    "spam": classify,
    "brown": classify,
    "ner-zh": ner,
    "translate": translate,
}
