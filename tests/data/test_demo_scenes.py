"""Scenes and questions: repeatable, nothing overlaps, every answer is true of the boxes."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from rebus.data.demo import wording
from rebus.data.demo.pack import Kind, load_pack
from rebus.data.demo.scenes import BACKGROUNDS, Placed, Scene, compose

ARTISTS = ("noto", "emojione", "streamline-emojis")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "augmented"])
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [compose(3, i, ARTISTS, augment=request.param) for i in range(120)]


def test_the_same_arguments_give_the_same_pixels() -> None:
    for augment in (False, True):
        one, again = (compose(5, 7, ARTISTS, augment=augment) for _ in range(2))
        assert np.array_equal(one.pixels, again.pixels)
        assert one.things == again.things
    others = [compose(6, 7, ARTISTS), compose(5, 11, ARTISTS), compose(5, 7, ARTISTS, stream=1)]
    assert len({scene.pixels.tobytes() for scene in [compose(5, 7, ARTISTS), *others]}) == 4


def test_things_keep_apart_and_stay_inside(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.pixels.shape == (96, 96, 3)
        for thing in scene.things:
            x0, y0, x1, y1 = thing.box
            assert 0 < x0 < x1 < 1
            assert 0 < y0 < y1 < 1
            assert max(x1 - x0, y1 - y0) * 96 > 12
        for a, b in itertools.combinations(scene.things, 2):
            gap = max(a.box[0] - b.box[2], b.box[0] - a.box[2], a.box[1] - b.box[3], b.box[1] - a.box[3])
            assert gap * 96 > 1.9
            assert abs(a.centre[0] - b.centre[0]) * 96 > 6.9  # the reading order is never in doubt


def test_a_thing_is_where_its_box_says() -> None:
    for i in range(0, 40, 4):  # one thing each
        scene = compose(9, i, ARTISTS)
        (x0, y0, x1, y1) = (round(v * 96) for v in scene.things[0].box)
        rest = scene.pixels.astype(int)
        ground = np.median(rest.reshape(-1, 3), axis=0)
        inside = np.abs(rest[y0:y1, x0:x1] - ground).sum(2).mean()
        rest[y0:y1, x0:x1] = ground
        assert inside > 2 * np.abs(rest - ground).sum(2).mean()


def test_counts_kinds_and_artists(scenes: list[Scene]) -> None:
    assert Counter(len(scene.things) for scene in scenes) == {1: 30, 2: 30, 3: 30, 4: 30}
    assert {scene.artist for scene in scenes} == set(ARTISTS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    for scene in scenes:
        assert len({thing.kind for thing in scene.things}) == len(scene.things)
        xs = [thing.centre[0] for thing in scene.things]
        assert xs == sorted(xs)


def test_fewer_kinds_and_other_sizes() -> None:
    few = {kind.name for kind in load_pack().kinds[:8]}
    for i in range(16):
        scene = compose(1, i, ("twemoji",), size=64, kinds=8, augment=True)
        assert scene.pixels.shape == (64, 64, 3)
        assert {thing.kind.name for thing in scene.things} <= few


def test_augmentation_redraws_the_things_only() -> None:
    plain, redrawn = (compose(2, 0, ("noto",), augment=augment) for augment in (False, True))
    assert plain.things[0].kind == redrawn.things[0].kind
    assert not np.array_equal(plain.pixels, redrawn.pixels)


def test_a_background_looks_like_its_name() -> None:
    names = list(BACKGROUNDS)
    shades = np.array([BACKGROUNDS[name] for name in names], float)
    for i in range(0, 80, 4):
        scene = compose(4, i, ARTISTS)
        seen = np.median(scene.pixels.reshape(-1, 3), axis=0)
        assert names[int(((shades - seen) ** 2).sum(1).argmin())] == scene.background


def asked(scene: Scene, seed: int) -> list[wording.Question]:
    return wording.questions(scene.things, scene.background, load_pack().kinds, np.random.default_rng(seed))


def mentioned(question: str, language: str) -> list[Kind]:
    """The kinds a question names, in the order it names them; the longest noun wins where one holds another."""
    found: list[tuple[int, Kind]] = []
    for kind in sorted(load_pack().kinds, key=lambda k: -len(wording.noun(k, language))):
        word = wording.noun(kind, language)
        if word in question:
            found.append((question.index(word), kind))
            question = question.replace(word, "\0" * len(word))
    return [kind for _, kind in sorted(found, key=lambda pair: pair[0])]


def true_answer(question: wording.Question, scene: Scene) -> str:
    """The answer worked out from the boxes alone, another way than the composer's."""
    zh = question.language == "zh"
    by_x = sorted(scene.things, key=lambda t: t.box[0] + t.box[2])
    if question.type == "caption":
        words = [f"一{t.kind.measure}{t.kind.zh}" if zh else f"{t.kind.article} {t.kind.en}" for t in by_x]
        ends = ("和" if zh else " and ").join(words[-2:])
        return ("、" if zh else ", ").join([*words[:-2], ends])
    if question.type == "count":
        return ("一个", "两个", "三个", "四个")[len(by_x) - 1] if zh else ("one", "two", "three", "four")[len(by_x) - 1]
    if question.type == "background":
        return wording.COLOURS_ZH[scene.background] if zh else scene.background
    kinds = mentioned(question.question, question.language)
    placed: dict[Kind, Placed] = {thing.kind: thing for thing in scene.things}
    if question.type == "existence":
        (kind,) = kinds
        return ("有" if kind in placed else "没有") if zh else ("yes" if kind in placed else "no")
    if question.type == "left":
        (kind,) = kinds
        left = [t for t in by_x if t.centre[0] < placed[kind].centre[0]]
        nearest = max(left, key=lambda t: t.centre[0])
        return nearest.kind.zh if zh else nearest.kind.en
    if question.type == "where":
        (kind,) = kinds
        (x, y), words = (
            placed[kind].centre,
            ("左中右", "上中下") if zh else (("left", "", "right"), ("top", "", "bottom")),
        )
        column, row = ((0 if c < 1 / 3 else 1 if c < 2 / 3 else 2) for c in (x, y))
        assert min(abs(c - line) for c in (x, y) for line in (1 / 3, 2 / 3)) >= wording.EDGE
        if row == column == 1:
            return "正中间" if zh else "centre"
        if zh:
            return (
                f"{words[0][column]}{words[1][row]}角"
                if 1 not in (row, column)
                else f"{words[0][column] if row == 1 else words[1][row]}边"
            )
        return f"{words[1][row]} {words[0][column]}".strip()
    one, other = (placed[kind] for kind in kinds)
    assert abs(one.centre[1] - other.centre[1]) >= wording.CLEAR
    above = one.box[1] + one.box[3] < other.box[1] + other.box[3]
    return ("是" if above else "不是") if zh else ("yes" if above else "no")


