"""Marks for images: in templates of other projects, in tokenizers, and never in what a user writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rebus.errors import DataError
from rebus.tasks import layout
from rebus.tasks.text_processor import TextProcessor
from rebus.text import templates
from rebus.text.images import ALL, IMAGE, with_images
from rebus.text.tokenizer import Tokenizer
from tiny_seeing import LLAVA, SMOLVLM, write_tokenizer
from tiny_tokenizers import CHATML, LLAMA2, LLAMA3, QWEN, TEXTS

WORDS = {"bos_token": "<s>", "eos_token": "</s>"}
SHOWN = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]


@pytest.mark.parametrize("template", [CHATML, QWEN, LLAMA2, LLAMA3])
def test_a_template_of_texts_learns_images_and_keeps_its_texts(template: str) -> None:
    assert not templates.shows_images(template, WORDS)
    assert not templates.wants_parts(template, WORDS)
    taught = with_images(template)
    assert templates.shows_images(taught, WORDS)
    assert with_images(taught) == taught
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    for prompt in (True, False):
        assert templates.render(taught, turns, prompt, WORDS) == templates.render(template, turns, prompt, WORDS)
    said = templates.render(template, [{"role": "user", "content": "<image>What is it?"}], True, WORDS)
    assert templates.render(taught, SHOWN, True, WORDS) == said
    with pytest.raises(DataError, match="has no images"):
        templates.segments(template, SHOWN, True, WORDS, [IMAGE])


@pytest.mark.parametrize("template", [SMOLVLM, LLAVA])
def test_a_template_of_parts_is_given_parts(template: str) -> None:
    assert templates.shows_images(template, WORDS)
    assert templates.wants_parts(template, WORDS)
    plain = templates.segments(template, [{"role": "user", "content": "cats"}], True, WORDS, [IMAGE])
    assert "cats" in "".join(text for _, text in plain)
    sly = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "an <image> here"}]}]
    parts = templates.segments(template, sly, True, WORDS, [IMAGE])
    assert [text for special, text in parts if special] == [IMAGE]
    assert "an <image> here" in "".join(text for special, text in parts if not special)


def test_our_own_tokenizer_has_marks_beside_its_own(tmp_path: Path) -> None:
    plain = Tokenizer.train(TEXTS, 330)
    made = plain.with_tokens(ALL)
    assert made.with_tokens(ALL) is made
    assert made.vocab_size == plain.vocab_size + len(ALL)
    assert (plain.image_mark, made.image_mark) == ("<|image|>", IMAGE)
    assert made.encode("a red car <image>") == plain.encode("a red car <image>")
    made.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.image_id, again.fingerprint) == (made.image_id, made.fingerprint)
    assert again.chat(SHOWN, prompt=True) == made.chat(SHOWN, prompt=True)
    assert again.chat(SHOWN).count(again.image_id) == 1
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.apply_chat_template(SHOWN, add_generation_prompt=True)["input_ids"] == made.chat(SHOWN, prompt=True)


@pytest.mark.parametrize("kind", ["idefics3", "llava"])
def test_one_mark_becomes_as_many_as_there_are_image_tokens(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path, kind)
    tokenizer = Tokenizer.load(tmp_path)
    processor = TextProcessor(tokenizer, max_length=64, image=(tokenizer.image_id,) * 5, image_id=tokenizer.image_id)
    turns = [{"role": "user", "content": "What is left of the <image>?"}]
    ids = layout.prompt_ids(layout.shown(turns, processor), processor)
    assert ids.count(tokenizer.image_id) == 5
    assert layout.prompt_ids(layout.shown(turns, processor, image=False), processor).count(tokenizer.image_id) == 0
    clean = [{"role": "user", "content": "What is left of it?"}]
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is left of it?"}]}]
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(parts, add_generation_prompt=True)["input_ids"]
    ours = layout.prompt_ids(layout.shown(clean, processor), processor)
    place = ours.index(tokenizer.image_id)
    assert ours[:place] + ours[place + 4 :] == theirs
