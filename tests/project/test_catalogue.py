"""Texts for people: both languages hold the same ones, the sources use all of them, and what is stored comes back."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
import string
from functools import cache
from pathlib import Path

import pytest

import rebus
from rebus.catalogue import LANGUAGES, Note, from_json, render, rendered, texts, to_json, translate
from rebus.recipe.kinds import KINDS

SOURCE = Path(rebus.__file__).parent
TEMPLATES = {
    "report/template.html.j2": "report",
    "explain/page.html.j2": "explain_page",
    "report/flow/page.html.j2": "flow_page",
    "report/flow/fragment.html.j2": "flow_page",
}
_STRING = r"""(?<!\w)(f?)(["'])((?:(?!\2)[^\n\s\\]){2,60})\2"""
_GAP = "\0"  # in place of what an f-string fills in


def gaps(text: str | list[str]) -> set[str]:
    """The arguments that a text names."""
    whole = text if isinstance(text, str) else " ".join(text)
    return {name for _, name, _, _ in string.Formatter().parse(whole) if name is not None}


def fits(pattern: str, key: str) -> bool:
    """Whether a string of a source, gaps of an f-string as a mark, can be a key."""
    return re.fullmatch(".+".join(map(re.escape, pattern.split(_GAP))), key) is not None


@cache
def sources() -> dict[str, str]:
    return {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}


def strings(source: str, before: str = "") -> set[str]:
    """Short strings of a source that follow ``before``, f-strings with a mark where they are filled in."""
    found = re.findall(before + _STRING, source)
    return {re.sub(r"\{[^{}]*\}", _GAP, text) if mark else text for mark, _, text in found}


def used_keys() -> set[str]:
    """Keys that some source or template names."""
    keys, used = set(texts("en")), set()
    by_group: dict[str, set[str]] = {}
    for key in keys:
        by_group.setdefault(key.split(".")[0], set()).add(key)
    whole = "".join(sources().values())
    used |= {key for key in keys if f'"{key}"' in whole or f"'{key}'" in whole}
    for source in sources().values():
        found = strings(source)
        patterns = {text for text in found if _GAP in text}
        used |= {
            key for text in patterns if "." in text for key in by_group.get(text.split(".")[0], ()) if fits(text, key)
        }
        bound = re.findall(r"\b(translator|group_of|translate_name|named)\(\s*\"([\w.]+)\"", source)
        bound += [("canvas", "plot")] if "from rebus.report.canvas import" in source else []  # whose texts it hands on
        for function, group in bound:
            for key in by_group.get(group.split(".")[0], ()):
                name = key.removeprefix(f"{group}.")
                if (
                    function in ("translate_name", "named")
                    or name in found
                    or f'"{name}"' in source
                    or any(fits(text, name) for text in patterns)
                ):
                    used.add(key)
    for template, group in TEMPLATES.items():
        used |= {
            f"{group}.{name}" for name in re.findall(r"texts\.(\w+)", (SOURCE / template).read_text(encoding="utf-8"))
        }
    return used


def test_both_languages_hold_the_same_texts() -> None:
    english, chinese = texts("en"), texts("zh")
    assert list(english) == list(chinese)
    for key, text in english.items():
        other = chinese[key]
        assert type(text) is type(other), key
        assert isinstance(text, str) or len(text) == len(other), key
        assert gaps(other) <= gaps(text), key
    han = re.compile("[\u4e00-\u9fff]")
    plain = {key for key, text in chinese.items() if not han.search("".join(text)) and not gaps(text)}
    assert {key for key in plain if not key.startswith("metric.")} <= {
        "compare.runs", "machine.gpu", "train.more_hint", "course.head", "verdict.join", "verdict.end",
    }  # fmt: skip


def test_every_key_that_a_source_names_exists() -> None:
    keys = texts("en")
    for path, source in sources().items():
        for text in strings(source, r"\b(?:translate|translate_list|label|Note|note_or_text|Error\.of)\(\s*"):
            if "." in text:
                assert text in keys or (_GAP in text and any(fits(text, key) for key in keys)), (path, text)


def test_no_key_is_left_that_nothing_uses() -> None:
    assert set(texts("en")) - used_keys() == set()


def test_a_language_that_is_not_there_is_refused() -> None:
    assert all(texts(lang) for lang in LANGUAGES)
    with pytest.raises(ValueError, match="fr"):
        texts("fr")
    with pytest.raises(KeyError):
        translate("no.such", "en")


def test_notes_are_english_and_come_back_from_a_file_in_any_language() -> None:
    inner = Note("target.label", name="a {b}")
    note = Note("remark.own_choice", text=[inner, "c"])
    assert note == "the model's own choice is 'label 'a {b}', c'"
    stored = json.loads(json.dumps(to_json({"notes": [note, "plain"]})))
    assert stored["notes"][0]["key"] == "remark.own_choice"
    assert "choice" not in json.dumps(stored["notes"][0]["arguments"])
    back = from_json(stored)["notes"]
    assert back == [note, "plain"]
    assert rendered(back[0], "zh") == "模型自己的选择是“类别“a {b}”、c”"
    assert render(3, "zh") == 3
    for again in (copy.deepcopy(note), pickle.loads(pickle.dumps(note))):  # noqa: S301 - our own bytes
        assert isinstance(again, Note)
        assert (again, again.key) == (note, note.key)
    assert from_json({"key": "gone.key", "arguments": {"n": 3}}) == "gone.key (n: 3)"


def test_kinds_baselines_and_reasons_have_a_text() -> None:
    source = sources()
    assert not re.findall(r'Guess\("\w+", f?"', source["data/column_kind.py"])
    names = {
        str(node.value.elts[1].value)
        for path, text in source.items()
        if path.startswith("tasks/")
        for function in ast.walk(ast.parse(text))
        if isinstance(function, ast.FunctionDef) and function.name in ("naive", "from_counts")
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)
        if isinstance(node.value.elts[1], ast.Constant)
    }
    assert len(names) > 12
    assert {name for name in names if f"baseline.{name}" not in texts("zh")} == set()
    assert {kind for kind in KINDS if f"kind.{kind}" not in texts("zh")} == set()
