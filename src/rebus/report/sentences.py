"""Sentences that training left in English (of the data check, of how columns were read, of watchers) in Chinese.

A Run keeps them as they were said. A sentence that no pattern knows stays as it is: nothing is left out of a report.
"""

from __future__ import annotations

import re

_SAYS: tuple[tuple[str, str], ...] = (
    # rebus.data.kinds
    (r"column '(.+)' is (\w+) \((.*)\); otherwise: --kind (.+)", r"列“\1”是{kind:\2}（{part:\3}）；若不对：--kind \4"),
    (r"not learned from: (.+); otherwise: --kind COLUMN=KIND", r"不用于学习：{list:\1}；若不对：--kind COLUMN=KIND"),
    (
        r"task (\S+) \((.*)\), reading (.*); otherwise: --task NAME,?(?: or)? --set tasks\.(\d+)\.columns\.ROLE=COLUMN",
        r"任务 \1（{part:\2}），读取 {list:\3}；若不对：--task NAME --set tasks.\4.columns.ROLE=COLUMN",
    ),
    (
        r"task lm \(text files and nothing else\); otherwise: --task mlm",
        r"任务 lm（只有文本文件）；若不对：--task mlm",
    ),
    (r"(\S+) rows of at most (\d+) tokens, (\S+) of them padding", r"\1 行，每行最多 \2 个词元，其中 \3 是填充"),
    (
        r"corpus: (\S+) documents of (\S+) characters read; (\S+) kept \((\S+) characters, (\S+) bytes\)",
        r"语料：读了 \1 篇文档、\2 个字符；保留 \3 篇（\4 个字符，\5 字节）",
    ),
    (r"corpus: left out, (.+): (\S+) \((.*)\)", r"语料：略去 \2 篇（\1）"),
    (r"corpus: changed, (.+): (\S+)", r"语料：改动 \2 处（\1）"),
    (r"corpus: files passed over: (\S+): (.*)", r"语料：略过 \1 个文件：\2"),
    (r"shards: those in (.+) are used again", r"分片：继续使用 \1 中的分片"),
    (r"shards: (\S+) tokens of (\S+) documents(.*)", r"分片：\2 篇文档，\1 个词元\3"),
    (r"tokenizer: learning at most (\S+) pieces from (\S+) characters", r"分词器：从 \2 个字符中最多学习 \1 个词片"),
    (
        r"size (\S+): (\d+) layers of width (\d+), about (\S+) weights in them",
        r"规模 \1：\2 层，宽 \3，其中约 \4 个权重",
    ),
    (
        r"(\S+) training tokens, read about (\S+) times; (\d+) rows of (\d+) tokens a step",
        r"\1 个训练词元，约读 \2 遍；每步 \3 行，每行 \4 个词元",
    ),
    # rebus.data.check
    (r"column '(.+)': (\d+) values are not finite numbers", r"列“\1”：有 \2 个值不是有限的数"),
    (r"task (\S+): (\d+) rows hold nothing for it", r"任务 \1：有 \2 行没有它需要的内容"),
    (
        r"column '(.+)' names the row's own '(.+)' in (\S+) of rows: .*",
        r"列“\1”在 \3 的行里写出了该行自己的“\2”：模型可能直接读出答案，而不是学会它",
    ),
    (r"column '(.+)': (\d+) of (\d+) labels have fewer than 5 rows", r"列“\1”：\3 个标签中有 \2 个不足 5 行"),
    (
        r"column '(.+)': the most frequent label has (\d+) rows, the rarest (\d+)",
        r"列“\1”：最常见的标签有 \2 行，最少见的有 \3 行",
    ),
    (r"column '(.+)': (\d+) labels are in no training row \((.*)\)", r"列“\1”：有 \2 个标签不在任何训练行里（\3）"),
    (r"no row is in the split '(valid|test)'", r"没有任何行属于{kind:\1}集"),
    (r"(\d+) left out while reading; the first: (.*)", r"读取时略去了 \1 行；第一处：\2"),
    (r"(\d+) rows repeat an earlier row", r"有 \1 行与前面的行重复"),
    (
        r"(\d+) rows outside training hold an (image|text) that training rows hold too, .*",
        r"训练集之外有 \1 行的{kind:\2}与训练行相同或看起来相同；可用 --set data.split.group=COLUMN 让它们留在一起",
    ),
    (r"column '(.+)': (\d+) rows have no image", r"列“\1”：有 \2 行没有图片"),
    (
        r"column '(.+)': all (\d+) headers were read, (\d+) images were decoded \(a sample\): .*",
        r"列“\1”：读了全部 \2 个文件头，解码了 \3 张图片（抽样）：其余图片是否损坏、是否近似重复不得而知",
    ),
    # rebus.training.hardware
    (
        r"the machine gave this training (\S+) of a processor core on average: .*",
        r"训练平均只用到 \1 个处理器核：其他任务或处理器时间的限制使它变慢；若限定了时间，它学到的就比本来能学到的少",
    ),
    # rebus.training.monitors
    (
        r"task (\S+): the model says nearly the same number, (\S+), to all (\d+) rows, whose true numbers go "
        r"from (\S+) to (\S+): it tells nothing apart",
        r"任务 \1：模型对全部 \3 行都给出几乎相同的数（\2），而真实值从 \4 到 \5：它什么也没有区分",
    ),
    (
        r"task (\S+): the model says '(.*)' to all (\d+) rows, which is true of (\S+) of them: it tells nothing apart",
        r"任务 \1：模型对全部 \3 行都回答“\2”，其中只有 \4 是对的：它什么也没有区分",
    ),
    (
        r"task (\S+): the model says '(.*)' to (\d+) of (\d+) rows, which is true of (\S+) of them: "
        r"it tells nothing apart",
        r"任务 \1：模型对 \4 行中的 \3 行都回答“\2”，而它只对其中 \5 的行成立：它什么也没有区分",
    ),
    (
        r"overfitting: (\S+) on the validation rows rose from (\S+) \(step (\d+)\) to (\S+) \(step (\d+)\) while the "
        r"training loss fell from (\S+) to (\S+): .*",
        r"过拟合：验证行上的 \1 从 \2（第 \3 步）升到 \4（第 \5 步），而训练损失从 \6 降到 \7：请减少训练时间、"
        r"增加数据，或加大 dropout 或数据增强",
    ),
    (
        r"task (\S+): the tokens that are learned are the same for all (\d+) texts of a batch, .*",
        r"任务 \1：一批 \2 个文本要学的词元完全相同，而答案却不同：对话模板似乎漏掉了答案；"
        r"请设 tasks.0.layout=plain，或修正模板",
    ),
    (
        r"task (\S+): the loss is nearly nothing \((\S+)\) after (\d+) steps: in (\S+) of the rows .*",
        r"任务 \1：\3 步之后损失几乎为零（\2）：\4 的行里，提示中就写着答案；请从问题列里去掉它",
    ),
    (
        r"task (\S+): the loss is nearly nothing \((\S+)\) after (\d+) steps: .*",
        r"任务 \1：\3 步之后损失几乎为零（\2）：答案早已知道，或学的不是答案；"
        r"请用 `rebus tokenizer` 对照对话模板，并查看答案列",
    ),
    (
        r"task (\S+): the loss has not fallen by (\S+) of the run \((\S+) at first, (\S+) now\): (lower|raise) .*",
        r"任务 \1：到训练的 \2 时损失仍未下降（开始 \3，现在 \4）：请{part:\5} train.lr 和 train.muon_lr，"
        r"并检查 train.tune、train.learns 和 train.rates 是否留下了足够可学的部分",
    ),
    (
        r"task (\S+): (?:(\d+) different outputs|the same output) for (\d+) validation rows whose truths differ "
        r"\('(.*)' (\d+) times\): .*",
        r"任务 \1：\3 个验证行的正确答案各不相同，输出却几乎一样（“\4”出现 \5 次）：模型只会说最常见的话。"
        r"请训练更久、降低 train.lr、增加数据，或换一种 model.fusion.kind",
    ),
    (
        r"task (\S+): (\S+) of the answers stay the same when images are shuffled among the rows: .*",
        r"任务 \1：把图片在各行间打乱后，\2 的回答不变：模型没有看图片；"
        r"请用 `rebus data check` 查看图片、调大 image.size，或训练更久",
    ),
    (
        r"task (\S+): (\S+) of the answers are those of the (.+), which never looks at an image; .*",
        r"任务 \1：\2 的回答与从不看图的“{part:\3}”相同；"
        r"请用 `rebus data check` 查看图片、调大 image.size，或训练更久",
    ),
)
_REASONS: tuple[tuple[str, str], ...] = (
    # rebus.data.column_kind, rebus.data.kinds
    (r"as you said", "按你的设定"),
    (r"its files say so", "文件自己写明"),
    (r"it is empty", "为空"),
    (r"it is blank", "全是空白"),
    (r"it holds images", "内容是图片"),
    (r"its bytes are images", "字节是图片"),
    (r"its bytes are no images", "字节不是图片"),
    (r"its name says that it describes the row", "列名表明它只是描述这一行"),
    (r"true or false", "真或假"),
    (r"numbers that are not whole", "不是整数的数字"),
    (r"dates", "日期"),
    (r"its name; (\d+) numbers that come back", r"列名；\1 个会重复出现的数字"),
    (r"its name; (\d+) different whole numbers stand for classes", r"列名；\1 个不同的整数代表类别"),
    (r"(\d+) of (\d+) whole numbers differ, and they lie far apart", r"\2 个整数中有 \1 个不同，而且相差很大"),
    (r"(\d+) whole numbers that come back", r"\1 个会重复出现的整数"),
    (r"its name, and few different values \((\d+) in (\d+) rows\)", r"列名，而且不同的值很少（\2 行中有 \1 种）"),
    (r"labels divided by (.+), which come back in other cells", r"用 \1 隔开的标签，在别的单元格里也会出现"),
    (r"free text, (.+)", r"自由文本（\1）"),
    (r"names of image files, and no other column holds images", "图片文件名，而且没有别的图片列"),
    (r"pairs of turns before the question", "问题之前的对话轮次"),
    (r"images and boxes around what they show", "图片，以及框出其中物体的框"),
    (r"values of type (\S+) are not learned from", r"\1 类型的值不用于学习"),
    (r"lists of turns", "对话轮次的列表"),
    (r"lists of turns, written as JSON", "写成 JSON 的对话轮次列表"),
    (r"lists of labels with boxes", "带方框的标签列表"),
    (r"lists of spans with labels", "带标签的片段列表"),
    (r"lists of tokens with tags", "带标注的词列表"),
    (r"lists of objects", "对象的列表"),
    (r"a tag for each token", "每个词一个标注"),
    (r"lists of lists of numbers", "数的列表的列表"),
    (r"lists of words", "词的列表"),
    (r"lists of numbers", "数的列表"),
    (r"its name; several texts a row", "按列名；每行有多段文字"),
    (r"its name; several numbers a row", "按列名；每行有多个数"),
    (r"its name; the numbers stand for classes", "按列名；数代表类别"),
    (r"its name; numbers as words", "按列名；把数当作文字"),
    (r"its name, and labels divided by \| or ;", "按列名，且标签以 | 或 ; 分隔"),
    (r"its name, and most values are numbers", "按列名，且多数值是数"),
    (r"its name", "按列名"),
    (r"every row holds the same", "每行都相同"),
    (r"two different whole numbers", "只有两个不同的整数"),
    (r"it counts the rows", "只是行号"),
    (r"numbers", "数"),
    (r"names of image files", "图片文件名"),
    (r"images written as base64", "写成 base64 的图片"),
    (r"labels divided by \| or ;", "以 | 或 ; 分隔的标签"),
    (r"a different code in each row", "每行一个不同的代码"),
    (r"few different values \((\d+) in (\d+) rows\)", r"取值很少（\2 行中有 \1 种）"),
    (r"free text", "自由文字"),
    # rebus.tasks: suggestion
    (r"no column yet", "尚无列"),
    (r"a question and an answer column", "有问题列和回答列"),
    (r"a column named as a class", "有一列以类别命名"),
    (r"a column of several labels", "有一列含多个标签"),
    (r"a column named as a number to predict", "有一列以待预测的数命名"),
    (r"images and a column named as their description", "有图片和一列以描述命名的文字"),
    (r"a column of few different values", "有一列取值很少"),
    (r"one column of numbers", "只有一列数"),
    (r"images and free text", "有图片和自由文字"),
    (r"a column of conversations", "有一列对话"),
    (r"choices, and which of them is right", "有选项和正确项"),
    (r"answers that stand in a passage", "答案就在段落里"),
    (r"answers about a passage", "关于段落的回答"),
    (r"tokens and a tag for each", "有词和每个词的标注"),
    (r"a prompt and what is to be written", "有提示和要写的内容"),
    (r"the same text in two languages", "两种语言的同一段文字"),
    (r"pairs of texts that mean the same", "意思相同的文字对"),
    (r"one column of text and nothing else", "只有一列文字"),
    (r"images and nothing that says what they show", "有图片，但没有说明内容的列"),
    # rebus.training.monitors
    (r"lower", "降低"),
    (r"raise", "提高"),
)
_KINDS = {
    "image": "图片", "text": "文字", "category": "类别", "labels": "多标签", "number": "数值", "boxes": "方框",
    "tags": "词标注", "messages": "对话", "ignore": "不使用", "train": "训练", "valid": "验证", "test": "测试",
    "left out": "略去",
}  # fmt: skip
_ROLES = {
    "image": "图片", "text": "文字", "question": "问题", "answer": "回答", "caption": "描述", "label": "标签",
    "labels": "标签", "target": "目标值", "boxes": "方框", "type": "类型", "prompt": "提示", "output": "输出",
    "source": "原文", "messages": "对话", "choices": "选项", "tokens": "词", "tags": "标注", "passage": "段落",
    "anchor": "句子", "positive": "相近句", "negative": "相反句", "score": "分数", "start": "起点", "wrong": "错配",
    "group": "分组", "spans": "片段", "system": "系统提示",
}  # fmt: skip
_NAIVE = {
    "a blind guess": "盲猜",
    "commonest label": "最常见的标签",
    "commonest token": "最常见的词元",
    "dictionary of training spans": "训练片段词典",
    "how often each label occurs": "各标签的频率",
    "caption of the nearest training image": "最相似的训练图片的标题",
    "majority class": "最多的类别",
    "mean of the training rows": "训练行的平均值",
    "most frequent answer": "最常见的回答",
    "most frequent answer per question": "每个问题最常见的回答",
    "most frequent caption": "最常见的描述",
    "most frequent place": "最常见的位置",
    "most frequent text": "最常见的文本",
    "random order": "随机顺序",
    "sentence most like the question": "与问题最像的句子",
    "the same for all": "一律相同",
    "the source, copied": "照抄原文",
    "token frequencies": "词元频率",
    "words in common (TF-IDF)": "共同的词（TF-IDF）",
}
_PLAIN = (  # rebus.tasks.linear
    (r"linear model on (.+)", "{}上的线性模型"),
    (r"text of the nearest training row by (.+)", "按{}最近的训练行的文本"),
    (r"linear map from (.+) to TF-IDF", "从{}到 TF-IDF 的线性映射"),
)
_MODALITIES = {"colours and edges": "颜色与边缘"}
_ENDS = {
    "finished": ("all of them", "全部完成"),
    "time": ("the time limit was reached", "到达时限"),
    "early": ("stopped early: no more gain", "提前停止：不再提升"),
}
_MARK = re.compile(r"\{(kind|part|list):([^{}]*)\}")


