"""What the model loses without its images or its text, or how to find that out."""

from __future__ import annotations

import shlex

from rebus.catalogue import translate_name, translator
from rebus.report.ablation import ablation_tables
from rebus.report.contents import Section
from rebus.report.sections.subject import Subject


def ablation(subject: Subject) -> Section:
    """Tables with the verdict below each."""
    texts = translator("ablation_section", subject.lang)
    result = subject.evaluation.get("ablation", {})
    if result:
        text = texts("text", split=translate_name("split", subject.split, subject.lang))
        return Section("ablation", texts("title"), [text], tables=ablation_tables(result, subject.lang), after="tables")
    tasks = subject.predictor.tasks.values()
    reads = any(set(task.inputs) - {"image"} & set(task.settings.columns) for task in tasks if task.predicts)
    sees = subject.predictor.model.image is not None
    if subject.is_language_run or not (reads and sees):
        return Section("ablation", texts("title"), [texts("one")], after="tables")
    command = f"rebus evaluate {shlex.quote(str(subject.run.folder))} --ablate"
    return Section("ablation", texts("title"), [texts("not_yet", command=command)], after="tables")
