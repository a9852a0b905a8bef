"""The page Ask: a picture and a question in, an answer as it is written, and where the model looked for each word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from rebus.data.pictures import read_header
from rebus.errors import DataError, RebusError
from rebus.report.pictures import thumbnail
from rebus.run.predictor import ASKED, Predictor
from rebus.run.reading import plainly
from rebus.run.streaming import stream_answer, streams
from rebus.studio.panel import FAULTS, act_of, bars, button, esc, note, panel, problem
from rebus.studio.seen import seen
from rebus.studio.words import say

if TYPE_CHECKING:
    from rebus.explain import Explanation
    from rebus.studio.app import Desk

# A word to press: one Chinese character or kana, or a run of other letters and digits; no punctuation.
_EAST = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_EAST}]|(?:(?![{_EAST}])\w)+(?:[-'’.](?:(?![{_EAST}])\w)+)*")
_TOP = 8  # labels shown
_MOST = 20  # turns kept


@dataclass
class Turn:
    """One question with its answer.

    Attributes:
        run: the model.
        task: of the model.
        question: as asked.
        picture: its file.
        small: the picture as a small ``data:`` address.
        answer: what the model said, perhaps not all of it yet.
        scores: label: probability, of tasks that have labels.
        done: whether the answer is whole.
        explained: what was explained so far, by what was asked for.
        chosen: the word (``start-end``) or label that is explained now.
    """

    run: Path
    task: str
    question: str
    picture: str | None
    small: str = ""
    answer: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    done: bool = False
    explained: dict[str, Explanation] = field(default_factory=dict)
    chosen: str = ""


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    turns = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            picture = speaker.make(
                gr.File, {"label": "ask.picture"}, elem_id="ask-picture", elem_classes=["rebus-drop"]
            )
            shown = panel("ask-shown")
            task = speaker.make(gr.Dropdown, {"label": "ask.task"}, choices=[], elem_id="ask-task", visible=False)
            question = speaker.make(
                gr.Textbox,
                {"label": "ask.question", "placeholder": "ask.placeholder"},
                lines=2,
                max_lines=6,
                max_length=4000,
                elem_id="ask-question",
                submit_btn=False,
            )
            with gr.Row():
                send = speaker.make(gr.Button, {"value": "ask.send"}, variant="primary", elem_id="ask-send")
                clear = speaker.make(gr.Button, {"value": "ask.clear"}, elem_id="ask-clear")
        with gr.Column(scale=3, min_width=280):
            talk = panel("ask-talk", note(say(speaker.lang, "ask.empty")))
            with gr.Row():
                method = speaker.make(
                    gr.Dropdown,
                    {"label": "ask.method"},
                    choices=["auto"],
                    value="auto",
                    elem_id="ask-method",
                    visible=False,
                )
            where = panel("ask-where")

    def preview(file: str | None, lang: str) -> str:
        if not file:
            return ""
        try:
            return f'<img src="{small(desk, file)}" alt="{esc(say(lang, "ask.picture_alt"))}" style="max-height:220px">'
        except FAULTS as error:
            return problem(lang, error)

    def ask(
        said: str, file: str | None, task: str | None, run: str | None, lang: str, turns: list[Turn]
    ) -> Iterator[tuple[Any, ...]]:
        kept = turns[-_MOST:]
        try:
            seat = desk.seats.seat(desk.chosen(run))
            name = task if task in seat.predictor.tasks else seat.predictor.task(None).name
            file = str(desk.uploads.file(file)) if file else None
            turn = Turn(seat.folder, name, (said or "").strip(), file, small(desk, file) if file else "")
            if not (turn.question or file):
                raise DataError(say(lang, "ask.question"), *say(lang, "ask.nothing").split("|"))
            if streams(seat.predictor, name):
                messages = conversation(kept, turn)
                pieces = seat.stream(
                    lambda model, left: stream_answer(model, turn.picture, messages, task=name, enough=left)
                )
                yield gr.skip(), draw(lang, [*kept, turn]), "", ""
                for text in pieces:
                    turn.answer = text
                    yield gr.skip(), draw(lang, [*kept, turn]), gr.skip(), gr.skip()
            else:
                turn.answer, turn.scores = seat.ask(lambda model: predicted(model, turn))
            turn.done = True
            gone = seat.gone()
            below = problem(lang, gone) if gone else ""
            yield [*kept, turn], draw(lang, [*kept, turn]), "", below
        except FAULTS as error:
            yield gr.skip(), draw(lang, kept) + problem(lang, error), gr.skip(), ""

    def look(turns: list[Turn], how: str, lang: str, event: gr.EventData) -> tuple[Any, ...]:
        number, _, wanted = act_of(event).partition(":")
        if not number.isdigit() or int(number) >= len(turns):
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        turn = turns[int(number)]
        for other in turns:
            other.chosen = ""
        turn.chosen = wanted
        html, methods = explained(desk, turn, how, lang)
        choices = gr.update(choices=["auto", *methods], visible=bool(methods))
        return turns, draw(lang, turns), html, choices

    def again(turns: list[Turn], how: str, lang: str) -> str:
        turn = next((one for one in turns if one.chosen), None)
        return explained(desk, turn, how, lang)[0] if turn is not None else ""

    def tasks_of(run: str | None) -> tuple[Any, Any]:
        try:
            seat = desk.seats.seat(desk.chosen(run))
        except RebusError:
            return gr.update(choices=[], value=None, visible=False), gr.update(
                choices=["auto"], value="auto", visible=False
            )
        names = askable(seat.predictor)
        chosen = gr.update(choices=names, value=names[0] if names else None, visible=len(names) > 1)
        return chosen, gr.update(choices=["auto"], value="auto", visible=False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    picture.change(preview, [picture, desk.lang], shown, **quiet)
    outputs = [turns, talk, question, where]
    inputs = [question, picture, task, desk.run, desk.lang, turns]
    gr.on([send.click, question.submit], ask, inputs, outputs, **quiet, concurrency_limit=8)
    talk.click(look, [turns, method, desk.lang], [turns, talk, where, method], **quiet)
    method.input(again, [turns, method, desk.lang], where, **quiet)
    empty: Any = lambda lang: ([], note(say(lang, "ask.empty")), "", "")  # noqa: E731
    clear.click(empty, desk.lang, outputs, **quiet)
    desk.run.change(tasks_of, desk.run, [task, method], **quiet)
    desk.on_open(tasks_of, [desk.run], [task, method])
    speaker.redraw(lambda lang, turns: draw(lang, turns) or note(say(lang, "ask.empty")), [turns], talk)
    speaker.redraw(lambda lang, turns, how: again(turns, how, lang), [turns, method], where)


def askable(predictor: Predictor) -> list[str]:
    """Tasks that one picture and one text are enough for, those that write first."""
    found = []
    for name, task in predictor.tasks.items():
        needs = [role for role in task.inputs if task.roles[role].required and role not in (*ASKED, "picture")]
        if (task.predicts or task.writes) and (not needs or streams(predictor, name)) and name != "retrieve":
            found.append(name)
    return sorted(found, key=lambda name: not streams(predictor, name))


def conversation(before: list[Turn], turn: Turn) -> list[dict[str, Any]]:
    """The messages that lead to a question: those about the same picture, with the same model."""
    messages: list[dict[str, Any]] = []
    for one in before:
        if (one.run, one.task, one.picture) == (turn.run, turn.task, turn.picture):
            messages += [_message(one), {"role": "assistant", "content": one.answer}]
    return [*messages, _message(turn)]


def _message(turn: Turn) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": turn.question}]
    if turn.picture:
        content.insert(0, {"type": "image", "path": turn.picture})
    return {"role": "user", "content": content}


def predicted(model: Predictor, turn: Turn) -> tuple[str, dict[str, float]]:
    """The answer of a task that does not write: as text, and its labels' probabilities, the likeliest first."""
    task = model.task(turn.task)
    columns = task.settings.columns
    row: dict[str, Any] = {columns[role]: turn.question for role in task.inputs if role in ASKED and role in columns}
    if task.uses_picture:
        row[columns["picture"]] = turn.picture
    told = model.predict(row, task=turn.task)[0]
    likeliest = sorted(told.scores.items(), key=lambda pair: -pair[1])[:_TOP]
    return plainly(told.value), dict(likeliest)


