"""Files that are not UTF-8: each is read in its own encoding, or refused; never in another."""

from __future__ import annotations

import codecs
import random
from pathlib import Path

import pytest

from rebus import api
from rebus.data.corpus.reading.streams import read_text
from rebus.data.encodings import EncodingError, decode_text, find_encoding, garbled
from rebus.data.readers import read_table
from rebus.errors import DataError
from rebus.recipe import Data

SENTENCES = [
    (
        ["gb18030"],
        [
            "这部电影非常好看，值得推荐。",
            "服务态度很差，再也不会来了。",
            "今天天气不错，我们去公园散步吧。",
            "这个手机的电池不耐用，屏幕却很清晰。",
        ],
    ),
    (
        ["big5"],
        [
            "這部電影非常好看，值得推薦。",
            "服務態度很差，再也不會來了。",
            "今天天氣不錯，我們去公園散步吧。",
            "這個手機的電池不耐用，螢幕卻很清晰。",
        ],
    ),
    (
        ["cp949", "euc-kr"],
        [
            "서비스가 정말 친절하고 좋았어요.",
            "음식이 너무 짜고 맛이 없었습니다.",
            "배송이 빨라서 만족합니다.",
            "오늘은 날씨가 맑아서 공원에 갔다.",
        ],
    ),
    (
        ["cp932", "euc-jp", "iso-2022-jp"],
        [
            "この映画はとても面白かったです。",
            "店員の態度が悪くて残念でした。",
            "今日は天気が良いので公園に行きました。",
            "電池がすぐに切れるので使いにくい。",
        ],
    ),
    (
        ["cp1251", "koi8-r", "cp866"],
        [
            "Этот фильм мне очень понравился.",
            "Обслуживание было ужасным, больше не приду.",
            "Сегодня хорошая погода, мы гуляли в парке.",
            "Батарея быстро садится, зато экран яркий.",
        ],
    ),
    (
        ["cp1251"],
        [
            "Цей фільм мені дуже сподобався.",
            "Обслуговування було жахливим, більше не прийду.",
            "Сьогодні гарна погода, ми гуляли в парку.",
            "Батарея швидко сідає, зате екран яскравий.",
        ],
    ),
    (
        ["cp1251"],
        [
            "Този филм много ми хареса.",
            "Обслужването беше ужасно, няма да дойда пак.",
            "Днес времето е хубаво и се разхождахме в парка.",
            "Батерията пада бързо, но екранът е ярък.",
        ],
    ),
    (
        ["cp1253", "iso8859-7"],
        [
            "Αυτή η ταινία μου άρεσε πάρα πολύ.",
            "Η εξυπηρέτηση ήταν απαίσια, δεν θα ξαναέρθω.",
            "Σήμερα ο καιρός είναι καλός και πήγαμε στο πάρκο.",
            "Η μπαταρία τελειώνει γρήγορα αλλά η οθόνη είναι φωτεινή.",
        ],
    ),
    (
        ["cp1254"],
        [
            "Bu filmi çok beğendim, herkese öneririm.",
            "Hizmet çok kötüydü, bir daha gelmeyeceğim.",
            "Bugün hava güzel olduğu için parka gittik.",
            "Pil çabuk bitiyor ama ekranı parlak.",
        ],
    ),
    (
        ["cp1255"],
        [
            "הסרט הזה היה נהדר ואני ממליץ עליו.",
            "השירות היה גרוע מאוד, לא אחזור לכאן.",
            "היום מזג האוויר יפה והלכנו לפארק.",
            "הסוללה נגמרת מהר אבל המסך בהיר.",
        ],
    ),
    (
        ["cp1256", "iso8859-6"],
        [
            "أعجبني هذا الفيلم كثيرا وأنصح به.",
            "كانت الخدمة سيئة جدا ولن أعود مرة أخرى.",
            "الطقس جميل اليوم وذهبنا إلى الحديقة.",
            "البطارية تنفد بسرعة لكن الشاشة واضحة.",
        ],
    ),
    (
        ["cp1256"],
        [
            "اين فيلم خيلي خوب بود و آن را پيشنهاد مي كنم.",
            "خدمات بسيار بد بود و ديگر نمي آيم.",
            "امروز هوا خوب است و ما به پارك رفتيم.",
            "باتري زود تمام مي شود ولي صفحه روشن است.",
        ],
    ),
    (
        ["cp874"],
        [
            "หนังเรื่องนี้สนุกมาก แนะนำให้ดู",
            "บริการแย่มาก จะไม่มาอีกแล้ว",
            "วันนี้อากาศดี เราไปเดินเล่นที่สวนสาธารณะ",
            "แบตเตอรี่หมดเร็วแต่หน้าจอชัดเจน",
        ],
    ),
    (
        ["cp1250", "iso8859-2"],
        [
            "Ten film bardzo mi się podobał.",
            "Obsługa była okropna, więcej tu nie przyjdę.",
            "Dzisiaj jest ładna pogoda i poszliśmy do parku.",
            "Bateria szybko się rozładowuje, ale ekran jest jasny.",
        ],
    ),
    (
        ["cp1250"],
        [
            "Tento film se mi moc líbil.",
            "Obsluha byla hrozná, už sem nepřijdu.",
            "Dnes je hezké počasí a šli jsme do parku.",
            "Baterie se rychle vybíjí, ale displej je jasný.",
        ],
    ),
    (
        ["cp1250"],
        [
            "Ez a film nagyon tetszett nekem.",
            "A kiszolgálás szörnyű volt, többet nem jövök.",
            "Ma szép az idő, ezért kimentünk a parkba.",
            "Az akkumulátor gyorsan lemerül, de a kijelző fényes.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Ce film m'a beaucoup plu, je le recommande.",
            "Le service était affreux, je ne reviendrai plus.",
            "Aujourd'hui il fait beau et nous sommes allés au parc.",
            "Où est le garçon qui a mangé la pêche ? Là-bas, près de la forêt.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Dieser Film hat mir sehr gefallen, schön gemacht.",
            "Die Bedienung war schrecklich, ich komme nicht wieder.",
            "Heute ist das Wetter schön und wir gingen in den Park.",
            "Die Straße ist über zehn Kilometer lang und führt nach München.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Esta película me gustó muchísimo.",
            "El servicio fue pésimo, no volveré jamás.",
            "Hoy hace buen tiempo y fuimos al jardín.",
            "La batería dura poco, pero la pantalla es clara.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Este filme agradou-me muito, não é maçador.",
            "O serviço foi péssimo, não voltarei.",
            "Hoje está bom tempo e fomos ao jardim.",
            "A bateria acaba depressa, mas o ecrã é nítido.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Den här filmen tyckte jag mycket om.",
            "Servicen var hemsk, jag kommer inte tillbaka.",
            "I dag är vädret fint och vi gick till parken.",
            "Batteriet tar slut fort men skärmen är ljus.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Questo film mi è piaciuto molto, perché è divertente.",
            "Il servizio era pessimo, non tornerò più.",
            "Oggi il tempo è bello e siamo andati al parco.",
            "La batteria dura poco, ma lo schermo è luminoso.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Denne film var rigtig god, og jeg kan anbefale den på det varmeste.",
            "Betjeningen var rædselsfuld, jeg kommer aldrig igen.",
            "I dag er vejret smukt, så vi gik en tur i skoven.",
            "Skærmen er klar, men batteriet løber hurtigt tør.",
        ],
    ),
    (
        ["cp1257"],
        [
            "Šis filmas man labai patiko.",
            "Aptarnavimas buvo siaubingas, daugiau čia neateisiu.",
            "Šiandien gražus oras ir mes nuėjome į parką.",
            "Baterija greitai išsikrauna, bet ekranas ryškus.",
        ],
    ),
    (
        ["cp1250"],
        [
            "Acest film mi-a placut foarte mult, în sfârşit.",
            "Serviciul a fost îngrozitor, nu mai vin aici niciodată.",
            "Astăzi vremea este frumoasă şi am mers în parc.",
            "Bateria se descarcă repede, dar ecranul este luminos.",
        ],
    ),
    (
        ["cp1252"],
        [
            "I didn’t like this film at all.",
            "The “best” soup in town, they said.",
            "Great value – would buy again.",
            "The room was £80 a night.",
            "We waited… and waited.",
            "It’s a small café near the station.",
        ],
    ),
    (
        ["cp1252"],
        [
            "Aquesta pel·lícula m'ha agradat molt.",
            "El servei va ser pèssim, no hi tornaré més.",
            "Avui fa bon temps; això és perfecte.",
        ],
    ),
    (["cp1252"], ["Tá an scannán seo go hiontach.", "Bhí an tseirbhís uafásach ar fad."]),
    (["cp1257"], ["Šī filma man ļoti patika.", "Apkalpošana bija briesmīga, vairs nenākšu.", "Mēs gājām uz parku."]),
    (["cp1250"], ["Film mi se jako svidio, šteta što je kratak.", "Usluga je bila užasna, neću više doći."]),
    (["cp1251"], ["Овај филм ми се веома допао.", "Услуга је била ужасна, нећу се вратити."]),
    (["cp1251"], ["ЭТОТ ФИЛЬМ МНЕ ПОНРАВИЛСЯ", "ОБСЛУЖИВАНИЕ БЫЛО УЖАСНЫМ", "СЕГОДНЯ ХОРОШАЯ ПОГОДА"]),
]
ENGLISH = [
    "The film was good and I would see it again.",
    "Service was slow, but the food was fine.",
    "Great value for the money.",
    "The screen broke after two days.",
    "My order never arrived.",
]
CASES = [(encoding, texts) for encodings, texts in SENTENCES for encoding in encodings]


