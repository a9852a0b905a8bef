#!/usr/bin/env python3
"""Build the demo's data pack: the same things drawn by eight artists, one sprite sheet an artist.

Knows nothing of scenes, questions or models: icon packages in, ``src/rebus/data/pack/`` out.

    pip install -c constraints.txt resvg-py   # renders SVG; needed here only
    python scripts/build_pack.py --cache /some/empty/folder

The icon sets come as npm packages in fixed versions, so the same bytes come out whenever it is run.
Sets are joined by icon name (letters and digits only, lower-case) and with the Unicode names of ``emojibase-data``;
``ALIASES`` repairs the sets that name a drawing differently, ``pack_kinds.tsv`` holds the hand-written nouns.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
PACK = HERE.parent / "src" / "rebus" / "data" / "pack"
CELL = 64  # pixels a side of one image in a sheet
COLUMNS = 20
RENDER = 256  # rendered large, cropped to what is drawn, then reduced: every artist fills the cell alike

VERSIONS = {
    "emojione": "1.2.3",
    "fluent-emoji": "1.2.7",
    "fluent-emoji-flat": "1.2.6",
    "fxemoji": "1.2.2",
    "noto": "1.2.9",
    "noto-v1": "1.2.5",
    "streamline-emojis": "1.2.4",
    "twemoji": "1.2.5",
}
NAMES_VERSION = "17.0.0"
COPYRIGHT = {  # the holder as the set's own repository names it
    "emojione": "EmojiOne (now JoyPixels Inc.), version 2, continued as EmojiTwo by its contributors",
    "fluent-emoji": "Copyright (c) Microsoft Corporation",
    "fluent-emoji-flat": "Copyright (c) Microsoft Corporation",
    "fxemoji": "Copyright Mozilla Foundation and contributors",
    "noto": "Copyright Google Inc. and contributors",
    "noto-v1": "Copyright Google Inc. and contributors",
    "streamline-emojis": "Streamline (streamlinehq.com)",
    "twemoji": "Copyright Twitter, Inc and other contributors",
}

# An artist's own name for a drawing, by the Unicode name it stands for. Where a set uses one word for the head
# and another for the animal ("dog" the head, "dogside" the animal), the join by name alone would mix the two.
ALIASES: dict[str, dict[str, str]] = {
    "fxemoji": {
        "automobile": "car", "backpack": "schoolsatchel", "camel": "dromedarycamel", "castle": "europeancastle",
        "cat": "catside", "catface": "cat", "dog": "dogside",
        "dogface": "dog", "dragon": "dragonside", "dragonface": "dragonhead", "earofcorn": "earofmaize",
        "eggplant": "aubergine", "evergreentree": "evergreen", "ewe": "sheep", "fallenleaf": "fallingleaf",
        "fishingpole": "fishingpoleandfish", "flashlight": "electrictorch", "floppydisk": "whitehardshellfloppy",
        "gemstone": "gem", "hamster": "hampster", "highheeledshoe": "heels", "highvoltage": "bolt",
        "hotpepper": "chilipepper", "hourglassdone": "hourglass", "house": "housebuilding",
        "kitchenknife": "hocho", "leopard": "leopardside", "locked": "lock", "locomotive": "steamlocomotive",
        "magnifyingglasstiltedleft": "leftmagnifyingglass", "mansshoe": "mensshoe", "mobilephone": "cellphone",
        "mouse": "mouseside", "mouseface": "mouse", "necktie": "tie",
        "panda": "pandaface", "pig": "pigside", "pigface": "pig", "pignose": "pigsnout", "pizza": "sliceofpizza",
        "purse": "pinkwallet", "rabbit": "bunnyside", "rabbitface": "bunny", "racingcar": "racecar",
        "redpaperlantern": "izakayalantern", "runningshoe": "mensrunner", "sake": "sakebottleandcup",
        "scissors": "blackscissors", "skis": "skiandskiboot", "spoutingwhale": "spurtingwhale", "sun": "sunrays",
        "telephone": "blacktelephone", "tennis": "tennisball", "tiger": "tigerside", "tigerface": "tiger",
        "tshirt": "mansshirt", "twohumpcamel": "bactriancamel", "umbrellaonground": "beachumbrella",
        "videocassette": "videocasette", "wolf": "wolfface", "womansboot": "boot", "womanssandal": "sandals",
        "wrappedgift": "present",
    },
    "streamline-emojis": {
        "bear": "bear-face", "frog": "frog-face", "hamster": "hamster-face", "panda": "panda-face",
        "wolf": "wolf-face", "backpack": "school-backpack", "wineglass": "red-wine-glass",
    },
}  # fmt: skip
GROUPS = {3: "nature", 4: "food", 5: "travel", 6: "activities", 7: "objects"}
# Near-identical by nature (phases of the moon, clock faces), abstract, or mostly writing.
EXCLUDED = re.compile(
    r"moon(?!viewing)|clock(?!work)|suit$|sunglasseson|^(currency|yen|dollar|pound|euro)|envelope|mailbox|email"
    r"|cardindex|page|flag|fog|sparkles$|construction|joker|mahjong|flowerplayingcards|arrow|musicalnote"
    r"|bellwithslash|mutedspeaker|speaker|skier|snowboarder|moneywithwings|lovehotel|oncoming"
)


def key(name: str) -> str:
    """The name by which sets are joined: letters and digits only, lower-case."""
    return re.sub("[^a-z0-9]", "", name.lower())


def fetch(cache: Path, package: str, version: str) -> Path:
    """The unpacked folder of one npm package in ``cache``, fetched by the npm client when it is not there yet."""
    folder = cache / f"{key(package)}-{version}"
    if not folder.exists():
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"], cwd=cache, check=True, capture_output=True, text=True
        )
        archive = cache / done.stdout.strip().splitlines()[-1]
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        archive.unlink()
    return folder / "package"


def icons_of(artist: str, collection: dict[str, Any]) -> dict[str, str]:
    """Joined name -> the set's own icon name; an icon before an alias, a plain name before a numbered variant."""
    found: dict[str, str] = {}
    icons = sorted(n for n, icon in collection["icons"].items() if not icon.get("hidden"))
    for name in icons + sorted(collection.get("aliases", {})):
        found.setdefault(key(name), name)
    for name in icons:
        if name.endswith("-1"):  # streamline draws some things twice and numbers the drawings
            found.setdefault(key(name[:-2]), name)
    own = {thing: name for thing, name in ALIASES.get(artist, {}).items() if name in collection["icons"]}
    return found | own


