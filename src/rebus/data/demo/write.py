"""A folder of scenes: images and two tables in JSON Lines, read back by the road that reads any user's data.

Knows nothing of models. Images are composed by several processes; the result does not depend on how many.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rebus import atomic
from rebus.data.demo import wording
from rebus.data.demo.pack import check_artists, load_pack
from rebus.data.demo.scenes import Scene, compose
from rebus.errors import DataError, RunError

VERSION = 4  # raised when the same settings would give other images or words
STREAMS = {"train": 0, "valid": 1, "test-seen": 2, "test-unseen": 3}
VALID_SCENES = 100
UNSEEN = ("fxemoji", "twemoji")


def write_scenes(
    folder: Path | str,
    *,
    train: int = 12000,
    seed: int = 0,
    size: int = 96,
    processes: int = 2,
    kinds: int = 72,
    unseen: Sequence[str] = UNSEEN,
    test_scenes: int = 300,
) -> Path:
    """Write a scene set: ``images/``, ``answer.jsonl``, ``scenes.jsonl`` and ``README.txt``.

    Args:
        folder: new or empty, or an earlier scene set, which is replaced; one of the same settings is left as it is.
        train: how many training scenes; they are drawn by the seen artists and redrawn in random styles.
        seed: every image and word follows from it and from these settings.
        size: pixels a side.
        processes: how many compose at once; the files are the same for any number.
        kinds: things are of the first ``kinds`` kinds of the pack.
        unseen: artists kept for the test alone.
        test_scenes: how many scenes by seen artists, and again as many by unseen ones; none is redrawn.

    Returns:
        The folder.

    Raises:
        DataError: a setting does not fit the pack, or the folder holds something else.
        RunError: the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    settings: dict[str, Any] = {
        "version": VERSION, "train": train, "seed": seed, "size": size, "kinds": kinds,
        "unseen": sorted(unseen), "test_scenes": test_scenes, "pack": _pack_hash(),
    }  # fmt: skip
    _check(settings, processes)
    done = folder / "settings.json"
    if done.is_file() and json.loads(done.read_text("utf-8")) == settings:
        return folder
    if folder.exists() and not folder.is_dir():
        raise DataError(folder, "a folder", "a file", "name another folder")
    ours = done.is_file() or (folder / ".unfinished").exists()
    if not ours and folder.exists() and any(folder.iterdir()):
        raise DataError(folder, "a new or empty folder", "that it holds something else", "name another folder")
    atomic.write_text(folder / ".unfinished", "")
    done.unlink(missing_ok=True)  # written last: what lacks it is not whole
    try:
        shutil.rmtree(folder / "images", ignore_errors=True)
        for split in ("train", "valid", "test"):
            (folder / "images" / split).mkdir(parents=True)
        _compose_all(folder, settings, processes)
        _write_tables(folder, processes)
    except OSError as error:
        raise RunError(
            folder,
            "room and permission to write the scenes",
            f"'{error.strerror or error}'",
            "free some space or name another folder, then run the same again",
        ) from error
    atomic.write_text(folder / "README.txt", _readme(settings))
    atomic.write_json(done, settings)
    (folder / ".unfinished").unlink()
    return folder


