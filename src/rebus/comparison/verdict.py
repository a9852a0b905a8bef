"""A comparison in plain words, English or Chinese: whether joining helps, by how much, and which way is best.

Every claim is one that the figures hold: what cannot be told from chance is said to be so.
"""

from __future__ import annotations

from typing import Any

from rebus.comparison.figures import Difference
from rebus.comparison.result import ArmResult, Comparison
from rebus.comparison.strategies import IMAGE, TEXT
from rebus.report import labels
from rebus.report.differences import listed, measured, signed, span

FEW = 5  # splits below which a t-test has little power
SAID: dict[str, dict[str, Any]] = {
    "en": {
        "adder": {TEXT: "images add", IMAGE: "text adds"},
        "raiser": {TEXT: "images raise", IMAGE: "text raises"},
        "lowerer": {TEXT: "images lower", IMAGE: "text lowers"},
        "alone": {TEXT: "text alone", IMAGE: "images alone"},
        "adds": "{adder} {amount} {span} over {alone}",
        "changes": "{adder} the {metric} by {amount} {span} over {alone}",
        "nothing": "{Other} nothing that can be told from chance over {alone}: {best}, the best of the strategies that "
        "join, is at {signed}{unit} {span}",
        "harms": "joining harms here: {best}, the best of the strategies that join, is {amount} {span} worse than "
        "{alone}",
        "alone_best": "{best} is best, ahead of every other strategy",
        "tied": "{best} is best but not distinguishable from {others}",
        "only_one": "joined by {best}",
        "unlearned": "nothing was learned: no strategy beats {baseline} ({figure}) beyond chance, so this comparison "
        "cannot say whether joining helps; give more rows or more training",
        "no_fused": "no strategy that joins was trained, so this comparison cannot say whether joining helps",
        "no_single": "no single modality was trained, so this comparison cannot say whether joining helps; {rank}",
        "doubt": "over the {splits} splits the corrected t-test{power} gives p = {p}: with other training rows the "
        "gain might not show",
        "power": ", which finds little in so few,",
        "points": " points",
        "join": "; ",
        "end": ".",
    },
    "zh": {
        "adder": {TEXT: "图片", IMAGE: "文字"},
        "raiser": {TEXT: "图片", IMAGE: "文字"},
        "lowerer": {TEXT: "图片", IMAGE: "文字"},
        "alone": {TEXT: "只用文字", IMAGE: "只用图片"},
        "adds": "与{alone}相比，加上{adder}提高 {amount}{span}",
        "changes": "与{alone}相比，加上{adder}使{metric}{way} {amount}{span}",
        "nothing": "与{alone}相比，加上{Other}没有带来可辨别的好处：融合方式中最好的 {best} 相差 {signed}{unit}{span}",
        "harms": "融合在这里有害：融合方式中最好的 {best} 比{alone}差 {amount}{span}",
        "alone_best": "{best} 最好，优于其他所有融合方式",
        "tied": "{best} 最好，但与 {others} 没有可辨别的差别",
        "only_one": "融合方式为 {best}",
        "unlearned": "什么也没有学到：没有一种方式可靠地优于{baseline}（{figure}），因此这次对比不能说明融合是否有用；"
        "请增加数据或训练时间",
        "no_fused": "没有训练任何融合方式，因此这次对比不能说明融合是否有用",
        "no_single": "没有训练只用一种模态的模型，因此这次对比不能说明融合是否有用；{rank}",
        "doubt": "在 {splits} 次划分上，修正的 t 检验{power}给出 p = {p}：换一批训练数据，这个提高也许就不明显了",
        "power": "（划分很少，不易检出差别）",
        "points": " 个百分点",
        "join": "；",
        "end": "。",
    },
}


