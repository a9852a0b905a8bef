"""What every branch of the recipe is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class IsPath:
    """Marks a setting that names a file or folder, so that whoever must not reach every file finds it.

    Attributes:
        words: values that mean something else and name none.
    """

    words: tuple[str, ...] = ()


PathText = Annotated[str, IsPath()]


class Section(BaseModel):
    """A branch of the recipe. It is never changed in place: ``replace``, ``fill`` and ``reset`` give new ones.

    Paths are dotted (``train.lr``, ``tasks.0.weight``), seen from this branch. ``model_fields_set`` holds the settings
    that somebody has set, be it to their defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    def replace(self, changes: Mapping[str, Any] | None = None, /, **settings: Any) -> Self:
        """A copy with settings changed: ``recipe.replace({"train.lr": 1e-3})``, ``tower.replace(kind="vit")``.

        Raises:
            pydantic.ValidationError: a setting that does not exist, or a value that does not fit.
        """
        own, below = _by_section({**(changes or {}), **settings})
        inner = {name: _replace(getattr(self, name), deeper) for name, deeper in below.items()}
        return self._copy({**dict(self), **inner, **own}, self.model_fields_set | own.keys())

    def fill(self, settings: Mapping[str, Any]) -> Self:
        """As ``replace``, but what somebody has set stays."""
        return self.replace({path: value for path, value in settings.items() if not self.sets(path)})

    def reset(self, paths: Iterable[str]) -> Self:
        """A copy with settings at their defaults, as if nobody had set them."""
        own, below = _by_section(dict.fromkeys(paths))
        inner = {name: getattr(self, name).reset(deeper) for name, deeper in below.items()}
        rest = {name: value for name, value in {**dict(self), **inner}.items() if name not in own}
        return self._copy(rest, self.model_fields_set - own.keys())

    def sets(self, path: str) -> bool:
        """Whether somebody has set this setting, be it to its default."""
        section, name = self._find(path)
        return name in section.model_fields_set

    def get(self, path: str) -> Any:
        """A setting's value."""
        section, name = self._find(path)
        return getattr(section, name)

    def default(self, path: str) -> Any:
        """A setting's default."""
        section, name = self._find(path)
        return section.all_fields()[name].get_default(call_default_factory=True)

    @classmethod
    def all_fields(cls) -> Mapping[str, FieldInfo]:
        """Its settings, those that it has only under another kind included."""
        return cls.model_fields

    def _find(self, path: str) -> tuple[Section, str]:
        *names, last = path.split(".")
        section: Any = self
        for name in names:
            section = section[int(name)] if isinstance(section, list) else getattr(section, name)
        return section, last

    def _copy(self, values: dict[str, Any], fields_set: set[str]) -> Self:
        copy = self.model_validate(values)
        copy.__pydantic_fields_set__ = fields_set
        return copy


def _by_section(paths: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What belongs to a branch itself, and what to the branches below it, by their names."""
    own: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for path, value in paths.items():
        name, _, rest = path.partition(".")
        if rest:
            below.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    return own, below


def _replace(value: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(value, Section):
        return value.replace(changes)
    sections = isinstance(value, dict) and any(isinstance(item, Section) for item in value.values())
    if isinstance(value, dict) and not sections:  # a key may hold a dot
        return {**value, **changes}
    own, below = _by_section(changes)
    if isinstance(value, dict):
        return {**value, **{name: _replace(value[name], deeper) for name, deeper in below.items()}, **own}
    items = [_replace(item, below[str(place)]) if str(place) in below else item for place, item in enumerate(value)]
    for place, item in own.items():
        items[int(place)] = item
    return items
