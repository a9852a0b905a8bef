"""What the Studio's pages share: places, models, uploads, and the components that hold the language and the Run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from rebus.checkpoints.run_folder import Run
from rebus.errors import RebusError, StudioError
from rebus.serve.loading import Served
from rebus.studio.border import Uploads
from rebus.studio.model_pool import Seats
from rebus.studio.places import Places
from rebus.studio.streaming import Speaker
from rebus.studio.table_view import own_table


@dataclass
class StudioSettings:
    """What the Studio opens with.

    Attributes:
        run: the model it talks with first; None: the newest finished one below the roots.
        roots: folders that pages may read and write below; the first is where new Runs go.
        lang: en or zh.
        pixels: most pixels of an image.
        upload_mb: most MiB of a file that is dropped.
        api_key: the server's; None: none.
    """

    run: Path | None = None
    roots: Sequence[Path] = field(default_factory=lambda: [Path()])
    lang: str = "en"
    pixels: int = 25_000_000
    upload_mb: float = 32
    api_key: str | None = None


class Desk:
    """What all pages share.

    Args:
        settings: the Studio's.
        served: the server's own model, if it has one.

    Attributes:
        uploads: files that browsers dropped.
        speaker: what speaks both languages.
        places: which files may be reached.
        seats: the models.
        lang: the component that holds the language.
        run: the component that holds the chosen Run.
        pages: the component that shows one page of all.
    """

    lang: gr.Radio
    run: gr.Dropdown
    pages: gr.Tabs

    def __init__(self, settings: StudioSettings, served: Served | None) -> None:
        own = [settings.run.resolve()] if settings.run is not None else []
        for run in list(own):  # its table lies elsewhere, more often than not
            table = own_table(run)
            own += [table.resolve().parent] if table is not None else []
        self.speaker = Speaker(settings.lang)
        self.places = Places([*settings.roots, *own], settings.pixels)
        self.seats = Seats(served)
        self.uploads = Uploads(_private_uploads())
        self._opening: list[tuple[Callable[..., Any], list[Any], list[Any]]] = []

    def on_open(self, work: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """What is done when somebody opens the page."""
        self._opening.append((work, inputs, outputs))

    def open_with(self, blocks: gr.Blocks) -> None:
        """Do it."""
        for work, inputs, outputs in self._opening:
            blocks.load(work, inputs, outputs, show_progress="hidden", api_visibility="private")

    def chosen(self, run: str | None) -> Path | None:
        """The chosen Run's folder; None where none is. Raises StudioError where it may not be reached."""
        return self.places.inside(run, "what.model") if run else None

    def folder(self, run: str | None) -> Path | None:
        """As ``chosen``; None where it is no Run, for what can do without."""
        try:
            folder = self.chosen(run)
        except RebusError:
            return None
        return folder if folder is not None and Run(folder).recipe_path.exists() else None

    def table(self, typed: str) -> Path:
        """A table as typed. Raises StudioError where there is none, or it may not be reached."""
        path = self.places.inside(typed, "what.table")
        if not path.exists():
            raise StudioError.of("problem.no_table", typed=typed, home=str(self.places.home))
        return path

    def finished(self) -> list[str]:
        """Runs that can answer, the newest first."""
        whole = [path for path in self.places.runs() if Run(path).saved]
        return [self.places.shown(path) for path in whole]

    def tables(self) -> Any:
        """The list of tables as it is now."""
        return gr.update(choices=self.places.tables())

    def choices(self, run: str | None) -> Any:
        """The list of Runs as it is now; the chosen one stays, and where none was, the newest is."""
        result = self.finished()
        if run:  # its value is not sent back: somebody may be choosing another just now
            return gr.update(choices=result if run in result else [run, *result])
        return gr.update(choices=result, value=result[0] if result else None)


def _private_uploads() -> Path:
    """Files that are dropped lie in a folder of this process' own, not in one that all users of the machine share."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or tempfile.mkdtemp(prefix="rebus-studio-")
    os.environ["GRADIO_TEMP_DIR"] = os.path.realpath(folder)
    return Path(os.environ["GRADIO_TEMP_DIR"])
