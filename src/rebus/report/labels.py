"""The words of a report in both languages, and how figures are written. Knows nothing of where they are shown."""

from __future__ import annotations

from rebus.catalogue import LANGUAGES, is_known, translate, translate_name
from rebus.errors import RecipeError
from rebus.report.contents import Result

# full marks of what is not a share
_SCALES = {"bleu": 100.0, "chrf": 100.0, "cider_d": 10.0, "r2": 1.0, "spearman": 1.0}
_THREE_PLACES = frozenset({"bits_per_byte"})  # where differences of a hundredth matter
_UNITS = frozenset(
    {
        "alignment", "bits_per_byte", "mae", "perplexity", "image_to_text_median_rank", "rmse",
        "text_to_image_median_rank", "uniformity",
    }
)  # fmt: skip # in a unit of their own: no full marks


def metric_name(metric: str, language: str) -> str:
    """What people call a metric; an unknown one keeps its name."""
    return translate_name("metric", metric, language).replace("_", " ")


def is_share(metric: str) -> bool:
    """Whether a metric is a share of 1, which is shown in percent; of a plug-in's nobody knows."""
    return is_known(f"metric.{metric}") and metric not in _SCALES and metric not in _UNITS


def full_scale(results: list[Result], metric: str) -> float:
    """Where a bar of ``metric`` ends: full marks, or a little beyond the largest figure where there are none."""
    if metric not in _UNITS:
        return _SCALES.get(metric, 1.0)
    same = [result for result in results if result.metric == metric]
    return 1.1 * max([1e-12, *(max(r.value, r.baseline or 0.0, *(r.interval or ())) for r in same)])


def figure(value: float | None, metric: str) -> str:
    """A figure as text: ``53.2%``, ``38.0`` or ``0.127``."""
    if value is None:
        return ""
    if metric in _THREE_PLACES:
        return f"{value:.3f}"
    if metric.endswith("_rank"):
        return f"{value:,.1f}".removesuffix(".0")
    return _minus(f"{100 * value:.1f}%") if is_share(metric) else number(value)


def interval(bounds: tuple[float, float] | None, metric: str) -> str:
    """An interval as text: ``50.1 – 56.4%``."""
    if bounds is None:
        return ""
    if metric.endswith("_rank"):
        return f"{figure(bounds[0], metric)} – {figure(bounds[1], metric)}"
    if is_share(metric):
        return f"{_minus(f'{100 * bounds[0]:.1f}')} – {_minus(f'{100 * bounds[1]:.1f}')}%"
    return f"{number(bounds[0])} – {number(bounds[1])}"


def difference(result: Result, language: str) -> str:
    """A difference with its sign, in points where the figure is a share: ``+16.9 points``."""
    if result.difference is None:
        return ""
    if is_share(result.metric):
        return f"{_signed(100 * result.difference, 1)} {translate('report.points', language)}"
    if result.metric.endswith("_rank"):
        return f"{_signed(result.difference, 1).removesuffix('.0')} {translate('report.places', language)}"
    return _signed(result.difference, _places(result.difference))


def difference_interval(result: Result) -> str:
    """The interval of a difference, in points where the figure is a share: ``14.2 – 19.5``."""
    if result.difference_interval is None:
        return ""
    return interval(result.difference_interval, result.metric).removesuffix("%")


def number(value: float) -> str:
    """A number with about three significant digits and never an exponent that people have to read."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return _minus(f"{value:.3g}")
    return _minus(f"{value:,.{_places(value)}f}")


def _places(value: float) -> int:
    size = abs(value)
    return 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 or not size else 5


def _signed(value: float, places: int) -> str:
    return _minus(f"{value:+.{places}f}")


def _minus(text: str) -> str:
    return "\u2212" + text[1:] if text.startswith("-") else text  # as wide as a plus, and not a dash


def check_language(language: str) -> None:
    """Raises RecipeError: a language is neither ``en`` nor ``zh``."""
    if language not in LANGUAGES:
        raise RecipeError("--lang", "en or zh", f"'{language}'", "choose one of the two languages of reports")
