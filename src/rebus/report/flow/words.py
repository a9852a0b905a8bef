"""The words of the signal-flow page in English and in Chinese: headings, captions, names. It knows no model."""

from __future__ import annotations

from rebus.report.flow.text_catalogue import SENTENCES, Both

PAGE: dict[str, Both] = {
    "title": ("What happens to one example", "一个例子的旅程"),
    "lead": (
        "This page follows one example through the model, from the file to the answer. Everything here is read from "
        "the model's own tensors while it worked.",
        "这一页跟随一个例子走过模型：从文件到回答。这里的一切都读自模型工作时的真实张量。",
    ),
    "task": ("task", "任务"),
    "fusion": ("fusion", "融合方式"),
    "text": ("text", "文字"),
    "answer": ("answer", "回答"),
    "letters": (
        "Letters of the shapes: B images, R texts, L tokens, P image tokens, T tokens of the text, D width, H "
        "heads, V vocabulary, C classes, N positions that are read, S side of the square image; of the file alone: H "
        "high, W wide.",
        "形状中的字母：B 图片数，R 文本数，L 词元数，P 图片词元数，T 文字词元数，D 宽度，H 注意力头数，"
        "V 词表大小，C 类别数，N 读取的位置数，S 方形图片的边长；仅对文件：H 高，W 宽。",
    ),
    "more": ("and {count} more", "还有 {count} 个"),
    "made_by": ("Made by Rebus", "由 Rebus 生成"),
    "low": ("smallest", "最小"),
    "high": ("largest", "最大"),
    "nothing": ("(nothing)", "（空）"),
}
TITLES: dict[str, Both] = {
    "image": ("The image, decoded", "解码后的图片"),
    "transformed": ("The image as the model sees it", "模型看到的图片"),
    "patches": ("Cut into image tokens", "切成图片词元"),
    "tokens": ("The text, cut into tokens", "切成词元的文字"),
    "image_tower": ("What the image tower makes of it", "图片塔得到了什么"),
    "text_tower": ("What the text becomes", "文字变成了什么"),
    "fusion": ("Where image and text meet", "图与文相遇"),
    "answer": ("The answer", "回答"),
}
CAPTIONS: dict[str, Both] = {
    "decoded": ("as it was decoded", "解码得到的样子"),
    "transformed": ("the square that the model sees", "模型看到的方形"),
    "patches": ("image tokens with their numbers", "图片词元及其编号"),
    "norms": ("length of each token's vector", "每个词元向量的长度"),
    "similar": ("like token {number}", "与第 {number} 个词元的相似度"),
    "norms_strip": ("length of each token's vector", "每个词元向量的长度"),
    "looked": ("“{token}”", "“{token}”"),
    "read_text": (
        "the deeper the colour, the more a token was looked at to write “{token}”",
        "写“{token}”时，颜色越深的词元看得越多",
    ),
    "shares": ("share of each in the fused vector", "合成向量中各占"),
    "entered": ("what each token became, at that place", "在那个位置，词元的组成"),
    "answers": ("likeliest answers", "最可能的回答"),
    "step": ("token {number}: “{token}”, {share}", "第 {number} 个词元：“{token}”，{share}"),
    "hidden": ("hidden token {number}", "被遮住的第 {number} 个词元"),
    "shows": ("“{label}”", "“{label}”"),
    "vector": ("the vector's first numbers", "向量的前几个数"),
    "vector_image": ("the image's vector", "图片的向量"),
    "vector_text": ("the text's vector", "文字的向量"),
}
NAMES: dict[str, Both] = {
    "image": ("image", "图片"),
    "text": ("text", "文字"),
    "vector": ("the fused vector", "合成的向量"),
    "own": ("the token itself", "词元自身"),
    "yes": ("yes", "相配"),
    "no": ("no", "不相配"),
    "pixels": ("pixels", "像素"),
    "image tokens": ("image tokens", "图片词元"),
    "tokens": ("tokens", "词元"),
    "mask": ("mask", "掩码"),
    "pooled": ("pooled", "合并向量"),
    "ids": ("ids", "编号"),
    "embedded text": ("embedded text", "文字向量"),
    "attention": ("attention", "注意力"),
    "cross-attention": ("cross-attention", "交叉注意力"),
    "decoder": ("after the decoder", "解码器之后"),
    "logits": ("logits", "未归一的分数"),
    "images": ("image's vector", "图片的向量"),
    "texts": ("text's vector", "文字的向量"),
}
FITS: dict[str, Both] = {
    "pad": ("padded", "补边"),
    "crop": ("cropped", "裁剪"),
    "squash": ("squashed", "压缩"),
    "twice": ("scaled, then squashed", "先缩放再压缩"),
}


def of(table: dict[str, Both], key: str, lang: str, **facts: object) -> str:
    """A word or sentence of a table, filled in; a key that is not there is said as it is."""
    both = table.get(key)
    return key if both is None else both[lang == "zh"].format(**facts)


def sentences(station: str, kind: str, lang: str, facts: dict[str, object]) -> list[str]:
    """What is said of a station."""
    known = SENTENCES.get(f"{station}.{kind}") or SENTENCES.get(station, ())
    shown = {**facts, "fit": of(FITS, str(facts.get("fit", "")), lang)}
    shown["answer"] = facts.get("answer") or PAGE["nothing"][lang == "zh"]
    return [both[lang == "zh"].format(**shown) for both in known]
