"""The page Explore: a table with its images, filtered, searched, and the model's worst mistakes on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from rebus.catalogue import translate
from rebus.data.images import read_header
from rebus.errors import StudioError
from rebus.report.images import thumbnail
from rebus.studio.panel import FAULTS, act_of, button, command, esc, label, note, panel, photo, problem, working
from rebus.studio.streaming import TYPED
from rebus.studio.table_view import Book, Mark, alike, judged, open_book, own_table, reads_words
from rebus.tasks.cells import as_text, missing

if TYPE_CHECKING:
    from rebus.studio.session import Desk

PAGE = 24
SPLITS = [(f"split.{name}", name) for name in ("all", "train", "valid", "test")]
_LONG = 400  # characters of a cell in a row's details


@dataclass
class View:
    """What is shown.

    Attributes:
        book: the table.
        rows: in their order.
        page: from 0.
        marks: what the model said of rows.
        told: key of the line above the rows.
        opened: the row whose details are shown.
        commands: what does the same in a shell, a list of words each.
    """

    book: Book
    rows: list[int]
    page: int = 0
    marks: dict[int, Mark] = field(default_factory=dict)
    told: str = "explore.rows"
    opened: int | None = None
    commands: list[list[str]] = field(default_factory=list)


def build(desk: Desk) -> None:
    """Lay out the page and wire it."""
    speaker = desk.speaker
    view = gr.State(None)
    with gr.Row(elem_classes=["rebus-end"]):
        path = speaker.make(gr.Dropdown, "explore.path", **TYPED, scale=4)
        show = speaker.make(gr.Button, "explore.open", variant="primary", min_width=120)
    with gr.Row():
        split = speaker.make(gr.Dropdown, "explore.split", {"choices": SPLITS}, value="all", min_width=120)
        column = speaker.make(gr.Dropdown, "explore.column", choices=[], min_width=150)
        value = speaker.make(gr.Dropdown, "explore.value", choices=[], allow_custom_value=True, min_width=150)
        text = speaker.make(
            gr.Textbox, "explore.text", {"placeholder": "explore.text_hint"}, min_width=200, max_length=500
        )
    with gr.Row():
        filters = speaker.make(gr.Button, "explore.filter")
        worst = speaker.make(gr.Button, "explore.worst")
        words = speaker.make(gr.Button, "explore.search")
    with speaker.make(gr.Accordion, "explore.by_image", open=False):
        sample = photo(speaker, "explore.sample", "explore-sample")
    cards = panel("explore-cards", note(translate("explore.empty", speaker.lang)))
    with gr.Row():
        before = speaker.make(gr.Button, "explore.before")
        after = speaker.make(gr.Button, "explore.after")

    def book_of(typed: str, run: str | None) -> Book:
        folder = desk.folder(run)
        if not (typed or "").strip():
            own = own_table(folder)
            if own is None:
                raise StudioError.of("problem.no_own_table")
            typed = str(own)
        book = open_book(desk.table(typed), folder)
        desk.places.check_images(book.table, book.files)
        return book

    def opened(typed: str, run: str | None, lang: str) -> Iterator[tuple[Any, ...]]:
        yield None, working(lang), gr.skip(), gr.skip()
        try:
            book = book_of(typed, run)
        except FAULTS as error:
            yield None, problem(lang, error), gr.skip(), gr.skip()
            return
        columns = gr.update(choices=["", *book.texts], value="")
        view = View(book, book.rows("all", None, None, ""), commands=[checking(book)])
        yield view, draw(desk, lang, view), columns, gr.update(choices=[], value=None)

    def checking(book: Book) -> list[str]:
        return ["data", "check", desk.places.shown(book.path)]

    def values_of(view: View | None, column: str | None) -> Any:
        choices = view.book.values(column) if view is not None and column in view.book.texts and column else []
        return gr.update(choices=choices, value=None)

    def chosen(how: str) -> Any:
        def work(
            view: View | None, typed: str, split: str, column: str, value: str, text: str, sample: Any,
            run: str | None, lang: str,
        ) -> Iterator[tuple[Any, str]]:  # fmt: skip
            try:
                book = view.book if view is not None else book_of(typed, run)
                plain = "" if how in ("search", "image") else (text or "")
                rows = book.rows(split, column, value, plain)
                result = View(book, rows, commands=[checking(book)])
                if how == "worst":
                    yield gr.skip(), working(lang)
                    seat = desk.seats.seat(desk.chosen(run))
                    read = [task.settings.columns.get("image", "") for task in seat.predictor.tasks.values()]
                    read += [name for names in seat.predictor.recipe.data.inputs.values() for name in names]
                    desk.places.check_images(book.table, read)
                    result.marks = seat.ask(lambda model: judged(book, rows, model))
                    result.rows, result.told = list(result.marks), "explore.judged"
                    result.commands = [["evaluate", str(run), desk.places.shown(book.path)]]
                elif how in ("search", "image"):
                    yield gr.skip(), working(lang)
                    result.rows, result.told = searched(book, rows, how, text, sample, run)
                    query = text if how == "search" else Path(str(desk.uploads.file(sample))).name
                    if result.told != "explore.found":  # which plain words of the table decided
                        table = desk.places.shown(book.path)
                        result.commands = [["index", str(run), table], ["find", str(run), query]]
                yield result, draw(desk, lang, result)
            except FAULTS as error:
                yield gr.skip(), problem(lang, error) + (draw(desk, lang, view) if view else "")

        return work

    def searched(
        book: Book, rows: list[int], how: str, text: str, sample: Any, run: str | None
    ) -> tuple[list[int], str]:
        allowed = set(rows)
        if how == "image":
            if not sample:
                raise StudioError.of("problem.no_sample")
            file = desk.uploads.file(sample)
            read_header(str(file), pixel_budget=desk.places.pixels, where=file.name)
            seat = desk.seats.seat(desk.chosen(run))
            outcome = seat.ask(lambda model: alike(book, seat.folder, str(file)))
            return [row for row in outcome if row in allowed], "explore.alike"
        if not (text or "").strip():
            raise StudioError.of("problem.no_words")
        folder = desk.folder(run)
        if folder is not None and book.image is not None:
            seat = desk.seats.seat(folder)
            if reads_words(seat.predictor):
                outcome = seat.ask(lambda model: alike(book, seat.folder, text))
                return [row for row in outcome if row in allowed], "explore.nearest"
        both = set(book.rows("all", None, None, text)) & allowed
        return [row for row in book.rows("all", None, None, text) if row in both], "explore.found"

    def turned(step: int) -> Any:
        def work(view: View | None, lang: str) -> tuple[Any, Any]:
            if view is None:
                return gr.skip(), gr.skip()
            pages = max(1, -(-len(view.rows) // PAGE))
            view.page, view.opened = min(max(view.page + step, 0), pages - 1), None
            return view, draw(desk, lang, view)

        return work

    def detail(view: View | None, lang: str, event: gr.EventData) -> tuple[Any, Any]:
        kind, _, row = act_of(event).partition(":")
        if view is None or kind != "row" or not row.isdigit() or int(row) >= len(view.book.table):
            return gr.skip(), gr.skip()
        view.opened = None if view.opened == int(row) else int(row)
        return view, draw(desk, lang, view)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    inputs = [view, path, split, column, value, text, sample, desk.run, desk.lang]
    gr.on([show.click, path.input], opened, [path, desk.run, desk.lang], [view, cards, column, value], **quiet)
    column.input(values_of, [view, column], value, **quiet)
    gr.on([filters.click, text.submit], chosen("filter"), inputs, [view, cards], **quiet, preprocess=False)
    gr.on([split.input, value.input], chosen("filter"), inputs, [view, cards], **quiet, preprocess=False)
    worst.click(chosen("worst"), inputs, [view, cards], **quiet, preprocess=False)
    words.click(chosen("search"), inputs, [view, cards], **quiet, preprocess=False)
    sample.upload(chosen("image"), inputs, [view, cards], **quiet, preprocess=False)
    before.click(turned(-1), [view, desk.lang], [view, cards], **quiet)
    after.click(turned(1), [view, desk.lang], [view, cards], **quiet)
    cards.click(detail, [view, desk.lang], [view, cards], **quiet)
    desk.on_open(desk.tables, [], [path])
    speaker.redraw(
        lambda lang, view: draw(desk, lang, view) if view else note(translate("explore.empty", lang)), [view], cards
    )


def draw(desk: Desk, lang: str, view: View) -> str:
    """A page of rows, and the one that is opened."""
    pages = max(1, -(-len(view.rows) // PAGE))
    shown = view.rows[view.page * PAGE : (view.page + 1) * PAGE]
    wrong = sum(mark.wrong for mark in view.marks.values())
    message = translate(view.told, lang, count=f"{len(view.rows):,}", wrong=wrong, name=view.book.table.name)
    head = f'<p class="hint" role="status" data-rows="{len(view.rows)}">{esc(message)} '
    head += f"{label('explore.page', lang, page=view.page + 1, pages=pages)}</p>"
    cards = "".join(f"<li>{card(desk, lang, view, row)}</li>" for row in shown)
    opened = details(desk, lang, view, view.opened) if view.opened is not None else ""
    return f'{head}{opened}<ul class="cards">{cards}</ul>{command(lang, *view.commands)}'


def card(desk: Desk, lang: str, view: View, row: int) -> str:
    """One row as a button."""
    book = view.book
    lines = [as_text(book.table.value(row, name)) for name in book.telling]
    words = " · ".join(line for line in lines if line)[:200]
    image = image_tag(desk, lang, book, row, 176) if book.image else ""
    inside = f'{image}<span class="line">{esc(words)}</span>'
    mark = view.marks.get(row)
    if mark is not None:
        kind = "wrong" if mark.wrong else "right"
        text = translate(f"explore.{kind}", lang, told=mark.told, truth=mark.truth)
        inside += f'<span class="line {kind}">{esc(text)}</span>'
    place = translate("explore.row", lang, row=row + 1, split=translate(f"split.{book.splits[row]}", lang))
    inside += f'<span class="tag">{esc(place)}</span>'
    return button(f"row:{row}", inside, pressed=view.opened == row)


def image_tag(desk: Desk, lang: str, book: Book, row: int, side: int) -> str:
    """A row's image as an ``img``; a mark that says why where it has none."""
    name = str(book.image)
    cell = book.table.value(row, name)
    if missing(cell):
        return f'<span class="none" title="{label("explore.no_image", lang)}">–</span>'
    try:
        address = _small(desk.places, cell, str(book.table.root), book.table.where(row), side)
    except FAULTS as error:
        return f'<span class="none" title="{esc(error)}" role="img" aria-label="{esc(error)}">?</span>'
    return f'<img src="{address}" alt="{label("explore.image_of", lang, row=row + 1)}">'


@lru_cache(maxsize=2000)
def _small(places: Any, cell: Any, root: str, where: str, side: int) -> str:
    return thumbnail(places.image(cell, Path(root), where, near=side), side=side)


def details(desk: Desk, lang: str, view: View, row: int) -> str:
    """Everything a row holds."""
    book = view.book
    parts = []
    for name in book.table.columns:
        if name == book.image and not isinstance(book.table.value(row, name), str):
            continue
        cell = as_text(book.table.value(row, name))
        shown = cell if len(cell) <= _LONG else cell[:_LONG] + " …"
        parts.append(f"<dt>{esc(name)}</dt><dd>{esc(shown)}</dd>")
    mark = view.marks.get(row)
    if mark is not None:
        sure = "" if mark.confidence is None else f" ({mark.confidence:.0%})"
        parts.append(f"<dt>{label('explore.told', lang)}</dt><dd>{esc(mark.told)}{sure}</dd>")
    image = image_tag(desk, lang, book, row, 320) if book.image else "<span></span>"
    title = f'<h3 style="grid-column:1/-1">{esc(book.table.where(row))}</h3>'
    return f'<section class="detail">{title}<div>{image}</div><dl>{"".join(parts)}</dl></section>'
