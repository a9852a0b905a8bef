"""What each process of test_gradcache.py runs: python contrast_script.py FOLDER. Writes the gradients of one step."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rebus.loop import parallel
from rebus.loop.gradcache import cached_backward
from rebus.models.batch import Batch, Inputs
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import Fusion, Image, Model, TaskSettings, Tower, Train
from rebus.tasks import Retrieve, Similar, Task, TextProcessor
from rebus.text.tokenizer import Tokenizer
from rebus.training.losses import cached_plan, summed_loss

ROWS = 8
TEXTS = [["a", "b", "c"], ["d"], ["e", "f"], ["g"], ["a"], ["h", "i"], ["j"], ["k", "l", "m"]]  # 10 and 7 in halves
CODEC = TextProcessor(Tokenizer.train(["a b c d e f g"], 300), max_length=8)


def batch_of(task: Task, values: dict[str, list[Any]], places: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 255, (ROWS, 3, 16, 16), generator=generator, dtype=torch.uint8)
    made = [task.items(values, [place], CODEC, (0, 0, place)) for place in places]
    owner = [place for place, items in enumerate(made) for _ in items]
    part = task.collate([item for items in made for item in items], owner)
    return Batch(len(places), {"image": Inputs.one_each(pixels=images[places])}, {task.name: part})


def step(kind: str, folder: Path) -> None:
    values: dict[str, list[Any]]
    if kind == "similar":
        values = {"anchor": list("abcdefgh"), "positive": list("ijklmnop"), "negative": [*"qr", None, *"stuvw"]}
        task: Task = Similar(TaskSettings(name="similar", columns={role: role for role in values}))
    else:
        values = {"image": [f"{place}.png" for place in range(ROWS)], "text": TEXTS}
        loss: Any = kind.partition("-")[0]
        task = Retrieve(TaskSettings(name="retrieve", columns={role: role for role in values}, loss=loss))
    tower = {"width": 16, "depth": 1, "heads": 2}
    settings = Model(
        image=Tower(kind="vit", patch=8, **tower), text=Tower(kind="encoder", **tower), fusion=Fusion(kind="none")
    )
    torch.manual_seed(0)
    heads = {task.name: task.head(CODEC)}
    model = VisionLanguageModel(settings, Image(size=16), heads, vocab_size=320, max_length=8)
    places = list(parallel.rank_slice(range(ROWS)))
    wrapped, tasks = parallel.wrapped(model, torch.device("cpu")), {task.name: task}
    if kind.endswith("cached"):
        cached = cached_plan(tasks, Train(batch_size=ROWS, grad_cache=2))
        assert cached is not None
        parts = [batch_of(task, values, places[at : at + 2]) for at in range(0, len(places), 2)]
        total, _ = cached_backward(
            model,
            wrapped,
            cached,
            parts,
            0.0,
            scope=lambda last: nullcontext() if last else parallel.without_averaging(wrapped),
            autocast=lambda: nullcontext(),
        )
    else:
        batch = batch_of(task, values, places)
        found, _ = summed_loss(tasks, wrapped(batch, [task.name]), batch)
        found.backward()
        total = found.detach()
    (mean,) = parallel.agreed([float(total) / parallel.world()])
    told = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    if parallel.is_first():
        save_file({**told, "loss": torch.tensor(mean)}, folder / f"{kind}.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.process_group(torch.device("cpu")):
        for each in ("softmax", "sigmoid", "similar", "softmax-cached"):
            step(each, Path(sys.argv[1]))
