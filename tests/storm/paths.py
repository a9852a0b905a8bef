"""Outside paths sent to the Studio by every event it has: none of them may be opened, copied or told.

A Studio runs in a thread over a folder of its own; beside it lies a folder that nobody may reach. An audit hook sees
every file that Python opens, and what the Studio would start is written down instead of started.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import quote, urlsplit

SECRET, THEIRS = "canary-7f3a91", "canary-0b55d2"  # what files outside hold, and another browser's
_AT_ONCE = 24  # events of one session before their answers are read


@dataclass
class Watch:
    """What was opened below a folder.

    Attributes:
        folder: that is watched; "": nothing is.
        opened: paths, in their order.
    """

    folder: str = ""
    opened: list[str] = field(default_factory=list)


_WATCH = Watch()
_HOOKED: list[bool] = []


def _audit(event: str, given: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir", "shutil.copyfile") and _WATCH.folder and given:
        path = os.fsdecode(given[0]) if isinstance(given[0], str | bytes) else ""
        if path.startswith("/") and os.path.realpath(path).startswith(_WATCH.folder):
            _WATCH.opened.append(f"{event} {path}")


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """Note what Python opens, lists or copies below a folder."""
    if not _HOOKED:  # a hook stays as long as the process
        sys.addaudithook(_audit)
        _HOOKED.append(True)
    _WATCH.folder, _WATCH.opened = str(folder.resolve()), []
    try:
        yield _WATCH.opened
    finally:
        _WATCH.folder = ""


def make_place(root: Path) -> tuple[Path, Path]:
    """A folder for the Studio and one outside, with links from the first into the second."""
    from PIL import Image

    place, outside = root / "place", root / "outside"
    for folder in (place, outside, outside / "run"):
        folder.mkdir(parents=True)
    for folder, text in ((place, "plain"), (outside, SECRET)):
        Image.new("RGB", (16, 16), "red").save(folder / "x.png")
        (folder / "x.csv").write_text(f"image,label\nx.png,{text}\nx.png,{text}2\n")
        (folder / "x.txt").write_text(text * 20)
    (place / "leads-out.csv").write_text(f"image,label\n{outside}/x.png,a\n{outside}/x.png,b\n")
    (place / "leads-out-too.csv").write_text("image,label\nlink/x.png,a\nlink.png,b\n")
    (outside / "run" / "recipe.yaml").write_text(f"seed: 0 # {SECRET}\n")
    (outside / "run" / "config.json").write_text("{}")
    (place / "link").symlink_to(outside)
    (place / "link.csv").symlink_to(outside / "x.csv")
    (place / "link.png").symlink_to(outside / "x.png")
    (place / "link-run").symlink_to(outside / "run")
    return place, outside


def outside_paths(place: Path, outside: Path, uploads: Path, rng: random.Random) -> Iterator[str]:
    """Ways to name what lies outside, without end; the first thousand differ."""
    named = [str(outside / name) for name in ("x.csv", "x.png", "x.txt", "run", "run/recipe.yaml")]
    named += ["/etc/passwd", "/proc/self/environ", "/etc", "/home/user/.ssh/id_rsa"]
    links = [str(place / name) for name in ("link.csv", "link.png", "link-run", "link/x.csv", "link/x.png", "link/run")]
    tables = ["leads-out.csv", "leads-out-too.csv"]
    ways = [
        lambda path: path,
        lambda path: os.path.relpath(path, place),
        lambda path: f"{place}/../{os.path.relpath(path, place.parent)}",
        lambda path: f"x.csv/../{os.path.relpath(path, place)}",
        lambda path: f"{uploads}/{os.path.relpath(path, uploads)}",
        lambda path: f"/./{path}",
        lambda path: f"/{path}",
        lambda path: f" {path} ",
        lambda path: f"{path}\0.png",
        lambda path: f"{path}/",
        lambda path: f"file://{path}",
        lambda path: f"file:{path}",
        lambda path: f"http://127.0.0.1:1{path}",
        lambda path: f"https://localhost{path}",
        lambda path: f"//localhost{path}",
        lambda path: quote(path, safe=""),
        lambda path: quote(quote(path, safe=""), safe=""),
        lambda path: path.replace("/", "\\"),
        lambda path: path.replace("/", "\uff0f"),
        lambda path: path.replace("/", "/./"),
        lambda path: f"/proc/self/root{path}",
        lambda path: f"/proc/self/cwd/{os.path.relpath(path)}",
        lambda path: f"/dev/fd/../../..{path}",
        lambda path: f"~/{os.path.relpath(path, Path.home())}",
        lambda path: f"$HOME/{path}",
        lambda path: f"data:text/plain,{path}",
        lambda path: f"{path}#0+10/x.png",
        lambda path: f"/gradio_api/file={path}",
        lambda path: f"http://127.0.0.1/studio/gradio_api/file={path}",
        lambda path: path.upper(),
        lambda path: f"{uploads}/{secrets.token_hex(8)}/../../..{path}",
        lambda path: f"{path}\n{path}",
    ]
    first = [*tables, *(way(path) for way, path in itertools.product(ways, [*named, *links]))]
    rng.shuffle(first)
    yield from first
    while True:
        path = rng.choice(ways)(rng.choice([*named, *links]))
        for _ in range(rng.randrange(3)):
            path = rng.choice(ways)(path)
        yield path


def shapes(path: str) -> list[Any]:
    """One path as every kind of value that an event may hold."""
    meta = {"_type": "gradio.FileData"}
    file = {"path": path, "meta": meta}
    return [
        path,
        file,
        {"path": path},
        {"url": path},
        {"path": path, "url": path, "orig_name": "x.png", "mime_type": "image/png", "size": 10, "meta": meta},
        {"path": None, "url": path, "meta": meta},
        {"path": path, "url": "data:image/png;base64,AAAA", "is_stream": True},
        [file],
        [[file, path]],
        {"image": file, "caption": path},
        {"background": file, "layers": [file], "composite": file},
        {"a": {"b": [{"c": file}]}},
        {"text": path, "files": [file]},
        {"__type__": "update", "value": file},
        {"video": file, "subtitles": file},
        {"name": path, "data": None, "is_file": True},
        {"orig_name": path, "meta": meta},
        {"root": [file]},
    ]


@dataclass
class Client:
    """A browser without a screen: it keeps its cookie, and sends what it is given as it stands."""

    address: str
    cookie: str = ""

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, kind: str = "application/json") -> Any:
        where = urlsplit(self.address)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        headers = {"Content-Type": kind} | ({"Cookie": self.cookie} if self.cookie else {})
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if not self.cookie and answer.getheader("set-cookie"):
            self.cookie = str(answer.getheader("set-cookie")).split(";")[0]
        connection.close()
        return SimpleNamespace(status=answer.status, text=text.decode("utf-8", "replace"))

    def upload(self, name: str, content: bytes) -> str:
        """Drop a file, and say where it lies."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--x--\r\n"
        told = self.ask("/studio/gradio_api/upload", "POST", body, "multipart/form-data; boundary=x")
        assert told.status == 200, told
        return str(json.loads(told.text)[0])

    def send(self, function: int, data: list[Any], session: str, event: Any = None) -> Any:
        """One event, by the queue."""
        body = {"fn_index": function, "data": data, "session_hash": session, "event_data": event, "trigger_id": None}
        return self.ask("/studio/gradio_api/queue/join", "POST", json.dumps(body).encode())

    def answers(self, session: str) -> str:
        """What all events of a session gave, once they are done."""
        return str(self.ask(f"/studio/gradio_api/queue/data?session_hash={session}").text)


