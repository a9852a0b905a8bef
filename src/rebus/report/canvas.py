"""The sheet that every plot is drawn on: style, fonts, words of both languages, and the PNG file it becomes.

Matplotlib is imported when the first plot is drawn, without its global state, so that a plot may be drawn in any
thread and without a display.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebus import atomic
from rebus.catalogue import Translator, translator
from rebus.explain.fonts import chinese_font
from rebus.report import labels
from rebus.tasks.metrics.words import has_cjk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1f6f78", "#b3541e", "#7a8b99", "#c9a227", "#5b4b8a", "#25713f", "#a93434")
_STYLE: dict[Any, Any] = {
    "axes.edgecolor": "#9aa3a8",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "grid.color": "#e8e6e0",
    "legend.frameon": False,
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in a user's label is a dollar sign
}


def save(
    path: str | Path, draw: Callable[[Figure, Translator], None], language: str, size: tuple[float, float]
) -> Path:
    """Draw on a sheet of ``size`` inches and write it as a PNG file, whole or not at all.

    Args:
        path: the file.
        draw: gets the figure and a function from a key to the word on the plot.
        language: ``en`` or ``zh``; where no font draws Chinese, plots speak English.
        size: width and height.

    Raises:
        RecipeError: the language is neither. RunError: the file cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    texts = translator("plot", spoken(language))
    family = cjk_family()
    fonts = ["DejaVu Sans", *([family] if family else [])]
    path = Path(path)
    with rc_context({**_STYLE, "font.family": fonts}), _without_glyph_warnings():
        figure = Figure(figsize=size, dpi=144, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, texts)
        if family is None and (language == "zh" or any(has_cjk(item.get_text()) for item in figure.findobj(Text))):
            _tell_of_boxes()
        # No date and no version in the file: the same figures give the same bytes.
        atomic.write_with(path, lambda beside: figure.savefig(beside, format="png", metadata={"Software": None}))
    return path


def spoken(language: str) -> str:
    """The language that plots are labelled in: English where Chinese would show as boxes.

    Raises:
        RecipeError: it is neither ``en`` nor ``zh``.
    """
    labels.check_language(language)
    return language if cjk_family() else "en"


@functools.cache
def cjk_family() -> str | None:
    """The family of an installed font that draws Chinese; None where there is none.

    Its file is looked for, since Matplotlib's own list is of the day on which it was made.
    """
    from matplotlib import font_manager

    file = chinese_font()
    if file is None:
        return None
    font_manager.fontManager.addfont(file)
    return font_manager.FontProperties(fname=file).get_name()


@functools.cache
def _tell_of_boxes() -> None:
    """Say once that letters are drawn as boxes."""
    logging.getLogger(__name__).warning(
        "No installed font draws Chinese: characters in plots show as boxes. The report's text is not affected. "
        "Install one, e.g. the system package fonts-noto-cjk, and write the report again."
    )


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    # it is said once and clearly; Matplotlib would repeat it for every character.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