def sentence(text: str, lang: str) -> str:
    """A sentence that training left, in ``lang``; as it is where no pattern knows it."""
    if lang != "zh":
        return text
    for pattern, said in _SAYS:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found:
            filled = _filled(said, found)
            return _MARK.sub(lambda mark: _part(mark[1], mark[2]), filled)
    return text


def knows(text: str) -> bool:
    """Whether there is a Chinese form of a sentence."""
    return any(re.fullmatch(pattern, text, re.DOTALL) for pattern, _ in _SAYS)


def kind_name(kind: str, lang: str) -> str:
    """A kind of column, or a split."""
    return _KINDS.get(kind, kind) if lang == "zh" else kind


def naive_name(name: str, lang: str) -> str:
    """What a baseline is."""
    if lang != "zh":
        return name
    for pattern, said in _PLAIN:
        if found := re.fullmatch(pattern, name):
            parts = [_MODALITIES.get(part, part) for part in found[1].split(", ")]
            return said.format("、".join(parts))
    return _NAIVE.get(name, name)


def place_name(place: str, lang: str) -> str:
    """Where a row stands: ``table.csv, line 12``."""
    return re.sub(r", (?:line|row) (\d+)", r"，第 \1 行", place) if lang == "zh" else place


def end_name(reason: str, lang: str) -> str:
    """Why a run stopped."""
    both = _ENDS.get(reason)
    return both[lang == "zh"] if both else reason


def _filled(said: str, found: re.Match[str]) -> str:
    # braces of users' own texts are no marks of ours
    return re.sub(r"\\(\d)", lambda mark: _plain(found[int(mark[1])] or ""), said)


def _plain(text: str) -> str:
    return text.replace("{", "｛").replace("}", "｝")


def _part(what: str, text: str) -> str:
    if what == "kind":
        return kind_name(text, "zh")
    if what == "part":
        return _reason(text)
    listed = re.sub(r"(\w+) '([^']*)'", lambda at: f"{_ROLES.get(at[1], at[1])}“{at[2]}”", text)
    listed = re.sub(r"'([^']*)' \(([^()]*(?:\([^()]*\))?)\)", lambda at: f"“{at[1]}”（{_reason(at[2])}）", listed)
    return listed.replace(", ", "、") if listed != text else _reason(text)


def _reason(text: str) -> str:
    if text in _NAIVE:
        return _NAIVE[text]
    for pattern, said in _REASONS:
        found = re.fullmatch(pattern, text)
        if found:
            return found.expand(said)
    return text