def run(seconds: float, seed: int = 0) -> str:
    """Send outside paths by every event until the time is up. Raises AssertionError where one was read."""
    from rebus.studio import jobs, train
    from tiny_studio import run_studio

    rng = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="rebus-paths-")).resolve()
    place, outside = make_place(root)
    begun: list[list[str]] = []

    def popen(words: list[str], **_: Any) -> Any:
        begun.append(words)
        return SimpleNamespace(pid=2**22 + 7, wait=lambda: 0)

    def done(words: list[str], **_: Any) -> Any:
        begun.append(words)
        return SimpleNamespace(returncode=0, stdout="time\t1\n", stderr="")

    studio = run_studio(None, place)
    try:
        running = next(studio)
        with (
            mock.patch.object(jobs, "subprocess", SimpleNamespace(**{**vars(jobs.subprocess), "Popen": popen})),
            mock.patch.object(train, "subprocess", SimpleNamespace(**{**vars(train.subprocess), "run": done})),
            watching(outside) as opened,
        ):
            count = _attack(running, place, outside, rng, time.monotonic() + seconds)
            assert opened == [], opened[:5]
        spoken = [word for words in begun for word in words if str(outside) in word]
        assert spoken == [], spoken
        written = _files(place, Path(os.environ["GRADIO_TEMP_DIR"]))
        kept = [path for path in written if SECRET.encode() in path.read_bytes()]
        assert kept == [], kept
    finally:
        next(studio, None)
        shutil.rmtree(root, ignore_errors=True)
    paths, events = f"{count['paths']:,} outside paths", f"{count['events']:,} events of {count['kinds']} kinds"
    return f"Studio paths: {paths} in {events}, none read"


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for top, _, names in os.walk(folder):
            yield from (Path(top, name) for name in names if not Path(top, name).is_symlink())


