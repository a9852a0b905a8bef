"""Words that column names, folders and splits are known by, in English and Chinese; nothing here looks at values."""

from __future__ import annotations

import re

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "训练", "训练集"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "development", "验证", "验证集", "开发集"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "测试", "测试集"), "test"),
}

IMAGE_ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".ico",
    ".tga",
    ".avif",
)
IMAGE = (
    "picture",
    "image",
    "img",
    "photo",
    "pic",
    "file_name",
    "image_path",
    "images",
    "pictures",
    "filename",
    "图片",
    "图像",
    "照片",
    "图",
)
IMAGES = ("image", "images", "picture", "pictures", "img", "photo", "photos", "图片", "图像", "照片")
RANKED = ("responses", "completions", "candidates", "answers")
RANKS = ("ranks", "ranking", "rank", "scores", "rewards", "ratings")  # of several answers
MEDIA = ("video", "videos", "audio", "audios", "tools", "functions", "视频", "音频")  # that answers depend on
QUESTION = ("question", "query", "问题", "提问", "问")
ANSWER = ("answer", "answers", "response", "multiple_choice_answer", "回答", "答案", "答")
HISTORY = ("history", "历史")  # turns before a question, as pairs
REJECTED = ("rejected", "rejected_response", "non_preferred_output")  # of pairs of answers, the one not to be learned
CHOSEN = ("chosen", "chosen_response", "preferred_output")
CAPTION = (
    "caption",
    "captions",
    "sentences",
    "description",
    "title",
    "text",
    "sentence",
    "描述",
    "标题",
    "说明",
    "图说",
    "文本",
)
TEXT = (
    "text",
    "sentence",
    "content",
    "body",
    "review",
    "comment",
    "message",
    "tweet",
    "文本",
    "内容",
    "正文",
    "句子",
    "评论",
)
LABEL = (
    "label",
    "class",
    "cls",
    "category",
    "topic",
    "sentiment",
    "genre",
    "target_class",
    "标签",
    "类别",
    "分类",
    "种类",
    "主题",
)
LABELS = ("labels", "tags", "classes", "categories", "topics", "genres", "多标签", "标签")
TARGET = ("target", "score", "price", "y", "value", "rating", "分数", "得分", "评分", "价格", "目标")
EITHER = ("target", "y", "目标")  # names of what is to be predicted, be it a class or an amount
MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "对话", "会话", "消息")
INSTRUCTION = ("instruction", "instructions", "prompt", "指令", "提示", "提示词")
INPUT = ("input", "inputs", "context", "passage", "输入", "上下文", "背景")
OUTPUT = ("output", "outputs", "completion", "response", "answer", "输出", "回复", "回答", "答案")
SYSTEM = ("system", "system_prompt", "系统", "系统提示")
SOURCE = ("source", "src", "source_text", "原文", "源文", "源文本", "源语言")
TRANSLATED = ("target", "tgt", "target_text", "translation", "译文", "目标", "目标文本", "目标语言")
TRANSLATION = ("translation", "translations", "翻译")
DIRECTION = ("direction", "language_pair", "lang_pair", "pair", "方向", "语言方向")
LANGUAGES = (
    *("en", "zh", "de", "fr", "es", "ru", "ja", "ko", "it", "pt", "ar", "hi", "nl", "pl", "tr", "vi", "cs", "fi"),
    *("zh_cn", "zh_tw", "en_us", "en_gb", "english", "chinese", "英文", "中文", "英语", "汉语"),
)
CHOICES = ("choices", "options", "endings", "candidates", "选项", "候选")
CHOICE_COLUMNS = {
    "A": ("a", "option_a", "choice_a", "choice1", "option1", "ending0", "sol1", "answer_a"),
    "B": ("b", "option_b", "choice_b", "choice2", "option2", "ending1", "sol2", "answer_b"),
    "C": ("c", "option_c", "choice_c", "choice3", "option3", "ending2", "answer_c"),
    "D": ("d", "option_d", "choice_d", "choice4", "option4", "ending3", "answer_d"),
    "E": ("e", "option_e", "choice_e", "choice5", "option5", "answer_e"),
}
RIGHT_CHOICE = (
    *("answer", "answer_key", "answerkey", "correct_answer", "gold", "label", "correct", "answer_index", "answer_idx"),
    *("correct_option", "target", "答案", "正确答案", "正确选项"),
)
ASKED = ("question", "query", "ctx", "stem", "premise", "goal", "prompt", "sentence", "问题", "题目", "题干")
PASSAGE = ("context", "passage", "paragraph", "article", "document", "story", "段落", "文章", "短文", "上下文", "材料")
TOKENS = ("tokens", "words", "characters", "词", "字", "字符")
SCORE = ("score", "similarity", "similarity_score", "分数", "得分", "相似度")  # how alike two texts are
PAIRS = (  # of texts that mean the same; a third text is a like one that does not
    ("anchor", "positive", "negative"),
    ("query", "positive", "negative"),
    ("sentence1", "sentence2", ""),
    ("sentence_1", "sentence_2", ""),
    ("text1", "text2", ""),
    ("text_1", "text_2", ""),
    ("sentence_a", "sentence_b", ""),
    ("句子1", "句子2", ""),
)
BELONGS = ("match", "matches", "is_match", "belongs", "匹配", "是否匹配", "相符", "是否相符")  # image and text
TYPE = ("type", "question_type", "kind", "类型", "问题类型", "题型")
BOXES = ("boxes", "objects", "bboxes", "annotations", "框", "目标框")
TAGS = ("ner_tags", "pos_tags", "token_tags", "bio", "词性", "实体")
METADATA = (
    *(
        "split",
        "type",
        "question_type",
        "kind",
        "language",
        "lang",
        "locale",
        "artist",
        "author",
        "group",
        "id",
        "index",
        "idx",
    ),
    *(
        "uid",
        "uuid",
        "key",
        "source",
        "url",
        "uri",
        "link",
        "license",
        "licence",
        "style",
        "date",
        "time",
        "timestamp",
        "folder",
    ),
    *("width", "height", "image_id", "picture_id", "question_id", "scene", "seed", "md5", "sha1", "sha256", "hash"),
    *(
        "划分",
        "类型",
        "问题类型",
        "题型",
        "语言",
        "作者",
        "画家",
        "分组",
        "编号",
        "序号",
        "来源",
        "链接",
        "日期",
        "时间",
        "风格",
        "许可",
    ),
)
_ORDINAL = re.compile(r"[\s\-]+")


