"""How likely bytes are under each old encoding and language: the letters that a language uses beyond ASCII.

It decides nothing (see ``encodings``). A likelihood is the sum of negative logarithms over the characters beyond ASCII,
so that encodings of one and of two bytes a character can be compared: both explain the same bytes.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

# Encodings, the most common first, each with what it costs to assume it (nats).
_EAST = {"gb18030": 0.5, "big5": 0.5, "cp949": 0.5, "cp932": 0.5, "euc_jp": 1.0}
_WEST = {"cp1252": 0.0, "iso8859_15": 2.0, "mac_roman": 4.0, "cp850": 3.0}
_CENTRAL = {"cp1250": 1.0, "iso8859_2": 2.0, "cp852": 3.0}
_CYRILLIC = {"cp1251": 0.5, "koi8_r": 1.0, "koi8_u": 1.5, "cp866": 2.0, "iso8859_5": 3.0, "mac_cyrillic": 6.0}


@dataclass(frozen=True)
class Language:
    """A language in writing.

    Attributes:
        name: its code.
        encodings: the encodings that its files are in, and what each costs.
        letters: letters beyond ASCII (of Chinese, Japanese and Korean the most frequent characters), frequent ones
            first.
        words: frequent words in ASCII, of languages in Latin letters.
        block: name of the encoding and the leading bytes that hold its usual characters, of large scripts.
    """

    name: str
    encodings: dict[str, float]
    letters: str
    words: str = ""
    block: tuple[str, int, int] | None = None


LANGUAGES = (
    Language("en", _WEST, "éñïçüöèêáóâîôåä", "the and of to is was in it for with that this not you are on"),
    Language("fr", _WEST, "éèàêçâôîùûïëœüæ", "le la les de des et est un une dans pour que qui pas sur je il"),
    Language("de", _WEST, "üäößéèà", "der die das und ist nicht ein eine ich es mit auf den von zu im sehr"),
    Language("es", _WEST, "óíáéñúü¿¡ºª", "el la los de que y en un una es no por con para se muy lo"),
    Language("pt", _WEST, "ãçáéíóõêâúàôü", "o a os de que e em um uma no na por com para se muito do da"),
    Language("it", _WEST, "àèéùòìó", "il la di che e un una per non con del sono molto ma si ho"),
    Language("sv", _WEST, "äåöéàüø", "och att det som en jag inte med den var till av ett"),
    Language("da", _WEST, "øåæéäö", "og at det som en jeg ikke med den var til av et er"),
    Language("fi", _WEST, "äöå", "ja on ei se oli hyvin mutta kun en hän ole"),
    Language("nl", _WEST, "ëéïöèüê", "de het een en van is niet dat op te ik met was"),
    Language("is", _WEST, "ðáíóéöþúýæ", "og er til ekki hann var um en sem"),
    Language("ca", _WEST, "éàóíèòúçïü·", "de la el i que a en un per amb no és va les molt"),
    Language("ga", _WEST, "íáéóú", "an na agus is ar go le an bhí ní"),
    Language("pl", _CENTRAL, "łąężśćóńź", "nie na w z i do to jest za o po ale jak ten bardzo"),
    Language("cs", _CENTRAL, "íáéěřčýžšůúťňďó", "je na se v to byl ale za si tak jsem a nebo"),
    Language("sk", _CENTRAL, "áíéčýúžšľťôňäóďĺŕ", "je na sa v to bol ale za som a nie alebo"),
    Language("hu", _CENTRAL, "áéöóőüíúű", "a az nem hogy egy is van ez volt nagyon meg de csak"),
    Language("ro", _CENTRAL, "ăîâşţ", "de la nu este un o pe cu mai din foarte am a fost"),
    Language("hr", _CENTRAL, "čšžćđ", "je u i na se da nije za od to sam vrlo ali"),
    Language("sq", {**_WEST, **_CENTRAL}, "ëç", "dhe nuk me ishte shume ky kjo per do"),
    Language(
        "vi", {"cp1258": 1.5}, "ôđưàáâơêă\u0323\u0301\u0300\u0309\u0303íéóùúèìòýãõ", "la va cua khong toi cho hay"
    ),
    Language("tr", {"cp1254": 1.0, "iso8859_9": 2.0, "cp857": 3.5}, "ıüşğöçİâî", "bir ve bu da de ama daha en ne var"),
    Language(
        "lt", {"cp1257": 1.0, "iso8859_13": 2.5, "cp775": 4.0}, "ėšžųūįąčę", "ir yra kad ne tai buvo su labai bet"
    ),
    Language("lv", {"cp1257": 1.0, "iso8859_13": 2.5, "cp775": 4.0}, "āīēšūļņčžģķ", "un ir ka ne par no bet ar loti"),
    Language("et", {"cp1257": 1.0, "cp1252": 1.0}, "äõüöšž", "ja on ei et see oli aga kui ka ma"),
    Language("ru", _CYRILLIC, "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"),
    Language("uk", _CYRILLIC, "оанивітеркслудмпзяьбгчйхцжїюєшщфґ"),
    Language("bg", _CYRILLIC, "аоеинтрсвлкдпмзъбуягцчжшщхюйфь"),
    Language("sr", _CYRILLIC, "аоеинтрсвулкдпмјзбгчшжцћђљњхфџ"),
    Language("el", {"cp1253": 0.5, "iso8859_7": 1.5, "cp737": 3.0}, "αοιετσνρκπμλυηςάίωέόγήδθφχύώβξζψΐϊ"),
    Language("he", {"cp1255": 0.5, "iso8859_8": 1.5, "cp862": 3.0}, "יוהלאתרשבמנדקחעכםפטגצזסןךףץ"),
    Language("ar", {"cp1256": 0.5, "iso8859_6": 1.5, "cp864": 3.5}, "اليمنروتبعدةكسفقحهجأشطصخضىذزإثغءآئظؤ،؟"),
    Language("fa", {"cp1256": 0.5}, "ايردنمهوتبسشزكخگفعلپحقجآچطصغضذظژث،؟"),
    Language("th", {"cp874": 0.5}, "านรก่อเ้งมยลวดทสตะัิีไปบแคหจขพใชโผุู์ถซ็ำณึืฐญศธฟษๆ"),
    Language(
        "zh",
        {"gb18030": _EAST["gb18030"]},
        "的，。一是不了在有人我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所"
        "然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日者意无力它与长把机十"
        "民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产新己制身果加西斯月话"
        "合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神"
        "总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则"
        "听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候"
        "带导争运质服喜欢不错差吃买店价贵便宜味服务态度很快慢屏幕电影故事",
        block=("gb2312", 0xB0, 0xD7),
    ),
    Language(
        "zh-Hant",
        {"big5": _EAST["big5"]},
        "的，。一是不了在有人我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所"
        "然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日者意無力它與長把機十"
        "民第公此已工使情明性知全三又關點正業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產新己制身果加西斯月話"
        "合回特代內信表化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更別打女變四神"
        "總何電數安少報才結反受目太量再感建務做接必場件計管期市直德資命山金指克許統區保至隊形社便空決治展馬科司五基眼書非則"
        "聽白卻界達光放強即像難且權思王象完設式色路記南品住告類求據程北邊死張該交規萬取拉格望覺術領共確傳師觀清今切院讓識候"
        "帶導爭運質服喜歡錯差吃買店價貴便宜味務態快慢螢幕影故灣",
        block=("big5", 0xA4, 0xC6),
    ),
    Language(
        "ja",
        {"cp932": _EAST["cp932"], "euc_jp": _EAST["euc_jp"]},
        "のいにとたをでるしはがかっらてなくりれもつうあきこすさんまだけよ、。そどやおせえわめみちろじばょ日本人大年一国会中"
        "ーンスルトリアイラクレシドロフジタマコテプサッカキムメィニ出時分自事者上方行今間前見気手生私思言彼小話何後地場性"
        "高新学食入家電店社東京月物名長車好作画面味品良悪度使楽映送料金買ュャョァェォずべぶびぼごげぎぐゃゅ",
        block=("euc_jp", 0xB0, 0xCF),
    ),
    Language(
        "ko",
        {"cp949": _EAST["cp949"]},
        "이다는을의에가고하지한사은기로도를나어서그대자리있인아수시들정해니과보장게상것전일우면만여부스제라요구음오주성"
        "소안공마모비조내적으동신화려선세개무용러습문관생원방때말원물연드행않없었했던던위중유회국체경실민분될거르까야"
        "배너년명재친절트품격합너직저또점진발살파잘네와더심간좋먹싸느맛별영같빠된데바식",
        block=("euc_kr", 0xB0, 0xC8),
    ),
)
_SIGNS = {
    **dict.fromkeys("°«»©®™·•§½¼¾×²³µ¥、。，！？：；（）「」『』《》・～％\u3000\xa0", 4.6),
    **dict.fromkeys("’‘“”„‚–—…€£", 3.0),
}
_BETWEEN = frozenset("’·‑\u00ad\u200c\u200d'")  # signs that stand between two letters
_UNLIKELY = {"same": 8.0, "sign": 9.0, "other": 11.0}
_HIDDEN = ("Cc", "Cs", "Co", "Cn")
_ODD = re.compile(  # what begins a word after a letter; a letter beside a digit
    r"[^\W\d_][‘“„‚£¥¿¡«€]|€[^\W\d_]|\d[À-ÖØ-öø-ʯͰ-ԯ]|[À-ÖØ-öø-ʯͰ-ԯ]\d"
)
_WORD = re.compile(r"[^\s\x00-\x40\x5b-\x60\x7b-\x7f]+")  # letters of ASCII, and everything beyond it


@dataclass(frozen=True)
class Reading:
    """Bytes read in one encoding.

    Attributes:
        encoding: its name.
        text: what they say in it.
        cost: how unlikely that text is in the likeliest language: nats, smaller is likelier.
        language: that language.
    """

    encoding: str
    text: str
    cost: float
    language: str


def readings(sample: bytes, ascii_words: Counter[str]) -> list[Reading]:
    """A sample in every encoding under which it is text, the likeliest first.

    Args:
        sample: words that hold bytes beyond ASCII, with spaces or line ends between them.
        ascii_words: words in ASCII beside them, in small letters, with counts; they hint at the language.
    """
    hints = _hints(ascii_words)
    texts = {encoding: _decoded(sample, encoding) for item in LANGUAGES for encoding in item.encodings}
    counted = {
        encoding: (_beyond(text), _words(text), 6.0 * len(set(_ODD.findall(text))))
        for encoding, text in texts.items()
        if text
    }
    result: dict[str, Reading] = {}
    for language in LANGUAGES:
        for encoding, prior in language.encodings.items():
            if encoding not in counted:
                continue
            letters, words, odd = counted[encoding]
            costs = _costs(language.name)
            cost = prior + hints[language.name] + odd
            cost += sum(times * costs.of(letter) for letter, times in letters.items())
            if encoding not in result or cost < result[encoding].cost:  # no placement is a gain
                cost += _misplaced(words, language)
            if encoding not in result or cost < result[encoding].cost:
                result[encoding] = Reading(encoding, texts[encoding], cost, language.name)
    return sorted(result.values(), key=lambda reading: reading.cost)


def _hints(words: Counter[str]) -> dict[str, float]:
    """What it costs to assume each language beside these ASCII words."""
    hits = {language.name: sum(words[word] for word in language.words.split()) for language in LANGUAGES}
    most = max(hits.values())
    if most < 5:
        return dict.fromkeys(hits, 0.0)
    return {language.name: 3.0 * (1 - hits[language.name] / most) if language.words else 1.5 for language in LANGUAGES}


def _decoded(sample: bytes, encoding: str) -> str:
    try:
        text = sample.decode(encoding)
    except UnicodeDecodeError:
        return ""
    return "" if any(unicodedata.category(letter) in _HIDDEN for letter in set(text) - set("\n\r\t")) else text


def _beyond(text: str) -> Counter[str]:
    return Counter(letter for letter in text if letter >= "\x80")


def _words(text: str) -> Counter[str]:
    return Counter(word for word in _WORD.findall(text) if not word.isascii())


def _misplaced(words: Counter[str], language: Language) -> float:
    """What is odd about where characters stand: capitals after small letters, signs in words, scripts in one word."""
    total = 0.0
    foreign = not language.words and language.block is None
    for word, times in words.items():
        for before, letter, after in zip(word, word[1:], word[2:] + " ", strict=False):
            odd = letter >= "\x80" or before >= "\x80"
            if odd and before.islower() and letter.isupper():
                total += 4.0 * times
            if letter >= "\x80" and not letter.isalpha() and before.isalpha() and after.isalpha():
                total += 0.0 if letter in _BETWEEN or unicodedata.category(letter)[0] == "M" else 4.0 * times
        letters = [letter.isascii() for letter in word if letter.isalpha() or unicodedata.category(letter)[0] == "M"]
        if foreign and any(letters) and not all(letters):
            total += 5.0 * times
    return total


class _Costs:
    """Negative logarithm of each character's frequency in a language."""

    def __init__(self, language: Language) -> None:
        self._large = language.block
        listed = list(dict.fromkeys(language.letters))
        mass = 0.62 if self._large else 0.97
        weights = [1 / (rank + 3) for rank in range(len(listed))]
        total = sum(weights)
        self._known = {letter: -math.log(mass * weight / total) for letter, weight in zip(listed, weights, strict=True)}
        self._script = _script(listed[-1])

    def of(self, letter: str) -> float:
        cost = self._known.get(letter)
        if cost is None:
            cost = self._known[letter] = self._unlisted(letter)
        return cost

    def _unlisted(self, letter: str) -> float:
        small = letter.lower()
        if small != letter and small in self._known:
            return self._known[small] + 0.3
        if letter in _SIGNS:
            return _SIGNS[letter]
        if self._large is not None:
            return self._of_block(letter, *self._large)
        if not letter.isalpha() and unicodedata.category(letter)[0] != "M":
            return _UNLIKELY["sign"]
        return _UNLIKELY["same"] if _script(letter) == self._script else _UNLIKELY["other"]

    def _of_block(self, letter: str, encoding: str, first: int, last: int) -> float:
        try:
            code = letter.encode(encoding)
        except UnicodeEncodeError:
            return 13.0
        usual = len(code) == 2 and first <= code[0] <= last
        return 9.0 if usual else 13.0


@functools.cache
def _costs(name: str) -> _Costs:
    return _Costs(next(language for language in LANGUAGES if language.name == name))


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").split(" ")[0]