def small(desk: Desk, file: str) -> str:
    """An uploaded picture as a small ``data:`` address. Raises PictureError: it is none, or too large."""
    name = desk.uploads.file(file).name
    read_header(file, pixel_budget=desk.places.pixels, where=name)
    return thumbnail(desk.places.picture(Path(file).read_bytes(), Path(file).parent, name, near=320))


def draw(lang: str, turns: list[Turn]) -> str:
    """The conversation."""
    if not turns:
        return ""
    parts = []
    for number, turn in enumerate(turns):
        picture = f'<img src="{turn.small}" alt="{esc(say(lang, "ask.picture_alt"))}">' if turn.small else ""
        parts.append(f'<li class="asked">{picture}{esc(turn.question or say(lang, "ask.no_question"))}</li>')
        parts.append(f'<li class="said" data-done="{str(turn.done).lower()}">{_answer(lang, number, turn)}</li>')
    hint = f'<p class="hint">{esc(say(lang, "ask.hint"))}</p>' if turns[-1].done and turns[-1].answer else ""
    return f'<ol class="turns" aria-live="polite" aria-label="{esc(say(lang, "ask.talk"))}">{"".join(parts)}</ol>{hint}'


def _answer(lang: str, number: int, turn: Turn) -> str:
    if turn.scores:
        return f"<strong>{esc(turn.answer)}</strong>" + bars(lang, turn.scores, act=str(number), chosen=turn.chosen)
    if not turn.done:
        return esc(turn.answer) + " …"
    pieces, last = [], 0
    for match in _WORD.finditer(turn.answer):
        span = f"{match.start()}-{match.end()}"
        title = f"{match[0]}: {say(lang, 'ask.where')}"
        pieces.append(esc(turn.answer[last : match.start()]))
        pieces.append(button(f"{number}:{span}", esc(match[0]), pressed=span == turn.chosen, title=title, css="word"))
        last = match.end()
    return "".join(pieces) + esc(turn.answer[last:]) or esc(say(lang, "ask.silent"))


