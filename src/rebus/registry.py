"""Names to classes: how a task, a tower or a fusion is found, ours and other people's alike.

A third party registers through an entry point: group ``rebus.tasks``, ``rebus.towers`` or any other of ``group``'s,
name = the word that a recipe uses, value = ``package.module:Class``. A plug-in that does not work is named in one
warning and left out; nothing else is harmed by it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from rebus.errors import RecipeError, nearest

T = TypeVar("T")


class PluginWarning(UserWarning):
    """A plug-in of another package does not work and is left out."""


class Registry(Generic[T]):
    """A set of named classes of one sort.

    Args:
        sort: what the names are names of, in the singular: ``task``, ``tower``, ``fusion``.
        needs: attributes that an item of another package must have.
        home: the module of ours whose import registers our own items; None: they are registered already.
    """

    def __init__(self, sort: str, needs: Sequence[str] = (), home: str | None = None) -> None:
        self.sort, self.needs, self.home = sort, needs, home
        self._items: dict[str, T] = {}
        self._broken: dict[str, str] = {}  # plug-ins that cannot be used, and why
        self._loaded_plugins = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files a class under ``name``."""

        def add(item: T) -> T:
            self._items[name] = item
            return item

        return add

    def get(self, name: str) -> T:
        """The class filed under ``name``.

        Raises:
            RecipeError: no class has that name (the nearest right one is named), or it is a plug-in's that does not
                work.
        """
        if name not in self._items:
            self._load_home()
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
        self._load_home()
        self._load_plugins()
        return sorted(self._items)

    def report(self) -> dict[str, str]:
        """Each name with the package that provides it and whether it works, ours in one entry."""
        names = self.names()
        points = {point.name: point for point in plugins(self.sort)}
        own = [name for name in names if name not in points or _module(self._items[name]).startswith("rebus.")]
        states = {"rebus": ", ".join(own)}
        for name, point in points.items():
            if name in self._broken:
                states[name] = f"broken, left out: {self._broken[name]}"
            elif name in own:
                states[name] = f"{provider(point)}, {point.value}: not used, the name is Rebus's own"
            else:
                states[name] = f"{provider(point)}, {point.value}: works"
        return states

    def _load_home(self) -> None:
        if self.home is not None:
            import_module(self.home)

    def _load_plugins(self) -> None:
        if self._loaded_plugins:
            return
        self._loaded_plugins = True
        for point in plugins(self.sort):
            if point.name in self._items:
                continue
            try:
                item = point.load()
                lacking = [need for need in self.needs if not hasattr(item, need)]
                lacking += sorted(getattr(item, "__abstractmethods__", ())) if inspect.isclass(item) else []
                if lacking:
                    raise AttributeError(f"{point.value} lacks {', '.join(lacking)}")
                self._items[point.name] = item
            except Exception as error:  # another package's code; what it breaks is its own name only
                self._items.pop(point.name, None)
                self._broken[point.name] = f"{provider(point)}: {type(error).__name__}: {error}"
                message = f"the {self.sort} '{point.name}' is left out: {self._broken[point.name]}"
                warnings.warn(f"{message}; update or uninstall that package", PluginWarning, stacklevel=4)


def group(sort: str) -> str:
    """The entry points' group of a sort of names: ``rebus.tasks``, ``rebus.families``."""
    return f"rebus.{sort[:-1]}ies" if sort.endswith("y") else f"rebus.{sort}s"


def plugins(sort: str) -> list[EntryPoint]:
    """Entry points of other packages for one sort of names: ``task``, ``tower``, ``fusion``."""
    return list(entry_points(group=group(sort)))


def provider(point: EntryPoint) -> str:
    """The package that an entry point belongs to, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _module(item: object) -> str:
    return str(getattr(item, "__module__", ""))