def test_every_answer_is_true_of_the_boxes(scenes: list[Scene]) -> None:
    types = Counter()
    for i, scene in enumerate(scenes):
        for question in asked(scene, i):
            assert question.answer == true_answer(question, scene), question
            types[question.type] += 1
    assert set(types) == set(wording.TYPES)
    assert 3.0 <= types["existence"] / 2 / len(scenes) <= 4.0


def test_yes_and_no_are_balanced(scenes: list[Scene]) -> None:
    answers: dict[str, Counter[str]] = {"existence": Counter(), "above": Counter()}
    for i in range(10):
        for j, scene in enumerate(scenes):
            for question in asked(scene, 1000 * i + j):
                if question.type in answers and question.language == "en":
                    answers[question.type][question.answer] += 1
    assert answers["existence"]["yes"] == answers["existence"]["no"]
    share = answers["above"]["yes"] / answers["above"].total()
    assert abs(share - 0.5) < 0.06


def test_both_languages_are_asked_the_same(scenes: list[Scene]) -> None:
    for i, scene in enumerate(scenes):
        questions = asked(scene, i)
        en, zh = questions[0::2], questions[1::2]
        assert [q.language for q in en] == ["en"] * len(zh)
        assert [q.type for q in en] == [q.type for q in zh]
        for one, other in zip(en, zh, strict=True):
            assert mentioned(one.question, "en") == mentioned(other.question, "zh")


def test_captions_read_naturally() -> None:
    kinds = {kind.en: kind for kind in load_pack().kinds}
    things = [Placed(kinds[noun], (0, 0, 1, 1)) for noun in ("apple", "dog", "guitar")]
    assert wording.caption(things, "en") == "an apple, a dog and a guitar"
    assert wording.caption(things, "zh") == "一个苹果、一只狗和一把吉他"
    assert wording.caption(things[:1], "zh") == "一个苹果"
    assert wording.caption(things[:2], "en") == "an apple and a dog"
