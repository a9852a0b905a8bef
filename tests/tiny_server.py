"""A real server on a free port in a thread of this process, and tiny models for it to serve."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image

from rebus.checkpoints.save_load import save_model, save_processor
from rebus.recipe import Fusion, Recipe, TaskSettings, Tower
from rebus.serve.app import create_app
from rebus.serve.loading import Served
from rebus.serve.run import address_of, listening, make_server
from rebus.serve.settings import Limits, ServeSettings
from rebus.training.train import assemble
from tiny_seeing import write_seeing

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
COLUMNS = {
    "answer": {"image": "image", "question": "question", "answer": "answer"},
    "caption": {"image": "image", "caption": "caption"},
    "classify": {"image": "image", "text": "question", "label": "answer"},
    "regress": {"image": "image", "text": "question", "target": "size"},
    "retrieve": {"image": "image", "text": "caption"},
    "lm": {"text": "caption"},
}
TINY = ServeSettings(port=0, cache_mb=8, running=8, drain=5.0)


def square(colour: str = "red", side: int = 32) -> bytes:
    """A PNG of a square on grey."""
    array = np.full((side, side, 3), 90, dtype=np.uint8)
    array[side // 4 : side // 2, side // 4 : side // 2] = COLOURS[colour]
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def as_url(content: bytes, kind: str = "png") -> str:
    """As clients send it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def shown(text: str, *urls: str) -> dict[str, Any]:
    """A message with images."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def write_run(folder: Path, *tasks: str, fusion: str = "unified") -> Path:
    """A Run of an untrained model with these tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, colour in enumerate([*COLOURS] * 2):
        (folder / f"{number}.png").write_bytes(square(colour, 24 + number))
        question = "What colour is the square?" if number % 2 else "方块是什么颜色？"
        cells = (f"{number}.png", question, colour, f"a {colour} square, row {number}", str(number / 8))
        rows.append(",".join(f'"{cell}"' for cell in cells))
    table = folder / "table.csv"
    table.write_text("image,question,answer,caption,size\n" + "\n".join(rows), encoding="utf-8")
    recipe = Recipe().replace(
        {
            "data.path": str(table),
            "image.size": 32,
            "text.vocab_size": 320,
            "text.max_length": 32,
            "model.image": Tower(kind="convnet", width=24, depth=1, heads=2),
            "model.text": Tower(kind="decoder", width=24, depth=2, heads=2),
            "model.fusion": Fusion(kind=fusion, depth=1, heads=2),
            "tasks": [TaskSettings(name=task, columns=COLUMNS[task], max_new_tokens=6) for task in tasks],
        }
    )
    torch.manual_seed(3)
    ready = assemble(recipe, lambda _: None)
    with torch.no_grad():
        for parameter in ready.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)  # so that answers differ
    run = folder / "run"
    run.mkdir()
    save_processor(run, ready.processor)
    (run / "recipe.yaml").write_text(ready.prepared.recipe.save_text(), encoding="utf-8")
    save_model(run, ready.model, ready.prepared.recipe, ready.prepared.tasks, ready.processor)
    return run


def write_seer(folder: Path) -> Path:
    """A tiny SmolVLM: it converses, about an image too."""
    write_seeing(folder, "smolvlm")
    return folder


class Running:
    """A server that answers.

    Attributes:
        url: its address.
        served: its model.
        server: uvicorn's object.
    """

    def __init__(self, source: Any, settings: ServeSettings) -> None:
        self.served = None if source is None else Served(source, settings)
        app = create_app(settings, self.served)
        found = listening(settings)
        self.app, self.server, self.url = app, make_server(app, settings, found), address_of(found)
        self.name = self.served.name if self.served is not None else ""
        self._thread = threading.Thread(target=self.server.run, args=([found],), daemon=True)
        headers = {} if settings.api_key is None else {"Authorization": f"Bearer {settings.api_key}"}
        self.http = httpx.Client(base_url=self.url, timeout=30, headers=headers, trust_env=False)

    def start(self, *, load: bool = True) -> Running:
        """Listen, and load the model."""
        self._thread.start()
        while not self.server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        if load and self.served is not None:
            self.served.load()
        return self

    def stop(self) -> None:
        """As on SIGTERM."""
        self.server.should_exit = True
        self._thread.join(20)
        self.http.close()
        assert not self._thread.is_alive()

    def chat(self, text: str = "What is it?", *urls: str, **more: Any) -> httpx.Response:
        """One question."""
        messages = [shown(text, *urls) if urls else {"role": "user", "content": text}]
        body = {"model": self.name, "messages": messages, "max_tokens": 6, "seed": 1, **more}
        return self.http.post("/v1/chat/completions", json=body)

    @property
    def writer(self) -> Any:
        """The model's writing."""
        assert self.served is not None
        return self.served.writer

    def quiet(self, seconds: float = 10.0) -> bool:
        """Whether the engine has nothing to do, at the latest after this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.writer.engine.engine.idle and not self.writer.active:
                return True
            time.sleep(0.02)
        return False


@contextmanager
def running(source: Any, settings: ServeSettings = TINY, **more: Any) -> Iterator[Running]:
    """A server for the length of a block; ``more`` are other settings, ``limits`` a dictionary of limits."""
    if isinstance(more.get("limits"), dict):
        more["limits"] = Limits(**more["limits"])
    made = Running(source, replace(settings, **more)).start()
    try:
        yield made
    finally:
        made.stop()
