"""What a browser may name: its own uploads and nothing else, in whatever event, setting, table or spelling."""

from __future__ import annotations

import itertools
import json
import os
import random
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel, Field

from rebus.data.image_sources import INSIDE, image_path
from rebus.data.readers import read_table
from rebus.errors import ImageError, RebusError, RecipeError, StudioError
from rebus.recipe import PathText, Recipe, Section, override, path_settings
from rebus.studio import jobs
from rebus.studio.border import Border, RefusedError, Uploads
from rebus.studio.places import Places
from rebus.studio.train import confined, path_words
from storm.paths import make_place, outside_paths, shapes
from storm.paths import run as storm_of_paths

MINE = "browser-of-mine-0123456789"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Uploads]:
    """The Studio's folder, the one outside, and the upload folder with one file of this browser's."""
    place, outside = make_place(tmp_path_factory.mktemp("ground").resolve())
    uploads = Uploads(tmp_path_factory.mktemp("uploads").resolve())
    (uploads.folder / "0a").mkdir()
    (uploads.folder / "0a" / "x.png").write_bytes(b"mine")
    uploads.add(MINE, str(uploads.folder / "0a" / "x.png"))
    return place, outside, uploads


def border(uploads: Uploads) -> Border:
    return Border(None, uploads)  # type: ignore[arg-type]


def passes(uploads: Uploads, value: object, browser: str = MINE) -> bool:
    try:
        border(uploads)._event(browser, json.dumps({"data": [value], "event_data": None}).encode())
    except RefusedError:
        return False
    return True


def test_a_thousand_outside_paths_in_every_shape_are_refused(ground: tuple[Path, Path, Uploads]) -> None:
    place, outside, uploads = ground
    places = Places([place], 1000)
    paths = list(itertools.islice(outside_paths(place, outside, uploads.folder, random.Random(0)), 1000))
    assert len(set(paths)) > 500
    for path in paths:
        for shape in shapes(path)[1:]:
            assert not passes(uploads, shape), shape
        assert not uploads.holds(MINE, path)
        with pytest.raises(StudioError):
            uploads.file(path)
        try:
            found = places.inside(path, "the table")
        except StudioError:
            continue
        assert place in (found, *found.parents)  # a name that is odd, not one that leads out
        assert not str(found.resolve()).startswith(str(outside))


def test_a_browser_names_what_it_uploaded_and_no_other_does(ground: tuple[Path, Path, Uploads]) -> None:
    _, outside, uploads = ground
    path = str(uploads.folder / "0a" / "x.png")
    sent = {"path": path, "url": "http://127.0.0.1/anything", "orig_name": "../../x", "meta": {"_type": "x"}, "size": 4}
    told = json.loads(border(uploads)._event(MINE, json.dumps({"data": [sent, "text", None]}).encode()))
    canonical = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
    assert told == {"data": [canonical, "text", None]}
    assert not passes(uploads, sent, "another-browser-0123456789")
    spelled = [
        path + "/",
        path.replace("/x", "//x"),
        path.replace("/0a", "/./0a"),
        path + "\0",
        path.upper(),
        f" {path}",
    ]
    assert not any(passes(uploads, {"path": other}) for other in spelled)
    copied = uploads.write(MINE, "y.png", b"too")
    assert passes(uploads, {"path": str(copied)})
    copied.unlink()
    assert not passes(uploads, {"path": str(copied)})
    copied.symlink_to(outside / "x.txt")  # put there by whatever means
    assert not passes(uploads, {"path": str(copied)})


def test_an_event_is_json_of_some_depth(ground: tuple[Path, Path, Uploads]) -> None:
    for body in (b"", b"{", b"[" * 100_000, b"\xff"):
        with pytest.raises(RefusedError) as refused:
            border(ground[2])._event(MINE, body)
        assert refused.value.status == 400


def test_uploads_are_forgotten_past_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rebus.studio.border._FILES", 2)
    uploads = Uploads(tmp_path)
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
        uploads.add(MINE, str(tmp_path.resolve() / name))
    assert [uploads.holds(MINE, str(tmp_path.resolve() / name)) for name in "abc"] == [False, True, True]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_event_of_the_studio_reads_an_outside_path() -> None:
    told = storm_of_paths(6)
    assert told.endswith("none read")


# Settings that are paths


def test_every_setting_that_names_a_file_is_marked_as_one() -> None:
    marked = {name for name, _ in path_settings(_filled(Recipe()))}
    towers = {"model.text.weights": "a", "model.image.weights": "a", "model.towers": {"sound": {"weights": "a"}}}
    plugin = {"model.towers": {"sound": {"vectors": "/a/b", "mode": "slow"}}, "text.options": {"file": "../a", "n": 3}}
    marked |= {name for change in (towers, plugin) for name, _ in path_settings(Recipe().replace(change))}
    assert marked >= {"model.image.weights", "model.towers.sound.weights", "model.towers.sound.vectors"}
    assert "text.options.file" in marked
    assert "model.towers.sound.mode" not in marked
    assert marked >= {"base", "data.path", "text.tokenizer", "corpus.cache", "model.text.weights", "text.file"}
    for name, meaning in _texts(Recipe):
        words = ("folder", "a file", " file,", ".json to", "checkpoint", "table or")
        if any(word in f" {meaning}" for word in words):
            assert name in marked, f"'{name}' ({meaning}) names a file: give it the type PathText"


