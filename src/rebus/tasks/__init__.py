"""Tasks: one file each, found by name."""

from rebus.tasks.answer import Answer
from rebus.tasks.base import TASKS, Codec, Prediction, Task, TaskScore, VectorTask
from rebus.tasks.caption import Caption
from rebus.tasks.classify import Classify
from rebus.tasks.patches import Patches
from rebus.tasks.regress import Regress
from rebus.tasks.tag import Tag

__all__ = [
    "TASKS",
    "Answer",
    "Caption",
    "Classify",
    "Codec",
    "Patches",
    "Prediction",
    "Regress",
    "Tag",
    "Task",
    "TaskScore",
    "VectorTask",
]
