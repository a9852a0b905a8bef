"""Which task a set of columns allows, and which column plays which of its roles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rebus.data import names
from rebus.data.declared import declared
from rebus.data.text_roles import suggested_first, suggested_last, suggested_next, text_roles
from rebus.recipe import Kind, TaskSettings

_Found = tuple[TaskSettings, str]
_EXPLICIT_CAPTION = ("caption", "captions", "description", "描述", "标题", "说明", "图说")


class Columns:
    """Columns by kind, and the one that best fits a role.

    Args:
        columns: names, in the table's order.
        kinds: column: kind.
        inside: (answers' column, passages' column) -> whether the answers stand in the passages; None: not known.
    """

    def __init__(
        self, columns: Sequence[str], kinds: Mapping[str, Kind], inside: Callable[[str, str], bool] | None = None
    ) -> None:
        self.all = list(columns)
        self.kinds = dict(kinds)
        self.inside = inside or (lambda answers, passages: True)

    def of(self, *kinds: Kind) -> list[str]:
        """Columns of these kinds."""
        return [name for name in self.all if self.kinds.get(name) in kinds]

    def named(self, words: tuple[str, ...], *kinds: Kind) -> str | None:
        """The column of these kinds that one of the words names."""
        return names.first_named(self.of(*kinds), words)

    @property
    def image(self) -> str | None:
        """The image column; the best named one of several."""
        return self.named(names.IMAGE, "image") or next(iter(self.of("image")), None)

    @property
    def question(self) -> str | None:
        """The question column, by its name."""
        return self.named(names.QUESTION, "text", "category")

    @property
    def answer(self) -> str | None:
        """The answer column, by its name."""
        return self.named(names.ANSWER, "text", "category", "labels", "number")

    @property
    def caption(self) -> str | None:
        """The text that describes the image."""
        asked = [name for name in self.all if names.named(name, names.QUESTION)]  # a question describes no image
        return self.named(names.CAPTION, "text", "category") or self.text(*asked)

    def text(self, *taken: str | None) -> str | None:
        """The text to read, leaving out columns that play another role."""
        free = [name for name in self.of("text") if name not in taken]
        return names.first_named(free, (*names.TEXT, *names.CAPTION)) or next(iter(free), None)

    @property
    def label(self) -> str | None:
        """The class column: by its name, else the last category (the usual place of what is to be predicted)."""
        return self.named(names.LABEL, "category") or next(reversed(self.of("category")), None)

    @property
    def labels(self) -> str | None:
        """The column of several labels."""
        return self.named(names.LABELS, "labels") or next(
            (name for name in self.of("labels") if not names.named(name, names.CHOICES)), None
        )

    @property
    def target(self) -> str | None:
        """The number to predict: by its name, else the last number."""
        return self.named(names.TARGET, "number") or next(reversed(self.of("number")), None)


def guess_tasks(
    columns: Sequence[str],
    kinds: Mapping[str, Kind],
    wanted: Sequence[str] = (),
    inside: Callable[[str, str], bool] | None = None,
) -> list[_Found]:
    """Tasks with their columns, each with the reason: the wanted ones, or at most one that the columns suggest."""
    found = Columns(columns, kinds, inside)
    if wanted:
        return [(TaskSettings(name=name, columns=_roles(name, found)), "as you said") for name in wanted]
    name, why = _suggested(found)
    return [(TaskSettings(name=name, columns=_roles(name, found)), why)] if name else []


def _suggested(found: Columns) -> tuple[str | None, str]:
    reads = found.image is not None or bool(found.of("text"))
    first = suggested_first(found)
    if first[0]:
        return first
    if found.question and found.answer:
        return "answer", "a question and an answer column"
    following = suggested_next(found)
    if following[0]:
        return following
    if reads and found.named(names.LABEL, "category"):
        return "classify", "a column named as a class"
    if reads and found.labels:
        return "tag", "a column of several labels"
    if reads and found.named(names.TARGET, "number"):
        return "regress", "a column named as a number to predict"
    if found.image and found.named(_EXPLICIT_CAPTION, "text"):
        return "caption", "images and a column named as their description"
    if reads and found.of("category"):
        return "classify", "a column of few different values"
    if reads and len(found.of("number")) == 1:
        return "regress", "one column of numbers"
    if found.image and found.caption:
        return "caption", "images and free text"
    return suggested_last(found)


def _roles(task: str, found: Columns) -> dict[str, str]:
    roles: Mapping[str, str | None]
    of_text = text_roles(task)
    if of_text is not None:
        roles = of_text(found)
    elif task == "caption":
        roles = {"image": found.image, "caption": found.caption}
    elif task == "answer":
        roles = {
            "image": found.image,
            "question": found.question,
            "answer": found.answer,
            "type": names.first_named(found.all, names.TYPE),
        }
    elif task == "classify":
        label = found.label or found.named((*names.LABEL, *names.TARGET), "number", "text") or _last(found.of("number"))
        roles = {"image": found.image, "text": found.text(label), "label": label}
    elif task == "tag":
        labels = found.labels or found.named((*names.LABELS, *names.LABEL), "category", "text") or found.label
        roles = {"image": found.image, "text": found.text(labels), "labels": labels}
    elif task == "regress":
        target = found.target or found.named((*names.TARGET, *names.LABEL), "category")
        roles = {"image": found.image, "text": found.text(target), "target": target}
    elif task == "pretrain_image":
        roles = {"image": found.image, "label": found.label}
    elif task in ("retrieve", "match"):
        label = found.named((*names.BELONGS, *names.LABEL), "category", "number") if task == "match" else None
        roles = {
            "image": found.image,
            "text": found.caption if found.caption != label else found.text(label),
            "label": label,
            "type": names.first_named(found.all, names.TYPE),
        }
    elif task == "patch_classify":
        roles = {
            "image": found.image,
            "boxes": found.named(names.BOXES, "boxes") or next(iter(found.of("boxes")), None),
        }
    else:
        roles = _declared(task, found)
    return {role: column for role, column in roles.items() if column is not None}


def _declared(task: str, found: Columns) -> dict[str, str | None]:
    """Columns for a task of another package: by the role's own name, else the first column left of a kind that fits."""
    roles: dict[str, str | None] = {}
    for by_name in (True, False):
        for role, wanted in declared(task).items():
            if roles.get(role) is None and (by_name or wanted.required):
                free = [name for name in found.of(*wanted.kinds) if name not in roles.values()]
                named = names.first_named(free, (role,))
                roles[role] = named if by_name else next(iter(free), None)
    return {role: roles.get(role) for role in declared(task)}


def _last(names_: list[str]) -> str | None:
    return names_[-1] if names_ else None