def _texts(model: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """Settings that are one text, with what they mean."""
    found: list[tuple[str, str]] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _texts(kind, f"{prefix}{name}.")
        elif "str" in str(kind) and "Literal" not in str(kind) and "list" not in str(kind) and "dict" not in str(kind):
            found.append((f"{prefix}{name}", field.description or ""))
    return found


def _filled(recipe: Recipe) -> Recipe:
    """A recipe in which every setting that is a text says one."""
    for name, _ in _texts(Recipe):
        section: Any = recipe
        *path, last = name.split(".")
        for part in path:
            section = getattr(section, part)
        section.__dict__[last] = "somewhere"
    return recipe


def test_a_new_setting_that_is_a_path_is_found_by_its_type() -> None:
    class Inner(Section):
        one: PathText | None = None

    class Outer(Section):
        plain: str = "/etc/passwd"
        many: list[PathText] = Field(default_factory=list)
        named: dict[str, PathText] = Field(default_factory=dict)
        inner: Inner = Inner()
        inners: list[Inner] = Field(default_factory=list)

    made = Outer(many=["a", "b"], named={"k": "c"}, inner=Inner(one="d"), inners=[Inner(), Inner(one="e")])
    found = [("many.0", "a"), ("many.1", "b"), ("named.k", "c"), ("inner.one", "d"), ("inners.1.one", "e")]
    assert list(path_settings(made)) == found


WORDED = [
    "base={}",
    "corpus.cache={}",
    "text.tokenizer={}",
    "model.text.weights={}",
    "model.image.weights={}",
    "text.file={}",
    "data.path={}",
    "data={{path: {}}}",
    "corpus={{cache: {}}}",
    "model={{text: {{weights: {}}}}}",
    "text={{tokenizer: {}}}",
]


@pytest.mark.parametrize("word", WORDED)
def test_no_setting_leads_out_of_the_folders(ground: tuple[Path, Path, Uploads], word: str) -> None:
    place, outside, _ = ground
    places = Places([place], 1000)
    for path in (outside / "x.csv", "../outside/x.csv", "link/x.csv", "link.csv", "~root/x", "/proc/self/environ"):
        with pytest.raises(RebusError, match=r"below|no other table"):
            confined(places, place / "x.csv", ["classify"], word.format(path))


def test_a_setting_inside_the_folders_is_spelled_out_whole(ground: tuple[Path, Path, Uploads]) -> None:
    place, _, _ = ground
    places = Places([place], 1000)
    more = "text.tokenizer=x.txt\ntext.options.vectors=skipgram\nbase=org/model\ntrain.steps=3"
    words = path_words(places, confined(places, place / "x.csv", ["classify"], more))
    assert words == ["--set", f"base={place}/org/model", "--set", f"text.tokenizer={place}/x.txt"]  # nothing is fetched
    assert override(Recipe(), words[1::2]).text.tokenizer == f"{place}/x.txt"
    with pytest.raises(RecipeError, match="no_such"):
        confined(places, place / "x.csv", ["classify"], "train.no_such=1")


# Images that tables name


@pytest.mark.parametrize("name", ["leads-out.csv", "leads-out-too.csv"])
def test_a_table_that_names_images_outside_is_refused(ground: tuple[Path, Path, Uploads], name: str) -> None:
    with pytest.raises(StudioError, match="--root"):
        confined(Places([ground[0]], 1000), ground[0] / name, ["classify"], "data.kinds={image: image}")


@pytest.mark.parametrize(
    "cell",
    [
        "{outside}/x.png",
        "../outside/x.png",
        "..\\outside\\x.png",
        "link/x.png",
        "link.png",
        "['{outside}/x.png', 'x.png']",
        '["x.png", "{outside}/x.png"]',
        "{outside}/t.tar#0+10/x.png",
        [{"role": "user", "content": [{"type": "image", "path": "{outside}/x.png"}]}],
        ["x.png", "{outside}/x.png"],
    ],
)
def test_images_are_looked_at_in_every_form(ground: tuple[Path, Path, Uploads], tmp_path: Path, cell: Any) -> None:
    place, outside, _ = ground
    (place / "row.jsonl").write_text(json.dumps({"p": cell}).replace("{outside}", str(outside)) + "\n")
    table = read_table(str(place / "row.jsonl"))
    with pytest.raises(StudioError, match=r"row\.jsonl"):
        Places([place], 1000).check_images(table, ["p"])
    Places([place, outside], 1000).check_images(table, ["p"])
    (place / "row.jsonl").unlink()


def test_a_training_that_the_studio_began_opens_no_image_outside(
    ground: tuple[Path, Path, Uploads], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, outside, _ = ground
    Image.new("RGB", (4, 4)).save(tmp_path / "own.png")
    monkeypatch.setenv(INSIDE, jobs.environment([place])[INSIDE])
    assert image_path(str(place / "x.png"), tmp_path) == place / "x.png"
    assert image_path("own.png", tmp_path) == tmp_path / "own.png"
    for value in (str(outside / "x.png"), str(place / "link" / "x.png"), str(place / "link.png"), "/etc/passwd"):
        with pytest.raises(ImageError, match="may read"):
            image_path(value, tmp_path)
    monkeypatch.delenv(INSIDE)
    assert image_path(str(outside / "x.png"), tmp_path) == outside / "x.png"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640)])
def test_what_is_copied_into_a_run_has_the_umask_s_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int, mode: int
) -> None:
    begun: list[Sequence[str]] = []
    monkeypatch.setattr(jobs, "_begin", lambda folder, words, held, inside: begun.append(words))
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    (tmp_path / "x.csv").chmod(0o777)
    before = os.umask(mask)
    try:
        jobs.start(tmp_path / "run", tmp_path / "x.csv", bring=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run" / "data" / "x.csv").stat().st_mode) == mode
    assert begun


def test_an_upload_that_gradio_cannot_read_is_refused(ground: tuple[Path, Path, Uploads]) -> None:
    import asyncio

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise TypeError("a file without a name")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Border(app, ground[2])._upload(MINE, {"type": "http"}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 400