def explained(desk: Desk, turn: Turn, how: str, lang: str) -> tuple[str, list[str]]:
    """Where the model looked for the word or label that was pressed, and the methods there are."""
    from rebus.explain import explain, methods_for

    try:
        seat = desk.seats.seat(turn.run)
        methods = methods_for(seat.predictor, turn.task)
        method = how if how in methods else "auto"
        target = turn.chosen if turn.scores else None
        key = f"{method} {target}"
        if key not in turn.explained:
            turn.explained[key] = seat.ask(
                lambda model: explain(
                    model, picture=turn.picture, text=turn.question, task=turn.task, target=target, method=method
                )
            )
        whole = turn.explained[key]
        one = whole if turn.scores or not whole.words else of_word(whole, turn)
        return seen(lang, one, turn.chosen if turn.scores else _word(turn)), methods
    except FAULTS as error:
        return problem(lang, error), []


def _word(turn: Turn) -> str:
    start, _, end = turn.chosen.partition("-")
    return turn.answer[int(start) : int(end)] if start.isdigit() and end.isdigit() else turn.answer


def of_word(whole: Explanation, turn: Turn) -> Explanation:
    """The explanation of a word: the mean over the pieces that it was written in."""
    start, _, end = turn.chosen.partition("-")
    if not (start.isdigit() and end.isdigit()):
        return whole
    chosen = [
        piece for piece, (first, last) in zip(whole.words, spans(whole, turn.answer), strict=True)
        if first < int(end) and last > int(start)
    ]  # fmt: skip
    if not chosen:
        return whole
    maps = [piece.picture for piece in chosen if piece.picture is not None]
    tokens = chosen[0].tokens
    if all(len(piece.tokens) == len(tokens) for piece in chosen):
        tokens = tuple(
            replace(token, score=float(np.mean([piece.tokens[place].score for piece in chosen])))
            for place, token in enumerate(tokens)
        )
    mean = np.stack(maps).mean(0, dtype=np.float32) if maps else None
    return replace(chosen[0], picture=mean, tokens=tokens, shown=whole.shown, answer=whole.answer, words=())


def spans(whole: Explanation, answer: str) -> list[tuple[int, int]]:
    """Where each explained piece stands in the answer; pieces are named as ``word 3 'bus'``."""
    found, at = [], 0
    for piece in whole.words:
        named = re.search(r"'(.*)'\s*$", piece.target, re.S)
        text = (named[1] if named else piece.target).strip()
        place = answer.find(text, at) if text else -1
        if place < 0:
            found.append((at, at))
            continue
        at = place + len(text)
        found.append((place, at))
    return found
