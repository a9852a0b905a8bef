"""What the folders above each file say: its split and its label, and which files belong to neither.

A folder is a split only with evidence: ``train`` beside ``test`` or ``valid``, at the same depth, and names that are
otherwise alike (``seg_train`` and ``seg_test``, ``train2017`` and ``val2017``). A class may be called ``train``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rebus.data.names import split_word
from rebus.data.unused import Unused
from rebus.errors import DataError

_WORDS = re.compile(r"[^\W\d_]+")
_ALL_IMAGES = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "input", "inputs", "raw", "original")
)
_OTHER_IMAGES = frozenset(
    ("masks", "mask", "annotations", "annotation", "ground_truth", "groundtruth", "gt", "labels", "segmentation")
)
_DEEPEST = 4  # folders above a file in which a split is looked for


@dataclass
class Layout:
    """The files that belong to the table, with what their folders say.

    Attributes:
        files: relative paths.
        splits: the split of each; None: the folders name no splits.
        labels: the topmost folder that is no split; None: there is none.
        folders: all folders that are no split, joined by ``/``; None where no file has more than one.
        unused: files that belong to no split or to no class.
        warnings: readings that are not certain.
    """

    files: list[Path]
    splits: list[str] | None = None
    labels: list[str | None] | None = None
    folders: list[str] | None = None
    unused: Unused = field(default_factory=Unused)
    warnings: list[str] = field(default_factory=list)

    def columns(self) -> dict[str, list[str] | list[str | None]]:
        """The columns ``label``, ``folder`` and ``split``, those that there are."""
        entries = {"label": self.labels, "folder": self.folders, "split": self.splits}
        return {name: list(values) for name, values in entries.items() if values is not None}


def layout_of(folder: Path, files: list[Path], what: str) -> Layout:
    """Look at the folders above files.

    Args:
        folder: the topmost one, for messages.
        files: relative paths.
        what: what the files are, for messages: ``images`` or ``texts``.

    Raises:
        DataError: folders can be read both as splits and as classes.
    """
    layout = Layout(files)
    parts = [path.parts[:-1] for path in files]
    depth = _split_depth(folder, parts, what)
    if depth is not None:
        items = [_split_of(names[depth]) if len(names) > depth else None for names in parts]
        outside = [path for path, split in zip(files, items, strict=True) if split is None]
        if outside:
            names = sorted({path.parent.as_posix() for path in outside})
            shown = ", ".join(f"'{name}'" if name != "." else "the top folder" for name in names[:3])
            more = ", ..." if len(names) > 3 else ""
            place = f"{folder.name}/{outside[0].as_posix()}"
            layout.unused.add(f"{what} outside the split folders (in {shown}{more})", place, len(outside))
        kept = [(path, split) for path, split in zip(files, items, strict=True) if split is not None]
        layout.files, layout.splits = [path for path, _ in kept], [split for _, split in kept]
        parts = [_without_split(path.parts[:-1], split) for path, split in kept]
    parts = _without_common(parts)
    labels = [names[0] if names else None for names in parts]
    if any(labels):
        keep = _kept(labels, layout.splits)
        _leave_out(folder, layout, keep, what)
        parts = [names for names, wanted in zip(parts, keep, strict=True) if wanted]
        layout.labels = [names[0] if names else None for names in parts]
        odd = sorted({label for label in layout.labels if label and split_word(label)})
        if odd:
            layout.warnings.append(
                f"the folders {', '.join(odd)} are taken for classes, not for splits, as train and test (or valid) do "
                f"not stand side by side; if they are splits, name them train, valid and test"
            )
        _refuse_masks(folder, set(layout.labels), what)
        _warn_of_levels(folder, layout, parts, what)
    if any(len(names) > 1 for names in parts):
        layout.folders = ["/".join(names) for names in parts]
    return layout


def _refuse_masks(folder: Path, labels: set[str | None], what: str) -> None:
    """Refuse images beside their masks or their parts (``images``, ``masks``), which are no classes."""
    tidied = {label.casefold() for label in labels if label}
    beside = tidied & _OTHER_IMAGES
    if beside and tidied <= _OTHER_IMAGES | _ALL_IMAGES:
        raise DataError(
            folder,
            f"folders of {what} that are classes",
            f"{', '.join(sorted(label for label in labels if label))}: {what} and what belongs to them, no classes",
            f"name the folder that holds the {what}, or write a table with the columns image and label",
        )


def _warn_of_levels(folder: Path, layout: Layout, parts: list[tuple[str, ...]], what: str) -> None:
    """Folders in folders: a class is the upper one, unless the lower ones come back under each, as classes do."""
    below = {upper: names for upper, names in _below([names for names in parts if names], 0).items() if names}
    lower = set().union(*below.values()) if below else set()
    if not lower or len(below) < len({names[0] for names in parts if names}):
        return
    upper = ", ".join(sorted(below)[:3])
    shown = ", ".join(sorted(lower)[:3])
    if len(below) > 1 and len(lower) > 1 and all(names == lower for names in below.values()):
        raise DataError(
            folder,
            f"folders of {what} of which one level is plainly the classes",
            f"the same folders ({shown}) in each of {upper}: either may be the classes",
            "put the classes on top, or write a table with the columns image and label",
        )
    layout.warnings.append(
        f"classes are the upper folders ({upper}); for the folders in them ({shown}) as well: "
        "--kind folder=category --task classify --set tasks.0.columns.label=folder"
    )


def _leave_out(folder: Path, layout: Layout, keep: list[bool], what: str) -> None:
    """Leave out the files beside the class folders, and count them."""
    outside = [path for path, wanted in zip(layout.files, keep, strict=True) if not wanted]
    if not outside:
        return
    layout.unused.add(f"{what} beside the class folders", f"{folder.name}/{outside[0].as_posix()}", len(outside))
    layout.files = [path for path, wanted in zip(layout.files, keep, strict=True) if wanted]
    if layout.splits is not None:
        layout.splits = [split for split, wanted in zip(layout.splits, keep, strict=True) if wanted]


def _kept(labels: list[str | None], splits: list[str] | None) -> list[bool]:
    """Which files belong to the table: all, unless most lie in a class folder; a held-out split may have no classes."""
    if 2 * labels.count(None) >= len(labels):
        return [True] * len(labels)
    return [label is not None or bool(splits and splits[at] != "train") for at, label in enumerate(labels)]


def _split_depth(folder: Path, parts: list[tuple[str, ...]], what: str) -> int | None:
    """At which depth folders are splits; None: they are not."""
    for depth in range(_DEEPEST):
        counts = Counter(names[depth] for names in parts if len(names) > depth)
        splits = {name: split for name in counts if (split := _split_of(name)) is not None}
        if not splits:
            continue
        if len(splits) == len(counts) and sum(counts.values()) == len(parts) and _agree(splits):
            return depth
        if not _has_held_out(splits.values()):
            if _holds_all_classes(parts, depth, splits):
                return depth
            continue
        inside = sum(counts[name] for name in splits)
        below = _below(parts, depth)
        shared = any(
            below[item] & below[other]
            for item in splits
            for other in splits
            if splits[item] == "train" and splits[other] != "train"
        )
        alike = _agree(splits)
        if shared or (alike and 2 * inside > len(parts)):
            return depth
        if not alike:
            continue
        others = sorted(set(counts) - set(splits))
        raise DataError(
            folder,
            f"folders of {what} that are all splits (train, valid, test) or all classes",
            f"{', '.join(sorted(splits))} beside {', '.join(others[:4]) or 'other files'}, which may be either",
            "move the folders that are no splits elsewhere, or write a table with the columns image, label and split",
        )
    return None


def _holds_all_classes(parts: list[tuple[str, ...]], depth: int, splits: dict[str, str]) -> bool:
    """Whether a lone ``train`` holds folders and those beside it hold none: ``train/cat``, ``train/dog``, ``new``."""
    below = _below(parts, depth)
    others = [names for name, names in below.items() if name not in splits]
    single = all(split == "train" for split in splits.values())
    return single and all(len(below[name]) > 1 for name in splits) and not any(others)


def _below(parts: list[tuple[str, ...]], depth: int) -> dict[str, set[str]]:
    """For each folder at a depth, the names of the folders in it."""
    result: dict[str, set[str]] = {}
    for names in parts:
        if len(names) > depth:
            result.setdefault(names[depth], set()).update(names[depth + 1 : depth + 2])
    return result


def _split_of(name: str) -> str | None:
    """The split that a folder's name says, as a whole or by one of its words."""
    words = [split for word in _WORDS.findall(name) if (split := split_word(word)) is not None]
    return split_word(name) or (words[0] if len(set(words)) == 1 else None)


def _agree(splits: dict[str, str]) -> bool:
    """Whether names are alike but for the split: ``seg_train``, ``seg_test``; not ``train_station``, ``test_tube``."""
    rests = {tuple(sorted(word.casefold() for word in _WORDS.findall(name) if not split_word(word))) for name in splits}
    return len(rests) == 1


def _has_held_out(splits: Iterable[str]) -> bool:
    result = set(splits)
    return "train" in result and len(result) > 1


def _without_split(names: tuple[str, ...], split: str) -> tuple[str, ...]:
    return tuple(name for name in names if _split_of(name) != split)


def _without_common(parts: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without a topmost folder that holds everything and has folders below: it is no class."""
    while len({names[:1] for names in parts}) == 1 and all(len(names) > 1 for names in parts):
        parts = [names[1:] for names in parts]
    return parts
