"""The Run folder: what `rebus train` makes and every other verb takes."""

from rebus.run.folder import Run
from rebus.run.predictor import Predictor

__all__ = ["Predictor", "Run"]