def svg_of(collection: dict[str, Any], name: str) -> str:
    """The SVG text of one icon of an Iconify collection; aliases are followed, their mirroring kept."""
    icon, flip = collection["icons"].get(name), ""
    left, top = 0.0, 0.0
    if icon is None:
        alias = collection["aliases"][name]
        icon = collection["icons"][alias["parent"]]
        if alias.get("hFlip"):
            flip = f'transform="translate({icon.get("width", collection.get("width", 16))} 0) scale(-1 1)"'
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", collection.get("width", 16))
    height = icon.get("height", collection.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}"><g {flip}>{icon["body"]}</g></svg>'
    )


def render(svg: str) -> np.ndarray:
    """One icon as RGBA uint8 (CELL, CELL, 4): cropped to what is drawn, fitted into the cell less a pixel of margin."""
    import resvg_py

    image = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=RENDER)))).convert("RGBA")
    alpha = np.asarray(image)[..., 3]
    rows, columns = np.flatnonzero((alpha > 16).any(1)), np.flatnonzero((alpha > 16).any(0))
    image = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    scale = (CELL - 2) / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(small, ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return np.asarray(cell)


def things_of(
    names: dict[str, dict[str, str]], english: list[dict[str, Any]], chinese: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What at least seven of the eight artists draw, in Unicode's own order, with its English and Chinese name."""
    counted = Counter(name for own in names.values() for name in own)
    zh = {entry["hexcode"]: entry["label"] for entry in chinese}
    things = []
    for entry in sorted(english, key=lambda e: e.get("order", 0)):
        name = key(entry["label"])
        concrete = entry.get("group") in GROUPS and not EXCLUDED.search(name)
        if concrete and counted[name] >= len(names) - 1 and entry["hexcode"] in zh:
            things.append({
                "name": name, "hexcode": entry["hexcode"], "group": GROUPS[entry["group"]],
                "en": entry["label"], "zh": zh[entry["hexcode"]],
                "artists": sorted(a for a in names if name in names[a]),
            })  # fmt: skip
    return things


def kinds_of(things: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The curated kinds of ``pack_kinds.tsv``; each must be a thing that all artists draw."""
    lines = (HERE / "pack_kinds.tsv").read_text(encoding="utf-8").splitlines()
    header = lines[0].split("\t")
    kinds = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:] if line.strip()]
    everyone = {thing["name"] for thing in things if len(thing["artists"]) == len(VERSIONS)}
    missing = sorted(kind["name"] for kind in kinds if kind["name"] not in everyone)
    if missing:
        raise SystemExit(f"pack_kinds.tsv: not drawn by all artists: {', '.join(missing)}")
    return kinds


def licences(artists: list[dict[str, Any]]) -> str:
    """LICENSES.md: who drew what, under which licence, what was changed."""
    lines = [
        "# Licences of the image pack", "",
        "The sprite sheets in this folder are derived from the icon sets below. Changes made to every image:",
        f"rendered from SVG, cropped to what is drawn, scaled to {CELL} pixels, packed into one WebP sheet an artist.",
        "Scenes composed from them (`rebus demo --write`) further scale, turn, recolour and combine the images.", "",
        "## NOTICE", "",
    ]  # fmt: skip
    for a in artists:
        lines.append(
            f"- `{a['name']}`: {a['title']} by {a['author']} <{a['url']}>, licence {a['licence']} "
            f"<{a['licence_url']}>; {COPYRIGHT[a['name']]}; npm package `@iconify-json/{a['name']}` {a['version']}; "
            "modified as said above."
        )
    lines += [
        f"- `index.json`: English and Chinese names from `emojibase-data` {NAMES_VERSION}, MIT, "
        "Copyright (c) 2017-2019 Miles Johnson; the names themselves come from Unicode CLDR (Unicode License v3).", "",
    ]  # fmt: skip
    lines += ["## Licence texts", "", "### MIT (fluent-emoji, fluent-emoji-flat, emojibase-data)", ""]
    lines += [MIT, "", "### CC-BY-4.0 (emojione, streamline-emojis, twemoji)", ""]
    lines += ["The full text: <https://creativecommons.org/licenses/by/4.0/legalcode>. No warranties are given.", ""]
    lines += ["### Apache-2.0 (fxemoji, noto, noto-v1)", ""]
    lines += ["The full text is in `APACHE-2.0.txt` beside this file.", ""]
    lines += ["### Unicode License v3 (the names)", "", UNICODE, ""]
    return "\n".join(lines)


MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


UNICODE = """COPYRIGHT AND PERMISSION NOTICE. Copyright (c) 1991-2025 Unicode, Inc.

NOTICE TO USER: Carefully read the following legal agreement. BY DOWNLOADING, INSTALLING, COPYING OR OTHERWISE USING
DATA FILES, AND/OR SOFTWARE, YOU UNEQUIVOCALLY ACCEPT, AND AGREE TO BE BOUND BY, ALL OF THE TERMS AND CONDITIONS OF THIS
AGREEMENT. IF YOU DO NOT AGREE, DO NOT DOWNLOAD, INSTALL, COPY, DISTRIBUTE OR USE THE DATA FILES OR SOFTWARE.

Permission is hereby granted, free of charge, to any person obtaining a copy of data files and any associated
documentation (the "Data Files") or software and any associated documentation (the "Software") to deal in the Data Files
or Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, and/or sell copies of the Data Files or Software, and to permit persons to whom the Data Files or Software
are furnished to do so, provided that either (a) this copyright and permission notice appear with all copies of the Data
Files or Software, or (b) this copyright and permission notice appear in associated Documentation.

THE DATA FILES AND SOFTWARE ARE PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT OF THIRD PARTY
RIGHTS.

IN NO EVENT SHALL THE COPYRIGHT HOLDER OR HOLDERS INCLUDED IN THIS NOTICE BE LIABLE FOR ANY CLAIM, OR ANY SPECIAL
INDIRECT OR CONSEQUENTIAL DAMAGES, OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THE DATA FILES OR SOFTWARE.

Except as contained in this notice, the name of a copyright holder shall not be used in advertising or otherwise to
promote the sale, use or other dealings in these Data Files or Software without prior written authorization of the
copyright holder."""


def main() -> None:
    """Fetch, join, render, pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="a folder outside the project for the npm packages")
    parser.add_argument("--out", type=Path, default=PACK, help="where the pack is written")
    parser.add_argument("--quality", type=int, default=72, help="WebP quality of the sheets, 1 to 100")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)

    sets: dict[str, dict[str, Any]] = {}
    artists: list[dict[str, Any]] = []
    for artist, version in VERSIONS.items():
        folder = fetch(options.cache, f"@iconify-json/{artist}", version)
        sets[artist] = json.loads((folder / "icons.json").read_text("utf-8"))
        info = sets[artist].get("info") or json.loads((folder / "info.json").read_text("utf-8"))
        artists.append({
            "name": artist, "version": version, "title": info["name"], "author": info["author"]["name"],
            "url": info["author"]["url"], "licence": info["license"]["spdx"], "licence_url": info["license"]["url"],
        })  # fmt: skip
    names = {artist: icons_of(artist, sets[artist]) for artist in VERSIONS}
    labels = fetch(options.cache, "emojibase-data", NAMES_VERSION)
    english, chinese = (json.loads((labels / lang / "data.json").read_text("utf-8")) for lang in ("en", "zh"))
    things = things_of(names, english, chinese)
    kinds = kinds_of(things)

    rows = -(-len(things) // COLUMNS)
    for about in artists:
        name = about["name"]
        sheet = np.zeros((rows * CELL, COLUMNS * CELL, 4), np.uint8)
        for i, thing in enumerate(things):
            if name in thing["artists"]:
                y, x = divmod(i, COLUMNS)
                own = names[name][thing["name"]]
                sheet[y * CELL : (y + 1) * CELL, x * CELL : (x + 1) * CELL] = render(svg_of(sets[name], own))
        path = options.out / f"{name}.webp"
        Image.fromarray(sheet).save(path, "WEBP", quality=options.quality, alpha_quality=70, method=6)
        about["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")
    index = {"cell": CELL, "columns": COLUMNS, "artists": artists, "kinds": kinds, "things": things}
    text = json.dumps(index, ensure_ascii=False, indent=0, separators=(",", ":"))
    (options.out / "index.json").write_text(text + "\n", encoding="utf-8")
    (options.out / "LICENSES.md").write_text(licences(artists), encoding="utf-8")
    total = sum(path.stat().st_size for path in options.out.iterdir() if path.is_file())
    print(f"{len(things)} things, {len(kinds)} kinds, {len(artists)} artists, {total / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()
