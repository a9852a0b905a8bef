"""``rebus studio``: the pages in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebus.cli.shared import Language, say


def studio(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A Run to talk with first.")] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", metavar="FOLDER", help="Pages reach files below it only; here if not given. May be repeated."
        ),
    ] = None,
    lang: Language = "en",
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than this machine's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any that is free.")] = 7860,
    api_key: Annotated[
        str | None, typer.Option("--api-key", help="What visitors must know.", envvar="REBUS_API_KEY")
    ] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="A file that holds the key.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name of this machine that browsers may use."),
    ] = None,
    upload_mb: Annotated[float, typer.Option("--upload-mb", min=1, help="Largest file that may be dropped.")] = 64,
) -> None:
    """Ask, explore, train, compare and follow models in the browser, in English or Chinese."""
    from rebus.studio.start import run_studio

    run_studio(
        run,
        roots=root or [Path()],
        lang=lang,
        host=host,
        port=port,
        api_key=api_key,
        api_key_file=api_key_file,
        hosts=allow_host or (),
        upload_mb=upload_mb,
        begun=lambda address: say(f"The Studio is at {address}/studio  (stop it with Ctrl-C)"),
    )
