"""Which task columns of text suggest, and which column plays which of its roles: tasks that need no image.

Roles of tasks that look at images or at any columns are ``rebus.data.roles``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rebus.data import names
from rebus.recipe import Kind

if TYPE_CHECKING:
    from rebus.data.roles import Columns

Roles = dict[str, str | None]
_SHORT: tuple[Kind, ...] = ("text", "category")
_SAID: tuple[Kind, ...] = ("text", "category", "number", "labels")


def suggested_first(found: Columns) -> tuple[str | None, str]:
    """A task whose columns' names and kinds leave no doubt."""
    turns = converse_roles(found) if found.of("messages") else {}
    if "messages" in turns or (turns and (found.named(names.OUTPUT, "messages") or _output(found))):
        return "converse", "a column of conversations"
    if found.image is None and _all_there(choose_roles(found)):
        return "choose", "choices, and which of them is right"
    if found.image is None and (roles := _about_passage(found)):
        inside = found.inside(str(roles["answer"]), str(roles["passage"]))
        return ("extract", "answers that stand in a passage") if inside else ("generate", "answers about a passage")
    if ner_roles(found):
        return "ner", "tokens and a tag for each"
    return None, ""


def suggested_next(found: Columns) -> tuple[str | None, str]:
    """A task that a table allows where it has no question with an answer."""
    if found.named(names.INSTRUCTION, *_SHORT) and _output(found):
        return "generate", "a prompt and what is to be written"
    if found.image is not None or found.named(names.LABEL, "category"):
        return None, ""
    if translate_roles(found):
        return "translate", "the same text in two languages"
    if similar_roles(found):
        return "similar", "pairs of texts that mean the same"
    return None, ""


def suggested_last(found: Columns) -> tuple[str | None, str]:
    """A table of nothing but text, or of nothing but images."""
    learned = [name for name in found.all if found.kinds.get(name) != "ignore"]
    if len(learned) == 1 and found.of("text") == learned:
        return "lm", "one column of text and nothing else"
    if found.image and found.of("boxes"):
        return "patch_classify", "images and boxes around what they show"
    if len(learned) == 1 and found.of("image") == learned:
        return "pretrain_image", "images and nothing that says what they show"
    return None, ""


def text_roles(task: str) -> Callable[[Columns], Mapping[str, str | None]] | None:
    """What finds the columns of a task, where the task is one of these."""
    return {
        "generate": generate_roles,
        "translate": translate_roles,
        "converse": converse_roles,
        "choose": choose_roles,
        "extract": extract_roles,
        "ner": ner_roles,
        "similar": similar_roles,
        "lm": lm_roles,
        "mlm": lm_roles,
    }.get(task)


def generate_roles(found: Columns) -> Roles:
    """Prompt, perhaps input and system, and output."""
    prompt = found.named((*names.INSTRUCTION, *names.QUESTION), *_SHORT) or found.named(names.INPUT, *_SHORT)
    output = _output(found, prompt)
    prompt = prompt or next((name for name in found.of("text") if name != output), None)
    others = [name for name in found.of(*_SHORT) if name != prompt and not names.named(name, names.REJECTED)]
    output = output or next(reversed(others), None)
    given = found.named(names.INPUT, *_SHORT)
    return {
        "image": found.image,
        "prompt": prompt,
        "input": given if given not in (prompt, output) else None,
        "output": output,
        "system": names.first_named(found.all, names.SYSTEM),
        "type": names.first_named(found.all, names.TYPE),
    }


def converse_roles(found: Columns) -> Roles:
    """One column of conversations, or a prompt and its completion."""
    history = found.named(names.HISTORY, "messages")
    several = [name for name in found.of("messages") if name != history]
    prompt, completion = found.named(names.INSTRUCTION, "messages"), found.named(names.OUTPUT, "messages")
    system = names.first_named(found.all, names.SYSTEM)
    if prompt and completion:
        return {"image": found.image, "prompt": prompt, "output": completion, "system": system}
    if several:
        messages = found.named(names.MESSAGES, "messages") or several[0]
        return {"image": found.image, "messages": messages, "system": system}
    roles = {role: column for role, column in generate_roles(found).items() if role != "type"}
    return {**roles, "history": history} if roles.get("prompt") and roles.get("output") else {}


