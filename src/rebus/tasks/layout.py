"""How a prompt and its answer, or a whole conversation, become ids, and which of them are learned.

With the layout ``chat`` a text is a turn, as the tokenizer's chat template lays it out; with ``plain`` the answer goes
on where the prompt ends, for a language model that never saw turns. Only answers are ever learned.
It knows no table and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rebus.data.messages import Message, answered, is_learned
from rebus.tasks.cuts import cut, report
from rebus.tasks.metrics.words import has_cjk
from rebus.tasks.text_processor import TextProcessor


@dataclass
class Laid:
    """One text.

    Attributes:
        ids: (L,) its tokens.
        learned: (L,) whether each is one that the model should have said.
        dropped: turns that were left out because the conversation was too long.
    """

    ids: list[int]
    learned: list[bool]
    dropped: int = 0

    @property
    def targets(self) -> tuple[list[int], list[bool]]:
        """For each position but the last, the token that follows, and whether it is learned: (L - 1,) each."""
        return self.ids[1:], self.learned[1:]


def longest(processor: TextProcessor) -> int:
    """Most tokens of a prompt and its answer, or of a conversation, image tokens left out."""
    return 2 * processor.max_length


def shown(messages: Sequence[Message], processor: TextProcessor, image: bool = True) -> list[Message]:
    """The turns with an image in one of them, where images stand inside texts: ``"shown": True`` says in which.

    It is the one that says so already (the last, if several do), else the first of the user's, else the first.

    Args:
        messages: turns.
        processor: says how an image is written.
        image: whether there is one.
    """
    items = [place for place, turn in enumerate(messages) if turn.get("shown")]
    turns: list[Message] = [{key: value for key, value in turn.items() if key != "shown"} for turn in messages]
    if not image or not processor.image or not turns:
        return turns
    users = [place for place, turn in enumerate(turns) if turn["role"] == "user"]
    place = items[-1] if items else users[0] if users else 0
    turns[place] = {**turns[place], "shown": True}
    return turns


def own_turns(processor: TextProcessor) -> bool:
    """Whether turns are laid out as Rebus does, each by itself, rather than by another project's template."""
    return bool(processor.tokenizer.own_turns)


def prompt_ids(messages: Sequence[Message], processor: TextProcessor, layout: str = "chat") -> list[int]:
    """What the model is given to go on from.

    Of a turn with more than ``processor.max_length`` tokens the end is kept, since a question stands there; see
    ``cuts``.

    Raises:
        DataError: the template refuses the messages. RunError: the tokenizer has no turns.
    """
    tokenizer = processor.tokenizer
    if layout == "plain":
        image = processor.image if any(turn.get("shown") for turn in messages) else ()
        text = plain_text(messages)
        return opened([*image, *cut(tokenizer.encode(text), processor.max_length, text, "end")], processor)
    if own_turns(processor):
        return [
            *_begin(processor),
            *(turn_id for turn in messages for turn_id in _turn_ids(turn, processor)),
            tokenizer.assistant_id,
        ]
    return _chat([_cut(turn, processor) for turn in messages], processor, prompt=True)


def opened(ids: list[int], processor: TextProcessor) -> list[int]:
    """A plain text from its beginning, as the model saw texts begin: after the end of another one, where it was trained
    here; as its makers begin texts, where it was not. Never empty.
    """
    tokenizer = processor.tokenizer
    if not tokenizer.is_foreign:
        return [tokenizer.eos_id, *ids]
    return [*tokenizer.start(), *ids] or [tokenizer.eos_id]


def answer_ids(messages: Sequence[Message], answer: str, processor: TextProcessor, layout: str = "chat") -> list[int]:
    """What the model should then say, its end included."""
    tokenizer = processor.tokenizer
    if layout == "plain":
        return [*continuation_ids(plain_text(messages), answer, processor), tokenizer.eos_id]
    if not own_turns(processor):
        asked = [_cut(turn, processor) for turn in messages]
        prompt = _chat(asked, processor, prompt=True)
        whole = _chat([*asked, _cut({"role": "assistant", "content": answer}, processor)], processor)
        if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
            return whole[len(prompt) :]
    return [*cut(tokenizer.encode(answer), processor.max_length, answer, "start"), tokenizer.eos_id]


def continuation_ids(context: str, continuation: str, processor: TextProcessor) -> list[int]:
    """Ids of a text that goes on after another, cut into tokens as it would be in one text, without an end."""
    tokenizer = processor.tokenizer
    joined = joint(context, continuation) + continuation
    before = tokenizer.encode(context)
    whole = tokenizer.encode(context + joined)
    if context and whole[: len(before)] == before and len(whole) > len(before):
        return cut(whole[len(before) :], processor.max_length, continuation, "start")
    return cut(tokenizer.encode(joined), processor.max_length, continuation, "start")


def joint(context: str, continuation: str) -> str:
    """A space between two texts whose scripts want one there."""
    if not context or not continuation or context[-1].isspace() or continuation[0].isspace():
        return ""
    return "" if has_cjk(context[-1] + continuation[0]) or has_cjk(continuation[:1]) else " "


def plain_text(messages: Sequence[Message]) -> str:
    """The turns' texts, one below the other."""
    return "\n".join(str(turn["content"]).strip() for turn in messages if str(turn["content"]).strip())


