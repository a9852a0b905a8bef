"""How honest a model's explanations are, as a section of its report in both languages: what explain.json holds.

It measures nothing; see ``rebus.explain.faithfulness``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rebus.explain.faithfulness.sanity import SAME
from rebus.report.contents import Cell, Section, Table

SAID: dict[str, dict[str, Any]] = {
    "en": {
        "title": "How honest are the maps?",
        "text": [
            "A map claims that an answer came from certain parts of the image or of the text. These figures test the "
            "claim; the last row of each table is what knowing nothing gets.",
        ],
        "table": "{task}: methods compared on {rows:,} rows of {table}",
        "types": "{task}: pointing by type of question",
        "method": "method",
        "columns": {
            "pointing": "pointing",
            "pointing_right": "pointing, right answers",
            "deletion": "deletion",
            "insertion": "insertion",
            "text_deletion": "text deletion",
            "text_insertion": "text insertion",
        },
        "sanity": "sanity",
        "milliseconds": "ms",
        "random": "random",
        "questions": "questions",
        "pointing": "Pointing: how often the map's maximum lies on the thing that was asked about, over {pointing:,} "
        "questions about a thing with a known box ({pointing_right:,} answered rightly), with a tolerance of "
        "{tolerance:.1%} of the side; random is a point anywhere. Higher is better.",
        "curves": "Deletion and insertion: the mean score of what was said while its most relevant parts go first "
        "(lower is better) or come first (higher is better), over {curves:,} rows; random is a random order.",
        "shaken": "Sanity: rank correlation of the maps before and after all weights were randomised, over {sanity:,} "
        "rows; near 0 is good, and above {same} a map does not depend on what was learned.",
        "chosen": {
            "pointing": "{task}: '{method}' is the default, because it points best of those that pass the sanity "
            "check.",
            "curves": "{task}: '{method}' is the default, because its insertion minus deletion is the largest of those "
            "that pass the sanity check.",
            "only": "{task}: '{method}' is the default; there was nothing to compare methods by.",
        },
        "times": "{task}: it points at the right thing {times:.1f} times as often as a random point.",
        "warned": "{task}: the maps of {methods} hardly change when all weights are randomised: do not trust them.",
    },
    "zh": {
        "title": "解释图有多可信？",
        "text": [
            "一张解释图声称：答案来自图片或文字的某些部分。下面的数字检验这一说法；每张表的最后一行是什么都不知道时的得分。"
        ],
        "table": "{task}：在 {table} 的 {rows:,} 行上比较各种方法",
        "types": "{task}：按问题类型的指认率",
        "method": "方法",
        "columns": {
            "pointing": "指认率",
            "pointing_right": "答对时的指认率",
            "deletion": "删除",
            "insertion": "插入",
            "text_deletion": "文字删除",
            "text_insertion": "文字插入",
        },
        "sanity": "随机化检验",
        "milliseconds": "毫秒",
        "random": "随机",
        "questions": "问题数",
        "pointing": "指认率：在 {pointing:,} 个问到已知方框的物体的问题上（其中 {pointing_right:,} 个答对），"
        "解释图的最大值落在该物体上的比例，容差为边长的 {tolerance:.1%}；随机指图上任意一点。越高越好。",
        "curves": "删除与插入：先拿走最相关的部分时（越低越好），或先放回最相关的部分时（越高越好），"
        "原答案的平均得分，共 {curves:,} 行；随机指随机顺序。",
        "shaken": "随机化检验：把所有权重随机化前后，解释图的秩相关，共 {sanity:,} 行；接近 0 为好，"
        "高于 {same} 说明解释图与学到的东西无关。",
        "chosen": {
            "pointing": "{task}：默认方法是“{method}”，因为在通过随机化检验的方法中它指得最准。",
            "curves": "{task}：默认方法是“{method}”，因为在通过随机化检验的方法中它的插入减删除最大。",
            "only": "{task}：默认方法是“{method}”；没有可以比较各方法的依据。",
        },
        "times": "{task}：它指对物体的次数是随机一点的 {times:.1f} 倍。",
        "warned": "{task}：把所有权重随机化后，{methods} 的解释图几乎不变：不要相信它们。",
    },
}


def faithfulness_section(entries: Mapping[str, Mapping[str, Any]], lang: str) -> Section | None:
    """What explain.json holds, as a section; None for no entries."""
    if not entries:
        return None
    said = SAID[lang]
    tables = [table for task, entry in entries.items() for table in faithfulness_tables(task, entry, lang)]
    points = [point for task, entry in entries.items() for point in faithfulness_points(task, entry, lang)]
    return Section("faithfulness", said["title"], said["text"], tables=tables, points=points, after="examples")


def faithfulness_tables(task: str, entry: Mapping[str, Any], lang: str) -> list[Table]:
    """The methods side by side, the default first, and the default's pointing rate by type of question."""
    said, methods, random = SAID[lang], entry["methods"], entry["random"]
    names = sorted(methods, key=lambda name: name != entry["method"])
    kinds = [kind for kind in said["columns"] if any(kind in one["figures"] for one in methods.values())]
    shaken = any(one["sanity"] for one in methods.values())
    heads = [said["method"], *(said["columns"][kind] for kind in kinds), *([said["sanity"]] if shaken else [])]
    rows: list[list[Cell]] = []
    for name in names:
        one = methods[name]
        cells: list[Cell] = [f"{name} ✓" if name == entry["method"] else name]
        cells += [measured(kind, one["figures"].get(kind)) for kind in kinds]
        cells += [f"{list(one['sanity'].values())[-1]:.2f}" if one["sanity"] else None] if shaken else []
        rows.append([*cells, f"{one['seconds'] * 1000:.0f}"])
    rows.append(
        [said["random"], *(measured(kind, random.get(kind)) for kind in kinds), *([None] if shaken else []), None]
    )
    only = [f"{column}={value}" for column, value in entry["settings"].get("only", {}).items()]
    where = ", ".join([entry["table"], *([entry["split"]] if entry["split"] else []), *only])
    title = said["table"].format(task=task, rows=max(entry["rows"].values()), table=where)
    made = [Table(title, [*heads, said["milliseconds"]], rows, notes_of(entry, lang), shares=False)]
    types = methods[entry["method"]]["by_type"]
    if len(types) > 1:
        columns = ["", entry["method"], said["random"], said["questions"]]
        lines: list[list[Cell]] = [
            [kind, f"{one['pointing']:.1%}", f"{one['random']:.1%}", f"{one['count']:.0f}"]
            for kind, one in types.items()
        ]
        made.append(Table(said["types"].format(task=task), columns, lines, shares=False))
    return made


