"""A trained model as people use it in Python: it answers, talks, writes, is evaluated and explains its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from rebus.checkpoints.run_folder import Run
from rebus.data.in_memory import Image, Images, InMemory, TableLike, rows_of, table_path, usable_image
from rebus.errors import DataError, RebusError
from rebus.evaluation.class_prompts import classify_by_names
from rebus.evaluation.evaluate import Evaluation, evaluate_run
from rebus.explain.explaining import ExplainOptions, explain, methods_for
from rebus.explain.result import Explanation
from rebus.generation.sampling import Sampling, SamplingOptions
from rebus.inference.generate import last_image, plain_turn
from rebus.inference.predictor import Predictor
from rebus.tasks import Prediction
from rebus.tasks.cells import answer_text
from rebus.tasks.converse import LONG

Rows: TypeAlias = Mapping[str, Any] | InMemory
SILENCE = [{"role": "system", "content": ""}]  # keeps a template's own words out


class Model:
    """A trained model, ready to answer.

    Args:
        predictor: what ``rebus.load`` made.
        run: the Run it came from, or the path of another project's checkpoint.
    """

    def __init__(self, predictor: Predictor, run: Run | str | Path) -> None:
        self.predictor, self.run = predictor, run

    @property
    def tasks(self) -> list[str]:
        """What it can do."""
        return [name for name, task in self.predictor.tasks.items() if task.predicts or task.writes]

    @property
    def sees(self) -> bool:
        """Whether it takes images."""
        return self.predictor.model.image is not None

    def ask(
        self,
        image: Image = None,
        question: str = "",
        *,
        system: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        max_new_tokens: int | None = None,
    ) -> str:
        """One answer as text.

        Args:
            image: a path, the bytes of an image file, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4) of
                uint8, or None.
            question: may be empty for a model that captions or classifies.
            system: what a model that converses is told first; None: what it was trained with, and to another project's
                checkpoint nothing: the persona that its chat template may put there is not yours.
            temperature: 0: the likeliest words; above 0 they are drawn.
            seed: of the draw.
            max_new_tokens: longest answer, of a model that writes; None: its own setting.

        Raises:
            ImageError: the image cannot be read. DataError: the model cannot be asked that.
        """
        sampling = None
        if temperature > 0 or max_new_tokens is not None:
            sampling = Sampling(max_new_tokens or self._longest(), temperature=temperature, seed=seed)
        if system is None and self._has_persona:
            system = ""
        return answer_text(self.predictor.ask(usable_image(image), question, system=system, sampling=sampling).value)

    def explain(self, image: Image = None, text: str = "", **options: Unpack[ExplainOptions]) -> Explanation:
        """Where the model looked and which words mattered.

        Args:
            image: as for ``ask``.
            text: the question, the prompt, or what else the task reads.
            options: see ``rebus.explain.ExplainOptions``: columns, task, target, method.

        Raises:
            DataError: the task, the target or the method does not exist or does not fit this model.
            ImageError: the image cannot be read. MissingPackageError: ``gradients`` needs Captum.
        """
        return explain(self.predictor, image=usable_image(image), text=text, **options)

    def methods(self, task: str | None = None) -> list[str]:
        """The methods of explanation that fit a task. Raises DataError where there is no such task."""
        return methods_for(self.predictor, task)

    def embed(self, texts: str | Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length one, whose products say how alike the texts are.

        Args:
            texts: one text or several.

        Returns:
            (D,) for one text, (N, D) for a list of N.

        Raises:
            DataError: the model reads no text by itself.
        """
        result = self.predictor.embed([texts] if isinstance(texts, str) else texts)
        return result[0] if isinstance(texts, str) else result

    def zero_shot(
        self,
        images: Images,
        labels: Sequence[str],
        *,
        lang: Literal["en", "zh"] | None = None,
        templates: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """The likeliest of some names for each image, by a model trained to ``retrieve``.

        Args:
            images: several, each as for ``ask``.
            labels: the names.
            lang: of the sentences that they are put into; None: that of each name.
            templates: other sentences, each with ``{}`` where the name goes.

        Raises:
            DataError: the model has no space that images and texts share. ImageError: an image cannot be read.
        """
        return classify_by_names(self.predictor, map(usable_image, images), labels, lang=lang, templates=templates)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, stream: bool = False, **options: Unpack[SamplingOptions]
    ) -> Any:
        """Answer the last message of a conversation; the image shown last is the one it is about.

        Args:
            messages: ``{"role", "content"}``, content a text or a list of ``{"type": "text", "text"}`` and
                ``{"type": "image", "path"}`` parts, where ``path`` is an image as for ``ask``. Models trained on
                single questions read the last question only.
            stream: give an iterator of the answer's pieces, as they are written.
            options: ``max_new_tokens``, ``temperature`` and the others of ``Sampling``.

        Returns:
            The answer, or an iterator of its pieces.

        Raises:
            DataError: no message of the user's, or one that cannot be read.
        """
        turns = [plain_turn(message) for message in messages]
        asked = [turn["content"] for turn in turns if turn["role"] == "user"]
        if not asked:
            raise DataError("chat", "a message of the user's", "none", 'add {"role": "user", "content": "..."}')
        given = bool(options)
        options.setdefault("max_new_tokens", self._longest())
        sampling = Sampling(**options)
        task = next((item for item in self.predictor.tasks.values() if item.converses), None)
        image = usable_image(last_image(messages))
        if task is None:
            text = self.predictor.ask(image, asked[-1], sampling=sampling if given else None).value
        elif image is not None and task.uses_image:
            text = self.predictor.answer(messages, sampling=sampling).value
        else:
            writing = self.predictor.writing
            if turns[0]["role"] != "system" and self._has_persona:
                turns = [*SILENCE, *turns]
            pieces = writing.stream(writing.turns(turns), sampling)
            return pieces if stream else "".join(pieces).strip()
        answer = answer_text(text)
        return iter([answer]) if stream else answer

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        stop: str | Sequence[str] = (),
        json_schema: str | Mapping[str, Any] | None = None,
        regex: str | None = None,
        stream: bool = False,
        **options: Unpack[SamplingOptions],
    ) -> Any:
        """Go on from a prompt, or from each of several.

        Args:
            prompt: a text. Models trained on ``generate`` or ``translate`` get it laid out as in training, others as
                it stands.
            stop: a string, or several, before which the text ends.
            json_schema: the text is one JSON value of this schema.
            regex: the text matches this expression.
            stream: give an iterator of the text's pieces, as they are written; for one prompt.
            options: ``max_new_tokens`` (256), ``temperature``, ``top_k``, ``top_p``, ``min_p``,
                ``repetition_penalty``, ``frequency_penalty``, ``presence_penalty``, ``n``, ``seed``, ``beams``,
                ``length_penalty``; see ``rebus.generation.sampling.Sampling``.

        Returns:
            For one prompt a text, with ``n`` above 1 a list of texts; for several prompts a list of these.

        Raises:
            DataError: the model does not write. RecipeError: an option is out of its range, or a constraint is not
                understood. MissingPackageError: a constraint needs llguidance.
        """
        writing = self.predictor.writing
        options.setdefault("max_new_tokens", LONG)
        sampling = Sampling(**options)
        constraint = writing.constraint(json_schema, regex)
        stops = [stop] if isinstance(stop, str) else list(stop)
        prompts = [writing.prompt(item) for item in ([prompt] if isinstance(prompt, str) else prompt)]
        if stream:
            if not isinstance(prompt, str):
                raise DataError("a stream", "one prompt", f"{len(prompts)}", "ask for whole texts")
            return writing.stream(prompts[0], sampling, stop=stops, constraint=constraint)
        texts = [item.text for item in writing.write(prompts, sampling, stop=stops, constraint=constraint)]
        each = sampling.n
        grouped: list[Any] = [texts[at : at + each] for at in range(0, len(texts), each)] if each > 1 else texts
        return grouped[0] if isinstance(prompt, str) else grouped

    def predict(self, rows: Rows, *, task: str | None = None, root: str | Path = ".") -> list[Prediction]:
        """One prediction a row.

        Args:
            rows: a row or several as dictionaries, or a DataFrame or an Arrow table, with the columns that the task was
                trained on; images as for ``ask``. For tables in files see ``rebus.predict``.
            task: which task; None: the first.
            root: folder that relative image paths start from.

        Raises:
            DataError: a column is missing. ImageError: an image cannot be read.
        """
        given = [rows] if isinstance(rows, Mapping) else rows_of(rows)
        return self.predictor.predict(
            [{name: usable_image(cell) for name, cell in row.items()} for row in given], task=task, root=root
        )

    def evaluate(self, data: TableLike | None = None, *, split: str | None = None, by: str | None = None) -> Evaluation:
        """Metrics on a table; None: the held-out rows of the table it was trained on."""
        with table_path(data) as path:
            return evaluate_run(self.run, path, split=split, by=by)

    def __repr__(self) -> str:
        place = self.run.folder if isinstance(self.run, Run) else self.run
        return f"Model({str(place)!r}, tasks={self.tasks})"

    @property
    def _converses(self) -> bool:
        return any(task.converses for task in self.predictor.tasks.values())

    @cached_property
    def _has_persona(self) -> bool:
        """Whether it is another project's model whose chat template puts words of its makers before the user's."""
        if isinstance(self.run, Run) or not self._converses:
            return False
        chat, asked = self.predictor.processor.tokenizer.chat, [{"role": "user", "content": "?"}]
        try:
            return len(chat(asked)) > len(chat([*SILENCE, *asked]))
        except RebusError:  # a template without a place for system texts
            return False

    def _longest(self) -> int:
        """Tokens of an answer where nobody says: more in a conversation than for a caption."""
        settings = [task.settings.max_new_tokens for task in self.predictor.tasks.values() if task.writes]
        return max([*settings, LONG] if self._converses or not settings else settings)


def load(run: str | Path | Run, *, precision: str = "fp32") -> Model:
    """The model of a Run folder, or of another project's checkpoint.

    Args:
        run: a Run, a Hugging Face folder, a .gguf file or a hub id.
        precision: ``fp32``, or ``bf16``: half the memory, and texts are written about twice as fast on a CPU.

    Raises:
        RunError: the folder is missing, unfinished or damaged; WeightsError: its weights do not fit its recipe.
        RecipeError: no such precision.
    """
    from rebus.checkpoints.hf_load import is_checkpoint

    place = run.folder if isinstance(run, Run) else run
    result: Run | str | Path = place if is_checkpoint(place) else Run(Path(place))
    return Model(Predictor.open(place, precision=precision), result)
