"""What notebooks show of an object: the tables that a terminal would get, as HTML."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from html import escape

from rich.console import Console

_WIDTH = 120


def rendered(render: Callable[[Console], None]) -> str:
    """What ``render`` prints, as HTML with its colours.

    Args:
        render: prints on the console that it is given.
    """
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_jupyter=False, highlight=False)
    render(console)
    page: str = console.export_html(
        inline_styles=True, code_format='<pre style="line-height:1.2;font-family:monospace">{code}</pre>'
    )
    return page


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain HTML table; every cell is escaped."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
