"""Run `rebus compare` on real tables whose answer needs an image and a text, and print what docs/LOG.md quotes.

    python bench/compare.py stamps --minutes 0.35 --folds 3     # Tux Paint: topic from image and masked caption
    python bench/compare.py scenes --minutes 1.2                # the demo's scenes: questions about images
    python bench/compare.py emoji --minutes 0.35 --folds 3      # Noto emoji: category from image and name

A comparison that was stopped goes on where it was by the same command. Times: 24 runs (8 strategies, 3 folds) of
`--minutes` each, and about a third as much again for tokenizers, predictions and checks.

stamps: tuxpaint-stamps-default (GPL-2+), fetched by apt-get. A caption such as "A mallard duck." names the thing, and
with it the topic; so its words are hidden behind "thing" where they stand in the image's own path (folders and file
name, singular or plural), and so is the last word of the first phrase, which is the noun in most captions ("An old
Chinese sailing ship." -> "An old Chinese thing thing."). It is a rule, no reading: words such as "letter" or "sign" may
still give the topic away, and the comparison counts that as what text alone is worth. Topics of fewer than 12 stamps
are left out. Stamps of one thing drawn in several ways (T_filled, T_outline) stay on one side of a split.
scenes: drawn by `rebus demo --write-data`'s own code; the test is by artists that training never saw.
emoji: emoji-datasource-google (MIT; images OFL), fetched by npm. The words of the category's own name are hidden.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # run as a file

import rebus
from rebus.jsonl import json_lines

FEWEST = 12  # rows of a class
END = re.compile(r"[.,;:!?()]| (?:of|in|on|with|at|from|for|to|and|or|that|which|by|is|are) ")
STYLES = {"filled", "outline", "outlined", "cartoon", "sketch", "photo", "upper", "lower", "uppercase", "lowercase"}
SMALL: dict[str, Any] = {
    "image.size": 64,
    "model.image.patch": 8,
    "model.image.depth": 1,
    "model.image.width": 96,
    "model.image.dropout": 0.1,
    "model.text.width": 96,
    "model.text.depth": 2,
    "model.fusion.dropout": 0.2,
    "image.augment.shift": 0.1,
    "image.augment.scale": 0.2,
    "image.augment.colour": 0.3,
}


def masked(caption: str, path: Path) -> str:
    """A caption without the words of the image's path and without the noun of its first phrase."""
    named = {stem(word) for word in re.findall(r"[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", str(path)).lower())}
    first = END.split(caption + " ", maxsplit=1)[0].split()
    noun = len(first) - 1
    shown = []
    for place, word in enumerate(caption.split()):
        plain = stem(re.sub(r"[^a-z]", "", word.lower()))
        hidden = place == noun or (len(plain) > 0 and plain in named and plain not in ("a", "the"))
        shown.append(re.sub(r"[\w'’-]+", "thing", word, count=1) if hidden else word)
    return " ".join(shown)


def thing(path: Path) -> str:
    """What a stamp is of, whichever way it is drawn: its file name without numbers and words of style."""
    words = re.findall(r"[A-Za-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", path.stem))
    plain = [word.lower() for word in words]
    return " ".join(word for word in plain if word not in STYLES) or path.stem


def stem(word: str) -> str:
    """A word without its plural."""
    return word[:-2] if word.endswith(("ses", "xes", "hes", "oes")) else word[:-1] if word.endswith("s") else word


