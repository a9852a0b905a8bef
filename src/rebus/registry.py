"""Names to classes: how a task, a tower or a fusion is found, ours and other people's alike.

A third party registers through an entry point: group ``rebus.tasks``, ``rebus.towers`` or ``rebus.fusions``,
name = the word that a recipe uses, value = ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from rebus.errors import RecipeError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """A set of named classes of one sort.

    Args:
        sort: what the names are names of, in the singular: ``task``, ``tower``, ``fusion``.
    """

    def __init__(self, sort: str) -> None:
        self.sort = sort
        self._items: dict[str, T] = {}
        self._broken: dict[str, str] = {}  # plug-ins that could not be imported, and why
        self._asked_plugins = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files a class under ``name``."""

        def add(item: T) -> T:
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The class filed under ``name``.

        Raises:
            RecipeError: no class has that name (the nearest right one is named), or it is a plug-in's that cannot be
                imported.
        """
        if name not in self._items:
            self._load_plugins()
        if name in self._broken:
            raise RecipeError(
                where=f"the {self.sort} '{name}', a plug-in",
                expected="a package that can be imported",
                found=self._broken[name],
                do="update or uninstall that package",
            )
        if name not in self._items:
            raise RecipeError(
                where=f"the {self.sort} '{name}'",
                expected=f"the name of a {self.sort}",
                found=f"'{name}'",
                do=nearest(name, self._items),
            )
        return self._items[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load_plugins()
        return sorted(self._items)

    def _load_plugins(self) -> None:
        if self._asked_plugins:
            return
        self._asked_plugins = True
        for point in plugins(self.sort):
            if point.name not in self._items:
                try:
                    self._items[point.name] = point.load()
                except Exception as error:  # another package's code; what it breaks is its own name only
                    self._broken[point.name] = f"{provider(point)}: {type(error).__name__}: {error}"


def plugins(sort: str) -> list[EntryPoint]:
    """Entry points of other packages for one sort of names: ``task``, ``tower``, ``fusion``."""
    return list(entry_points(group=f"rebus.{sort}s"))


def provider(point: EntryPoint) -> str:
    """The package that an entry point belongs to, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
