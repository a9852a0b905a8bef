"""What tasks that write learn and what they do not: answers, never prompts, never padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rebus.errors import DataError
from rebus.models.batch import Batch
from rebus.models.layout import IGNORED
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Image, Model, TaskSettings, Tower
from rebus.tasks import TASKS, Converse, Generate, TextProcessor
from rebus.tasks.base import Values
from rebus.tasks.layout import conversation, opened, prompt_ids
from rebus.tasks.writing import WritingTask, fitted, share_rows
from rebus.text.tokenizer import Tokenizer
from tiny_checkpoints import write_tokenizer

TEXTS = [
    "Say hello to the cat.",
    "Hello, cat!",
    "把猫翻译成英文",
    "cat",
    "And now to the dog.",
    "Hello, dog!",
    "Be kind.",
]


@pytest.fixture(scope="module")
def processor() -> TextProcessor:
    return TextProcessor(Tokenizer.train(TEXTS * 3, 330), max_length=64)


def made(name: str, columns: list[str], **more: Any) -> WritingTask:
    task = TASKS.get(name)(TaskSettings(name=name, columns={role: role for role in columns}, **more))
    assert isinstance(task, WritingTask)
    return task


CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Say hello to the cat."},
    {"role": "assistant", "content": "Hello, cat!"},
    {"role": "user", "content": "And now to the dog."},
    {"role": "assistant", "content": "Hello, dog!"},
]
VALUES: Values = {
    "prompt": ["Say hello to the cat.", "把猫翻译成英文"],
    "output": ["Hello, cat!", "cat"],
    "messages": [CHAT, CHAT[1:3]],
}


def learned(task: WritingTask, processor: TextProcessor, row: int, values: Values = VALUES) -> list[str]:
    """The runs of tokens that are learned, as text."""
    laid = task.lay(values, row, (task.targets(values, row) or [""])[0], processor)
    runs: list[list[int]] = []
    for place, (token, wanted) in enumerate(zip(laid.ids, laid.learned, strict=True)):
        if wanted and (place == 0 or not laid.learned[place - 1]):
            runs.append([])
        if wanted:
            runs[-1].append(token)
    return [processor.tokenizer.decode(run, skip_special=False) for run in runs]


def test_only_answers_are_learned(processor: TextProcessor) -> None:
    assert learned(made("generate", ["prompt", "output"]), processor, 1) == ["cat<|eos|>"]
    assert learned(made("converse", ["messages"]), processor, 0) == ["Hello, cat!<|eos|>", "Hello, dog!<|eos|>"]


def test_an_answer_of_weight_zero_is_read_and_not_learned(processor: TextProcessor) -> None:
    turns = [{**turn, "weight": 0} if turn["content"] == "Hello, cat!" else turn for turn in CHAT]
    assert learned(made("converse", ["messages"]), processor, 0, {"messages": [turns]}) == ["Hello, dog!<|eos|>"]


@pytest.mark.parametrize("layout", ["chat", "plain"])
@pytest.mark.parametrize("unlearned", ["Hello, cat!", "Hello, dog!"])
def test_an_answer_of_weight_zero_is_learned_in_no_layout(
    processor: TextProcessor, layout: Any, unlearned: str
) -> None:
    turns = [{**turn, "weight": 0} if turn["content"] == unlearned else turn for turn in CHAT]
    task = made("converse", ["messages"])
    task.settings = task.settings.replace(layout=layout)
    values = {"messages": [turns]}
    said = "".join(learned(task, processor, 0, values))
    assert unlearned not in said
    assert ("Hello, dog!" if unlearned == "Hello, cat!" else "Hello, cat!") in said
    assert [text for text in ("Hello, cat!", "Hello, dog!") if text in said][-1:] == task.targets(values, 0)
    assert task.judgeable(values, 0) == (unlearned == "Hello, cat!")


def test_marks_of_images_are_no_words_of_a_question() -> None:
    values = {"image": ["a.png"], "question": ["<image>\nwhat colour?"], "answer": ["red"]}
    assert made("answer", list(values)).prompt(values, 0) == "what colour?"
    blind = {name: values[name] for name in ("question", "answer")}
    assert made("answer", list(blind)).prompt(blind, 0) == "<image>\nwhat colour?"


def test_ids_are_those_of_the_chat_template(processor: TextProcessor) -> None:
    assert conversation(CHAT, processor).ids == processor.tokenizer.chat(CHAT)
    task = made("converse", ["messages"])
    assert task.ask(VALUES, 0, processor) == processor.tokenizer.chat(CHAT[:-1], prompt=True)
    generate = made("generate", ["prompt", "output"])
    assert generate.ask(VALUES, 1, processor) == processor.tokenizer.chat(
        [{"role": "user", "content": "把猫翻译成英文"}], prompt=True
    )


def model_for(processor: TextProcessor, task: WritingTask) -> VisionLanguageModel:
    torch.manual_seed(0)
    settings = Model(image=Tower(kind="none"), text=Tower(kind="decoder", width=16, depth=2, heads=2))
    heads = {task.name: task.head(processor)}
    model = VisionLanguageModel(
        settings, Image(), heads, vocab_size=processor.tokenizer.vocab_size, max_length=processor.max_length
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # output projections start at zero
    return model


def loss_of(model: VisionLanguageModel, task: WritingTask, part: dict[str, torch.Tensor]) -> torch.Tensor:
    return task.loss(model(Batch.of_target(task.name, part))[task.name], part).detach()


@pytest.mark.parametrize(("name", "columns"), [("generate", ["prompt", "output"]), ("converse", ["messages"])])
def test_the_loss_is_that_of_the_answers_alone(processor: TextProcessor, name: str, columns: list[str]) -> None:
    """The same as the mean over answer tokens alone of each text by itself, whatever a prompt's targets would be."""
    task = made(name, columns)
    model = model_for(processor, task)
    items = [item for row in range(2) for item in task.items(VALUES, [row], processor, (0, 0, row))]
    loss = loss_of(model, task, task.collate(items, [0, 1]))
    total, count = 0.0, 0
    for row in range(2):
        laid = task.lay(VALUES, row, task.targets(VALUES, row)[0], processor)
        targets = torch.tensor(laid.ids[1:])
        wanted = torch.tensor(laid.learned[1:])
        garbage = torch.where(wanted, targets, (targets * 7 + 11) % processor.tokenizer.vocab_size)
        ids, length = torch.tensor([laid.ids[:-1]]), len(laid.ids) - 1
        assert model.decoder is not None
        hidden = model.decoder.forward_embeds(model.decoder.embed(ids), torch.arange(length)[None])
        told = model.decoder.logits(hidden)[0].log_softmax(-1).detach()
        total -= float(told.gather(1, garbage[:, None])[wanted].sum())
        count += int(wanted.sum())
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("name", "columns"), [("generate", ["prompt", "output"]), ("converse", ["messages"])])
def test_garbage_as_the_labels_of_a_prompt_changes_nothing(
    processor: TextProcessor, name: str, columns: list[str]
) -> None:
    """No gradient reaches the logits at the prompt's places or at padding, so no label there could matter."""
    task = made(name, columns)
    model = model_for(processor, task)
    items = [item for row in range(2) for item in task.items(VALUES, [row], processor, (0, 0, row))]
    part = task.collate(items, [0, 1])
    whole = {**part, "labels": part["labels"].clone()}
    whole["labels"][part["labels"] == IGNORED] = 9  # garbage wherever nothing is to be learned
    logits = model(Batch.of_target(name, whole))[name].detach().requires_grad_()  # at every place now
    kept = (part["labels"] != IGNORED).flatten()
    loss = task.loss(logits[kept], part)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(loss_of(model, task, part)), rel=1e-6)
    assert logits.grad is not None
    reached = logits.grad.abs().sum(-1) > 0
    assert torch.equal(reached, kept)
    assert int(kept.sum()) < len(kept)