def kept(rows: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    """Rows of classes that are large enough."""
    count = Counter(row[label] for row in rows)
    left = [row for row in rows if count[row[label]] >= FEWEST]
    print(f"{len(left)} of {len(rows)} rows, {len({row[label] for row in left})} classes of at least {FEWEST}")
    return left


def written(rows: list[dict[str, Any]], table: Path) -> Path:
    """A table as JSON Lines."""
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return table


def stamps(cache: Path) -> tuple[Path, str, dict[str, Any]]:
    """Topic of a stamp from its image and its masked caption."""
    from real import stamps_table

    rows = []
    for line in stamps_table(cache).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        path = Path(row["image"].split("/stamps/")[-1])
        text = masked(row["caption"], path.with_suffix(""))
        rows.append({"image": row["image"], "text": text, "topic": row["topic"], "thing": thing(path)})
    for row in rows[:: len(rows) // 8]:
        print("   ", row["topic"], "|", row["text"])
    columns = {"image": "image", "text": "text", "label": "topic"}
    table = written(kept(rows, "topic"), cache / "stamps-masked.jsonl")
    kinds = {"text": "text", "topic": "category", "thing": "ignore"}
    settings = {"tasks": [{"name": "classify", "columns": columns}], "data.kinds": kinds, "data.split.group": "thing"}
    return table, "classify", SMALL | settings


def scenes(cache: Path, train: int, test: int) -> tuple[Path, str, dict[str, Any]]:
    """Questions about scenes, seven types; the answer needs both the question and the image."""
    from rebus.data.demo.write import write_scenes

    folder = write_scenes(cache / f"scenes-{train}-{test}", train=train, test_scenes=test, size=64)
    names = ("question", "answer", "type", "split")
    rows = [json.loads(line) for _, line in json_lines((folder / "answer.jsonl").read_text(encoding="utf-8"))]
    rows = [
        {"image": str(folder / row["image"]), **{name: row[name] for name in names}}
        for row in rows
        if row["split"] == "train" or (row["split"] == "test" and not row["seen"])
    ]
    counted = Counter(row["split"] for row in rows)
    print(f"scenes: {dict(counted)} questions of {len({row['type'] for row in rows})} types")
    columns = {"image": "image", "question": "question", "answer": "answer", "type": "type"}
    settings = {"tasks": [{"name": "answer", "columns": columns, "max_new_tokens": 8}]}
    return written(rows, folder / "compare.jsonl"), "answer", SMALL | settings | {"text.vocab_size": 1500}


def emoji(cache: Path) -> tuple[Path, str, dict[str, Any]]:
    """Category of an emoji from its image and its name."""
    package, folder = "emoji-datasource-google", cache / "emoji"
    if not folder.is_dir():
        if shutil.which("npm") is None:
            sys.exit(f"{package} is fetched with npm, and there is none here")
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=cache, check=True, capture_output=True, text=True
        )
        with tarfile.open(cache / done.stdout.split()[-1]) as packed:
            wanted = [one for one in packed if "/img/google/64/" in one.name or one.name.endswith("package/emoji.json")]
            packed.extractall(folder, wanted, filter="data")
    rows = []
    for entry in json.loads((folder / "package" / "emoji.json").read_text(encoding="utf-8")):
        image = folder / "package" / "img" / "google" / "64" / entry["image"]
        if image.exists() and entry["category"] != "Component":
            named = {stem(word) for word in re.findall(r"[a-z]+", entry["category"].lower())}
            words = str(entry["name"] or entry["short_name"]).lower().split()
            text = " ".join("thing" if stem(word) in named else word for word in words)
            rows.append({"image": str(image), "text": text, "category": entry["category"]})
    columns = {"image": "image", "text": "text", "label": "category"}
    table = written(kept(rows, "category"), cache / "emoji.jsonl")
    kinds = {"text": "text", "category": "category"}
    return table, "classify", SMALL | {"tasks": [{"name": "classify", "columns": columns}], "data.kinds": kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stamps", "scenes", "emoji"))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rebus-bench")
    parser.add_argument("--out", type=Path, help="the comparison's folder; in the cache unless said")
    parser.add_argument("--minutes", type=float, default=0.35, help="of each training")
    parser.add_argument("--folds", type=int, help="parts the rows are dealt to; scenes: the table's own test rows")
    parser.add_argument("--only", nargs="*", default=(), help="strategies")
    parser.add_argument("--set", dest="sets", nargs="*", default=(), metavar="KEY=VALUE", help="other settings")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    parser.add_argument("--train", type=int, default=3000, help="scenes: training scenes")
    parser.add_argument("--test", type=int, default=60, help="scenes: test scenes")
    said = parser.parse_args()
    cache = said.cache.resolve()
    made = {"stamps": stamps, "emoji": emoji}
    table, task, settings = scenes(cache, said.train, said.test) if said.what == "scenes" else made[said.what](cache)
    settings |= dict(word.split("=", 1) for word in said.sets)
    found = rebus.compare(
        table,
        task=task,
        out=said.out or cache / f"compare-{said.what}",
        settings=settings,
        folds=said.folds,
        only=said.only,
        minutes=said.minutes,
        lang=said.lang,
    )
    print((found.folder / "compare.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
