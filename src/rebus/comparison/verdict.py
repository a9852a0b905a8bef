"""A comparison in plain words, English or Chinese: whether joining helps, by how much, and which way is best.

Every claim is one that the figures hold: what cannot be told from chance is said to be so.
"""

from __future__ import annotations

from rebus.catalogue import Translator, translator
from rebus.comparison.figures import Difference
from rebus.comparison.result import ArmResult, Comparison
from rebus.report import labels
from rebus.report.differences import listed, measured, signed, span

FEW = 5  # splits below which a t-test has little power


def verdict(comparison: Comparison, language: str) -> str:
    """The comparison in one or two sentences."""
    parts = [*_joining(comparison, language), *_columns(comparison, language)]
    return _whole(parts, translator("verdict", language))


def _columns(comparison: Comparison, language: str) -> list[str]:
    """What columns add to a strategy that has none."""
    texts, gain, metric = translator("verdict", language), comparison.columns, comparison.metric
    if gain is None:
        return []
    (name, *more) = comparison.columns_read
    alone = texts("alone.image") if comparison.columns_over == "image" else comparison.columns_over
    words = {
        "columns": texts("several_columns") if more else name,
        "adds": texts("columns_add") if more else texts("column_adds", column=name),
        "amount": measured(abs(gain.value), metric, language),
        "span": span(gain.low, gain.high, metric, language),
        "alone": alone,
    }
    if not gain.sure:
        return [texts("columns_nothing", **words)]
    return [texts("columns_help" if gain.value > 0 else "columns_harm", **words)]


def _joining(comparison: Comparison, language: str) -> list[str]:
    """What joining adds."""
    texts = translator("verdict", language)
    if comparison.beats_baseline and not any(_better(item) for item in comparison.beats_baseline.values()):
        base = labels.figure(comparison.baseline, comparison.metric)
        return [texts("unlearned", baseline=comparison.baseline_name, figure=base)]
    if not comparison.fused:
        return [texts("no_fused")]
    if not comparison.best_single:
        return [texts("no_single", rank=_rank(comparison, comparison.arm(comparison.best), texts, language))]
    best = _winner(comparison)
    gain = comparison.gain(best)
    assert gain is not None  # noqa: S101 - a strategy that joins is compared with each single modality
    words = {"alone": texts(f"alone.{comparison.best_single}"), "best": best.name}
    if gain.sure and gain.value < 0:
        worse = Difference(-gain.value, -gain.high, -gain.low, gain.p, gain.holm)
        message = span(worse.low, worse.high, comparison.metric, language)
        amount = measured(worse.value, comparison.metric, language)
        return [texts("harms", **words, amount=amount, span=message)]
    if not gain.sure:
        return [_nothing(comparison, best, gain, language)]
    parts = [_adds(comparison, gain, comparison.best_single, language)]
    for other in (arm.name for arm in comparison.singles if arm.name != comparison.best_single):
        if (over := best.gains.get(other)) is not None and _better(over):
            parts.append(_adds(comparison, over, other, language))
    parts.append(_rank(comparison, best, texts, language))
    if gain.t is not None and gain.t >= 0.05 and comparison.splits > 2:
        power = texts("power") if comparison.splits < FEW else ""
        parts.append(texts("doubt", splits=comparison.splits, p=f"{gain.t:.2f}", power=power))
    return parts


def _winner(comparison: Comparison) -> ArmResult:
    """The best strategy; where only others are surely better than the best single modality, the best of those."""
    best = comparison.arm(comparison.best)
    sure = [arm for arm in comparison.fused if (gain := comparison.gain(arm)) is not None and _better(gain)]
    return best if best in sure or not sure else max(sure, key=lambda arm: comparison.gain(arm).value)  # type: ignore[union-attr]


def _better(difference: Difference) -> bool:
    return difference.sure and difference.value > 0


def _adds(comparison: Comparison, gain: Difference, single: str, language: str) -> str:
    texts, metric = translator("verdict", language), comparison.metric
    words = {
        "alone": texts(f"alone.{single}"),
        "amount": measured(gain.value, metric, language),
        "span": span(gain.low, gain.high, metric, language),
    }
    if labels.is_share(metric) and not comparison.lower_is_better:
        return texts("adds", adder=texts(f"adder.{single}"), **words)
    kind = "lowerer" if comparison.lower_is_better else "raiser"
    name = labels.metric_name(metric, language)
    name = name if language == "zh" or name.isupper() or "-" in name else name.lower()
    return texts("changes", change=texts(f"{kind}.{single}", metric=name), **words)


def _nothing(comparison: Comparison, best: ArmResult, gain: Difference, language: str) -> str:
    texts, metric = translator("verdict", language), comparison.metric
    # Where less is better, a gain is a fall: what is told is how the figure itself differs.
    sign = -1.0 if comparison.lower_is_better else 1.0
    low, high = sorted((sign * gain.low, sign * gain.high))
    return str(
        texts(
            "nothing",
            Other=texts(f"adder.{comparison.best_single}"),
            alone=texts(f"alone.{comparison.best_single}"),
            best=best.name,
            signed=signed(sign * gain.value, metric),
            unit=texts("points") if labels.is_share(metric) else "",
            span=span(low, high, metric, language),
        )
    )


def _rank(comparison: Comparison, best: ArmResult, texts: Translator, language: str) -> str:
    others = [arm for arm in comparison.fused if arm is not best]
    if not others:
        return texts("only_one", best=best.name)
    tied = [arm.name for arm in others if arm.behind is None or not _better(arm.behind)]
    if not tied:
        return texts("alone_best", best=best.name)
    return texts("tied", best=best.name, others=listed(tied, language))


def _whole(parts: list[str], texts: Translator) -> str:
    text = texts("join").join(parts) + texts("end")
    return text[:1].upper() + text[1:]