def test_padding_never_counts(processor: TextProcessor) -> None:
    task = made("generate", ["prompt", "output"])
    model = model_for(processor, task)
    part = task.collate(task.items(VALUES, [0], processor, (0, 0, 0)), [0])
    blank = {"input_ids": 5, "labels": IGNORED, "blocks": -1, "positions": 3}
    wider = {
        key: torch.cat([value, torch.full((len(value), 32), blank[key])], dim=1) if key in blank else value
        for key, value in part.items()
    }
    assert float(loss_of(model, task, wider)) == pytest.approx(float(loss_of(model, task, part)), rel=1e-6)


def test_texts_that_share_a_row_do_not_see_one_another(processor: TextProcessor) -> None:
    """The loss of a shared row is that of its texts in rows of their own."""
    task = made("generate", ["prompt", "output"])
    model = model_for(processor, task)
    items = [task.items(VALUES, [row], processor, (0, 0, row))[0] for row in (0, 1, 1, 0)]
    shared = task.collate(items, [0, 1, 2, 3])
    assert len(shared["input_ids"]) < 4
    assert shared["blocks"].max() > 0
    apart = [task.collate([item], [0]) for item in items]
    sums = [float(loss_of(model, task, part)) * int((part["labels"] != IGNORED).sum()) for part in apart]
    count = sum(int((part["labels"] != IGNORED).sum()) for part in apart)
    assert float(loss_of(model, task, shared)) == pytest.approx(sum(sums) / count, rel=1e-5)


