"""How to get the same model again: seed, versions, the data's fingerprint, what else must be the same."""

from __future__ import annotations

from typing import Any

from rebus.data.duplicates import fingerprint
from rebus.report.contents import Section
from rebus.report.sections.machine import versions_of
from rebus.report.sections.subject import Subject
from rebus.resolve.corpus import saved_shards

SAID: dict[str, dict[str, str]] = {
    "en": {
        "title": "What must be the same",
        "text": "The recipe holds every setting but what was measured, which the command above adds. With the "
        "same data, versions, processor type and number of processes, training from it gives the same weights; other "
        "versions or processors change the last digits.",
        "seed": "seed",
        "start": "started from",
        "nothing": "random weights of that seed",
        "versions": "versions",
        "data": "data fingerprint",
        "data_is": "{fingerprint} (SHA-256 of every cell of the table, cut to 32 digits; images by their names)",
        "corpus_is": "{fingerprint} (SHA-256 of the text files' names, sizes and times, cut to 32 digits)",
        "same": "the table is still the same",
        "changed": "THE TABLE HAS CHANGED since training: it is now {fingerprint}",
        "gone": "the table is not there any more",
        "now": "the data now",
        "unknown": "not kept by this Run",
        "processes": "processes",
    },
    "zh": {
        "title": "哪些必须相同",
        "text": "配置包含每一项设置；训练时测得的由上面的命令补上。"
        "数据、版本、处理器类型和进程数都相同时，按它训练会得到相同的权重；"
        "版本或处理器不同，末尾几位数字会不同。",
        "seed": "随机种子",
        "start": "起点",
        "nothing": "由该种子产生的随机权重",
        "versions": "版本",
        "data": "数据指纹",
        "data_is": "{fingerprint}（表格每个单元格的 SHA-256，取 32 位；图片按文件名计）",
        "corpus_is": "{fingerprint}（文本文件名称、大小和时间的 SHA-256，取 32 位）",
        "same": "表格没有变",
        "changed": "训练之后表格变了：现在是 {fingerprint}",
        "gone": "表格已不在原处",
        "now": "现在的数据",
        "unknown": "这个 Run 没有记下",
        "processes": "进程数",
    },
}


def reproduce(subject: Subject) -> Section:
    """Seed, versions and fingerprints."""
    said, trained = SAID[subject.lang], subject.trained
    versions = ", ".join(f"{name} {number}" for name, number in versions_of(subject).items())
    facts = [
        (said["seed"], str(subject.recipe.seed)),
        (said["start"], subject.recipe.base or said["nothing"]),
        (said["processes"], str(trained.get("processes", 1))),
        (said["versions"], versions or said["unknown"]),
        *(_corpus(subject, said) if subject.is_language_run else _table(subject, said)),
    ]
    return Section("reproduce", said["title"], text=[said["text"]], facts=facts, after="commands")


def _table(subject: Subject, said: dict[str, str]) -> list[tuple[str, str]]:
    kept = subject.check.get("fingerprint", "")
    facts = [(said["data"], said["data_is"].format(fingerprint=kept) if kept else said["unknown"])]
    table = subject.table
    if table is None:
        return [*facts, (said["now"], said["gone"])]
    if kept:
        now = fingerprint(table)
        facts.append((said["now"], said["same"] if now == kept else said["changed"].format(fingerprint=now)))
    return facts


def _corpus(subject: Subject, said: dict[str, str]) -> list[tuple[str, str]]:
    shards = saved_shards(subject.run.folder, subject.recipe, subject.predictor.processor.tokenizer)
    source: dict[str, Any] = getattr(shards.manifest, "source", {}) if shards is not None else {}
    kept = str(source.get("fingerprint", ""))[:32]
    return [(said["data"], said["corpus_is"].format(fingerprint=kept) if kept else said["unknown"])]
