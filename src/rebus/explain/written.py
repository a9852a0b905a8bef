"""Which number is explained, for tasks that write: each word of the answer, given all that stands before it.

The answer is read back in one pass, so that each of its tokens' log-odds are there at once; a word of several tokens is
their sum. Letters: N rows, n tokens of the answer, V vocabulary, W words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rebus.catalogue import Note
from rebus.errors import DataError, nearest
from rebus.explain.pieces import Places, located, units_of_text, written_places
from rebus.explain.subject import Goal, Subject, log_odds
from rebus.explain.targets import Target, read_places
from rebus.generation.sampling import Sampling
from rebus.generation.write import write
from rebus.models.layout import IGNORED
from rebus.tasks import Choose, Lm, Mlm
from rebus.tasks.cuts import cut
from rebus.tasks.layout import opened, plain_text
from rebus.tasks.session import Portion
from rebus.tasks.writing import WritingTask

MOST_TOKENS = 64  # of an answer that are written to be explained
LM_TOKENS = 16  # a text that goes on has no end of its own
MOST_WORDS = 48  # that are explained each by itself


def aim_written(subject: Subject, task: WritingTask, target: Target) -> None:
    """Fill in what is asked of a task that writes.

    Raises:
        DataError: the target is no word of the answer.
    """
    processor, device = subject.predictor.processor, subject.model.device
    tokenizer = processor.tokenizer
    prompt, places = _prompt(subject, task)
    if isinstance(task, Choose):
        answer, target = _choice(subject, task, target), None
    else:
        answer = _answer(subject, task, prompt)
    said, offsets = written_places(tokenizer, answer)
    subject.answer = subject.answer or said.strip()
    units = units_of_text(said, {"answer": list(offsets)})
    words = [(said[one.start : one.end], one.members["answer"]) for one in units]
    spans = [(one.start - len(said) + len(said.lstrip()), one.end - len(said) + len(said.lstrip())) for one in units]
    if not words:  # the answer is no answer: why it ended at once
        answer = answer or [tokenizer.eos_id]
        words, spans = [("", tuple(range(len(answer))))], [(0, 0)]
    if len(words) > MOST_WORDS:
        subject.remarks.append(Note("remark.first_words", count=len(words), most=MOST_WORDS))
        words = words[:MOST_WORDS]
    ids, before = prompt + answer, len(prompt)
    labels = [IGNORED] * (before - 1) + answer
    subject.part |= {
        "input_ids": torch.tensor([ids[:-1]], device=device),
        "labels": torch.tensor([labels], device=device),
        "positions": torch.arange(len(labels), device=device)[None],
        "blocks": torch.zeros(1, len(labels), dtype=torch.long, device=device),
        "owner": torch.zeros(1, dtype=torch.long, device=device),
    }
    subject.places["input_ids"] = (places + [None] * len(answer))[: len(labels)]
    if processor.text_tower:
        read, read_at = read_places(subject, task.prompt(subject.values, 0))
        subject.part |= {
            "text_ids": torch.tensor([read], device=device),
            "text_mask": torch.ones(1, len(read), dtype=torch.bool, device=device),
        }
        subject.places["text_ids"] = read_at
    chosen = range(len(words)) if target is None else [_word([word for word, _ in words], target)]
    _set_goals(subject, answer, before, words, spans, chosen)
    subject.whole = None
    if target is None:
        chance = float(np.prod([goal.score for goal in subject.goals]) ** (1 / len(answer)))
        key = "target.choice" if isinstance(task, Choose) else "target.answer"
        what = Note(key, text=said.strip()) if said.strip() else Note("target.no_answer")
        subject.whole = Goal(what, chance)


def _prompt(subject: Subject, task: WritingTask) -> tuple[list[int], Places]:
    """The ids that the answer goes on from, and where in ``subject.text`` each stands."""
    processor, values = subject.predictor.processor, subject.values
    tokenizer = processor.tokenizer
    if isinstance(task, Lm):
        text = (task.targets(values, 0) or [""])[0]
        texts, ids = [text], opened(tokenizer.encode(text), processor)
    else:
        turns = task.messages(values, 0)
        texts = [plain_text(turns)] if task.settings.layout == "plain" else [str(turn["content"]) for turn in turns]
        ids = task.ask(values, 0, processor)
    subject.text = "\n".join(texts)
    places: Places = [None] * len(ids)
    shift = first = 0
    for text in texts:
        wanted, offsets = tokenizer.encode_with_offsets(text)
        found = located(ids[first:], wanted, offsets, shift)
        places[first:] = found
        last = max((place for place, one in enumerate(found) if one is not None), default=-1)
        first, shift = first + last + 1, shift + len(text) + 1
    return ids, places


def _answer(subject: Subject, task: WritingTask, prompt: list[int]) -> list[int]:
    """What the model writes, the likeliest token each time."""
    tokenizer = subject.predictor.processor.tokenizer
    most = LM_TOKENS if isinstance(task, Lm) else min(task.settings.max_new_tokens, MOST_TOKENS)
    owner = torch.zeros(1, dtype=torch.long, device=subject.model.device)
    condition = task.condition(subject.predictor, subject.values, Portion([0], subject.batch(), owner))
    size = tokenizer.vocab_size
    told = write(subject.model, condition, [prompt], Sampling(most), eos_id=tokenizer.eos_ids, vocab_size=size)[0]
    if not told.finished:
        subject.remarks.append(Note("remark.first_tokens", most=most))
    ids = list(told.ids)
    if task.settings.layout == "plain":  # its first line counts
        said, offsets = written_places(tokenizer, ids)
        end = len(said) - len(said.lstrip())
        cut = said.find("\n", end)
        ids = ids if cut < 0 else [one for one, (start, _) in zip(ids, offsets, strict=True) if start < cut]
    return ids


def _choice(subject: Subject, task: Choose, target: Target) -> list[int]:
    """The ids of the choice that is explained, without an end."""
    processor = subject.predictor.processor
    said = task.choices(subject.values, 0)
    subject.answer = str(subject.predicted().value)
    wanted = subject.answer if target is None else str(target)
    if wanted not in said:
        raise DataError("the target", "one of the choices", f"'{target}'", nearest(wanted, said))
    ids = list(task.continuations(subject.values, 0, processor)[said.index(wanted)])
    while len(ids) > 1 and ids[-1] in processor.tokenizer.eos_ids:
        ids.pop()
    if subject.answer != wanted:
        subject.remarks.append(Note("remark.own_choice", text=subject.answer))
    return ids


def _word(words: Sequence[str], target: Target) -> int:
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
    subject: Subject,
    answer: list[int],
    before: int,
    words: list[tuple[str, tuple[int, ...]]],
    spans: list[tuple[int, int]],
    chosen: Sequence[int],
) -> None:
    """A goal for each of the chosen words."""
    device, size = subject.model.device, subject.predictor.processor.tokenizer.vocab_size
    wanted = torch.tensor(answer, device=device)
    sums = torch.zeros(len(answer), len(chosen), device=device)  # (n, W)
    for column, number in enumerate(chosen):
        sums[list(words[number][1]), column] = 1.0
    subject.measure = written_measure(wanted, sums, size)
    logits = subject.run().float()[:, :size]  # (n, V)
    chances = logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]
    for number in chosen:
        word, members = words[number]
        score = float(chances[list(members)].sum().exp())
        what = Note("target.word", number=number + 1, text=word) if word else Note("target.end")
        at = tuple(before - 1 + one for one in members)
        subject.goals.append(Goal(what, score, at, word=(number + 1, word), span=spans[number]))


def written_measure(wanted: Tensor, sums: Tensor, size: int) -> Callable[[Tensor], Tensor]:
    """Logits (N n, V) -> (N, W): the summed log-odds of the tokens ``wanted`` (n,) of each word, by ``sums`` (n, W)."""

    def measure(outputs: Tensor) -> Tensor:
        logits = outputs.view(-1, len(wanted), outputs.shape[-1])[..., :size]
        return log_odds(logits, wanted.expand(len(logits), -1)) @ sums

    return measure


def aim_masked(subject: Subject, task: Mlm, target: Target) -> None:
    """Fill in what is asked of a task that guesses hidden words: one word is hidden, the target or else the last one.

    Raises:
        DataError: the text has no such word, or none at all.
    """
    processor, device = subject.predictor.processor, subject.model.device
    tokenizer = processor.tokenizer
    text = (task.texts(subject.values, [0]) or [""])[0]
    before, after = tokenizer.frame
    ids, offsets = tokenizer.encode_with_offsets(text)
    room = max(processor.max_length - len(before) - len(after), 1)
    ids, offsets = cut(ids, room, text, "start"), offsets[:room]
    units = [one for one in units_of_text(text, {"text_ids": list(offsets)}) if text[one.start].isalnum()]
    if not units:
        raise DataError("task 'mlm'", "a text of at least one word", "none", "give a text")
    words = [text[one.start : one.end] for one in units]
    number = len(words) - 1 if target is None else _word(words, target)
    hidden = units[number].members["text_ids"]
    assert tokenizer.mask_id is not None  # noqa: S101 - the head asked
    wanted = torch.tensor([ids[place] for place in hidden], device=device)
    read = [tokenizer.mask_id if place in hidden else one for place, one in enumerate(ids)]
    labels = torch.full((1, len(before) + len(ids) + len(after)), IGNORED, device=device)
    at = tuple(len(before) + place for place in hidden)
    labels[0, list(at)] = wanted
    subject.text = text
    places: Places = [None if place in hidden else one for place, one in enumerate(offsets)]
    subject.places["text_ids"] = [None] * len(before) + places + [None] * len(after)
    subject.part |= {
        "text_ids": torch.tensor([[*before, *read, *after]], device=device),
        "text_mask": torch.ones_like(labels, dtype=torch.bool),
        "labels": labels,
        "owner": torch.zeros(1, dtype=torch.long, device=device),
    }
    logits = subject.run().float()[:, : tokenizer.vocab_size]
    subject.answer = tokenizer.decode(logits.argmax(-1).tolist()).strip()
    chance = float(logits.log_softmax(-1).gather(-1, wanted[:, None]).sum().exp())
    subject.goals = [Goal(Note("target.hidden", number=number + 1, text=words[number]), chance, at)]
    sums = torch.ones(len(wanted), 1, device=device)
    subject.measure = written_measure(wanted, sums, tokenizer.vocab_size)
