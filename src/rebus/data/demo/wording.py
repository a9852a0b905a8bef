"""Questions about a scene and their exact answers, the same facts in English and in Chinese.

Knows nothing of pixels: a scene's things, their boxes and its background are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rebus.data.demo.pack import Kind
from rebus.data.demo.scenes import Placed

LANGUAGES = ("en", "zh")
TYPES = ("caption", "existence", "count", "where", "left", "above", "background")
CLEAR = 0.12  # of the image's side: how far one centre stands above another before anybody is asked about it

EDGE = 0.035  # of the side: how far a centre is from the lines between thirds before anybody asks where it is

ASKED: dict[str, dict[str, tuple[str, ...]]] = {
    "caption": {
        "en": ("What is in the image?", "Describe the image.", "What do you see, from left to right?"),
        "zh": ("图里有什么？", "请描述这张图。", "从左到右有哪些东西？"),
    },
    "existence": {
        "en": ("Is there {a}?", "Do you see {a}?", "Does the image show {a}?"),
        "zh": ("图里有{noun}吗？", "有没有{noun}？", "这张图里有没有{noun}？"),
    },
    "count": {
        "en": ("How many things are there?", "How many things are in the image?"),
        "zh": ("图里有几个东西？", "一共有多少个东西？"),
    },
    "where": {
        "en": ("Where is the {noun}?",),
        "zh": ("{noun}在哪里？",),
    },
    "left": {
        "en": ("What is just left of the {noun}?",),
        "zh": ("{noun}左边挨着什么？",),
    },
    "above": {
        "en": ("Is the {noun} above the {other}?",),
        "zh": ("{noun}在{other}的上面吗？",),
    },
    "background": {
        "en": ("What colour is the background?", "Which colour is behind the things?"),
        "zh": ("背景是什么颜色？", "背景的颜色是什么？"),
    },
}
NUMBERS = {"en": ("zero", "one", "two", "three", "four"), "zh": ("零", "一", "两", "三", "四")}
COLOURS_ZH = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色",
    "blue": "蓝色", "purple": "紫色", "grey": "灰色", "white": "白色",
}  # fmt: skip
PLACES = {  # rows from top to bottom, columns from left to right
    "en": (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right")),
    "zh": (("左上角", "上边", "右上角"), ("左边", "正中间", "右边"), ("左下角", "下边", "右下角")),
}
YES_NO = {
    "existence": {"en": ("yes", "no"), "zh": ("有", "没有")},
    "above": {"en": ("yes", "no"), "zh": ("是", "不是")},
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question in one language, with its one right answer."""

    type: str
    language: str
    question: str
    answer: str


def with_article(kind: Kind, language: str) -> str:
    """``a dog`` or ``一只狗``."""
    return f"{kind.article} {kind.en}" if language == "en" else f"一{kind.measure}{kind.zh}"


def noun(kind: Kind, language: str) -> str:
    """``dog`` or ``狗``."""
    return kind.en if language == "en" else kind.zh


def caption(things: Sequence[Placed], language: str) -> str:
    """What is in the image, in reading order: ``an apple, a dog and a bell``, ``一个苹果、一只狗和一个铃铛``."""
    words = [with_article(thing.kind, language) for thing in things]
    if len(words) == 1:
        return words[0]
    comma, last = (", ", " and ") if language == "en" else ("、", "和")
    return comma.join(words[:-1]) + last + words[-1]


def number(count: int, language: str) -> str:
    """``two`` or ``两个``."""
    return NUMBERS["en"][count] if language == "en" else f"{NUMBERS['zh'][count]}个"


def third(place: float) -> int | None:
    """Which third of the side (0, 1, 2) a place from 0 to 1 is in; None within ``EDGE`` of a line between two."""
    return None if min(abs(place - 1 / 3), abs(place - 2 / 3)) < EDGE else int(place * 3)


def questions(
    things: Sequence[Placed], background: str, kinds: Sequence[Kind], rng: np.random.Generator
) -> list[Question]:
    """About ten questions in English and the same ones in Chinese.

    Args:
        things: of the scene, in reading order.
        background: the name of its colour.
        kinds: those the scene could have shown; absent ones are asked about as often as present ones.
        rng: chooses what is asked and in which words.

    Returns:
        Facts in a fixed order, each in English and then in Chinese. ``left`` asks for the neighbour in reading order;
        ``where`` only of things whose centre is clear of the lines between thirds of the image; ``above`` only of
        things whose centres are ``CLEAR`` apart.
    """
    asked: list[Question] = []

    def ask(kind: str, answers: dict[str, str], *about: Kind) -> None:
        for language in LANGUAGES:
            wordings = ASKED[kind][language]
            words = {"noun": noun(about[0], language), "a": with_article(about[0], language)} if about else {}
            if len(about) > 1:
                words["other"] = noun(about[1], language)
            question = wordings[int(rng.integers(len(wordings)))].format(**words)
            asked.append(Question(kind, language, question, answers[language]))

    def yes_no(kind: str, true: bool) -> dict[str, str]:
        return {language: YES_NO[kind][language][0 if true else 1] for language in LANGUAGES}

    ask("caption", {language: caption(things, language) for language in LANGUAGES})
    pairs = min(2, len(things))
    present = [thing.kind for thing in things]
    absent = [kind for kind in kinds if kind not in present]
    pairs = min(pairs, len(absent))
    about = [(present[int(i)], True) for i in rng.choice(len(present), pairs, replace=False)]
    about += [(absent[int(i)], False) for i in rng.choice(len(absent), pairs, replace=False)]
    for i in rng.permutation(len(about)):  # else the order would tell the answer
        ask("existence", yes_no("existence", about[i][1]), about[i][0])
    ask("count", {language: number(len(things), language) for language in LANGUAGES})
    placed = [thing for thing in things if third(thing.centre[0]) is not None and third(thing.centre[1]) is not None]
    for i in rng.permutation(len(placed))[:2]:
        column, row = third(placed[i].centre[0]), third(placed[i].centre[1])
        assert column is not None  # noqa: S101 - chosen so
        assert row is not None  # noqa: S101
        ask("where", {language: PLACES[language][row][column] for language in LANGUAGES}, placed[i].kind)
    if len(things) > 1:
        at = int(rng.integers(1, len(things)))
        ask("left", {language: noun(things[at - 1].kind, language) for language in LANGUAGES}, things[at].kind)
    clear = [
        (item, other)
        for item in things
        for other in things
        if item is not other and abs(item.centre[1] - other.centre[1]) >= CLEAR
    ]
    if clear:  # every pair is there both ways round, so yes and no are equally likely
        item, other = clear[int(rng.integers(len(clear)))]
        ask("above", yes_no("above", item.centre[1] < other.centre[1]), item.kind, other.kind)
    ask("background", {"en": background, "zh": COLOURS_ZH[background]})
    return asked