def translate_roles(found: Columns) -> Roles:
    """Source and target: by their names, or two columns named by languages, the first one the source."""
    source = found.named(names.SOURCE, *_SHORT)
    target = found.named(names.TRANSLATED, *_SHORT)
    if not (source and target and source != target):
        languages = [name for name in found.of(*_SHORT) if names.named(name, names.LANGUAGES)]
        if len(languages) < 2:
            return {}
        source, target = languages[:2]
    return {"source": source, "target": target, "direction": names.first_named(found.all, names.DIRECTION)}


def choose_roles(found: Columns) -> Roles:
    """Question, choices (in one column or one each) and the right one."""
    together = found.named(names.CHOICES, "labels", "text", "category")
    apart: dict[str, str] = {}
    if together is None:
        for letter, words in names.CHOICE_COLUMNS.items():
            column = found.named(words, *_SAID)
            if column is not None:
                apart[letter] = column
    taken = {together, *apart.values()}
    free = [name for name in found.all if name not in taken]
    answer = names.first_named(free, names.RIGHT_CHOICE)
    asked = names.first_named([name for name in free if name != answer], names.ASKED)
    passage = names.first_named([name for name in free if name not in (answer, asked)], names.PASSAGE)
    return {
        "question": asked,
        "context": passage,
        **({"choices": together} if together else apart),
        "answer": answer,
        "type": names.first_named(found.all, names.TYPE),
    }


def _all_there(roles: Roles) -> bool:
    choices = roles.get("choices") or (roles.get("A") and roles.get("B"))
    return bool(choices and roles.get("question") and roles.get("answer"))


def extract_roles(found: Columns) -> Roles:
    """Question, passage, answer, and where it begins."""
    roles = _about_passage(found) or {
        "question": found.question,
        "passage": found.named(names.PASSAGE, "text") or found.text(found.question, found.answer),
        "answer": found.answer,
    }
    return {**roles, "start": names.first_named(found.all, ("answer_start", "start"))}


def ner_roles(found: Columns) -> Roles:
    """Tokens and a tag for each, or a text and the spans in it."""
    tokens = found.named(names.TOKENS, "text", "labels")
    tags = found.named(names.TAGS, "tags") or next(iter(found.of("tags")), None)
    if tags is None and tokens is not None:
        tags = found.named(("tags", "labels", *names.TAGS), "labels", "text", "category")
    text = tokens or found.text(tags)
    return {"image": found.image, "tokens": text, "tags": tags} if tags and text else {}


def similar_roles(found: Columns) -> Roles:
    """Two texts that mean the same, perhaps a third that does not."""
    for first, second, third in names.PAIRS:
        one, other = found.named((first,), *_SHORT), found.named((second,), *_SHORT)
        if one and other:
            negative = found.named((third,), *_SHORT) if third else None
            score = found.named(names.SCORE, "number", "category")
            return {"anchor": one, "positive": other, "negative": negative, "score": score}
    return {}


def lm_roles(found: Columns) -> Roles:
    """The text."""
    return {"text": found.text()}


def _about_passage(found: Columns) -> Roles:
    passage = found.named(names.PASSAGE, "text")
    if not (found.question and found.answer and passage) or passage in (found.question, found.answer):
        return {}
    return {"question": found.question, "passage": passage, "answer": found.answer}


def _output(found: Columns, *taken: str | None) -> str | None:
    free = [name for name in found.of(*_SAID) if name not in taken]
    return names.first_named(free, (*names.OUTPUT, "target", "labels", "summary", "摘要", *names.CHOSEN))