def test_sharing_rows_keeps_every_token_once_and_wastes_little() -> None:
    random = np.random.default_rng(0)
    items = []
    for number, length in enumerate(random.integers(4, 40, size=32)):
        ids = np.full(length, number)
        items.append({"input_ids": ids, "labels": ids, "positions": np.arange(length), "blocks": np.zeros(length, int)})
    rows = share_rows(items)
    tokens = np.concatenate([row["input_ids"] for row in rows])
    assert sorted(tokens.tolist()) == sorted(np.concatenate([item["input_ids"] for item in items]).tolist())
    for row in rows:
        for block in range(int(row["blocks"].max()) + 1):
            mine = row["blocks"] == block
            assert len(set(row["input_ids"][mine])) == 1
            assert row["positions"][mine].tolist() == list(range(int(mine.sum())))
    longest = max(len(row["input_ids"]) for row in rows)
    assert longest <= 256
    assert len(tokens) / (len(rows) * longest) > 0.9  # 32 rows as long as the longest would be half padding


def test_first_fit_puts_the_longest_first() -> None:
    assert fitted([3, 9, 4, 7], 10) == [[1], [3, 0], [2]]


def test_a_row_with_a_image_keeps_a_row_of_its_own(processor: TextProcessor) -> None:
    values = {**VALUES, "image": ["a.png", "b.png"]}
    task = made("generate", ["image", "prompt", "output"])
    items = [task.items(values, [row], processor, (0, 0, row))[0] for row in range(2)]
    part = task.collate(items, [1, 0])
    assert part["owner"].tolist() == [1, 0]
    assert len(part["input_ids"]) == 2


def long_chat(exchanges: int) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": "Be kind."}]
    for number in range(exchanges):
        turns += [
            {"role": "user", "content": f"number {number} please"},
            {"role": "assistant", "content": f"it is {number}"},
        ]
    return turns


def test_a_long_conversation_loses_its_oldest_exchanges(processor: TextProcessor) -> None:
    turns = long_chat(30)
    laid = conversation(turns, processor)
    text = processor.tokenizer.decode(laid.ids, skip_special=False)
    assert len(laid.ids) <= 2 * processor.max_length + 1
    assert text.startswith("<|bos|><|system|>Be kind.<|user|>number ")
    assert text.endswith("it is 29<|eos|>")
    assert laid.dropped % 2 == 0
    assert laid.dropped > 30
    task = made("converse", ["messages"])
    note = task.notes({"messages": [turns, CHAT]}, [0, 1], processor)
    assert note == [
        "task converse: 1 of 2 conversations are longer than 128 tokens and lose their oldest turns, "
        f"{laid.dropped} in all; otherwise: --set text.max_length=TOKENS"
    ]
    asked = processor.tokenizer.decode(task.ask({"messages": [turns]}, 0, processor), skip_special=False)
    assert asked.endswith("number 29 please<|assistant|>")


def test_one_exchange_that_is_too_long_keeps_its_answer(processor: TextProcessor) -> None:
    turns = [{"role": "user", "content": "猫" * 500}, {"role": "assistant", "content": "Hello, dog!"}]
    laid = conversation(turns, processor)
    assert len(laid.ids) <= 2 * processor.max_length + 1
    said = [token for token, wanted in zip(laid.ids, laid.learned, strict=True) if wanted]
    assert processor.tokenizer.decode(said) == "Hello, dog!"
    assert made("converse", ["messages"]).notes({"messages": [turns]}, [0], processor) == [
        "task converse: 1 rows hold a turn of more than 64 tokens, which is cut"
    ]


def test_cut_texts_are_counted(processor: TextProcessor) -> None:
    values = {"prompt": ["猫" * 500, "short"], "output": ["cat", "cat"]}
    assert made("generate", ["prompt", "output"]).notes(values, [0, 1], processor) == [
        "task generate: 1 of 2 rows hold a text of more than 64 tokens, which is cut"
    ]
    assert made("generate", ["prompt", "output"]).notes(VALUES, [0, 1], processor) == []


