"""``rebus chat``: a conversation in the terminal, in which an image can be shown.

Knows only how to read lines and keep the conversation; the model is reached through ``rebus.api`` alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rebus.cli.shared import AnyModel, Precision, System, say
from rebus.errors import ImageError, RebusError

HELP = "/image PATH shows it an image, /reset forgets the conversation, /help prints this, /quit ends it."


class Conversation:
    """The turns so far, in the messages form of Hugging Face chat templates."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._shown: Path | None = None

    def show(self, image: Path) -> None:
        """Attach an image to the next question.

        Raises:
            ImageError: there is no such file.
        """
        if not image.is_file():
            raise ImageError(image, "an image file", "no such file", "check the path, then type /image PATH again")
        self._shown = image

    def user(self, text: str) -> None:
        """Add what the user said, with the image shown just before it."""
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if self._shown is not None:
            content.insert(0, {"type": "image", "path": str(self._shown)})
            self._shown = None
        self.messages.append({"role": "user", "content": content})

    def assistant(self, text: str) -> None:
        """Add what the model answered."""
        self.messages.append({"role": "assistant", "content": [{"type": "text", "text": text}]})

    def take_back(self) -> None:
        """Forget a question that could not be answered, and show its image again with the next one."""
        images = [part for part in self.messages.pop()["content"] if part["type"] == "image"]
        if images:
            self._shown = Path(images[0]["path"])


def chat(
    run: AnyModel,
    image: Annotated[Path | None, typer.Option("--image", metavar="IMAGE", help="An image to show it first.")] = None,
    system: System = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", min=0.0, help="0: the likeliest words; above 0 they are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw.")] = 0,
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Longest answer, in tokens, of a model that writes.")
    ] = None,
    precision: Precision = "fp32",
) -> None:
    """Talk with a trained model; /image PATH shows it an image."""
    conversation = Conversation(system)
    if image is not None:
        conversation.show(image)

    from rebus import api

    model = api.load(run, precision=precision)
    options: dict[str, Any] = {"temperature": temperature, "seed": seed} if temperature > 0 else {}
    if max_new_tokens is not None:
        options["max_new_tokens"] = max_new_tokens
    say(HELP, style="dim", err=True)
    while (line := _read()) is not None:
        try:
            conversation = _turn(model, conversation, line, options)
        except RebusError as error:  # a slip inside a conversation should not end it
            say(str(error), style="red", err=True)


def _turn(model: Any, conversation: Conversation, line: str, options: dict[str, Any]) -> Conversation:
    command, _, rest = line.partition(" ")
    if command == "/image":
        conversation.show(Path(os.path.expanduser(rest.strip().strip("'\""))))
    elif command == "/reset":
        conversation = Conversation(conversation.system)
    elif command.startswith("/"):
        say(HELP, style="dim", err=True)
    elif line:
        conversation.user(line)
        names: list[str] = []
        try:
            for piece in model.chat(conversation.messages, stream=True, **options):
                names.append(piece)
                print(piece, end="", flush=True)
        except RebusError:
            conversation.take_back()
            raise
        except KeyboardInterrupt:  # enough of this answer; the conversation goes on
            pass
        print(flush=True)
        conversation.assistant("".join(names).strip())
    return conversation


def _read() -> str | None:
    """The next line, without surrounding space; None when the user is done."""
    try:
        line = input("> ").strip()
    except EOFError:
        return None
    return None if line in ("/quit", "/exit", "/q") else line
