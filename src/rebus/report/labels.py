"""The words of a report in both languages, and how figures are written. Knows nothing of where they are shown."""

from __future__ import annotations

from typing import Literal, get_args

from rebus.errors import RecipeError
from rebus.report.contents import Result

Language = Literal["en", "zh"]

_WORDS: dict[str, tuple[str, str]] = {
    "about": ("What was trained", "训练了什么"),
    "answer": ("Answer", "回答"),
    "baseline": ("Baseline", "基线"),
    "better": ("better than the baseline", "优于基线"),
    "column": ("Column", "列"),
    "commands": ("How to do it again", "如何复现"),
    "confidence": ("confidence", "置信度"),
    "contents": ("Contents", "目录"),
    "data": ("The data", "数据"),
    "difference": ("Difference", "差值"),
    "examples": ("Examples", "示例"),
    "figure": ("Figure", "指标"),
    "inferred": ("How the table was read", "表格是如何理解的"),
    "interval": ("95% interval", "95% 区间"),
    "kind": ("Kind", "类型"),
    "limits": ("Limits", "局限"),
    "machine": ("Time and machine", "耗时与硬件"),
    "made_by": ("Made by Rebus", "由 Rebus 生成"),
    "no_results": ("Nothing has been measured yet.", "尚未评估。"),
    "image_unread": ("This image cannot be shown:", "这张图片无法显示："),
    "image": ("image", "图片"),
    "places": ("places", "位"),
    "plots": ("Curves and charts", "曲线与图表"),
    "points": ("points", "个百分点"),
    "recipe": ("The whole recipe", "完整配置"),
    "results": ("Results", "结果"),
    "results_note": (
        "Bars show the figure with its 95% bootstrap interval; the thin mark is the baseline. "
        "▲ better and ▼ worse than the baseline: the interval of the difference leaves zero out. ≈ no sure difference.",
        "条形为指标值及其 95% 自助法区间，细线为基线。▲ 优于、▼ 不如基线：差值的区间不含零。≈ 差别不确定。",
    ),
    "right": ("right", "正确"),
    "rows": ("Rows", "行数"),
    "same": ("no sure difference", "差别不确定"),
    "split": ("Split", "划分"),
    "tables": ("In detail", "分类结果"),
    "task": ("Task", "任务"),
    "test": ("test", "测试"),
    "train": ("train", "训练"),
    "truth": ("True answer", "正确答案"),
    "usage": ("How to use it", "如何使用"),
    "valid": ("valid", "验证"),
    "value": ("Value", "数值"),
    "warnings": ("The data check warns", "数据检查的警告"),
    "worse": ("worse than the baseline", "不如基线"),
    "wrong": ("wrong", "错误"),
}
_METRICS: dict[str, tuple[str, str]] = {
    "accuracy": ("Accuracy", "准确率"),
    "accuracy_norm": ("Accuracy, by byte", "准确率（按字节归一）"),
    "alignment": ("Alignment of two views", "两视图对齐度"),
    "auroc": ("AUROC", "AUROC"),
    "bits_per_byte": ("Bits per byte", "每字节比特数"),
    "bleu": ("BLEU", "BLEU"),
    "chance": ("A blind choice", "随机选择"),
    "chrf": ("chrF", "chrF"),
    "cider_d": ("CIDEr-D", "CIDEr-D"),
    "ece": ("Calibration error", "校准误差"),
    "exact_match": ("Exact match", "完全一致"),
    "exact_match_over_types": ("Exact match, mean over types", "完全一致（各类型平均）"),
    "f1": ("F1", "F1"),
    "hidden_explained": ("Hidden pixels explained", "被遮像素的解释率"),
    "knn_accuracy": ("Nearest neighbours' label", "近邻标签准确率"),
    "macro_f1": ("Macro F1", "宏平均 F1"),
    "macro_precision": ("Macro precision", "宏平均精确率"),
    "macro_recall": ("Macro recall", "宏平均召回率"),
    "mae": ("Mean absolute error", "平均绝对误差"),
    "map": ("Mean average precision", "平均精度均值"),
    "masked_accuracy": ("Hidden tokens guessed", "掩码词元猜中率"),
    "mean_recall": ("Mean of all recalls", "平均召回率"),
    "micro_f1": ("Micro F1", "微平均 F1"),
    "mrr": ("Mean reciprocal rank", "平均倒数排名"),
    "nearer_than_negative": ("Nearer than the negative", "比反例更近"),
    "perplexity": ("Perplexity", "困惑度"),
    **{
        f"{way}_recall_at_{k}": (f"{said[0]}: recall at {k}", f"{said[1]}：前 {k} 位召回率")
        for way, said in (
            ("image_to_text", ("Image to text", "以图找文")),
            ("text_to_image", ("Text to image", "以文找图")),
        )
        for k in (1, 5, 10)
    },
    "image_to_text_median_rank": ("Image to text: median rank", "以图找文：排名中位数"),
    "precision": ("Precision", "精确率"),
    "r2": ("R²", "R²"),
    "recall": ("Recall", "召回率"),
    "recall_at_1": ("Recall at 1", "首位召回率"),
    "recall_at_10": ("Recall at 10", "前十召回率"),
    "rmse": ("Root mean squared error", "均方根误差"),
    "rouge_l": ("ROUGE-L", "ROUGE-L"),
    "spearman": ("Spearman's rank correlation", "斯皮尔曼等级相关"),
    "text_to_image_median_rank": ("Text to image: median rank", "以文找图：排名中位数"),
    "top5": ("Top-5 accuracy", "前五准确率"),
    "uniformity": ("Uniformity", "均匀度"),
    "view_recall": ("Finds its other view", "找回另一视图"),
    "vqa_accuracy": ("VQA soft accuracy", "VQA 软准确率"),
    "word_accuracy": ("Words with the right tag", "词标注准确率"),
    "vqa_accuracy_over_types": ("VQA soft accuracy, mean over types", "VQA 软准确率（各类型平均）"),
}
# full marks of what is not a share
_SCALES = {"bleu": 100.0, "chrf": 100.0, "cider_d": 10.0, "r2": 1.0, "spearman": 1.0}
_THREE_PLACES = frozenset({"bits_per_byte"})  # where differences of a hundredth matter
_UNITS = frozenset(
    {
        "alignment", "bits_per_byte", "mae", "perplexity", "image_to_text_median_rank", "rmse",
        "text_to_image_median_rank", "uniformity",
    }
)  # fmt: skip # in a unit of their own: no full marks


def labels(language: str) -> dict[str, str]:
    """Every word of the report in ``language``.

    Raises:
        RecipeError: it is neither ``en`` nor ``zh``.
    """
    at = _column(language)
    return {key: both[at] for key, both in _WORDS.items()}


def metric_name(metric: str, language: str) -> str:
    """What people call a metric; an unknown one keeps its name."""
    both = _METRICS.get(metric)
    return both[_column(language)] if both else metric.replace("_", " ")


def is_share(metric: str) -> bool:
    """Whether a metric is a share of 1, which is shown in percent; of a plug-in's nobody knows."""
    return metric in _METRICS and metric not in _SCALES and metric not in _UNITS


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
        return f"{_signed(100 * result.difference, 1)} {labels(language)['points']}"
    if result.metric.endswith("_rank"):
        return f"{_signed(result.difference, 1).removesuffix('.0')} {labels(language)['places']}"
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


def _column(language: str) -> int:
    known: tuple[str, ...] = get_args(Language)
    if language not in known:
        raise RecipeError("--lang", "en or zh", f"'{language}'", "choose one of the two languages of reports")
    return known.index(language)
