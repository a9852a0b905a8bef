"""The image pack: complete, licensed, small and readable."""

from __future__ import annotations

import hashlib
import time
from importlib.resources import files

import numpy as np
import pytest

from rebus.data.demo.pack import Pack, load_pack
from rebus.errors import DataError

FOLDER = files("rebus.data") / "pack"


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack()


def test_eight_artists_draw_every_kind(pack: Pack) -> None:
    assert len(pack.artists) == 8
    assert len(pack.kinds) == 72
    for artist in pack.artists:
        for kind in pack.kinds:
            image = pack.image(artist, kind)
            assert image.shape == (64, 64, 4)
            assert image.dtype == np.uint8
            assert (image[..., 3] > 128).mean() > 0.05, (artist, kind.en)  # something is drawn
            assert (image[..., 3] == 0).any(), (artist, kind.en)  # and not a full square


def test_no_two_kinds_share_a_word(pack: Pack) -> None:
    for words in ([k.name for k in pack.kinds], [k.en for k in pack.kinds], [k.zh for k in pack.kinds]):
        assert len(set(words)) == len(words)
    for kind in pack.kinds:
        vowel = kind.en[0] in "aeio" or kind.en in ("umbrella", "hourglass")
        assert kind.article == ("an" if vowel else "a"), kind.en
        assert kind.measure
        assert kind.plural != kind.en


def test_kinds_are_things_and_nothing_is_a_face_or_a_flag(pack: Pack) -> None:
    names = [thing.name for thing in pack.things]
    assert len(names) == len(set(names)) > 350
    assert {kind.name for kind in pack.kinds} <= set(names)
    assert {thing.group for thing in pack.things} == {"nature", "food", "travel", "activities", "objects"}
    assert not [name for name in names if "flag" in name or "clock" in name]


def test_a_image_is_found_by_noun_too(pack: Pack) -> None:
    assert np.array_equal(pack.image("noto", "apple"), pack.image("noto", "redapple"))
    assert not np.array_equal(pack.image("noto", "apple"), pack.image("twemoji", "apple"))


def test_an_unknown_artist_or_thing_is_named(pack: Pack) -> None:
    with pytest.raises(DataError, match="did you mean 'noto'"):
        pack.image("nott", "apple")
    with pytest.raises(DataError, match="thing 'unheard'"):
        pack.image("noto", "unheard")


def test_every_artist_has_a_licence_and_a_notice(pack: Pack) -> None:
    text = (FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    for artist in pack.artists:
        info = pack.info[artist]
        assert info["licence"] in {"CC-BY-4.0", "MIT", "Apache-2.0"}  # none of share-alike
        notice = next(line for line in text.splitlines() if line.startswith(f"- `{artist}`"))
        assert info["licence"] in notice
        assert info["url"] in notice
    assert "Permission is hereby granted" in text
    assert "Apache License" in (FOLDER / "APACHE-2.0.txt").read_text(encoding="utf-8")


def test_the_pack_is_small_and_as_it_was_built(pack: Pack) -> None:
    sizes = {entry.name: len(entry.read_bytes()) for entry in FOLDER.iterdir()}
    assert sum(sizes.values()) < 4_000_000, sizes
    for artist in pack.artists:
        assert hashlib.sha256((FOLDER / f"{artist}.webp").read_bytes()).hexdigest() == pack.info[artist]["sha256"]


def test_all_of_it_loads_quickly() -> None:
    load_pack.cache_clear()
    start = time.process_time()  # of this process alone: other work on the machine does not count
    fresh = load_pack()
    for artist in fresh.artists:
        fresh.image(artist, "apple")
    assert time.process_time() - start < 3