def tidy(name: str) -> str:
    """A column's name as it is looked up: ``Image Path`` -> ``image_path``."""
    return _ORDINAL.sub("_", name.strip()).casefold()


def named(name: str, words: tuple[str, ...]) -> bool:
    """Whether a column's name is one of the words."""
    return tidy(name) in words


def first_named(columns: list[str], words: tuple[str, ...]) -> str | None:
    """The column that the earliest of the words names."""
    by_name = {tidy(column): column for column in reversed(columns)}
    return next((by_name[word] for word in words if word in by_name), None)


def is_metadata(name: str) -> bool:
    """Whether a column's name says that it describes the row and is never to be learned."""
    tidied = tidy(name)
    return tidied in METADATA or tidied.endswith(("_id", "编号"))


_CLASS_NUMBER = re.compile(
    r"(?:label|class|category|target|topic|sentiment|genre|cat|cls)_?(?:id|ids|idx|index|no|num|number|code)|"
    r"(?:标签|类别|分类|种类|主题)_?(?:编号|序号|id)"
)


def numbers_classes(name: str) -> bool:
    """Whether a column's name says that it numbers classes: ``label_id``, ``category_id``, ``class_idx``."""
    return _CLASS_NUMBER.fullmatch(tidy(name)) is not None


def split_word(text: str) -> str | None:
    """``train``, ``valid`` or ``test`` for any word that means one of them."""
    return SPLIT_WORDS.get(text.strip().casefold())


def split_in_name(stem: str) -> str | None:
    """The split that a word in a file's name says: ``valid`` for ``pets-val-000``; None where no word does."""
    words = re.split(r"[^a-zA-Z\u4e00-\u9fff]+", stem)
    return next((split for word in words if (split := split_word(word))), None)
