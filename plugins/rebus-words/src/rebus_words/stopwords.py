"""Words that say little by themselves, in English and Chinese: articles, pronouns, auxiliaries, particles.

Small lists of our own, of these closed classes. Negations (not, no, never, 不, 没) are not in them, nor but, very and
the like: leaving those out turns the meaning of a sentence round.
"""

from __future__ import annotations

from typing import Literal

StopWords = Literal["none", "auto", "en", "zh"]

_ENGLISH = """
a an the this that these those
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves who whom whose which what
am is are was were be been being have has had having do does did doing will would shall should can could may might
must i'm i've i'll i'd you're you've you'll you'd he's he'll he'd she's she'll she'd it's it'll we're we've we'll
we'd they're they've they'll they'd that's there's here's what's who's
of at by for with about to from in on into onto upon through during between among within as per via
and or if then than so because while where when there here also
s t d ll m re ve
"""
_CHINESE = """
的 地 得 了 着 过 之 所 者 们 吗 呢 吧 啊 呀 嘛 哦 哪 么 我 你 您 他 她 它 我们 咱们 你们 他们 她们 它们
自己 本人 这 那 这个 那个 这些 那些 这样 那样 这里 那里 其 此 该 每 各 是 在 有 把 被 将 对 对于 关于
从 自 向 往 到 由 于 以 为 与 和 跟 同 及 以及 或 或者 并 并且 而 而且 则 即 等 等等
一 一个 一种 一些 个 种 就 也 都 又 再 还 因为 所以 如果 那么 于是 比 按 按照 根据 通过 当 时 时候
里 上 中 后 前 内 什么 怎么 怎样 如何 哪些 哪个 谁 多少 几
"""
ENGLISH, CHINESE = frozenset(_ENGLISH.split()), frozenset(_CHINESE.split())
_LISTS: dict[StopWords, frozenset[str]] = {
    "none": frozenset(),
    "en": ENGLISH,
    "zh": CHINESE,
    "auto": ENGLISH | CHINESE,
}


def stop_words(which: StopWords) -> frozenset[str]:
    """A list by its name; ``auto`` is both languages."""
    return _LISTS[which]
