"""A storm of kills: tiny trainings are killed at random instants and resumed until they are finished.

    python tests/storm/kills.py SECONDS SEED [SETTING ...]

Each setting is trained twice without a kill; both must be equal to the last bit. Then it is trained again and again,
and each training is killed by SIGKILL: at a random moment, or just before or after a random file gets its name. After
each kill nothing of it may live, its lock is free, and what is there is whole or can be gone on from; at the end
weights and figures are those of the run that nothing happened to, evaluation, report and digests are there, and no
leftovers.

Torch is imported once; each training is a fork of a process that computes nothing itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 220), "white": (240, 240, 240)}
SMALL = {
    "image.size": 16,
    "text.vocab_size": 300,
    "text.max_length": 24,
    "model.image.width": 16,
    "model.image.depth": 1,
    "model.image.heads": 2,
    "model.image.patch": 8,
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "model.fusion.depth": 1,
    "model.fusion.heads": 2,
    "train.steps": 12,
    "train.batch_size": 6,
    "train.validate_every": 4,
    "train.save_every": 3,
    "report.explained": 0,
}
LANGUAGE = {
    "text.vocab_size": 300,
    "model.text.width": 16,
    "model.text.depth": 1,
    "model.text.heads": 2,
    "corpus.block": 32,
    "train.steps": 12,
    "train.batch_size": 4,
    "train.validate_every": 4,
    "train.save_every": 3,
}
SEES = {"image": "image"}


@dataclass
class Setting:
    """How a run is made: what ``rebus train`` is given, and of which of the storm's files."""

    data: str = "table.jsonl"
    task: dict[str, dict[str, str]] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)
    small: dict[str, Any] = field(default_factory=lambda: SMALL)
    given: dict[str, str] = field(default_factory=dict)  # base, vision, text: another setting's run

    def words(self, folder: Path) -> dict[str, Any]:
        """Arguments of ``rebus.train``."""
        columns = {
            f"tasks.{at}.columns.{role}": column
            for at, roles in enumerate(self.task.values())
            for role, column in roles.items()
        }
        settings = {
            **self.small,
            **({"data.kinds.tags": "labels"} if self.data == "table.jsonl" else {}),
            **columns,
            **self.change,
        }
        given = {name: folder / f"{other}-calm" for name, other in self.given.items()}
        return {"data": folder / self.data, "task": list(self.task) or None, "settings": settings, **given}


CLASSIFY = {"classify": {"text": "passage", "label": "colour"}}
SETTINGS = {
    "texts, Muon, precision auto": Setting(task=CLASSIFY, change={"train.precision": "auto"}),
    "texts, AdamW, fp32, two workers": Setting(
        task=CLASSIFY,
        change={"train.optimizer": "adamw", "train.precision": "fp32", "data.workers": 2, "train.accumulate": 2},
    ),
    "two tasks, bf16, averaged weights": Setting(
        task={
            "answer": {**SEES, "question": "question", "answer": "colour"},
            "caption": {**SEES, "caption": "caption"},
        },
        change={"train.precision": "bf16", "train.ema": 0.9, "image.augment.colour": 0.3, "train.keep": 1},
    ),
    "images, stopped early, two workers": Setting(
        task={"classify": {**SEES, "label": "colour"}},
        change={"train.patience": 2, "data.workers": 2, "image.augment.shift": 0.1, "train.steps": 24},
    ),
    "images in tars, two workers": Setting(
        "tars", {"classify": {**SEES, "label": "label"}}, {"data.workers": 2, "model.text.kind": "none"}
    ),
    "raw text, precision auto": Setting("texts.txt", {"lm": {}}, {"train.precision": "auto"}, LANGUAGE),
    "raw text with masks, shards by two workers": Setting(
        "texts.txt", {"mlm": {}}, {"data.workers": 2, "train.optimizer": "adamw"}, LANGUAGE
    ),
    "from a base, all of it": Setting(
        task=CLASSIFY, given={"base": "texts, Muon, precision auto"}, small={"train.steps": 12, "train.save_every": 3}
    ),
    "from a base, adapters": Setting(
        "turns.jsonl",
        {"generate": {"prompt": "prompt", "output": "output"}},
        {"train.tune": "lora"},
        {"train.steps": 12, "train.save_every": 3, "train.batch_size": 4, "report.explained": 0},
        {"base": "raw text, precision auto"},
    ),
    "two towers in stages": Setting(
        task={"caption": {**SEES, "caption": "caption"}},
        small={"train.steps": 12, "train.save_every": 3, "train.batch_size": 6, "report.explained": 0},
        given={"vision": "images, stopped early, two workers", "text": "raw text, precision auto"},
    ),
    "retrieval, gradient cache": Setting(
        task={"retrieve": {**SEES, "text": "caption"}},
        change={"train.grad_cache": 3, "model.text.kind": "encoder", "train.precision": "fp32"},
    ),
    "retrieval and matching": Setting(
        task={"retrieve": {**SEES, "text": "caption"}, "match": {**SEES, "text": "caption"}},
        change={"model.text.kind": "encoder", "model.fusion.kind": "cross"},
    ),
    "spans, SGD": Setting(
        task={"ner": {"tokens": "tokens", "tags": "marks"}}, change={"train.optimizer": "sgd", "train.lr": 0.1}
    ),
    "numbers and tags, a modality hidden": Setting(
        task={
            "regress": {**SEES, "text": "question", "target": "size"},
            "tag": {**SEES, "text": "question", "labels": "tags"},
        },
        change={"model.fusion.modality_dropout": 0.2, "train.schedule": "wsd", "seed": 3},
    ),
    "images alone, learned from themselves": Setting(
        task={"pretrain_image": SEES}, change={"model.text.kind": "none", "model.image.kind": "vit"}
    ),
}


