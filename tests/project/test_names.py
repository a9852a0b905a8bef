"""Things are called by nouns: past participles that stand for things are few."""

from __future__ import annotations

import io
import tokenize
from collections import Counter
from pathlib import Path

PARTICIPLES = ("found", "said", "told", "made", "one")
MOST = 300
SOURCE = Path(__file__).parents[2] / "src"


def test_few_names_are_participles() -> None:
    uses: Counter[str] = Counter()
    for path in SOURCE.rglob("*.py"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
            if token.type == tokenize.NAME and token.string in PARTICIPLES:
                uses[f"{token.string} in {path.relative_to(SOURCE)}"] += 1
    assert sum(uses.values()) < MOST, uses.most_common(20)
