"""The report of a run on raw text: what was read how fast, what a byte costs, what the model wrote on the way."""

from __future__ import annotations

import os
import shlex
import statistics
import time
from pathlib import Path
from typing import Any

from rebus._version import __version__
from rebus.errors import RunError
from rebus.report.contents import Plot, ReportData, Result, Table
from rebus.report.hub import hub_metadata
from rebus.report.labels import figure
from rebus.report.plots import plot_curves
from rebus.report.sections.about import kept_weights, settled
from rebus.report.sections.charts import SAID as CHARTS
from rebus.report.sections.machine import machine_rows
from rebus.report.sections.subject import Subject
from rebus.report.sentences import end_name, kind_name, sentence

SAMPLES = 12  # shown at most
SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "{name}: {kind}",
        "lm": "a language model",
        "mlm": "a masked language model",
        "summary": "A model of {parameters:,} parameters, trained from {how} on {megabytes:.1f} MB of text "
        "({tokens:,} tokens) in {minutes:.1f} minutes on {cores} CPU cores. Figures are for text it was not trained "
        "on.",
        "nothing": "nothing",
        "facts": ("task", "layers", "width", "heads", "vocabulary", "parameters", "size", "steps", "rows a step"),
        "skipped": "skipped steps",
        "data": ("text", "documents", "training tokens", "bytes a token", "times read", "padding"),
        "left": "left out ({})",
        "judged": "{documents:,} of {of:,} held-out documents, {kilobytes:,.0f} kB",
        "speed": ("tokens a second", "of a large product's speed"),
        "packers": "Bits a byte, beside compressors",
        "packers_note": "Compressors know nothing of the text beforehand; the model and the token frequencies were "
        "made from the training text.",
        "how": "how",
        "bits": "bits per byte",
        "model": "this model",
        "samples": "What it wrote while it learned",
        "step": "step",
        "text": "text",
        "masked_note": "In brackets: the guess, then what stood there.",
        "commands": {
            "write": "let it write",
            "judge": "judge it on any text",
            "explain": "see which words mattered",
            "flow": "follow one text through the model",
            "again": "train it again",
            "tune": "fine-tune it",
        },
        "limits": [
            "Figures hold for text like the held-out documents; other text may cost more.",
            "It writes what is likely, not what is true.",
            "It reads at most {block} tokens at once, as it did in training.",
        ],
    },
    "zh": {
        "title": "{name}：{kind}",
        "lm": "语言模型",
        "mlm": "掩码语言模型",
        "summary": "模型有 {parameters:,} 个参数，以{how}为起点，用 {megabytes:.1f} MB 文本（{tokens:,} 个词元）"
        "在 {cores} 个 CPU 核上训练了 {minutes:.1f} 分钟。各项数字都来自训练时没有用过的文本。",
        "nothing": "随机权重",
        "facts": ("任务", "层数", "宽度", "注意力头", "词表大小", "参数量", "规模", "步数", "每步行数"),
        "skipped": "跳过的步数",
        "data": ("文本", "文档数", "训练词元数", "每词元字节数", "读过的遍数", "填充占比"),
        "left": "剔除（{}）",
        "judged": "{of:,} 篇留出文档中的 {documents:,} 篇，{kilobytes:,.0f} kB",
        "speed": ("每秒词元数", "相对大矩阵乘法的速度"),
        "packers": "每字节比特数，与压缩程序相比",
        "packers_note": "压缩程序事先对文本一无所知；模型和词元频率来自训练文本。",
        "how": "方法",
        "bits": "每字节比特数",
        "model": "本模型",
        "samples": "学习过程中写出的文字",
        "step": "步",
        "text": "文字",
        "masked_note": "方括号内：先是猜测，后是原文。",
        "commands": {
            "write": "让它写作",
            "judge": "用任意文本评测",
            "explain": "看看哪些词起了作用",
            "flow": "跟随一段文字走过模型",
            "again": "重新训练",
            "tune": "微调",
        },
        "limits": [
            "这些数字只适用于与留出文档相似的文本，换了别的文本可能更差。",
            "它写的是可能出现的文字，不一定是真的。",
            "它一次最多读 {block} 个词元，与训练时相同。",
        ],
    },
}


