"""The page Ask: an image and a question in, an answer as it is written, and where the model looked for each word."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from rebus.catalogue import translate
from rebus.data.images import read_header
from rebus.errors import RebusError, StudioError
from rebus.inference.predictor import Predictor
from rebus.inference.streaming import stream_answer, streams
from rebus.report.images import thumbnail
from rebus.studio.border import COOKIE
from rebus.studio.explanation_view import seen
from rebus.studio.model_pool import Seat
from rebus.studio.panel import FAULTS, act_of, bars, button, command, esc, label, note, panel, photo, problem, working
from rebus.studio.table_view import open_book, own_table
from rebus.tasks.cells import answer_text, as_text, missing

if TYPE_CHECKING:
    from rebus.explain import Explanation
    from rebus.studio.session import Desk

# A word to press: one Chinese character or kana, or a run of other letters and digits; no punctuation.
_EAST = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_EAST}]|(?:(?![{_EAST}])\w)+(?:[-'’.](?:(?![{_EAST}])\w)+)*")
_TOP = 8  # labels shown
_MOST = 20  # turns kept
_OFFERED, _LOOKED_AT, _LARGEST = 4, 40, 64 * 2**20  # examples, rows tried for them, bytes of the table's file


@dataclass
class Turn:
    """One question with its answer.

    Attributes:
        run: the model.
        task: of the model.
        question: as asked.
        image: its file.
        small: the image as a small ``data:`` address.
        answer: what the model said, perhaps not all of it yet.
        scores: label: probability, of tasks that have labels.
        done: whether the answer is whole.
        explained: what was explained so far, by what was asked for.
        chosen: the word (``start-end``) or label that is explained now.
    """

    run: Path
    task: str
    question: str
    image: str | None
    small: str = ""
    answer: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    done: bool = False
    explained: dict[str, Explanation] = field(default_factory=dict)
    chosen: str = ""


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    turns, offering = gr.State([]), gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            image = photo(speaker, "ask.image", "ask-image")
            shown = panel("ask-shown")
            task = speaker.make(gr.Dropdown, "ask.task", choices=[], visible=False)
            question = speaker.make(  # of one line, so that Enter sends
                gr.Textbox, "ask.question", {"placeholder": "ask.placeholder"}, lines=1, max_lines=6, max_length=4000,
                submit_btn=False,
            )  # fmt: skip
            with gr.Row():
                send = speaker.make(gr.Button, "ask.send", variant="primary")
                clear = speaker.make(gr.Button, "ask.clear")
            offered = panel("ask-examples")
        with gr.Column(scale=3, min_width=280):
            talk = panel("ask-talk", opening(desk, speaker.lang))
            with gr.Row():
                method = speaker.make(gr.Dropdown, "ask.method", choices=["auto"], value="auto", visible=False)
            where = panel("ask-where")
            same = panel("ask-command")

    def preview(file: Any, lang: str) -> str:
        """What is wrong with an image, as soon as it is there."""
        try:
            if file:
                small(desk, file)
        except FAULTS as error:
            return problem(lang, error)
        return ""

    def offers(run: str | None, lang: str) -> tuple[Any, str]:
        """Examples of the Run's own table; none where it cannot be reached or read."""
        try:
            found = examples(desk, desk.seats.seat(desk.chosen(run)))
        except FAULTS:
            found = []
        return found, drawn_examples(lang, found)

    def take(result: list[Example], event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        place = act_of(event)
        if not place.isdigit() or int(place) >= len(result):
            return gr.skip(), gr.skip()
        entry = result[int(place)]
        browser = str(request.cookies.get(COOKIE, ""))
        file = desk.uploads.write(browser, f"row-{entry.row + 1}.png", entry.image) if entry.image else None
        return (str(file) if file else None), entry.question

    def ask(
        wording: str, file: Any, task: str | None, run: str | None, lang: str, turns: list[Turn]
    ) -> Iterator[tuple[Any, ...]]:
        kept = turns[-_MOST:]
        yield gr.skip(), draw(lang, kept) + working(lang), gr.skip(), ""
        try:
            seat = desk.seats.seat(desk.chosen(run))
            name = task if task in seat.predictor.tasks else seat.predictor.task(None).name
            turn = Turn(seat.folder, name, (wording or "").strip(), str(desk.uploads.file(file)) if file else None)
            turn.small = small(desk, file) if file else ""
            if not (turn.question or file):
                raise StudioError.of("problem.nothing_asked")
            if streams(seat.predictor, name):
                messages = conversation(kept, turn)
                pieces = seat.stream(
                    lambda model, left: stream_answer(model, turn.image, messages, task=name, enough=left)
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

    def look(turns: list[Turn], how: str, lang: str, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        number, _, wanted = act_of(event).partition(":")
        if not number.isdigit() or int(number) >= len(turns):
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        turn = turns[int(number)]
        for other in turns:
            other.chosen = ""
        turn.chosen = wanted
        yield turns, draw(lang, turns), working(lang), gr.skip()
        html, methods = explained(desk, turn, how, lang)
        choices = gr.update(choices=["auto", *methods], visible=bool(methods))
        yield turns, gr.skip(), html, choices

    def again(turns: list[Turn], how: str, lang: str) -> str:
        turn = next((item for item in turns if item.chosen), None)
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

    def as_command(turns: list[Turn], lang: str) -> str:
        last = turns[-1] if turns else None
        if last is None:
            return ""
        image = [Path(last.image).name] if last.image else []
        return command(lang, ["ask", desk.places.shown(last.run), *image, last.question])

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    turns_and_lang: list[Any] = [turns, desk.lang]
    image.change(preview, [image, desk.lang], shown, **quiet, preprocess=False)
    outputs = [turns, talk, question, where]
    inputs = [question, image, task, desk.run, desk.lang, turns]
    gr.on([send.click, question.submit], ask, inputs, outputs, **quiet, preprocess=False, concurrency_limit=8)
    talk.change(as_command, turns_and_lang, same, **quiet)
    offered.click(take, offering, [image, question], **quiet)
    talk.click(look, [turns, method, desk.lang], [turns, talk, where, method], **quiet)
    method.input(again, [turns, method, desk.lang], where, **quiet)
    empty: Any = lambda lang: ([], opening(desk, lang), "", "")  # noqa: E731
    clear.click(empty, desk.lang, outputs, **quiet)
    desk.run.change(tasks_of, desk.run, [task, method], **quiet)
    desk.run.change(offers, [desk.run, desk.lang], [offering, offered], **quiet)
    desk.on_open(tasks_of, [desk.run], [task, method])
    desk.on_open(offers, [desk.run, desk.lang], [offering, offered])
    speaker.redraw(drawn_examples, [offering], offered)
    speaker.redraw(lambda lang, turns: as_command(turns, lang), [turns], same)
    speaker.redraw(lambda lang, turns: draw(lang, turns) or opening(desk, lang), [turns], talk)
    speaker.redraw(lambda lang, turns, how: again(turns, how, lang), [turns, method], where)


@dataclass(frozen=True)
class Example:
    """A row of the model's own table that can be asked about.

    Attributes:
        row: in the table.
        question: that the row asks, or "".
        image: as PNG; None: the row has none.
        small: the same as a small ``data:`` address.
    """

    row: int
    question: str
    image: bytes | None
    small: str


def opening(desk: Desk, lang: str) -> str:
    """What the conversation says before it begins."""
    return note(translate("ask.empty" if desk.finished() else "ask.no_model", lang))


def examples(desk: Desk, seat: Seat) -> list[Example]:
    """A few rows that the model never learned from, where there are any; no two alike. Raises RebusError."""
    path = own_table(seat.folder)
    if path is None or path.stat().st_size > _LARGEST:
        return []
    task = seat.predictor.tasks[askable(seat.predictor)[0]]
    book = open_book(desk.table(str(path)), seat.folder)
    columns = task.settings.columns
    asked = columns.get(task.question_role or "")
    images = columns.get("image") if task.uses_image else None
    rows = sorted(range(len(book.table)), key=lambda row: ("test", "valid", "train").index(book.splits[row]))
    result: list[Example] = []
    for row in rows[:_LOOKED_AT]:
        question = as_text(book.table.value(row, asked)) if asked in book.table.columns else ""
        cell = book.table.value(row, images) if images in book.table.columns else None
        if any(item.question == question for item in result[-1:]) and not cell:
            continue
        image, address = None, ""
        if not missing(cell):
            try:
                array = desk.places.image(cell, Path(book.table.root), book.table.where(row))
            except FAULTS:
                continue
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, "PNG")
            image, address = buffer.getvalue(), thumbnail(array, side=88)
        if (image or question) and all((item.image, item.question) != (image, question) for item in result):
            result.append(Example(row, question, image, address))
        if len(result) == _OFFERED:
            break
    return result


def drawn_examples(lang: str, result: list[Example]) -> str:
    """The examples as buttons."""
    if not result:
        return ""
    rows = []
    for place, item in enumerate(result):
        image = f'<img src="{item.small}" alt="">' if item.small else ""
        title = translate("ask.example", lang, row=item.row + 1, text=item.question or "–")
        rows.append(f"<li>{button(str(place), f'{image}<span>{esc(item.question)}</span>', title=title)}</li>")
    return f'<p class="hint">{label("ask.examples", lang)}</p><ul class="examples">{"".join(rows)}</ul>'


def askable(predictor: Predictor) -> list[str]:
    """Tasks that one image and one text are enough for, those that write first."""
    result = []
    for name, task in predictor.tasks.items():
        needs = [
            role for role in task.inputs if task.roles[role].required and role not in (task.question_role, "image")
        ]
        if (
            (task.predicts or task.writes)
            and (not needs or task.streams)
            and task.answers not in ("likeness", "vector")
        ):
            result.append(name)
    return sorted(result, key=lambda name: not streams(predictor, name))


def conversation(before: list[Turn], turn: Turn) -> list[dict[str, Any]]:
    """The messages that lead to a question: those about the same image, with the same model."""
    messages: list[dict[str, Any]] = []
    for item in before:
        if (item.run, item.task, item.image) == (turn.run, turn.task, turn.image):
            messages += [_message(item), {"role": "assistant", "content": item.answer}]
    return [*messages, _message(turn)]


def _message(turn: Turn) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": turn.question}]
    if turn.image:
        content.insert(0, {"type": "image", "path": turn.image})
    return {"role": "user", "content": content}


def predicted(model: Predictor, turn: Turn) -> tuple[str, dict[str, float]]:
    """The answer of a task that does not write: as text, and its labels' probabilities, the likeliest first."""
    task = model.task(turn.task)
    columns = task.settings.columns
    row: dict[str, Any] = {columns[role]: turn.question for role in [task.question_role] if role in columns}
    if task.uses_image:
        row[columns["image"]] = turn.image
    message = model.predict(row, task=turn.task)[0]
    likeliest = sorted(message.scores.items(), key=lambda pair: -pair[1])[:_TOP]
    return answer_text(message.value), dict(likeliest)


def small(desk: Desk, sent: Any) -> str:
    """An uploaded image as a small ``data:`` address. Raises ImageError: it is none, or too large."""
    file = desk.uploads.file(sent)
    name = file.name
    read_header(str(file), pixel_budget=desk.places.pixels, where=name)
    return thumbnail(desk.places.image(file.read_bytes(), file.parent, name, near=320))


def draw(lang: str, turns: list[Turn]) -> str:
    """The conversation."""
    if not turns:
        return ""
    parts = []
    for number, turn in enumerate(turns):
        image = f'<img src="{turn.small}" alt="{label("ask.image_alt", lang)}">' if turn.small else ""
        parts.append(f'<li class="asked">{image}{esc(turn.question or translate("ask.no_question", lang))}</li>')
        parts.append(f'<li class="said" data-done="{str(turn.done).lower()}">{_answer(lang, number, turn)}</li>')
    hint = f'<p class="hint">{label("ask.hint", lang)}</p>' if turns[-1].done and turns[-1].answer else ""
    return f'<ol class="turns" aria-live="polite" aria-label="{label("ask.talk", lang)}">{"".join(parts)}</ol>{hint}'


def _answer(lang: str, number: int, turn: Turn) -> str:
    if turn.scores:
        return f"<strong>{esc(turn.answer)}</strong>" + bars(lang, turn.scores, act=str(number), chosen=turn.chosen)
    if not turn.done:
        return esc(turn.answer) + " …"
    pieces, last = [], 0
    for match in _WORD.finditer(turn.answer):
        span = f"{match.start()}-{match.end()}"
        title = f"{match[0]}: {translate('ask.where', lang)}"
        pieces.append(esc(turn.answer[last : match.start()]))
        pieces.append(button(f"{number}:{span}", esc(match[0]), pressed=span == turn.chosen, title=title, css="word"))
        last = match.end()
    return "".join(pieces) + esc(turn.answer[last:]) or label("ask.silent", lang)


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
                    model, image=turn.image, text=turn.question, task=turn.task, target=target, method=method
                )
            )
        whole = turn.explained[key]
        item = whole if turn.scores or not whole.words else of_word(whole, turn)
        return seen(lang, item, turn.chosen if turn.scores else _word(turn)), methods
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
    maps = [piece.image for piece in chosen if piece.image is not None]
    tokens = chosen[0].tokens
    if all(len(piece.tokens) == len(tokens) for piece in chosen):
        tokens = tuple(
            replace(token, score=float(np.mean([piece.tokens[place].score for piece in chosen])))
            for place, token in enumerate(tokens)
        )
    mean = np.stack(maps).mean(0, dtype=np.float32) if maps else None
    return replace(chosen[0], image=mean, tokens=tokens, shown=whole.shown, answer=whole.answer, words=())


def spans(whole: Explanation, answer: str) -> list[tuple[int, int]]:
    """Where each explained piece stands in the answer; pieces are named as ``word 3 'bus'``."""
    result, at = [], 0
    for piece in whole.words:
        named = re.search(r"'(.*)'\s*$", piece.target, re.S)
        text = (named[1] if named else piece.target).strip()
        place = answer.find(text, at) if text else -1
        if place < 0:
            result.append((at, at))
            continue
        at = place + len(text)
        result.append((place, at))
    return result