def rows_of(scene: Scene, place: dict[str, Any], kinds: int, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of ``scenes.jsonl`` and the rows of ``answer.jsonl`` for one scene.

    Args:
        scene: the composed scene.
        place: its ``image``, ``split``, ``seen``, ``scene`` (a number within the set) and ``stream``.
        kinds: how many kinds it could have shown.
        seed: of the set; the questions follow from it and the scene's number.
    """
    rng = np.random.default_rng([seed, 100 + place["stream"], place["index"]])
    asked = wording.questions(scene.things, scene.background, load_pack().kinds[:kinds], rng)
    common = {"artist": scene.artist, "split": place["split"], "seen": place["seen"], "scene": place["scene"]}
    boxes = [{"label": f"{thing.kind.en}|{thing.kind.zh}", "box": list(thing.box)} for thing in scene.things]
    whole = {
        "image": place["image"],
        "caption_en": wording.caption(scene.things, "en"),
        "caption_zh": wording.caption(scene.things, "zh"),
        "things": [thing.kind.en for thing in scene.things],
        "count": len(scene.things),
        "background": scene.background,
        "boxes": boxes,
        **common,
    }
    rows = [
        {
            "image": place["image"],
            "question": q.question,
            "answer": q.answer,
            "type": q.type,
            "language": q.language,
            **common,
            "boxes": boxes if i == 0 else None,
        }
        for i, q in enumerate(asked)
    ]
    return whole, rows


def _jobs(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Every scene of the set: its stream, its index there, its file, its split."""
    jobs: list[dict[str, Any]] = []
    sizes = {
        "train": settings["train"],
        "valid": VALID_SCENES,
        "test-seen": settings["test_scenes"],
        "test-unseen": settings["test_scenes"],
    }
    for stream, count in sizes.items():
        split = stream.split("-")[0]
        for index in range(count):
            jobs.append({
                "stream": STREAMS[stream], "index": index, "split": split, "seen": stream != "test-unseen",
                "image": f"images/{split}/{stream}-{index:05d}.jpg", "scene": f"{stream}-{index:05d}",
            })  # fmt: skip
    return jobs


def _compose_part(folder: Path, part: int, parts: int, settings: dict[str, Any]) -> None:
    """Compose every ``parts``-th scene and note its rows in ``part-K.jsonl``."""
    unseen = settings["unseen"]
    seen = [artist for artist in load_pack().artists if artist not in unseen]
    with open(folder / f"part-{part}.jsonl", "w", encoding="utf-8") as notes:
        for job in _jobs(settings)[part::parts]:
            scene = compose(
                settings["seed"],
                job["index"],
                seen if job["seen"] else unseen,
                stream=job["stream"],
                size=settings["size"],
                kinds=settings["kinds"],
                augment=job["split"] == "train",
            )
            Image.fromarray(scene.pixels).save(folder / job["image"], quality=95, subsampling=0)  # decodes fastest
            both = rows_of(scene, job, settings["kinds"], settings["seed"])
            notes.write(json.dumps(both, ensure_ascii=False) + "\n")


def _compose_all(folder: Path, settings: dict[str, Any], processes: int) -> None:
    # Plain child processes: a fork of torch's threads may hang, and "spawn" would run the caller's script anew.
    calls = [
        [sys.executable, "-c", _CHILD, json.dumps([str(folder), part, processes, settings, sys.path])]
        for part in range(1, processes)
    ]
    running = [subprocess.Popen(call) for call in calls]  # noqa: S603 - our own interpreter on our own module
    try:
        _compose_part(folder, 0, processes, settings)
    except BaseException:
        for child in running:
            child.kill()
        raise
    finally:
        codes = [child.wait() for child in running]
    if any(codes):
        raise DataError(
            folder,
            "every scene written",
            f"that a process which composes scenes ended with status {next(c for c in codes if c)}",
            "look at its message above and at the free space, then try again or with one process",
        )


_CHILD = """
import json, sys
folder, part, parts, settings, path = json.loads(sys.argv[1])
sys.path[:] = path
from pathlib import Path
from rebus.data.demo.write import _compose_part
_compose_part(Path(folder), part, parts, settings)
"""


def _write_tables(folder: Path, parts: int) -> None:
    """Merge the parts' notes in the order of the scenes."""
    notes = [open(folder / f"part-{part}.jsonl", encoding="utf-8") for part in range(parts)]  # noqa: SIM115
    try:
        lines: list[str] = []
        whole: list[str] = []
        for i in range(sum(1 for file in notes for _ in file)):
            if i < parts:
                notes[i].seek(0)
            scene, rows = json.loads(notes[i % parts].readline())
            whole.append(json.dumps(scene, ensure_ascii=False) + "\n")
            lines += [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    finally:
        for file in notes:
            file.close()
    atomic.write_text(folder / "answer.jsonl", "".join(lines))
    atomic.write_text(folder / "scenes.jsonl", "".join(whole))
    for part in range(parts):
        (folder / f"part-{part}.jsonl").unlink()


def _pack_hash() -> str:
    return hashlib.sha256((files("rebus.data") / "pack" / "index.json").read_bytes()).hexdigest()[:16]


def _check(settings: dict[str, Any], processes: int) -> None:
    pack = load_pack()
    where = "the demo's scene set"
    check_artists(pack, settings["unseen"], f"{where}, unseen")
    if not 0 < len(settings["unseen"]) < len(pack.artists):
        raise DataError(
            f"{where}, unseen",
            "at least one artist to test on and one to learn from",
            f"{len(settings['unseen'])} of {len(pack.artists)} artists",
            "name one to seven artists",
        )
    limits = {
        "kinds": (5, len(pack.kinds)),
        "size": (48, 512),
        "train": (1, 1_000_000),
        "test_scenes": (1, 100_000),
        "seed": (0, 2**63 - 1),
    }
    for name, value in [*((n, settings[n]) for n in limits), ("processes", processes)]:
        low, high = limits.get(name, (1, 256))
        if not low <= value <= high:
            raise DataError(
                f"{where}, {name}", f"a number from {low} to {high}", str(value), f"choose {name} in that range"
            )


def _readme(settings: dict[str, Any]) -> str:
    pack = load_pack()
    artists = "\n".join(
        f"- {name}: {info['title']} by {info['author']} <{info['url']}>, {info['licence']} <{info['licence_url']}>"
        f"{' (test only)' if name in settings['unseen'] else ''}"
        for name, info in pack.info.items()
    )
    return _README.format(artists=artists, settings=json.dumps(settings), **settings)


_README = """Scenes for Rebus: images of one to four things, questions with exact answers in English and Chinese.

images/train   {train} scenes by the artists seen, every thing redrawn in a random style
images/valid   fresh scenes by the same artists, not redrawn
images/test    {test_scenes} scenes by the same artists, {test_scenes} by artists never seen in training; not redrawn

answer.jsonl, a row a question:
  image   path of the image, from this folder      question, answer   text
  type      caption, existence, count, where, left, above or background
  language  en or zh                                   artist             who drew the things
  split     train, valid or test                       seen               whether training shows this artist
  scene     the image's name, to group rows by       boxes              on an image's first row, else null
scenes.jsonl, a row an image:
  image, caption_en, caption_zh, things (labels from left to right), count, background, boxes,
  artist, split, seen, scene
boxes: a list of {{"label": "noun|名词", "box": [x0, y0, x1, y1]}} in fractions of the image from the top left.

Settings: {settings}

The images are composed from these icon sets, whose drawings were rendered, scaled, turned, combined and, in
training, recoloured and redrawn:
{artists}
Full notices: LICENSES.md in the folder rebus/data/pack of the package.
"""
