"""What every branch of the recipe is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class IsPath:
    """Marks a setting that names a file or folder, so that whoever must not reach every file finds it.

    Attributes:
        words: values that mean something else and name none.
    """

    words: tuple[str, ...] = ()


PathText = Annotated[str, IsPath()]


class Section(BaseModel):
    """A branch of the recipe: unknown keys are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True, allow_inf_nan=False)
