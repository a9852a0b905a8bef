"""What a file says and nothing will use, counted by kind, each with the place of its first example."""

from __future__ import annotations

from typing import Any


class Unused:
    """Counts by kind; every reader adds to it what it passes over."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, kind: str, place: str = "", count: int = 1) -> None:
        """Count more of a kind, e.g. ``images in no split folder``; the first place is kept as the example."""
        if count:
            self._counts[kind] = self._counts.get(kind, 0) + count
            self._first.setdefault(kind, place)

    def update(self, other: Unused) -> None:
        """Add all that another holds."""
        for kind, count in other._counts.items():
            self.add(kind, other._first[kind], count)

    def lines(self) -> list[str]:
        """A line a kind, e.g. ``3 images in no split folder (first: scenes/a.png)``."""
        return [
            f"{count:,} {kind}" + (f" (first: {self._first[kind]})" if self._first[kind] else "")
            for kind, count in self._counts.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON values: kind: count and first place."""
        return {kind: {"count": count, "first": self._first[kind]} for kind, count in self._counts.items()}
