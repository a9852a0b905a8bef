"""What the signal-flow page tells of each station, in English and in Chinese: two or three plain sentences.

A sentence is filled in with its station's facts. It knows no model and no page.
"""

from __future__ import annotations

Both = tuple[str, str]

SENTENCES: dict[str, tuple[Both, ...]] = {
    "image": (
        (
            "The file was opened and decoded into coloured dots: {wide} wide and {high} high.",
            "文件被打开，解码成一个个彩色的点：宽 {wide}，高 {high}。",
        ),
        (
            "Each dot is three whole numbers from 0 to 255: how red, how green, how blue.",
            "每个点是三个 0 到 255 的整数：多红、多绿、多蓝。",
        ),
    ),
    "image.none": (
        ("This example has no image.", "这个例子没有图片。"),
        (
            "The model learned a vector of its own that says so, and puts it where an image would be.",
            "模型学了一个专门表示“没有图片”的向量，放在图片本该在的位置。",
        ),
    ),
    "transformed": (
        (
            "The model reads squares of one size, so the image was fitted ({fit}) to {side} x {side} dots.",
            "模型只读同一大小的方形，所以图片被调整（{fit}）为 {side} x {side} 个点。",
        ),
        (
            "Each number was divided by 255, then {mean} was taken away and the rest divided by {std}: now they lie "
            "between {low} and {high}, which networks learn from best.",
            "每个数先除以 255，再减去 {mean}，然后除以 {std}：现在都在 {low} 与 {high} "
            "之间，网络最容易从这样的数学习。",
        ),
    ),
    "patches.patches": (
        (
            "The square was cut into {rows} x {rows} patches of about {cell} dots each, numbered row by row.",
            "方形被切成 {rows} x {rows} 个图块，每块边长约 {cell} 个点，逐行编号。",
        ),
        (
            "Each patch becomes one image token, a vector: {count} tokens in all. From here on the model knows the "
            "image only as these.",
            "每个图块变成一个图片词元，也就是一个向量：共 {count} 个。从这里起，模型只通过它们认识图片。",
        ),
    ),
    "patches.cells": (
        (
            "The tower slides small filters over the square and makes it coarser step by step, until {rows} x {rows} "
            "cells are left, numbered row by row.",
            "图片塔让小滤镜滑过方形，一步步变粗，最后剩下 {rows} x {rows} 个格子，逐行编号。",
        ),
        (
            "Each cell is one image token, a vector that knows about its own {cell} dots and a good deal around "
            "them: {count} tokens in all.",
            "每个格子是一个图片词元：一个向量，知道自己那 {cell} 个点，也知道周围不少。共 {count} 个。",
        ),
    ),
    "patches.uneven": (
        ("The image becomes {count} image tokens, each a vector.", "图片变成 {count} 个图片词元，每个是一个向量。"),
        (
            "They form no square grid here, so they are not drawn over the image.",
            "它们在这里不构成方形网格，所以没有画在图片上。",
        ),
    ),
    "tokens": (
        (
            "The text was cut into {count} tokens: words or pieces of words that the model has in its vocabulary of "
            "{vocabulary:,}.",
            "文字被切成 {count} 个词元：词或词的一部分，都在模型的词表里（共 {vocabulary:,} 个）。",
        ),
        (
            "The small number is the token's id, its place in that list; that number is all the model reads.",
            "下面的小数字是词元的编号，即它在词表中的位置；模型读到的只有这个数字。",
        ),
    ),
    "tokens.hidden": (
        (
            "The text was cut into {count} tokens, and the token of one word was replaced by the mark for a hidden "
            "word.",
            "文字被切成 {count} 个词元，其中一个词被换成了“遮住”的记号。",
        ),
        (
            "The model has to say what stood there from what stands around it.",
            "模型要根据前后的词说出那里原来是什么。",
        ),
    ),
    "tokens.writes": (
        (
            "The question was put between marks that say whose turn it is, and cut into {prompt} tokens; the small "
            "number is each one's id among {vocabulary:,}.",
            "问题放在表明轮到谁说话的记号之间，切成 {prompt} 个词元；小数字是它在 {vocabulary:,} 个词元中的编号。",
        ),
        (
            "Then the model wrote, one token at a time; each written token (outlined) was read again with all before "
            "it to find the next.",
            "然后模型一个词元一个词元地写；写出的每个词元（有框的）再和前面的一起读，用来决定下一个。",
        ),
    ),
    "tokens.inline": (
        (
            "The question and a row of image marks (dashed) were cut into {prompt} tokens; the small number is each "
            "one's id among {vocabulary:,}.",
            "问题和一排图片记号（虚线框）共 {prompt} 个词元；小数字是它在 {vocabulary:,} 个词元中的编号。",
        ),
        (
            "Each mark's place is taken by one image token. Then the model wrote, one token (outlined) at a time.",
            "每个记号的位置由一个图片词元占据。然后模型一个词元一个词元地写（有框的）。",
        ),
    ),
    "image_tower": (
        (
            "The image tower ({kind}) turned each image token into a vector of {width} numbers, and all of them "
            "together into one vector, called pooled.",
            "图片塔（{kind}）把每个图片词元变成 {width} 个数的向量，又把它们合成一个向量，称为 pooled。",
        ),
        (
            "Bright in the first map: tokens whose vector is long, which speak loudest.",
            "第一张图中越亮的词元向量越长，声音越大。",
        ),
        (
            "In the others: how alike each token is to the framed one. What shows the same thing often lights up "
            "together.",
            "其余的图：每个词元与带框的那个有多像。内容相同的地方往往一起亮起来。",
        ),
    ),
    "image_tower.absent": (
        (
            "Without an image the tower's tokens are masked: nothing may look at them.",
            "没有图片时，图片塔的词元被遮住：谁也不能看它们。",
        ),
    ),
    "text_tower": (
        (
            "The text tower ({kind}) read the {count} tokens and turned each into a vector of {width} numbers that "
            "knows what stands around it.",
            "文字塔（{kind}）读了 {count} 个词元，把每个变成 {width} 个数的向量，向量里包含上下文。",
        ),
        (
            "The strip shows the length of each token's vector, from dark to bright; pooled is one vector for all of "
            "the text.",
            "色条表示每个词元向量的长度，由暗到亮；pooled 是代表整段文字的一个向量。",
        ),
    ),
    "text_tower.embedded": (
        (
            "Each id was looked up in a table, which gives a vector of {width} numbers: {count} vectors for {count} "
            "tokens.",
            "每个编号到一张表里查出一个 {width} 个数的向量：{count} 个词元，{count} 个向量。",
        ),
        (
            "The strip shows their lengths, from dark to bright. They do not know yet what stands around them: the "
            "decoder's layers will tell them.",
            "色条表示它们的长度，由暗到亮。它们还不知道上下文：解码器的各层会告诉它们。",
        ),
    ),
    "fusion.joint": (
        (
            "One vector of the image and one of the text became one ({how}); single patches and words are not "
            "compared.",
            "图片的一个向量和文字的一个向量合成一个（{how}）；图块和词之间不逐个比较。",
        ),
        (
            "The bars show how much of the fused vector each of them makes up.",
            "条形表示合成的向量中各占多少。",
        ),
    ),
    "fusion.unified": (
        (
            "Image tokens and text tokens stood in one row, and {layers} layers let each look at all others, with "
            "{heads} heads each.",
            "图片词元和文字词元排成一行，经过 {layers} 层，每个词元都能看所有其他词元，每层 {heads} 个头。",
        ),
        (
            "Each map below is one token of the text: bright where it looked in the image, the mean over layers and "
            "heads.",
            "下面每张图对应文字的一个词元：越亮表示它越看图片的那个地方（各层各头的平均）。",
        ),
    ),
    "fusion.cross": (
        (
            "Text tokens looked at image tokens and image tokens at text tokens, in {layers} layers of {heads} heads.",
            "文字词元看图片词元，图片词元看文字词元，共 {layers} 层，每层 {heads} 个头。",
        ),
        (
            "Each map below is one token of the text: bright where it looked in the image, the mean over layers and "
            "heads.",
            "下面每张图对应文字的一个词元：越亮表示它越看图片的那个地方（各层各头的平均）。",
        ),
    ),
    "fusion.writes_joint": (
        (
            "One vector was made from what is given beside the text ({how}), and blended into the vector of every "
            "token.",
            "由文字之外的输入合成一个向量（{how}），再混入每个词元的向量。",
        ),
        (
            "The bars show how much each part counts, for the place from which the first token was written; then "
            "{layers} layers of the decoder let each token look at those before it.",
            "条形表示写第一个词元的位置上各部分占多少；然后解码器的 {layers} 层让每个词元看它前面的词元。",
        ),
    ),
    "fusion.writes_unified": (
        (
            "The image tokens were put before the text, and {layers} layers of the decoder, {heads} heads each, let "
            "every token look at them and at the text before it.",
            "图片词元放在文字前面，解码器的 {layers} 层（每层 {heads} 个头）让每个词元都能看它们，也能看前面的文字。",
        ),
        (
            "Each map is one written token: bright where the model looked while it wrote it. The colours show which "
            "tokens of the question it looked at before the first.",
            "每张图对应一个写出的词元：越亮表示写它时越看那里。颜色表示写第一个词元前看了问题的哪些词元。",
        ),
    ),
    "fusion.writes_cross": (
        (
            "In {layers} layers, {heads} heads each, every token looked at the text before it and, through a gate, at "
            "the image tokens.",
            "在 {layers} 层中（每层 {heads} 个头），每个词元看前面的文字，并通过一道门看图片词元。",
        ),
        (
            "Each map is one written token: bright where the model looked while it wrote it. The colours show which "
            "tokens of the question it looked at before the first.",
            "每张图对应一个写出的词元：越亮表示写它时越看那里。颜色表示写第一个词元前看了问题的哪些词元。",
        ),
    ),
    "fusion.writes_inline": (
        (
            "The image tokens stand inside the text, in the places of the image marks, and {layers} layers of the "
            "decoder, {heads} heads each, read all of it from left to right.",
            "图片词元就在文字里，占据图片记号的位置；解码器的 {layers} 层（每层 {heads} 个头）从左到右读完全部。",
        ),
        (
            "Each map is one written token: bright where the model looked while it wrote it.",
            "每张图对应一个写出的词元：越亮表示写它时越看那里。",
        ),
    ),
    "fusion.writes_alone": (
        (
            "There is only text: {layers} layers of the decoder, {heads} heads each, let every token look at those "
            "before it.",
            "这里只有文字：解码器的 {layers} 层（每层 {heads} 个头）让每个词元看它前面的词元。",
        ),
        (
            "The colours show which tokens the model looked at before it wrote the first new one.",
            "颜色表示写第一个新词元之前，模型看了哪些词元。",
        ),
    ),
    "answer.labels": (
        (
            "The head gave one number for each of {count} labels; made into probabilities, they add up to 1.",
            "输出头为 {count} 个标签各给一个数；变成概率后，总和为 1。",
        ),
        ("The likeliest is the answer: {answer}.", "最可能的就是回答：{answer}。"),
    ),
    "answer.tags": (
        (
            "The head gave one number for each of {count} tags; each became a probability by itself, so several may be "
            "true.",
            "输出头为 {count} 个标签各给一个数；每个单独变成概率，所以可以同时成立几个。",
        ),
        ("Those above their threshold are the answer: {answer}.", "超过阈值的就是回答：{answer}。"),
    ),
    "answer.number": (
        (
            "The head gave one number, {raw}; times the spread of the training rows ({spread:.4g}) plus their mean "
            "({mean:.4g}) it is the answer: {value}.",
            "输出头给出一个数 "
            "{raw}；乘以训练数据的标准差（{spread:.4g}），再加上平均值（{mean:.4g}），就是回答：{value}。",
        ),
        (
            "A regression gives no probabilities: how far it may be off, the report says.",
            "回归不给概率：可能差多少，报告里有。",
        ),
    ),
    "answer.match": (
        (
            "The head gave one number, which became the chance that text and image belong together.",
            "输出头给出一个数，变成“图文相配”的概率。",
        ),
        ("From one half on the answer is yes; here it is {answer}.", "一半以上就回答相配；这里的回答是 {answer}。"),
    ),
    "answer.writes": (
        (
            "At each place the model gave one number for each of the {vocabulary:,} tokens it knows; made into "
            "probabilities, the likeliest was written.",
            "在每个位置，模型为它认识的 {vocabulary:,} 个词元各给一个数；变成概率后，写下最可能的。",
        ),
        (
            "Below, each written token with what else could have stood there. Together: {answer}",
            "下面是每个写出的词元，以及那里还可能是什么。合起来：{answer}",
        ),
    ),
    "answer.choose": (
        (
            "Each choice was read after the question, and the one whose tokens were likeliest was chosen: {answer}.",
            "把每个选项接在问题后面读，词元最可能的那个被选中：{answer}。",
        ),
        (
            "Below, the tokens of that choice with what the model would have written of its own.",
            "下面是该选项的词元，以及模型自己会写什么。",
        ),
    ),
    "answer.masked": (
        (
            "For the hidden word the model gave one number for each token it knows; made into probabilities, the "
            "likeliest is its guess: {answer}.",
            "对被遮住的词，模型为每个认识的词元给一个数；变成概率后，最可能的就是它的猜测：{answer}。",
        ),
        ("Below, the likeliest ones.", "下面是最可能的几个。"),
    ),
    "answer.patches": (
        (
            "The head named each image token: one number for each of {count} labels, made into probabilities.",
            "输出头为每个图片词元命名：对 {count} 个标签各给一个数，再变成概率。",
        ),
        ("Bright: where the label is likely. The surest: {answer}.", "越亮表示越可能是该标签。最确定的：{answer}。"),
    ),
    "answer.vector": (
        (
            "This model learned without labels: its answer is the vector itself, of which the strip shows the first "
            "numbers.",
            "这个模型学习时没有标签：它的回答就是向量本身，色条是最前面的几个数。",
        ),
        ("Images that show the same have vectors that point the same way.", "内容相同的图片，向量方向相近。"),
    ),
    "answer.pair": (
        (
            "Image and text each became one vector of length 1 in a shared space; the strips show their first numbers.",
            "图片和文字在同一空间里各变成一个长度为 1 的向量；色条是最前面的几个数。",
        ),
        (
            "Their product, the cosine, says how alike they are: {cosine} (1 the same, 0 nothing in common). Times "
            "{scale}, it is what retrieval compares.",
            "两者的乘积（余弦）表示有多像：{cosine}（1 为相同，0 为无关）。乘以 {scale} 就是检索时比较的数。",
        ),
    ),
    "answer.likeness": (
        (
            "The text became one vector, of which the strip shows the first numbers.",
            "文字变成一个向量，色条是最前面的几个数。",
        ),
        (
            "Its cosine with the other text's vector is {cosine}: 1 means the same.",
            "它与另一段文字的向量余弦为 {cosine}：1 表示意思相同。",
        ),
    ),
    "answer.tagged": (
        (
            "The head gave each token one number for each tag; beside each token stands its likeliest tag, with the "
            "probability.",
            "输出头为每个词元的每种标注各给一个数；词元旁是最可能的标注和概率。",
        ),
        ("Neighbouring tags make spans: {answer}", "相邻的标注连成片段：{answer}"),
    ),
    "answer.span": (
        (
            "The head said of each token how likely the answer begins there and how likely it ends there.",
            "输出头说出答案从每个词元开始和在每个词元结束的概率。",
        ),
        ("The likeliest pair of both is the answer: {answer}", "最可能的一对首尾就是回答：{answer}"),
    ),
}
