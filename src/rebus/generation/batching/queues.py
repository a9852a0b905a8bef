"""Whose turn it is: users take turns, each one's texts keep their order, and texts that were put off go first.

It knows no blocks: whether a text may begin is for others to say.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from rebus.generation.batching.text import Text


class Waiting:
    """Texts that wait for their turn."""

    def __init__(self) -> None:
        self._back: list[Text] = []  # put off, the first to have had a turn first
        self._users: OrderedDict[str, deque[Text]] = OrderedDict()  # the one whose turn it is first
        self._count = 0  # asked for from other threads

    def __len__(self) -> int:
        return self._count

    def add(self, text: Text) -> None:
        """The last of its user's."""
        self._users.setdefault(text.user, deque()).append(text)
        self._count += 1

    def put_back(self, text: Text) -> None:
        """It had its turn already."""
        self._back.append(text)
        self._back.sort(key=lambda one: one.order)
        self._count += 1

    def candidates(self) -> Iterator[Text]:
        """Who may be next, in order: those put off, then the first text of each user."""
        yield from list(self._back)
        yield from [texts[0] for texts in self._users.values()]

    def take(self, text: Text) -> None:
        """Its turn has come: its user is now the last."""
        if text not in self._back:
            self._users.move_to_end(text.user)
        self.remove(text)

    def remove(self, text: Text) -> None:
        """It wants no turn any more: its user's is still to come."""
        self._count -= 1
        if text in self._back:
            self._back.remove(text)
            return
        self._users[text.user].remove(text)
        if not self._users[text.user]:
            del self._users[text.user]

    def __iter__(self) -> Iterator[Text]:
        yield from list(self._back)
        for texts in list(self._users.values()):
            yield from list(texts)