def conversation(turns: Sequence[Message], processor: TextProcessor, *, image: bool = False) -> Laid:
    """A whole conversation; every answer of the assistant's is learned, and nothing else.

    One longer than ``longest(codec)`` loses its oldest turns, up to the next one of the user's; system turns stay.
    """
    kept = shown(newest(turns, processor, longest(processor)), processor, image)
    laid = _own(kept, processor) if own_turns(processor) else _foreign(kept, processor)
    laid.dropped = len(turns) - len(kept)
    inside = processor.image if any(turn.get("shown") for turn in kept) else ()
    most = longest(processor) + 1 + len(inside)
    if len(laid.ids) > most:  # one exchange alone is longer: its beginning goes, what begins every text stays
        report("\n".join(turn["content"] for turn in kept), len(laid.ids), most)
        head = len(_begin(processor)) if own_turns(processor) else 0
        head = max(head, _after(laid.ids, inside)) if inside else head  # and so does the image
        head = min(head, most)
        rest = len(laid.ids) - (most - head)
        laid.ids = laid.ids[:head] + laid.ids[rest:]
        laid.learned = laid.learned[:head] + laid.learned[rest:]
    return laid


def newest(turns: Sequence[Message], processor: TextProcessor, most: int) -> list[Message]:
    """The turns without the oldest exchanges, so that they are at most ``most`` tokens long; system turns stay."""
    kept = list(turns)
    spare = most - 16  # what a template puts around the turns
    if sum(len(turn["content"].encode()) + 2 for turn in kept) <= spare:  # a token is at least a byte
        return kept
    lengths = [min(len(processor.tokenizer.encode(turn["content"])), processor.max_length) + 2 for turn in kept]
    whole = sum(lengths)
    while sum(lengths) > spare and (oldest := _oldest(kept)):
        for place in sorted(oldest, reverse=True):
            del kept[place], lengths[place]
    if len(kept) < len(turns):
        report("\n".join(turn["content"] for turn in turns), whole, spare)
    return kept


def _oldest(turns: list[Message]) -> list[int]:
    """Places of the oldest exchange; none where only one is left."""
    users = [place for place, turn in enumerate(turns) if turn["role"] == "user"]
    items = [place for place, turn in enumerate(turns) if turn["role"] != "system"]
    later = [place for place in users if items and place > items[0]]
    if not later:
        return []
    left = turns[later[0] :]
    if any(map(is_learned, turns)) and not any(map(is_learned, left)):
        return []  # what is learned would go
    return [place for place in items if place < later[0]]


def _begin(processor: TextProcessor) -> list[int]:
    return processor.tokenizer.start()


def _turn_ids(turn: Message, processor: TextProcessor) -> list[int]:
    """One turn of Rebus' own layout: who speaks, what is said, and the end of an answer."""
    tokenizer = processor.tokenizer
    speaker = {"user": tokenizer.user_id, "assistant": tokenizer.assistant_id, "system": tokenizer.system_id}
    end = [tokenizer.eos_id] if turn["role"] == "assistant" else []
    image = processor.image if turn.get("shown") else ()
    return [speaker[turn["role"]], *image, *_kept(turn, processor), *end]


def _kept(turn: Message, processor: TextProcessor) -> list[int]:
    """The ids of a turn's text: of a long answer the start, of a long question the end."""
    content, keep = str(turn["content"]), "start" if turn["role"] == "assistant" else "end"
    return cut(processor.tokenizer.encode(content), processor.max_length, content, keep)  # type: ignore[arg-type]


def _own(turns: Sequence[Message], processor: TextProcessor) -> Laid:
    ids = _begin(processor)
    learned = [False] * len(ids)
    for turn in turns:
        text = _turn_ids(turn, processor)
        ids += text
        learned += [False, *[is_learned(turn)] * (len(text) - 1)]
    return Laid(ids, learned)


def _foreign(turns: Sequence[Message], processor: TextProcessor) -> Laid:
    """By another project's template: an answer is what it adds to the prompt before it."""
    cuts = [_cut(turn, processor) for turn in turns]
    whole = _chat(cuts, processor)
    learned = [False] * len(whole)
    for place, turn in enumerate(turns):
        if not is_learned(turn):
            continue
        prompt, upto = _chat(cuts[:place], processor, prompt=True), _chat(cuts[: place + 1], processor)
        if whole[: len(upto)] == upto and upto[: len(prompt)] == prompt:
            learned[len(prompt) : len(upto)] = [True] * (len(upto) - len(prompt))
    if not any(learned):  # a template that writes earlier turns another way once there are later ones
        last = answered(list(turns))
        if last is not None:
            prompt = _chat(cuts[:last], processor, prompt=True)
            text = answer_ids(list(turns[:last]), str(turns[last]["content"]), processor)
            return Laid(prompt + text, [False] * len(prompt) + [True] * len(text))
    return Laid(whole, learned)


def _cut(turn: Message, processor: TextProcessor) -> Message:
    """A turn whose text is at most ``max_length`` tokens long, in the words that templates know."""
    content = str(turn["content"])
    if len(content.encode()) > processor.max_length and len(processor.tokenizer.encode(content)) > processor.max_length:
        content = processor.tokenizer.decode(_kept(turn, processor)).strip("\ufffd")
    if turn.get("shown") and processor.image:
        return {"role": turn["role"], "content": [{"type": "image"}, {"type": "text", "text": content}]}
    return {"role": turn["role"], "content": content}


def _chat(turns: Sequence[Message], processor: TextProcessor, *, prompt: bool = False) -> list[int]:
    """By the tokenizer's template, with all that stands for an image where the template has one mark."""
    ids = processor.tokenizer.chat(turns, prompt=prompt)
    if not processor.image:
        return ids
    return [item for token in ids for item in (processor.image if token == processor.image_id else (token,))]


def _after(ids: Sequence[int], image: Sequence[int]) -> int:
    """Where what stands for an image ends; 0: it is not there."""
    begun = (place for place in range(len(ids)) if tuple(ids[place : place + len(image)]) == tuple(image))
    first = next(begun, None)
    return 0 if first is None else first + len(image)