def verdict(found: Comparison, language: str) -> str:
    """The comparison in one or two sentences."""
    said = SAID[language]
    if found.beats_baseline and not any(_better(one) for one in found.beats_baseline.values()):
        base = labels.figure(found.baseline, found.metric)
        return _whole([said["unlearned"].format(baseline=found.baseline_name, figure=base)], said)
    if not found.fused:
        return _whole([said["no_fused"]], said)
    if not found.best_single:
        return _whole([said["no_single"].format(rank=_rank(found, found.arm(found.best), said, language))], said)
    best = _winner(found)
    gain = found.gain(best)
    assert gain is not None  # noqa: S101 - a strategy that joins is compared with each single modality
    words = {"alone": said["alone"][found.best_single], "best": best.name}
    if gain.sure and gain.value < 0:
        worse = Difference(-gain.value, -gain.high, -gain.low, gain.p, gain.holm)
        told = span(worse.low, worse.high, found.metric, language)
        amount = measured(worse.value, found.metric, language)
        return _whole([said["harms"].format(**words, amount=amount, span=told)], said)
    if not gain.sure:
        return _whole([_nothing(found, best, gain, language)], said)
    parts = [_adds(found, gain, found.best_single, language)]
    for other in (arm.name for arm in found.singles if arm.name != found.best_single):
        if (over := best.gains.get(other)) is not None and _better(over):
            parts.append(_adds(found, over, other, language))
    parts.append(_rank(found, best, said, language))
    if gain.t is not None and gain.t >= 0.05 and found.splits > 2:
        power = said["power"] if found.splits < FEW else ""
        parts.append(said["doubt"].format(splits=found.splits, p=f"{gain.t:.2f}", power=power))
    return _whole(parts, said)


def _winner(found: Comparison) -> ArmResult:
    """The best strategy; where only others are surely better than the best single modality, the best of those."""
    best = found.arm(found.best)
    sure = [arm for arm in found.fused if (gain := found.gain(arm)) is not None and _better(gain)]
    return best if best in sure or not sure else max(sure, key=lambda arm: found.gain(arm).value)  # type: ignore[union-attr]


def _better(one: Difference) -> bool:
    return one.sure and one.value > 0


def _adds(found: Comparison, gain: Difference, single: str, language: str) -> str:
    said, metric = SAID[language], found.metric
    words = {
        "alone": said["alone"][single],
        "amount": measured(gain.value, metric, language),
        "span": span(gain.low, gain.high, metric, language),
    }
    if labels.is_share(metric) and not found.lower_is_better:
        return str(said["adds"].format(adder=said["adder"][single], **words))
    kind, way = ("lowerer", "降低") if found.lower_is_better else ("raiser", "提高")
    name = labels.metric_name(metric, language)
    name = name if language == "zh" or name.isupper() or "-" in name else name.lower()
    return str(said["changes"].format(adder=said[kind][single], metric=name, way=way, **words))


def _nothing(found: Comparison, best: ArmResult, gain: Difference, language: str) -> str:
    said, metric = SAID[language], found.metric
    # Where less is better, a gain is a fall: what is told is how the figure itself differs.
    sign = -1.0 if found.lower_is_better else 1.0
    low, high = sorted((sign * gain.low, sign * gain.high))
    return str(
        said["nothing"].format(
            Other=said["adder"][found.best_single],
            alone=said["alone"][found.best_single],
            best=best.name,
            signed=signed(sign * gain.value, metric),
            unit=said["points"] if labels.is_share(metric) else "",
            span=span(low, high, metric, language),
        )
    )


def _rank(found: Comparison, best: ArmResult, said: dict[str, Any], language: str) -> str:
    others = [arm for arm in found.fused if arm is not best]
    if not others:
        return str(said["only_one"].format(best=best.name))
    tied = [arm.name for arm in others if arm.behind is None or not _better(arm.behind)]
    if not tied:
        return str(said["alone_best"].format(best=best.name))
    return str(said["tied"].format(best=best.name, others=listed(tied, language)))


def _whole(parts: list[str], said: dict[str, Any]) -> str:
    text = str(said["join"]).join(parts) + str(said["end"])
    return text[:1].upper() + text[1:]
