"""The columns that tasks declare they read. Tasks lie in a room above and enter their roles here when they are defined.

It is how a task from another package gets its columns guessed and its rows checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rebus.recipe import Kind


@dataclass(frozen=True)
class Role:
    """A column that a task reads.

    Attributes:
        kinds: the kinds of column that fit.
        required: whether the task can do without.
    """

    kinds: tuple[Kind, ...]
    required: bool = True


_DECLARED: dict[str, Mapping[str, Role]] = {}


def declare(task: str, roles: Mapping[str, Role]) -> None:
    """Enter the roles of a task."""
    _DECLARED[task] = roles


def declared(task: str) -> Mapping[str, Role]:
    """The roles of a task, in its own order; none where it is not known."""
    return _DECLARED.get(task, {})
