"""An explanation as files: a page, images, numbers. Each appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from rebus import atomic
from rebus.explain.draw import overlay, word_sheet, write_png
from rebus.explain.page import write_page
from rebus.explain.result import Explanation

PAGE, NUMBERS, IMAGE, WORDS = "explanation.html", "explanation.json", "image.png", "words.png"


def write_explanation(folder: str | Path, explanation: Explanation, lang: str = "en") -> list[Path]:
    """Write explanation.html and explanation.json; of an image also image.png, and words.png of a written answer.

    Returns:
        The files.

    Raises:
        RecipeError: the language is neither ``en`` nor ``zh``. RunError: a file cannot be written.
    """
    folder = Path(folder)
    written = [write_page(folder / PAGE, explanation, lang)]
    atomic.write_json(folder / NUMBERS, explanation.to_json())
    written.append(folder / NUMBERS)
    if explanation.image is not None and explanation.shown is not None:
        written.append(write_png(folder / IMAGE, overlay(explanation)))
        if explanation.words:
            written.append(write_png(folder / WORDS, word_sheet(explanation, lang)))
    return written
