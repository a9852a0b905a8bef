"""How the rows were split, and whether what was held out was really unseen."""

from __future__ import annotations

from rebus.data.names import tidy
from rebus.report.contents import Section, Table
from rebus.report.sections.subject import Subject
from rebus.report.sentences import place_name

SAID: dict[str, dict[str, str]] = {
    "en": {
        "title": "Splits and leakage",
        "column": "The column '{column}' says which rows are held out.",
        "group": "Rows with the same '{group}' stay together.",
        "folds": "Rows are dealt to {folds} folds; fold {fold} is judged.",
        "dealt": "Rows are dealt by their content: {valid:.0%} to watch training, {test:.0%} to judge the result. Rows "
        "of one image stay together.",
        "corpus": "Documents are dealt by their content: {valid:.1%} are held out.",
        "none": "No held-out row holds an image or text that training rows hold too.",
        "some": "{count:,} held-out rows hold what training rows hold too, or what looks the same. The figures may "
        "flatter the model.",
        "corpus_same": "Documents that are the same as an earlier one were left out before the split, so that none "
        "stands on both sides.",
        "corpus_kept": "Documents that are the same were not looked for: some may stand on both sides.",
        "unknown": "Leakage was not looked for: this Run keeps no check.",
        "sampled": "Of {different:,} images the bytes of all were compared, and {decoded:,} were also compared by "
        "how they look.",
        "held_out": "held-out row",
        "training": "training row",
        "first": "The first of them",
        "duplicates": "{count:,} rows repeat an earlier row.",
        "broken": "{count:,} broken rows were left out.",
    },
    "zh": {
        "title": "划分与泄漏",
        "column": "由“{column}”列指明哪些行留出。",
        "group": "“{group}”相同的行放在一起。",
        "folds": "各行分到 {folds} 折，评测第 {fold} 折。",
        "dealt": "按内容划分各行：{valid:.0%} 用来观察训练，{test:.0%} 用来评测结果。同一张图片的行放在一起。",
        "corpus": "按内容划分文档：留出 {valid:.1%}。",
        "none": "没有任何留出行的图片或文字也出现在训练行中。",
        "some": "有 {count:,} 个留出行的内容在训练行里也有，或看起来相同。这些数字可能偏高。",
        "corpus_same": "划分之前已去掉与前面相同的文档，因此没有文档同时出现在两边。",
        "corpus_kept": "没有查找相同的文档：有的文档可能同时出现在两边。",
        "unknown": "没有查找泄漏：这个 Run 没有留下检查结果。",
        "sampled": "{different:,} 张图片的字节都作了比较，其中 {decoded:,} 张还比较了外观。",
        "held_out": "留出的行",
        "training": "训练的行",
        "first": "最前面的几处",
        "duplicates": "有 {count:,} 行与前面的行重复。",
        "broken": "略去了 {count:,} 个有错误的行。",
    },
}
SHOWN = 10


def leakage(subject: Subject) -> Section:
    """The way of splitting, then what was found on both sides."""
    said, check, lang = SAID[subject.lang], subject.check, subject.lang
    points = _ways(subject, said)
    tables = []
    if subject.is_language_run:
        points.append(said["corpus_same" if subject.recipe.corpus.clean.exact else "corpus_kept"])
    elif "leaks" not in check:
        points.append(said["unknown"])
    else:
        leaks = check["leaks"]
        points.append(said["some"].format(count=leaks["count"]) if leaks["count"] else said["none"])
        for survey in check.get("images", []):
            points.append(said["sampled"].format(different=survey["different"], decoded=survey["decoded"]))
        if leaks["count"]:
            rows = [[place_name(str(one), lang), place_name(str(other), lang)] for one, other in leaks["first"][:SHOWN]]
            tables.append(Table(said["first"], [said["held_out"], said["training"]], rows, shares=False))
    for key in ("duplicates", "broken"):
        count = check.get({"duplicates": "duplicate_rows", "broken": "bad_rows"}[key], {}).get("count", 0)
        if count:
            points.append(said[key].format(count=count))
    return Section("leakage", said["title"], points=points, tables=tables, after="data")


def _ways(subject: Subject, said: dict[str, str]) -> list[str]:
    split = subject.recipe.data.split
    if subject.is_language_run:
        return [said["corpus"].format(valid=split.valid)]
    named = next((name for name in subject.recipe.data.kinds if tidy(name) in ("split", "划分")), None)
    column = split.column or named
    if split.folds is not None:  # whatever a column says
        ways = [said["folds"].format(folds=split.folds, fold=split.fold + 1)]
    elif column is not None:
        return [said["column"].format(column=column)]
    else:
        ways = [said["dealt"].format(valid=split.valid, test=split.test)]
    return ways + ([said["group"].format(group=split.group)] if split.group is not None else [])