def table(texts: list[str], rows: int, foreign: int, seed: int) -> str:
    """A table of ``rows`` rows, ``foreign`` of them in the language, the others in English."""
    rng = random.Random(seed)
    places = set(rng.sample(range(rows), foreign))
    lines = [
        f'{i},"{rng.choice(texts if i in places else ENGLISH)} {rng.randrange(100)}",{rng.choice(["pos", "neg"])}'
        for i in range(rows)
    ]
    return "id,text,label\r\n" + "\r\n".join(lines) + "\r\n"


def read_or_none(content: bytes) -> str | None:
    try:
        return decode_text(content, "a.csv")[0]
    except EncodingError:
        return None


@pytest.mark.parametrize(("encoding", "texts"), CASES)
@pytest.mark.parametrize("rows", [20])
def test_tables_in_old_encodings_are_read_right(encoding: str, texts: list[str], rows: int) -> None:
    content = table(texts, rows, rows, seed=rows).encode(encoding)
    text, found = decode_text(content, "a.csv")
    assert text == content.decode(encoding)
    assert found.guessed


@pytest.mark.parametrize(("encoding", "texts"), CASES)
@pytest.mark.parametrize(("rows", "foreign"), [(40, 1), (30, 3)])
def test_a_few_foreign_rows_are_read_right_or_refused(encoding: str, texts: list[str], rows: int, foreign: int) -> None:
    content = table(texts, rows, foreign, seed=foreign).encode(encoding)
    assert read_or_none(content) in (content.decode(encoding), None)


