"""Grad-CAM: the last feature maps of a convolutional image tower, weighted by how the output depends on each.

It says nothing of words. Source: Selvaraju et al. (2017), "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization". Letters: K channels, G side of the tower's grid.
"""

from __future__ import annotations

from torch import nn

from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject
from rebus.explain.trace import trace
from rebus.models.heads import Head
from rebus.models.towers.convnet import ConvNet
from rebus.models.towers.efficientnet import EfficientNet
from rebus.models.towers.resnet import ResNet
from rebus.models.vlm import VisionLanguageModel


class GradCam(Method):
    """``gradcam``."""

    remark = "remark.gradcam"

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where a convolutional tower is read."""
        sees = "image" in head.spec.reads and head.consumes != "inputs"
        return sees and isinstance(model.image, ConvNet | ResNet | EfficientNet)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals, and one back for each."""
        if subject.shown is None:
            return [Scores() for _ in subject.goals]
        last = last_maps(subject.model.image)
        made = trace(subject, extra=[last])
        names = {id(module): name for name, module in subject.model.named_modules()}
        maps = made.parts[names[id(last)]]  # (1, K, G, G)
        index = made.index(maps)
        told = []
        for goal in range(len(subject.goals)):
            gradient = made.gradients(goal)[index]
            weights = gradient.float().mean((2, 3), keepdim=True)
            found = (weights * maps.detach().float()).sum(1).clamp(min=0)[0]
            told.append(Scores(found.cpu().numpy()))
        return told


def last_maps(tower: nn.Module) -> nn.Module:
    """The module of a convolutional tower that gives its last feature maps."""
    found: nn.Module
    if isinstance(tower, ConvNet):
        found = tower.body
    elif isinstance(tower, ResNet):
        found = tower.stages[-1]
    else:
        assert isinstance(tower, EfficientNet)  # noqa: S101 - fits asked
        found = tower.top
    return found


METHODS.register("gradcam")(GradCam())