def run(seconds: float, seed: int = 0, names: list[str] | None = None, lanes: int | None = None) -> str:
    """Kill trainings for a while, in as many lanes as there are processors; the line says how often.

    Raises:
        AssertionError: a training did not come to the end it should have come to.
    """
    if unknown := set(names or []) - set(SETTINGS):
        raise ValueError(f"no such setting: {min(unknown)}")
    lanes = lanes or min(2, os.cpu_count() or 1)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, str(Path(__file__).resolve()), str(seconds)]
    processes = [
        subprocess.Popen(
            [*command, str(seed * lanes + lane), f"{lane}/{lanes}", *(names or [])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for lane in range(lanes)
    ]
    kills = runs = 0
    touched: set[str] = set()
    failed = ""
    for process in processes:
        out, err = process.communicate()
        if process.returncode:
            failed = failed or (out + err)[-4000:]
            continue
        told = json.loads(out.splitlines()[-1])
        kills, runs, touched = kills + told["kills"], runs + told["runs"], touched | set(told["settings"])
    assert not failed, failed
    return f"kills: {kills} kills in {runs} trainings over {len(touched)} settings, all as if nothing had happened"


class Storm:
    """One lane: a folder of data, the references, and trainings that are killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.seconds: dict[str, float] = {}
        self.renames: dict[str, int] = {}
        self.kills = self.runs = 0

    def references(self, names: list[str]) -> None:
        """Of each setting two trainings that nothing happens to: equal, and closed.

        The second ones follow each other in one process, whose sets have another order.
        """
        told = self.folder / "told"
        for name in names:
            start = time.monotonic()
            status = wait(self.child(name, self.folder / f"{name}-calm", count=told))
            assert status == 0, f"{name}: status {status}\n{self.log()}"
            self.seconds[name] = time.monotonic() - start
            seen = json.loads(told.read_text(encoding="utf-8"))
            self.renames[name] = seen["renames"]
            for module in set(seen["modules"]) - set(sys.modules):  # what it imported is there for the next one
                if module.startswith(("rebus.", "torch.", "matplotlib.", "PIL.", "jinja2")):
                    with contextlib.suppress(Exception):
                        importlib.import_module(module)
        command = [sys.executable, str(Path(__file__).resolve()), "again", str(self.folder), *names]
        environment = os.environ | {"PYTHONHASHSEED": "12345"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        for name in names:
            first, second = (facts(self.folder / f"{name}-{kind}") for kind in ("calm", "again"))
            assert first == second, f"{name}: the same command twice gave {differing(first, second)}"
        self.runs += 2 * len(names)

    def storm(self, name: str, kills: int) -> None:
        """One training, killed so often at most, and resumed until it is finished."""
        out, hits = self.folder / "stormy", 0
        shutil.rmtree(out, ignore_errors=True)
        while True:
            share = self.rng.random() ** 2  # rather early: what goes on from a kill is shorter
            number = int(share * 2 * self.renames[name]) if self.rng.random() < 0.5 else None
            killing = hits < kills
            pid = self.child(name, out, kill_at=number if killing else None)
            if killing and number is None:
                wait(pid, share * self.seconds[name])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            status = wait(pid)
            if status == 0:
                break
            assert status == -signal.SIGKILL, f"{name}: status {status} after {hits} kills\n{self.log()}"
            hits += 1
            self.look(name, out, pid)
        self.kills, self.runs = self.kills + hits, self.runs + 1
        calm, stormy = facts(self.folder / f"{name}-calm"), facts(out)
        assert calm == stormy, f"{name}: after {hits} kills other {differing(calm, stormy)}"
        left = [str(path.relative_to(out)) for path in out.rglob(".*") if path.name != ".lock"]
        assert not left, f"{name}: left behind after {hits} kills: {left}"

    def look(self, name: str, out: Path, pid: int) -> None:
        """What holds at every instant: no process of it lives, its lock is free, what is there can be read."""
        from rebus.checkpoints.run_folder import Run
        from rebus.loop.lines import locked

        if out.exists():
            with locked(out):
                pass
        end = time.monotonic() + 5
        while (living := in_session(pid)) and time.monotonic() < end:
            time.sleep(0.02)
        assert not living, f"{name}: processes {living} live on"
        if (out / "recipe.yaml").exists():
            begun = Run.begun(out)
            assert begun.recipe.seed >= 0
            for path in out.glob("*.json"):
                json.loads(path.read_text(encoding="utf-8"))
            if begun.saved:
                Run.open(out)

    def child(self, name: str, out: Path, *, kill_at: int | None = None, count: Path | None = None) -> int:
        """A training in a process of its own, which resumes where there is something; its number."""
        pid = os.fork()
        if pid:
            _ended.pop(pid, None)  # numbers are used again
            return pid
        status = 1
        try:
            os.setsid()
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            seen = Renames(kill_at)
            from rebus import api

            if (out / "recipe.yaml").exists():
                api.resume(out, quiet=True)
            else:
                api.train(**SETTINGS[name].words(self.folder), out=out, quiet=True)
            if count is not None:
                count.write_text(json.dumps({"renames": seen.made, "modules": list(sys.modules)}), encoding="utf-8")
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def log(self) -> str:
        """The end of what the last training printed."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-3000:]


_ended: dict[int, int] = {}  # of this lane's children: how each ended


class Renames:
    """Counts how often a file gets its name; kills this process before (even) or after (odd) the one that is due."""

    def __init__(self, kill_at: int | None) -> None:
        self.made, self._at, self._replace = 0, kill_at, os.replace
        os.replace = self._counted

    def _counted(self, *arguments: Any, **more: Any) -> None:
        due = self._at is not None and self.made == self._at // 2
        if due and self._at is not None and self._at % 2 == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._replace(*arguments, **more)
        self.made += 1
        if due:
            os.kill(os.getpid(), signal.SIGKILL)


def wait(pid: int, seconds: float | None = None) -> int | None:
    """How a child ended (a signal is negative); None: it lives after these seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while pid not in _ended:
        done, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
        if done:
            _ended[pid] = os.waitstatus_to_exitcode(status)
        elif end is not None and time.monotonic() >= end:
            return None
        else:
            time.sleep(0.002)
    return _ended[pid]


def in_session(session: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, _, number = path.read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[:4]
            if int(number) == session and state != "Z":
                found.append(int(path.parent.name))
    return found


def facts(out: Path) -> dict[str, Any]:
    """What must be the same for two runs of one recipe; and that the run is closed."""
    from rebus.checkpoints.digests import verify_files
    from rebus.checkpoints.run_folder import Run

    run = Run(out)
    assert run.closed, f"{out.name} is not finished: it has {sorted(path.name for path in out.iterdir())}"
    checked = verify_files(out)
    assert checked.whole, f"{out.name}: {checked.differences}"
    found: dict[str, Any] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.safetensors"))
        if "checkpoints" not in path.parts
    }
    evaluation = run.evaluation
    found["tasks"], found["rows"] = untimed(evaluation["tasks"]), evaluation.get("rows")
    found["steps"] = evaluation["training"]["steps"]
    found["recipe"] = run.recipe.model_dump(mode="json")
    found["validations"] = [one["metrics"] for one in run.metrics() if one["kind"] == "valid"]
    return found


def untimed(value: Any) -> Any:
    """Figures without the seconds that they took."""
    return {key: untimed(one) for key, one in value.items() if key != "seconds"} if isinstance(value, dict) else value


def differing(first: dict[str, Any], second: dict[str, Any]) -> str:
    """The names of what is not the same."""
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name} ({str(first.get(name))[:80]} and {str(second.get(name))[:80]})" for name in names)


def write_data(folder: Path) -> None:
    """The storm's tables, texts and archives."""
    import numpy as np
    from PIL import Image

    rng, rows = np.random.default_rng(0), []
    with tarfile.open(folder / "part.tar", "w") as archive:
        for number in range(24):
            colour, side = list(COLOURS)[number % 4], int(rng.integers(4, 10))
            left, top = (int(x) for x in rng.integers(0, 16 - side, 2))
            array = np.full((16, 16, 3), 90, dtype=np.uint8)
            array[top : top + side, left : left + side] = COLOURS[colour]
            path = folder / f"{number:02d}.png"
            Image.fromarray(array).save(path)
            label = folder / f"{number:02d}.json"
            label.write_text(json.dumps({"label": colour}), encoding="utf-8")
            archive.add(path, path.name)
            archive.add(label, label.name)
            label.unlink()
            rows.append(
                {
                    "image": path.name,
                    "caption": f"a {colour} square, {side} wide",
                    "question": "What colour is it?",
                    "colour": colour,
                    "tags": [colour, "big" if side > 6 else "small"],
                    "size": side / 16,
                    "tokens": ["The", "square", str(number), "is", colour],
                    "marks": ["O", "B-shape", "O", "O", "B-colour"],
                    "passage": f"The square of row {number} is {colour}, its side is {side} dots.",
                    "split": "train" if number < 16 else "valid" if number < 20 else "test",
                }
            )
    (folder / "tars").mkdir()
    os.replace(folder / "part.tar", folder / "tars" / "part.tar")
    lines = [json.dumps(row) for row in rows]
    (folder / "table.jsonl").write_text("\n".join(lines), encoding="utf-8")
    turns = [json.dumps({"prompt": row["question"] + f" {n}", "output": row["caption"]}) for n, row in enumerate(rows)]
    (folder / "turns.jsonl").write_text("\n".join(turns), encoding="utf-8")
    texts = [
        f"{number}\nThe {colour} square saw the {other}."
        for number in range(60)
        for colour in COLOURS
        for other in "ab"
    ]
    (folder / "texts.txt").write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")


def again(folder: Path, names: list[str]) -> None:
    """Train some settings in this process."""
    from rebus import api

    for name in names:
        api.train(**SETTINGS[name].words(folder), out=folder / f"{name}-again", quiet=True)


def main() -> None:
    """One lane."""
    if sys.argv[1] == "again":
        again(Path(sys.argv[2]), sys.argv[3:])
        return
    seconds, seed, lane = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    number, lanes = (int(part) for part in lane.split("/"))
    mine = (sys.argv[4:] or list(SETTINGS))[number::lanes]
    end = time.monotonic() + seconds
    import matplotlib.pyplot  # noqa: F401 - imported once, for all forks
    import torch
    import torch.utils.tensorboard

    import rebus.api  # noqa: F401

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        write_data(folder)
        storm = Storm(folder, seed)
        needed = [other for name in mine for other in SETTINGS[name].given.values()]
        storm.references(list(dict.fromkeys([*needed, *mine])))
        at, killed = 0, set()
        while time.monotonic() < end or len(killed) < len(mine):
            name = mine[at % len(mine)]
            storm.storm(name, storm.rng.randint(2, 6))
            killed.add(name)
            at += 1
    print(json.dumps({"kills": storm.kills, "runs": storm.runs, "settings": sorted(killed)}))


if __name__ == "__main__":
    main()
