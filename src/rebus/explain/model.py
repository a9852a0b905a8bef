"""A trained model as people use it in Python, which can also say why it answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rebus.explain.explaining import explain, methods_for
from rebus.explain.result import Explanation
from rebus.run.folder import Run
from rebus.run.model import Model as TrainedModel
from rebus.run.model import load as load_trained


class Model(TrainedModel):
    """A trained model, ready to answer and to explain its answers."""

    def explain(
        self,
        picture: Any = None,
        text: str = "",
        *,
        columns: Mapping[str, Any] | None = None,
        task: str | None = None,
        target: str | int | None = None,
        method: str = "auto",
    ) -> Explanation:
        """Where the model looked and which words mattered; see ``rebus.explain.explain``.

        Args:
            picture: a path, the bytes of a picture file, an array (H, W, 3) of uint8, or None.
            text: the question, the prompt, or what else the task reads.
            columns: what else the task reads, by name.
            task: which task; None: the one that ``ask`` would take.
            target: which output: a label, a tag, a word of the answer or its number from 1; None: the model's answer.
            method: relevance, rollout, attention, saliency, gradients, occlusion, gradcam, or auto.

        Raises:
            DataError: the task, the target or the method does not exist or does not fit this model.
            PictureError: the picture cannot be read. MissingPackageError: ``gradients`` needs Captum.
        """
        return explain(
            self.predictor, picture=picture, text=text, columns=columns, task=task, target=target, method=method
        )

    def methods(self, task: str | None = None) -> list[str]:
        """The methods of explanation that fit a task. Raises DataError where there is no such task."""
        return methods_for(self.predictor, task)


def load(run: str | Path | Run, *, precision: str = "fp32") -> Model:
    """The model of a Run folder, or of another project's checkpoint.

    Args:
        run: a Run, a Hugging Face folder, a .gguf file or a hub id.
        precision: ``fp32``, or ``bf16``: half the memory, and texts are written about twice as fast on a CPU.

    Raises:
        RunError: the folder is missing, unfinished or damaged; WeightsError: its weights do not fit its recipe.
        RecipeError: no such precision.
    """
    made = load_trained(run, precision=precision)
    return Model(made.predictor, made.run)
