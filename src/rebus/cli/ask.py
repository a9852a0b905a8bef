"""``rebus ask``: questions, about an image or none, from the shell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import AnyModel, Precision, System, existing_image, say

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def ask(
    run: AnyModel,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[IMAGE] QUESTION...", help="An image file, where the model sees images; questions."),
    ],
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="IMAGE", help="The image to ask about, instead of the first word."),
    ] = None,
    system: System = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Longest answer, in tokens, of a model that writes.")
    ] = None,
    precision: Precision = "fp32",
) -> None:
    """Ask a trained model; one line an answer. Models that see images are asked about one."""
    if image is None and len(words) > 1 and Path(words[0]).suffix.lower() in IMAGE_ENDINGS:
        existing_image(Path(words[0]))
    image = existing_image(image)

    from rebus import api
    from rebus.errors import DataError

    model = api.load(run, precision=precision)
    if image is not None and not model.sees:
        raise DataError("the model", "one that sees images", "one of text alone", "leave --image out")
    image, questions = (image, words) if image is not None else _parted(words, model.sees)
    for question in questions:
        say(model.ask(image, question, system=system, max_new_tokens=max_new_tokens))


def _parted(words: list[str], sees: bool) -> tuple[Path | None, list[str]]:
    """The image and the questions: the first of several words is an image where the model sees any.

    One word alone is an image if such a file exists, and then the model says what it says of it unasked.
    """
    first = Path(words[0])
    if sees and (len(words) > 1 or first.is_file()):
        return first, words[1:] or [""]
    return None, words[1:] if len(words) > 1 and first.is_file() else words
