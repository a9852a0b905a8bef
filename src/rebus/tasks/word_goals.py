"""Which numbers are explained of a text that a model writes: each word of it, given all that stands before it.

The answer is read back in one pass, so that each of its tokens' log-odds are there at once; a word of several tokens is
their sum. It knows no task. Letters: N rows, n tokens of the answer, V vocabulary, W words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rebus.catalogue import Note
from rebus.errors import DataError, nearest
from rebus.generation.sampling import Sampling
from rebus.generation.write import write
from rebus.models.fusion import Condition
from rebus.models.layout import IGNORED
from rebus.tasks.explanation import Example, Goal, Target, log_odds, read_places
from rebus.tasks.pieces import Places, located, units_of_text, written_places

MOST_TOKENS = 64  # of an answer that are written to be explained
MOST_WORDS = 48  # that are explained each by itself


def place_prompt(example: Example, texts: Sequence[str], ids: Sequence[int]) -> Places:
    """Where in the example's text, which the prompt's texts become, each id of the prompt stands."""
    tokenizer = example.session.processor.tokenizer
    example.text = "\n".join(texts)
    places: Places = [None] * len(ids)
    shift = first = 0
    for text in texts:
        wanted, offsets = tokenizer.encode_with_offsets(text)
        result = located(ids[first:], wanted, offsets, shift)
        places[first:] = result
        last = max((place for place, item in enumerate(result) if item is not None), default=-1)
        first, shift = first + last + 1, shift + len(text) + 1
    return places


def likeliest_answer(
    example: Example, condition: Condition, prompt: list[int], most: int, *, first_line: bool
) -> list[int]:
    """What the model writes, the likeliest token each time; perhaps its first line alone."""
    tokenizer = example.session.processor.tokenizer
    size = tokenizer.vocab_size
    message = write(example.model, condition, [prompt], Sampling(most), eos_id=tokenizer.eos_ids, vocab_size=size)[0]
    if not message.finished:
        example.remarks.append(Note("remark.first_tokens", most=most))
    ids = list(message.ids)
    if first_line:
        text, offsets = written_places(tokenizer, ids)
        end = len(text) - len(text.lstrip())
        cut = text.find("\n", end)
        ids = ids if cut < 0 else [id for id, (start, _) in zip(ids, offsets, strict=True) if start < cut]
    return ids


def set_word_goals(
    example: Example,
    prompt: list[int],
    places: Places,
    answer: list[int],
    target: Target,
    *,
    question: str | None,
    key: str,
) -> None:
    """Fill in the part and a goal for each word of an answer, or for the word that is the target.

    Args:
        example: its text is the prompt's already.
        prompt: ids.
        places: where in the text each of them stands.
        answer: ids.
        target: a word or its number from 1; None: all, and the answer as a whole.
        question: what a text tower reads; None: there is none.
        key: of the message that names the whole.

    Raises:
        DataError: the target is no word of the answer.
    """
    tokenizer, device = example.session.processor.tokenizer, example.model.device
    text, offsets = written_places(tokenizer, answer)
    example.answer = example.answer or text.strip()
    units = units_of_text(text, {"answer": list(offsets)})
    words = [(text[unit.start : unit.end], unit.members["answer"]) for unit in units]
    spans = [(unit.start - len(text) + len(text.lstrip()), unit.end - len(text) + len(text.lstrip())) for unit in units]
    if not words:  # the answer is no answer: why it ended at once
        answer = answer or [tokenizer.eos_id]
        words, spans = [("", tuple(range(len(answer))))], [(0, 0)]
    if len(words) > MOST_WORDS:
        example.remarks.append(Note("remark.first_words", count=len(words), most=MOST_WORDS))
        words = words[:MOST_WORDS]
    ids, before = prompt + answer, len(prompt)
    labels = [IGNORED] * (before - 1) + answer
    example.part |= {
        "input_ids": torch.tensor([ids[:-1]], device=device),
        "labels": torch.tensor([labels], device=device),
        "positions": torch.arange(len(labels), device=device)[None],
        "blocks": torch.zeros(1, len(labels), dtype=torch.long, device=device),
        "owner": torch.zeros(1, dtype=torch.long, device=device),
    }
    example.places["input_ids"] = (places + [None] * len(answer))[: len(labels)]
    if question is not None:
        read, read_at = read_places(example, question)
        example.part |= {
            "text_ids": torch.tensor([read], device=device),
            "text_mask": torch.ones(1, len(read), dtype=torch.bool, device=device),
        }
        example.places["text_ids"] = read_at
    chosen = range(len(words)) if target is None else [word_number([word for word, _ in words], target)]
    _set_goals(example, answer, before, words, spans, chosen)
    example.whole = None
    if target is None:
        chance = float(np.prod([goal.score for goal in example.goals]) ** (1 / len(answer)))
        what = Note(key, text=text.strip()) if text.strip() else Note("target.no_answer")
        example.whole = Goal(what, chance)


def word_number(words: Sequence[str], target: Target) -> int:
    """The place of a word that a target names by itself or by its number, from 1."""
    named = str(target).strip().casefold()
    folded = [word.casefold() for word in words]
    if isinstance(target, str) and named in folded:
        return folded.index(named)
    if named.lstrip("-").isdigit():
        if 1 <= int(named) <= len(words):
            return int(named) - 1
        do = f"name a word, or a number from 1 to {len(words)}"
        raise DataError("the target", f"a word of the answer, which has {len(words)}", f"number {named}", do)
    raise DataError("the target", "a word of the answer, or its number", f"'{target}'", nearest(str(target), words))


def _set_goals(
    example: Example,
    answer: list[int],
    before: int,
    words: list[tuple[str, tuple[int, ...]]],
    spans: list[tuple[int, int]],
    chosen: Sequence[int],
) -> None:
    """A goal for each of the chosen words."""
    device, size = example.model.device, example.session.processor.tokenizer.vocab_size
    wanted = torch.tensor(answer, device=device)
    sums = torch.zeros(len(answer), len(chosen), device=device)  # (n, W)
    for column, number in enumerate(chosen):
        sums[list(words[number][1]), column] = 1.0
    example.measure = written_measure(wanted, sums, size)
    logits = example.run().float()[:, :size]  # (n, V)
    chances = logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]
    for number in chosen:
        word, members = words[number]
        score = float(chances[list(members)].sum().exp())
        what = Note("target.word", number=number + 1, text=word) if word else Note("target.end")
        at = tuple(before - 1 + member for member in members)
        example.goals.append(Goal(what, score, at, word=(number + 1, word), span=spans[number]))


def written_measure(wanted: Tensor, sums: Tensor, size: int) -> Callable[[Tensor], Tensor]:
    """Logits (N n, V) -> (N, W): the summed log-odds of the tokens ``wanted`` (n,) of each word, by ``sums`` (n, W)."""

    def measure(outputs: Tensor) -> Tensor:
        logits = outputs.view(-1, len(wanted), outputs.shape[-1])[..., :size]
        return log_odds(logits, wanted.expand(len(logits), -1)) @ sums

    return measure
