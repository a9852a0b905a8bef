"""What cleaning changes and leaves out, in English and Chinese, and that all of it is counted."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebus.data.corpus import SCRUBBERS, CleaningReport, Document
from rebus.data.corpus.cleaning.cleaner import Cleaner, nfkc
from rebus.data.corpus.cleaning.languages import language_of
from rebus.data.corpus.cleaning.near import KeySet, NearIndex, key_of_text, shingles, signature
from rebus.data.corpus.cleaning.scrub import is_chinese_id, passes_luhn, scrub_pii
from rebus.data.corpus.cleaning.seen import Seen
from rebus.data.corpus.prepare import clean_text
from rebus.errors import RecipeError, RunError
from rebus.recipe import Clean, Recipe


def test_nfkc_keeps_chinese_marks_unless_told() -> None:
    text = "Ｈｅｌｌｏ，世界！（ﬁne）…１２３％\n第二行：「好」。"
    assert nfkc(text) == "Hello，世界！（fine）…123%\n第二行：「好」。"
    assert nfkc(text, full_width=False) == "Hello,世界!(fine)...123%\n第二行:「好」。"
    assert nfkc("plain\n\n") == "plain\n\n"


@given(st.text())
def test_nfkc_is_unicodes_but_for_those_marks(text: str) -> None:
    assert nfkc(text, full_width=False) == unicodedata.normalize("NFKC", text)
    assert nfkc(nfkc(text)) == nfkc(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail jane.doe+x@mail.example.co.uk now", "mail <EMAIL> now"),
        ("邮箱zhang@example.cn，电话13812345678。", "邮箱<EMAIL>，电话<PHONE>。"),
        ("+86 138-1234-5678 或 138 1234 5678", "<PHONE> 或 <PHONE>"),
        ("座机010-62345678", "座机<PHONE>"),
        ("call (212) 555-0123 or 212-555-0123 or +44 20 7946 0958", "call <PHONE> or <PHONE> or <PHONE>"),
        ("身份证11010519491231002X号", "身份证<ID>号"),
        ("ssn 123-45-6789", "ssn <ID>"),
        ("card 4111 1111 1111 1111 and 4111111111111112", "card <CARD> and 4111111111111112"),
        ("from 192.168.1.254 and 2001:db8::ff00:42:8329", "from <IP> and <IP>"),
    ],
)
def test_personal_data_is_replaced(text: str, expected: str) -> None:
    found, counts = scrub_pii(text)
    assert found == expected
    assert sum(counts.values()) == expected.count("<")


@pytest.mark.parametrize(
    "text",
    [
        "In 1984 and 2001, 12:30:45, pages 100-200, ISBN 978-3-16-148410-0",
        "version 1.2.3, 999.1.1.1, 3.14159265358979, $1,234,567.89",
        "身份证110105194912310021号不对，2024-05-12，编号20240512001",
        "me@ home, a @ b, @handle, user@localhost, std::vector<int>::iterator",
        "0123456789012345678901234567890123456789",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert scrub_pii(text) == (text, {})


def test_checksums() -> None:
    assert is_chinese_id("11010519491231002X")
    assert not is_chinese_id("110105194913310021")  # month 13
    assert passes_luhn("79927398713")
    assert not passes_luhn("79927398710")


def test_scrubbing_a_megabyte_of_signs_is_quick() -> None:
    for unit in ("a", "1", "1-", "a.", ":", "1.", "+1 ", "a@"):
        scrub_pii(unit * (200_000 // len(unit)))


def test_a_scrubber_can_be_plugged_in() -> None:
    @SCRUBBERS.register("names-of-tests")
    def scrub(text: str) -> tuple[str, dict[str, int]]:
        return text.replace("Alice", "<NAME>"), {"NAME": text.count("Alice")}

    cleaner = Cleaner(Clean(pii=True, scrubbers=["names-of-tests"]))
    assert cleaner.rewrite("Alice: a@b.example") == ("<NAME>: <EMAIL>", {"EMAIL": 1, "NAME": 1})
    with pytest.raises(RecipeError, match="did you mean 'names-of-tests'"):
        Cleaner(Clean(scrubbers=["names-of-test"]))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The quick brown fox jumps over the lazy dog and runs away.", "en"),
        ("床前明月光，疑是地上霜。", "zh"),
        ("國破山河在，城春草木深。感時花濺淚，恨別鳥驚心。", "zh"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "ja"),
        ("Der schnelle braune Fuchs springt über den faulen Hund und läuft weg.", "de"),
        ("Hi!", None),
    ],
)
def test_languages_are_told(text: str, code: str | None) -> None:
    assert language_of(text) == code


def test_unknown_languages_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"corpus\.clean\.languages"):
        Cleaner(Clean(languages=["english"]))


def cleaned(text: str, **settings: object) -> tuple[str, str]:
    made = Cleaner(Clean(**settings))(Document(text, "a"))  # type: ignore[arg-type]
    return made.text, made.reason


def test_reasons() -> None:
    assert cleaned("  text \n") == ("text", "")
    assert cleaned(" \n　") == ("", "empty")
    assert cleaned("短", min_chars=2) == ("", "short")
    assert cleaned("too long", max_chars=3) == ("", "long")
    assert cleaned("bad \udfff byte") == ("", "undecodable")
    assert cleaned("Ceci est un texte en français, assez long pour être reconnu.", languages=["en", "zh"]) == (
        "",
        "language",
    )
    assert set(cleaned("1 \ud83d 2")[0]) == set("1 \ufffd2")
    part = Cleaner(Clean(min_chars=50))(Document(" part ", "a", begins=False, more=True))
    assert (part.text, part.reason) == (" part ", "")
    assert Cleaner(Clean(max_chars=50))(Document("part", "a", more=True)).reason == "long"


WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "rain",
    "fell",
    "upon",
    "old",
    "grey",
    "roofs",
    "of",
    "our",
    "quiet",
    "little",
    "town",
]


def test_near_duplicates_in_both_languages() -> None:
    english = " ".join(WORDS * 3)
    chinese = "今天天气很好，我们一起去公园散步，看见许多漂亮的花和小鸟，孩子们在草地上玩耍，大家都很高兴。"
    for text, near, far in (
        (english, english.replace("quiet", "noisy", 1), " ".join(reversed(WORDS * 3))),
        (
            chinese,
            chinese.replace("高兴", "开心"),
            "股票市场昨天大幅下跌，投资者纷纷抛售股票，专家认为短期内难以恢复。",
        ),
    ):
        index = NearIndex(0.6)
        index.add(signature(text))
        assert signature(near) in index
        assert signature(far) not in index
    assert shingles("Two cats, two CATS") == {b"two cats two", b"cats two cats"}
    assert shingles("我是猫，你是狗") == {"我是猫你是".encode(), "是猫你是狗".encode()}


def test_signatures_estimate_likeness() -> None:
    one, two = " ".join(map(str, range(2000))), " ".join(map(str, range(400, 2400)))
    first, second = shingles(one), shingles(two)
    true = len(first & second) / len(first | second)
    assert float((signature(one) == signature(two)).mean()) == pytest.approx(true, abs=0.12)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_a_key_set_is_a_set(keys: list[int]) -> None:
    made, known = KeySet(), set()
    for key in [*keys, *keys]:
        assert (key in made) == ((key or 1) in known)
        assert made.add(key) == ((key or 1) not in known)
        known.add(key or 1)
    assert len(made) == len(known)


def test_a_key_set_grows() -> None:
    made = KeySet()
    keys = [key_of_text(str(number)) for number in range(10_000)]
    assert [made.add(key) for key in keys] == [True] * len(keys)
    assert all(key in made for key in keys)
    assert key_of_text("a  b\n c") == key_of_text("a b c") != key_of_text("a b d")


def test_what_was_seen_is_remembered_on_disk(tmp_path: Path) -> None:
    settings = Clean(near=0.8)
    cleaner = Cleaner(settings)
    texts = [" ".join(WORDS), "something else altogether, about ships", "and a third text of a few words here"]
    seen = Seen(tmp_path / "seen", settings)
    assert [seen.reason(cleaner(Document(text, "a"))) for text in texts] == ["", "", ""]
    committed = seen.commit()
    seen.reason(cleaner(Document("written after the last commit, and so lost", "a")))
    seen.close()
    again = Seen(tmp_path / "seen", settings, committed)
    assert [again.reason(cleaner(Document(text, "a"))) for text in texts] == ["same"] * 3
    assert again.reason(cleaner(Document(" ".join(WORDS).upper(), "a"))) == "nearly the same"
    assert again.reason(cleaner(Document("written after the last commit, and so lost", "a"))) == ""
    again.close()
    with pytest.raises(RunError, match=r"manifest\.json says"):
        Seen(tmp_path / "seen", settings, 99)


def test_the_report_counts_everything(tmp_path: Path) -> None:
    rows = ["one text here", "one  text here", "另一篇文章", "", "Ｗｉｄｅ text", "x@y.example wrote", "a"]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows) + "broken\n")
    recipe = Recipe.model_validate(
        {"data": {"path": str(path), "on_bad": "skip"}, "corpus": {"clean": {"pii": True, "min_chars": 2}}}
    )
    out = tmp_path / "clean.jsonl.zst"
    report = clean_text(recipe, out)
    assert (report.read, report.kept) == (8, 4)
    assert report.left_out == {"same": 1, "empty": 1, "short": 1, "bad row": 1}
    assert report.changed == {"nfkc": 1, "EMAIL": 1}
    assert report.examples["same"] == ["a.jsonl, line 2: one text here"]
    assert "a.jsonl, line 8" in report.examples["bad row"][0]
    kept = ["one text here", "另一篇文章", "Wide text", "<EMAIL> wrote"]
    assert report.kept_characters == sum(map(len, kept))
    assert report.kept_bytes == sum(len(text.encode()) for text in kept)
    again = clean_text(Recipe.model_validate({"data": {"path": str(out)}}))
    assert (again.read, again.kept) == (4, 4)
    assert CleaningReport(**json.loads(json.dumps(report.as_dict()))) == report
    told = "\n".join(report.lines())
    for fact in ("8 documents", "4 kept", "left out, same: 1", "changed, EMAIL: 1"):
        assert fact in told
    recipe = recipe.replace({"data.workers": 2})
    assert clean_text(recipe) == report
