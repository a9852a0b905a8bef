"""Tasks: one file each, found by name."""

from rebus.tasks.answer import Answer
from rebus.tasks.base import TASKS, Prediction, Task, TaskScore, VectorTask
from rebus.tasks.caption import Caption
from rebus.tasks.choose import Choose
from rebus.tasks.classify import Classify
from rebus.tasks.converse import Converse
from rebus.tasks.extract import Extract
from rebus.tasks.generate import Generate
from rebus.tasks.lm import Lm
from rebus.tasks.match import Match
from rebus.tasks.mlm import Mlm
from rebus.tasks.ner import Ner
from rebus.tasks.patch_classify import PatchClassify
from rebus.tasks.pretrain_image import PretrainImage
from rebus.tasks.regress import Regress
from rebus.tasks.retrieve import Retrieve
from rebus.tasks.similar import Similar
from rebus.tasks.tag import Tag
from rebus.tasks.text_processor import TextProcessor
from rebus.tasks.translate import Translate

__all__ = [
    "TASKS",
    "Answer",
    "Caption",
    "Choose",
    "Classify",
    "Converse",
    "Extract",
    "Generate",
    "Lm",
    "Match",
    "Mlm",
    "Ner",
    "PatchClassify",
    "Prediction",
    "PretrainImage",
    "Regress",
    "Retrieve",
    "Similar",
    "Tag",
    "Task",
    "TaskScore",
    "TextProcessor",
    "Translate",
    "VectorTask",
]