def describe_language_run(subject: Subject, results: list[Result]) -> ReportData:
    """Everything that a Run on raw text can tell of itself.

    Args:
        subject: a finished Run.
        results: its figures beside their baselines.

    Raises:
        RunError: a file of it is damaged.
    """
    run, lang, recipe = subject.run, subject.lang, subject.recipe
    said, trained, records = SAID[lang], subject.trained, run.metrics()
    task, name = recipe.tasks[0].name, Path(recipe.data.path).stem
    text, judged = trained["text"]["train"], trained.get("judged")
    check = _checked(subject)
    tower, block = recipe.model.text, recipe.corpus.block
    rows = recipe.train.batch_size
    read = trained["steps"] * rows * block * (1 - check["waste"]) / max(text["tokens"], 1)
    where, folder = Path(recipe.data.path).name, shlex.quote(str(run.folder))
    data = ReportData(
        title=said["title"].format(name=name, kind=said[task]),
        summary=said["summary"].format(
            parameters=trained["parameters"],
            how=recipe.base or said["nothing"],
            megabytes=text["bytes"] / 1e6,
            tokens=text["tokens"],
            minutes=trained["seconds"] / 60,
            cores=trained.get("machine", {}).get("cores", os.cpu_count() or 1),
        ),
        facts=[
            *_paired(
                said["facts"],
                task,
                str(tower.depth),
                str(tower.width),
                str(tower.heads),
                f"{tower.rows or recipe.text.vocab_size:,}",
                f"{trained['parameters']:,}",
                recipe.model.size or "",
                f"{trained['steps']:,} ({end_name(trained['stopped_because'], lang)})",
                f"{rows} x {block}",
            ),
            (said["skipped"], str(len(trained["skipped_steps"]))),
            *kept_weights(subject),
        ],
        data=[
            *_paired(
                said["data"],
                where,
                f"{check['rows']:,}",
                f"{text['tokens']:,}",
                f"{text['bytes'] / max(text['tokens'], 1):.2f}",
                f"{read:.2g}",
                f"{check['waste']:.1%}",
            ),
            *((said["left"].format(why), f"{count:,}") for why, count in _left_out(check).items()),
        ],
        splits={kind_name(split, lang): counts["documents"] for split, counts in trained["text"].items()},
        notes=[sentence(note, lang) for note in subject.inference.get("notes", [])],
        results=results,
        judged_on=said["judged"].format(**judged, kilobytes=judged["bytes"] / 1e3) if judged else trained["judged_on"],
        hardware=[*_paired(said["speed"], *_speed(trained, records)), *machine_rows(subject)],
        commands=[
            (said["commands"]["write"], f'rebus generate {folder} "..."'),
            (said["commands"]["judge"], f"rebus evaluate {folder} TEXT"),
            (said["commands"]["explain"], f'rebus explain {folder} --text "..."'),
            (said["commands"]["flow"], f'rebus flow {folder} --text "..."'),
            (
                said["commands"]["again"],
                f"rebus train {shlex.quote(where)} --recipe {folder}/recipe.yaml{settled(subject)} --out again",
            ),
            (said["commands"]["tune"], f"rebus train TABLE --from {folder}"),
        ],
        limits=[limit.format(block=block) for limit in said["limits"]],
        recipe=recipe.save_text(),
        created=time.strftime("%Y-%m-%d"),
        version=__version__,
        tags=["rebus", task],
        dataset=name,
        hub=hub_metadata(run),
    )
    if task == "mlm":
        data.commands = [
            one for one in data.commands if one[0] not in (said["commands"]["write"], said["commands"]["judge"])
        ]
    data.tables = [table for table in (_packers(trained, results, said), _samples(records, task, said)) if table]
    if records:
        plain = [_without_perplexity(line) for line in records]
        data.plots = [Plot(CHARTS[lang]["curves"], plot_curves(run.folder / "plots" / "curves.png", plain, lang))]
    return data


def _checked(subject: Subject) -> dict[str, Any]:
    """check.json. Raises RunError: it is missing, or not what training on raw text wrote."""
    run = subject.run
    found: dict[str, Any] = run.read_json("check.json")
    if not {"rows", "waste", "cleaning"} <= set(found):
        do = "restore the file from a copy; `rebus train` writes it once"
        raise RunError(run.folder / "check.json", "rows, waste and cleaning, as training wrote", "none of them", do)
    return found


def _paired(names: tuple[str, ...], *values: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in zip(names, values, strict=True) if value]


def _left_out(check: dict[str, Any]) -> dict[str, int]:
    return {str(why): int(count) for why, count in check["cleaning"].get("left_out", {}).items() if count}


def _speed(trained: dict[str, Any], records: list[dict[str, Any]]) -> list[str]:
    """Median tokens a second and the share of the machine's peak."""
    lines = [line for line in records if line.get("kind") == "train" and line.get("tokens_per_second")]
    rate = statistics.median(line["tokens_per_second"] for line in lines) if lines else 0.0
    shares = [line["share_of_peak"] for line in lines if line.get("share_of_peak")]
    peak = trained.get("peak_flops", 0.0)
    return [
        f"{rate:,.0f}" if rate else "",
        f"{statistics.median(shares):.0%} ({peak / 1e9:,.0f} GFLOP/s)" if shares else "",
    ]


def _packers(trained: dict[str, Any], results: list[Result], said: dict[str, Any]) -> Table | None:
    """What compressors and token frequencies need for the same text."""
    own = next((result for result in results if result.metric == "bits_per_byte"), None)
    if own is None or "packers" not in trained:
        return None
    values = dict(trained["packers"])
    if own.baseline is not None:
        values[own.baseline_name] = own.baseline
    values[said["model"]] = own.value
    rows = [[name, figure(value, own.metric)] for name, value in values.items()]
    return Table(said["packers"], [said["how"], said["bits"]], rows, said["packers_note"], shares=False)


def _samples(records: list[dict[str, Any]], task: str, said: dict[str, Any]) -> Table | None:
    lines = [line for line in records if line.get("kind") == "sample"]
    if not lines:
        return None
    step = -(-len(lines) // SAMPLES)
    rows = [[str(line["step"]), str(line["text"])] for line in lines[::-1][::step][::-1]]
    note = said["masked_note"] if task == "mlm" else ""
    return Table(said["samples"], [said["step"], said["text"]], rows, note, shares=False)


def _without_perplexity(line: dict[str, Any]) -> dict[str, Any]:
    """A line for the curves: perplexity, hundreds of times as large as the other figures, would flatten them."""
    if line.get("kind") != "valid":
        return line
    kept = {name: value for name, value in line["metrics"].items() if not name.endswith("perplexity")}
    return {**line, "metrics": kept}