def notes_of(entry: Mapping[str, Any], lang: str) -> str:
    """What the columns of a table of methods mean."""
    said, rows = SAID[lang], {"pointing_right": 0, **entry["rows"]}
    told = []
    if rows.get("pointing"):
        told.append(said["pointing"].format(tolerance=entry["settings"].get("tolerance", 0.0), **rows))
    told.append(said["curves"].format(**rows))
    if rows.get("sanity"):
        told.append(said["shaken"].format(same=SAME, **rows))
    return (" " if lang == "en" else "").join(told)


def faithfulness_points(task: str, entry: Mapping[str, Any], lang: str) -> list[str]:
    """The default and why, how much better than chance it points, and which methods are warned of."""
    said, method = SAID[lang], entry["method"]
    told = [said["chosen"][entry["why"]].format(task=task, method=method)]
    rate, chance = (found.get("pointing") for found in (entry["methods"][method]["figures"], entry["random"]))
    if rate is not None and chance is not None and chance[0] > 0:
        told.append(said["times"].format(task=task, times=rate[0] / chance[0]))
    warned = [name for name, one in entry["methods"].items() if one["warned"]]
    if warned:
        told.append(said["warned"].format(task=task, methods=(", " if lang == "en" else "、").join(warned)))
    return told


def measured(kind: str, figure: Sequence[float] | None) -> Cell:
    """A figure with its interval: rates in percent, areas as they are."""
    if figure is None:
        return None
    value, low, high = figure
    if kind.startswith("pointing"):
        return f"{value:.1%} ({low:.1%}–{high:.1%})"
    return f"{value:.3f} ({low:.3f}–{high:.3f})"
