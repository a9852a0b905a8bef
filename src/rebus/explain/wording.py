"""What an explanation says in words, in English and in Chinese.

``Explanation.target`` and ``remarks`` are English sentences of a few kinds; here are the same in Chinese.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "zh"]

_SENTENCES = (
    (r"word (\d+) '(.*)'", "第{0}个词“{1}”"),
    (r"the hidden word (\d+) '(.*)'", "被遮住的第{0}个词“{1}”"),
    (r"label '(.*)'", "类别“{0}”"),
    (r"tag '(.*)'", "标签“{0}”"),
    (r"the number", "这个数值"),
    (r"the end of the text", "文本的结束"),
    (r"that there is no answer", "没有答案"),
    (r"the answer '(.*)'", "回答“{0}”"),
    (r"the choice '(.*)'", "选项“{0}”"),
    (r"patch (\d+), that it shows '(.*)'", "第{0}个图块显示“{1}”"),
    (r"'(yes|no)', that they belong together", "“{0}”：图文是否相配"),
    (r"the likeness of image and text", "图与文的相似度"),
    (r"the likeness to '(.*)'", "与“{0}”的相似度"),
    (r"'(.*)' as (.*)", "“{0}”标为 {1}"),
    (
        r"attention says where the model looked, not what it made of it",
        "注意力只说明模型看了哪里，不说明它由此得出什么",
    ),
    (r"Grad-CAM says nothing of the text", "Grad-CAM 不解释文字"),
    (
        r"saliency says how much a part matters, not whether it speaks for the answer or against it",
        "显著度只说明某部分有多重要，不说明它支持还是反对这个回答",
    ),
    (r"the answer has (\d+) words; the first (\d+) of them are explained", "回答共{0}个词，只解释前{1}个"),
    (r"the first (\d+) tokens of the answer are explained", "只解释回答的前{0}个词元"),
    (r"the model's own choice is '(.*)'", "模型自己的选择是“{0}”"),
    (r"a text has (.*) tokens, of which (.*) were read", "文本有{0}个词元，只读了其中{1}个"),
    (r"the parts miss what they should add up to by (.*)", "各部分之和与应有的值相差{0}"),
)
SAID = {
    "title": ("Why the model says so", "模型为什么这样说"),
    "answer": ("The model says", "模型的回答"),
    "explained": ("Explained", "解释的对象"),
    "score": ("score", "得分"),
    "method": ("method", "方法"),
    "text": ("What it read", "读到的文字"),
    "no_text": ("Nothing is said of any text.", "没有关于文字的解释。"),
    "image": ("Where it looked", "看了哪里"),
    "no_image": ("Nothing is said of any image.", "没有关于图片的解释。"),
    "original": ("The image as the model saw it", "模型看到的图片"),
    "signed": ("Red: speaks for it; blue: speaks against it", "红色：支持；蓝色：反对"),
    "unsigned": (
        "The redder, the more it mattered; this method does not tell for from against",
        "越红作用越大；这种方法不区分支持与反对",
    ),
    "words": ("Words of the answer", "回答中的词"),
    "whole": ("the whole answer", "整个回答"),
    "weights": ("What was fused", "融合的比重"),
    "strength": ("strength of the colours", "颜色深浅"),
    "for": ("for", "支持"),
    "against": ("against", "反对"),
    "silent": ("(nothing)", "（没有）"),
}
MODALITIES = {"image": ("image", "图片"), "text": ("text", "文字")}
NAMES = {
    "relevance": ("attention relevance (Chefer et al. 2021)", "注意力相关度（Chefer 等 2021）"),
    "rollout": ("attention rollout (Abnar and Zuidema 2020)", "注意力展开（Abnar 与 Zuidema 2020）"),
    "attention": ("raw attention", "原始注意力"),
    "gradients": ("integrated gradients (Sundararajan et al. 2017)", "积分梯度（Sundararajan 等 2017）"),
    "occlusion": ("occlusion", "遮挡"),
    "gradcam": ("Grad-CAM (Selvaraju et al. 2017)", "Grad-CAM（Selvaraju 等 2017）"),
    "saliency": ("saliency (Simonyan et al. 2013)", "显著度（Simonyan 等 2013）"),
}


def said(sentence: str, lang: Language) -> str:
    """A target or a remark in a language; one of no known kind stays as it is."""
    if lang == "en":
        return sentence
    for pattern, chinese in _SENTENCES:
        found = re.fullmatch(pattern, sentence, re.DOTALL)
        if found is not None:
            return chinese.format(*found.groups())
    return sentence


def words(lang: Language) -> dict[str, str]:
    """What stands on a page, by name."""
    return {name: both[lang == "zh"] for name, both in SAID.items()}


def method_name(name: str, lang: Language) -> str:
    """A method by its full name; one of another package by its own."""
    return NAMES[name][lang == "zh"] if name in NAMES else name


def modality(name: str, lang: Language) -> str:
    """What a modality is called."""
    return MODALITIES[name][lang == "zh"] if name in MODALITIES else name
