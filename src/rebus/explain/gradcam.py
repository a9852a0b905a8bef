"""Grad-CAM: the last feature maps of a convolutional image tower, weighted by how the output depends on each.

It says nothing of words. Source: Selvaraju et al. (2017), "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization". Letters: K channels, G side of the tower's grid.
"""

from __future__ import annotations

from rebus.explain.registry import METHODS, Method, Scores
from rebus.explain.subject import Subject
from rebus.explain.trace import trace
from rebus.models.heads import Head
from rebus.models.vlm import VisionLanguageModel


class GradCam(Method):
    """``gradcam``."""

    remark = "remark.gradcam"

    def fits(self, model: VisionLanguageModel, head: Head) -> bool:
        """Where a convolutional tower is read."""
        sees = "image" in head.spec.reads and head.consumes != "inputs"
        return sees and model.image is not None and bool(model.image.maps)

    def __call__(self, subject: Subject) -> list[Scores]:
        """One pass for all goals, and one back for each."""
        if subject.shown is None:
            return [Scores() for _ in subject.goals]
        last = subject.model.image.get_submodule(subject.model.image.maps)
        built = trace(subject, extra=[last])
        names = {id(module): name for name, module in subject.model.named_modules()}
        maps = built.parts[names[id(last)]]  # (1, K, G, G)
        index = built.index(maps)
        lines = []
        for goal in range(len(subject.goals)):
            gradient = built.gradients(goal)[index]
            weights = gradient.float().mean((2, 3), keepdim=True)
            result = (weights * maps.detach().float()).sum(1).clamp(min=0)[0]
            lines.append(Scores(result.cpu().numpy()))
        return lines


METHODS.register("gradcam")(GradCam())