def _attack(running: Any, place: Path, outside: Path, rng: random.Random, end: float) -> dict[str, int]:
    config = json.loads(Client(running.address).ask("/studio/config").text)
    components = {one["id"]: one for one in config["components"]}
    events = [(one["id"], one["inputs"]) for one in config["dependencies"] if one.get("backend_fn", True)]
    assert len(events) > 20, len(events)
    typed = [one for one in events if any(_is_typed(components[name]) for name in one[1])]
    client, other = Client(running.address), Client(running.address)
    client.ask("/studio/")
    mine, theirs = client.upload("x.png", b"mine"), other.upload("x.txt", THEIRS.encode())
    assert client.ask(f"/studio/gradio_api/file={mine}").text == "mine"
    uploads = Path(mine).parent.parent
    os.symlink(outside / "x.txt", linked := Path(mine).parent / "linked.txt")
    tries = itertools.chain([theirs, str(linked)], outside_paths(place, outside, uploads, rng))
    count = {"paths": 0, "events": 0, "kinds": len(events)}
    for number, path in enumerate(tries):
        if time.monotonic() > end:
            break
        count["paths"] += 1
        forms = shapes(path)
        told = client.ask("/studio/gradio_api/file=" + quote(path)).text if "\n" not in path else ""
        assert not any(one in told for one in (SECRET, THEIRS)), path
        through = events if number % 2 else typed  # as a file, by every event; as text, where text can be written
        for start in range(0, len(through), _AT_ONCE):
            session = secrets.token_hex(8)
            accepted = False
            for turn, (function, inputs) in enumerate(through[start : start + _AT_ONCE]):
                form = forms[(number + turn) % len(forms)] if number % 2 else path
                data = [_value(components[one], form, path) for one in inputs]
                if number % 2 and form not in data and number % 16 != 1:
                    continue  # it could only be what was clicked, which every eighth file is tried as
                answer = client.send(function, data, session, {"act": path, "x": form if number % 3 == 0 else None})
                count["events"] += 1
                accepted = accepted or answer.status == 200
                assert answer.status in (200, 400, 403, 422), (answer.status, answer.text)
            if accepted:
                told = client.answers(session)
                assert not any(one in told for one in (SECRET, THEIRS, "root:x:0")), (path, told[:2000])
    linked.unlink()
    return count


def _is_typed(component: dict[str, Any]) -> bool:
    return component["type"] == "textbox" or bool(component["props"].get("allow_custom_value"))


def _value(component: dict[str, Any], form: Any, path: str) -> Any:
    """What an event holds for a component: the form, or, where only choices pass, the first of these."""
    kind, given = component["type"], component["props"]
    if kind in ("radio", "checkboxgroup", "dropdown") and not given.get("allow_custom_value"):
        choices = [choice[1] for choice in given.get("choices") or []]
        several = kind == "checkboxgroup" or given.get("multiselect")
        return [] if several else choices[0] if choices else None
    if kind == "dropdown":
        return path
    if kind in ("file", "image") and isinstance(form, str):
        return None
    return {"state": None, "number": 1}.get(kind, form)