@pytest.mark.parametrize(
    "word", ["café", "naïve", "Zoë", "£80", "5 €", "it’s", "“so”", "Łódź", "Çağrı", "ő", "Αθήνα", "мир"]
)
@pytest.mark.parametrize("encoding", ["cp1252", "cp1250", "cp1254", "cp1253", "cp1251", "mac_roman"])
def test_one_word_beyond_ascii_is_read_right_or_refused(word: str, encoding: str) -> None:
    try:
        content = (table(ENGLISH, 30, 0, seed=1) + f'30,"It was {word} again",pos\r\n').encode(encoding)
    except UnicodeEncodeError:
        return
    assert read_or_none(content) in (content.decode(encoding), None)


def test_western_files_with_a_few_letters_are_not_refused() -> None:
    for word in ("café au lait", "it’s “so” good", "only 5 €", "£80 a night", "élan déjà vu"):
        content = (table(ENGLISH, 30, 0, seed=1) + f'30,"It was {word} again",pos\r\n').encode("cp1252")
        assert word in decode_text(content, "a.csv")[0]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_never_a_guess(encoding: str) -> None:
    for _, texts in SENTENCES:
        content = table(texts, 20, 20, seed=3)
        text, found = decode_text(content.encode(encoding), "a.csv")
        assert text == content
        assert not found.guessed


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        ("cp1253", ["ΑΥΤΗ Η ΤΑΙΝΙΑ ΕΙΝΑΙ ΚΑΛΗ", "Ο ΔΑΣΚΑΛΟΣ ΕΙΠΕ ΜΙΑ ΙΣΤΟΡΙΑ"]),
        ("koi8-r", ["ЭТОТ ФИЛЬМ МНЕ ПОНРАВИЛСЯ", "ОБСЛУЖИВАНИЕ БЫЛО УЖАСНЫМ"]),
        ("cp1258", ["Phim này hay quá"]),
        ("cp1252", ["Ffilm hyfryd iawn, bûm wrth fy modd â hi."]),
        ("gb18030", ["张伟", "王芳", "李娜"]),
        ("mac_roman", ["Die Straße ist schön und grün.", "Für Müller war es zu spät."]),
    ],
)
@pytest.mark.parametrize("rows", [3, 60])
def test_what_is_hard_to_tell_is_read_right_or_refused(encoding: str, texts: list[str], rows: int) -> None:
    content = table(texts, rows, rows, seed=rows).encode(encoding)
    assert read_or_none(content) in (content.decode(encoding), None)


