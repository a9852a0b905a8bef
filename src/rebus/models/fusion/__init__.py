"""The three ways to join images and words, swappable by one word."""

from rebus.models.fusion.base import FUSIONS, Condition, Fusion
from rebus.models.fusion.cross import Cross
from rebus.models.fusion.joint import Joint
from rebus.models.fusion.make import attends_memory, make_fusion
from rebus.models.fusion.unified import Unified

__all__ = ["FUSIONS", "Condition", "Cross", "Fusion", "Joint", "Unified", "attends_memory", "make_fusion"]
