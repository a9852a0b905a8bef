"""What is known when a recipe's blanks are filled: first the machine alone, then the data, in the end the model.

Each class is one moment of a run's preparation; ``rebus.resolve.steps`` lists what is settled then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rebus.data.check import CheckReport
from rebus.data.kinds import Inference
from rebus.data.table import Table
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Recipe
from rebus.tasks import Task
from rebus.tasks.base import Values

Log = Callable[[str], None]
Speed = Callable[[float], float]  # FLOPs a token -> tokens a second


@dataclass(frozen=True)
class Start:
    """Nothing of the data yet.

    Attributes:
        resumed: the run goes on: its recipe is settled, its checkpoints hold all weights.
    """

    resumed: bool = False


@dataclass(frozen=True)
class Columns:
    """A table that was read, and what its columns hold."""

    table: Table
    inference: Inference


@dataclass(frozen=True)
class Cells:
    """A table whose cells were checked."""

    report: CheckReport


@dataclass(frozen=True)
class Rows:
    """A table whose tasks are fitted.

    Attributes:
        tasks: name: task.
        values: name: the task's columns.
        training: the rows to train on.
    """

    tasks: Mapping[str, Task]
    values: Mapping[str, Values]
    training: Sequence[int]


@dataclass(frozen=True)
class RawText:
    """That the data is raw text.

    Attributes:
        size: bytes of it; None: the run goes on, its tokenizer and shards are there.
        tokenizer: whether there is one already.
    """

    size: int | None = None
    tokenizer: bool = False


@dataclass(frozen=True)
class Tokens:
    """Raw text in shards.

    Attributes:
        training: tokens of the training split.
        vocabulary: pieces of the tokenizer.
        speed: of this machine; None: no time limit asks for it.
    """

    training: int
    vocabulary: int
    speed: Speed | None = None


@dataclass(frozen=True)
class Built:
    """The model, after it has taken over what it starts from."""

    model: VisionLanguageModel


Known = Start | Columns | Cells | Rows | RawText | Tokens | Built
K = TypeVar("K", bound=Known)
Step = Callable[[Recipe, K, Log], Recipe]