def test_a_conversation_that_ends_with_a_question_is_answered_and_not_judged(processor: TextProcessor) -> None:
    task = made("converse", ["messages"])
    values = {"messages": [CHAT[:4]]}
    assert task.usable(values, 0)
    assert not task.judgeable(values, 0)
    assert task.ask(values, 0, processor) == processor.tokenizer.chat(CHAT[:4], prompt=True)
    assert learned(task, processor, 0, values) == ["Hello, cat!<|eos|>"]


def test_alpaca_is_a_conversation(processor: TextProcessor) -> None:
    task = made("converse", ["prompt", "input", "output", "system"])
    assert isinstance(task, Converse)
    values = {"prompt": ["Translate"], "input": ["猫"], "output": ["cat"], "system": ["Be kind."]}
    assert task.turns(values, 0) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Translate\n猫"},
        {"role": "assistant", "content": "cat"},
    ]
    with pytest.raises(DataError, match="'messages'"):
        made("converse", []).values({"text": ["x"]})


def test_generate_joins_instruction_prompt_and_input() -> None:
    task = made("generate", ["system", "prompt", "input", "output"], instruction="In one word:")
    values = {"system": ["Be kind."], "prompt": ["What is it?"], "input": ["猫"], "output": [["cat", "a cat"]]}
    assert task.messages(values, 0) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "In one word:\nWhat is it?\n猫"},
    ]
    assert isinstance(task, Generate)
    assert task.targets(values, 0) == ["cat"]
    assert task.right_texts(values, 0) == ["cat", "a cat"]


def test_translate_names_the_direction() -> None:
    task = made("translate", ["source", "target", "direction"])
    values = {"source": ["猫"], "target": ["cat"], "direction": ["zh-en"]}
    assert task.prompt(values, 0) == "zh-en: 猫"
    assert task.types(values, [0]) == ["zh-en"]
    (copied,), name = task.naive(values, [0], values, [])
    assert (copied.value, name) == ("猫", "the source, copied")


def test_plain_prompts_are_gone_on_from(processor: TextProcessor) -> None:
    task = made("generate", ["prompt", "output"], layout="plain")
    laid = task.lay(VALUES, 0, "Hello, cat!", processor)
    assert processor.tokenizer.decode(laid.ids, skip_special=False) == "<|eos|>Say hello to the cat. Hello, cat!<|eos|>"
    assert learned(task, processor, 0) == [" Hello, cat!<|eos|>"]
    assert learned(task, processor, 1) == ["cat<|eos|>"]  # no space after Chinese
    assert task.said(" cat\nand more") == "cat"
    assert opened([], processor) == [processor.tokenizer.eos_id]


@pytest.fixture
def foreign(tmp_path: Path) -> TextProcessor:
    write_tokenizer(tmp_path, chat=True)
    return TextProcessor(Tokenizer.load(tmp_path), max_length=64)


def test_another_projects_template_is_followed(foreign: TextProcessor) -> None:
    turns = [
        {"role": "user", "content": "the cat was red"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "not blue"},
        {"role": "assistant", "content": "bad dog"},
    ]
    task, values = made("converse", ["messages"]), {"messages": [turns]}
    assert conversation(turns, foreign).ids == foreign.tokenizer.chat(turns)
    assert learned(task, foreign, 0, values) == ["good</s>", "bad dog</s>"] or learned(task, foreign, 0, values) == [
        "good </s>",
        "bad dog </s>",
    ]
    assert task.ask(values, 0, foreign) == foreign.tokenizer.chat(turns[:3], prompt=True)
    assert prompt_ids(turns[:1], foreign) == foreign.tokenizer.chat(turns[:1], prompt=True)
    generate = made("generate", ["prompt", "output"])
    asked = {"prompt": ["the cat was red"], "output": ["good"]}
    assert generate.lay(asked, 0, "good", foreign).ids == foreign.tokenizer.chat(turns[:2])


def test_a_template_that_rewrites_earlier_turns_teaches_the_last_answer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    template = (
        "{% for m in messages %}{{ '<s> ' + m['role'] + ' ' }}"
        "{{ m['content'] + ' </s> ' if loop.last or m['role'] == 'user' else 'here </s> ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s> assistant ' }}{% endif %}"
    )
    (tmp_path / "chat_template.jinja").write_text(template)
    processor = TextProcessor(Tokenizer.load(tmp_path), max_length=64)
    turns = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "the dog"},
        {"role": "assistant", "content": "bad"},
    ]
    text = " ".join(learned(made("converse", ["messages"]), processor, 0, {"messages": [turns]}))
    assert "bad" in text
    assert "good" not in text