def test_the_encoding_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(table(SENTENCES[2][1], 30, 30, seed=2).encode("cp949"))
    assert any("cp949" in note and "data.encoding" in note for note in api.check(path).notes)
    path.write_bytes(table(SENTENCES[2][1], 30, 30, seed=2).encode("utf-8"))
    assert not any("cp949" in note or "encoding" in note for note in api.check(path).notes)


def test_a_thin_margin_shows_a_line_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\n"the d\xef g",pos\n"the dog",neg\n')
    with pytest.raises(EncodingError) as caught:
        read_table(Data(path=str(path)))
    told = str(caught.value)
    assert "line 2" in told
    assert told.count("the d") == 2
    assert "--set data.encoding=" in told
    table_ = read_table(Data(path=str(path), encoding="cp1252"))
    assert table_.column("text")[0] == "the dï g"


def test_a_damaged_byte_in_utf8_is_named_and_not_guessed_around() -> None:
    content = table(SENTENCES[0][1], 20, 20, seed=1).encode("utf-8") + "30,café,pos\r\n".encode("cp1252")
    with pytest.raises(DataError, match=f"byte {content.index(b'caf') + 3}, line 22"):
        decode_text(content, "a.csv")


def test_bytes_of_no_language_are_refused() -> None:
    noise = random.Random(1).choices(range(128, 256), k=3000)
    with pytest.raises(DataError, match="byte"):
        decode_text(b"a,b\n" + bytes(noise), "a.csv")


@pytest.mark.parametrize(("encoding", "texts"), CASES[:12])
def test_a_stream_is_read_as_a_table_is(tmp_path: Path, encoding: str, texts: list[str]) -> None:
    text = "\n".join(texts * 3) + "\n"
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    assert "".join(read_text(path, "a.txt")) == text
    head = text.encode(encoding)[:-3]
    name = find_encoding(head, "a.txt", whole=False).name
    assert codecs.getincrementaldecoder(name)().decode(head) == codecs.getincrementaldecoder(encoding)().decode(head)


def test_a_setting_made_for_another_file_does_not_garble_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(table(SENTENCES[0][1], 20, 20, seed=1).encode(encoding))
        read = read_table(Data(path=str(path), encoding="gb18030"))
        assert read.column("text") == read_table(Data(path=str(path))).column("text")
        assert any("not as gb18030" in note for note in read.notes)
    path.write_bytes("text,label\ncaf\xe9,x\nb,y\n".encode("latin-1"))
    assert read_table(Data(path=str(path), encoding="latin-1")).column("text")[0] == "café"


def test_the_encodings_of_a_folder_of_texts_are_counted(tmp_path: Path) -> None:
    for name, encoding in (("good", "cp1251"), ("bad", "utf-8")):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.txt").write_bytes(". ".join(SENTENCES[5][1]).encode(encoding))
    table_ = read_table(Data(path=str(tmp_path)))
    assert len(set(table_.column("text"))) == 1
    assert any("4 files not UTF-8, read as cp1251" in note for note in table_.notes)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("café crème".encode().decode("cp1252"), "café crème"),
        ("отличный".encode().decode("latin-1"), "отличный"),
        ("caf\ufffd", ""),
        ("отличный".encode("utf-7").decode(), "отличный"),
    ],
)
def test_texts_that_were_garbled_before_they_were_saved(text: str, other: str) -> None:
    assert garbled([text] * 5) == (5, text, other)


@pytest.mark.parametrize("text", ["café crème", "отличный фильм", "très bien", "C++ and a+b+c", "好电影", "Ã"])
def test_texts_that_are_right_are_not_called_garbled(text: str) -> None:
    assert garbled([text] * 5) == (0, "", "")
