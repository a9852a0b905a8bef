"""What the model loses without its images or its text, or how to find that out."""

from __future__ import annotations

import shlex

from rebus.report.ablation import ablation_tables
from rebus.report.contents import Section
from rebus.report.sections.subject import Subject
from rebus.report.sentences import kind_name

SAID: dict[str, dict[str, str]] = {
    "en": {
        "title": "Does it look, does it read?",
        "text": "The same rows again with images or texts taken away, on the {split} set. What it loses is paired "
        "over the rows.",
        "not_yet": "Not measured yet: a model may answer from the question alone. To measure it: `{command}`",
        "one": "It reads one kind of input alone, so there is nothing to take away.",
    },
    "zh": {
        "title": "它看图吗，它读字吗？",
        "text": "在{split}集上，去掉图片或文字后再问同样的行。损失按行配对计算。",
        "not_yet": "还没有测过：模型可能只凭问题作答。测量的命令：`{command}`",
        "one": "它只读一种输入，没有可以去掉的。",
    },
}


def ablation(subject: Subject) -> Section:
    """Tables with the verdict below each."""
    said = SAID[subject.lang]
    found = subject.evaluation.get("ablation", {})
    if found:
        text = said["text"].format(split=kind_name(subject.split, subject.lang))
        return Section("ablation", said["title"], [text], tables=ablation_tables(found, subject.lang), after="tables")
    tasks = subject.predictor.tasks.values()
    reads = any(set(task.inputs) - {"image"} & set(task.settings.columns) for task in tasks if task.predicts)
    sees = subject.predictor.model.image is not None
    if subject.is_language_run or not (reads and sees):
        return Section("ablation", said["title"], [said["one"]], after="tables")
    command = f"rebus evaluate {shlex.quote(str(subject.run.folder))} --ablate"
    return Section("ablation", said["title"], [said["not_yet"].format(command=command)], after="tables")
