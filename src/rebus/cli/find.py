"""``rebus find``: what is near to a text or an image in an indexed collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rebus.cli.shared import AnyModel, say, show_table
from rebus.cli.verb import JsonOutput, write_json_output

if TYPE_CHECKING:
    from rebus.retrieval.search import Hit


def find(
    run: AnyModel,
    query: Annotated[str, typer.Argument(metavar="QUERY", help='A text ("a red bus") or the path of an image.')],
    k: Annotated[int, typer.Option("--k", help="Most results.")] = 10,
    index: Annotated[
        Path | None, typer.Option("--index", metavar="DIR", help="The index's folder; without it, index/ in the Run.")
    ] = None,
    what: Annotated[
        Literal["image", "text"] | None,
        typer.Option("--what", help="Look for images or texts; images unless the index holds none."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="Also draw the results on one PNG.")
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Let a model trained to `match` look at the best ones again.")
    ] = False,
    json_output: JsonOutput = None,
) -> None:
    """Search a collection that `rebus index` has embedded, with words or with an image."""
    from rebus import api
    from rebus.report.sheet import write_found

    hits = api.find(run, query, k=k, index=index, what=what, rerank=rerank)
    if not (as_json := write_json_output(json_output, [hit.as_dict() for hit in hits])):
        show_table(["score", "found", "what is said of it"], [[f"{h.score:.3f}", _name(h), _said(h)] for h in hits])
    if sheet is not None:
        for note in write_found(sheet, query, hits):
            say(note, style="yellow", err=True)
        say(f"Written: {sheet}", err=as_json)


def _name(hit: Hit) -> str:
    return hit.name if hit.there else f"{hit.name} (gone)"


def _said(hit: Hit) -> str:
    return hit.text if hit.kind == "image" else hit.place
