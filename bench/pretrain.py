"""Pretraining side by side: nanoGPT's recipe, transformers' Llama with its Trainer, and Rebus.

    python bench/pretrain.py --data austen --minutes 5
    python bench/pretrain.py --data tang --minutes 5 --only rebus

One machine, one process, one after the other; the same tokenizer, the same shards, the same rows, the same shape and
the same held-out text (every document of the corpus's test split), scored by the same function. What each is:

nanogpt  transformers' GPT2LMHeadModel trained as nanoGPT does: AdamW (0.9, 0.95), decay 0.1 on matrices, clip 1,
         warm-up, cosine to a tenth, no dropout, bfloat16 autocast. Rate and batch are the best of short runs.
llama    transformers' LlamaForCausalLM with transformers' Trainer: bfloat16, fused AdamW (0.9, 0.95), decay 0.1,
         cosine, warm-up; rate and batch from a sweep likewise.
rebus    ``rebus.train(..., time_limit=MINUTES)`` as anybody would call it, and once more at half of the time.

Time is that of training: from the first step to the last, Rebus' validations and checkpoints included. Reported: tokens
a second at an equal shape and batch (the median of three turns), bits per byte of the held-out text at an equal wall
time, and whether Rebus needs at most half of the time that AdamW needs for the same loss.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from corpora import NAMES, corpus
from torch import Tensor, nn
from torch.nn import functional

import rebus
from rebus.data.corpus import PackedRows, Shards
from rebus.data.corpus.prepare import make_shards
from rebus.nn.feedforward import swiglu_hidden
from rebus.recipe import Recipe
from rebus.resolve.scaling import SHAPES, vocabulary_for
from rebus.text.tokenizer import Tokenizer

BLOCK = 256
SWEEP = {
    "nanogpt": [(8, 1e-3), (8, 2e-3), (8, 4e-3), (16, 2e-3), (16, 4e-3)],
    "llama": [(8, 1e-3), (8, 2e-3), (8, 4e-3), (16, 2e-3), (16, 4e-3)],
}
RIVALS = ("nanogpt", "llama")
WARM = 3  # steps of the Trainer before its speed is measured


@dataclass
class Setup:
    """What all three share."""

    root: Path
    shards: Shards
    tokenizer: Tokenizer
    cache: Path
    width: int
    depth: int
    size: str
    seed: int

    @property
    def heads(self) -> int:
        """Of 64 numbers each."""
        return self.width // 64

    @property
    def vocabulary(self) -> int:
        """Rows of the embeddings: a multiple of 64."""
        return -(-self.tokenizer.vocab_size // 64) * 64


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The training rows, in Rebus' order, epoch after epoch; labels (n,) follow the inputs (n,), padding is -100."""

    def __init__(self, setup: Setup, epochs: int = 64) -> None:
        self.rows, self.epochs = PackedRows(setup.shards, "train", BLOCK, "bestfit", setup.seed), epochs

    def __len__(self) -> int:
        return len(self.rows) * self.epochs

    def pair(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a row."""
        ids, _ = self.rows.row(*divmod(index, len(self.rows)))
        x, y = torch.zeros(BLOCK, dtype=torch.long), torch.full((BLOCK,), -100)
        x[: len(ids) - 1], y[: len(ids) - 1] = torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:])
        return x, y

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x, y = self.pair(index)
        labels = torch.cat([torch.tensor([-100]), y[:-1]])  # the library shifts by itself
        return {"input_ids": x, "labels": labels}


def gpt2(setup: Setup) -> nn.Module:
    """NanoGPT's architecture."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(setup.seed)
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), setup.tokenizer.eos_id)
    shape = {"n_positions": BLOCK, "n_embd": setup.width, "n_layer": setup.depth, "n_head": setup.heads}
    return GPT2LMHeadModel(GPT2Config(vocab_size=setup.vocabulary, **shape, **none, **ends))


def llama(setup: Setup) -> nn.Module:
    """Llama's, with Rebus' sizes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(setup.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=setup.vocabulary,
            hidden_size=setup.width,
            intermediate_size=swiglu_hidden(setup.width),
            num_hidden_layers=setup.depth,
            num_attention_heads=setup.heads,
            num_key_value_heads=setup.heads,
            max_position_embeddings=BLOCK,
            tie_word_embeddings=True,
        )
    )


def train_nanogpt(
    setup: Setup, rows: int, lr: float, seconds: float, steps: int | None = None
) -> tuple[nn.Module, float]:
    """NanoGPT's loop until the time is over (or for so many steps): the model, and tokens a second."""
    model, data = gpt2(setup), Rows(setup)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), fused=True)
    start, step = time.perf_counter(), 0
    while True:
        done = step / steps if steps else (time.perf_counter() - start) / seconds
        if done >= 1:
            break
        factor = min(done / 0.02, 1.0) if done < 0.02 else 0.1 + 0.45 * (1 + math.cos(math.pi * (done - 0.02) / 0.98))
        for group in optimizer.param_groups:
            group["lr"] = lr * max(factor, 1e-3)
        pairs = [data.pair(index) for index in range(step * rows, (step + 1) * rows)]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=x).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), y.flatten(), ignore_index=-100)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    return model, step * rows * BLOCK / (time.perf_counter() - start)


def train_llama(setup: Setup, rows: int, lr: float, seconds: float, steps: int) -> tuple[nn.Module, float]:
    """Transformers' Trainer for ``steps`` or until the time is over: the model, and tokens a second."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Clock(TrainerCallback):
        start = spent = warm = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            self.spent = time.perf_counter() - self.start
            if state.global_step == WARM:
                self.warm = self.spent
            control.should_training_stop = control.should_training_stop or self.spent >= seconds
            return control

    model, clock, folder = llama(setup), Clock(), setup.cache / "trainer"
    arguments = TrainingArguments(
        str(folder),
        per_device_train_batch_size=rows,
        max_steps=steps,
        learning_rate=lr,
        weight_decay=0.1,
        adam_beta2=0.95,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 50),
        bf16=True,
        use_cpu=True,
        optim="adamw_torch_fused",
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=setup.seed,
    )
    logging.getLogger("transformers").setLevel(logging.ERROR)
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(setup), callbacks=[clock])
    trainer.train()
    shutil.rmtree(folder, ignore_errors=True)
    done = trainer.state.global_step  # the first steps find memory, and would make the rest look slow
    counted, spent = (done - WARM, clock.spent - clock.warm) if done > 2 * WARM else (done, clock.spent)
    return model, counted * rows * BLOCK / spent


def train_rebus(setup: Setup, out: Path, minutes: float | None, **settings: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Rebus by its public door; the model is read back by transformers, so that all are scored by the same code."""
    from transformers import AutoModelForCausalLM

    shutil.rmtree(out, ignore_errors=True)
    words = {
        "corpus.cache": str(setup.shards.folder),
        "data.split.valid": 0.01,
        "text.vocab_size": setup.tokenizer.vocab_size,
        "model.size": setup.size,
        "model.text.width": setup.width,
        "model.text.depth": setup.depth,
        "corpus.block": BLOCK,
        "seed": setup.seed,
        **settings,
    }
    run = rebus.train(setup.root, task="lm", out=out, settings=words, time_limit=minutes, quiet=True)
    lines = [line for line in run.metrics() if line["kind"] == "train"]
    facts = {
        "tokens_per_second": statistics.median(line["tokens_per_second"] for line in lines[1:]),
        "share_of_peak": statistics.median(line["share_of_peak"] for line in lines[1:]),
        "steps": run.evaluation["training"]["steps"],
        "seconds": run.evaluation["training"]["seconds"],
        "batch_rows": run.recipe.train.batch_size,
        "rates": [run.recipe.train.muon_lr, run.recipe.train.lr],
        "valid": [
            {"seconds": line["seconds"], "bits_per_byte": line["metrics"]["lm/bits_per_byte"]}
            for line in run.metrics()
            if line["kind"] == "valid"
        ],
    }
    return AutoModelForCausalLM.from_pretrained(run.folder), facts


@torch.inference_mode()
def bits_per_byte(model: nn.Module, setup: Setup, most: int | None = None) -> float:
    """Of every held-out document: its tokens in windows of a row, each window given the token before it."""
    model.eval()
    documents, eos = setup.shards.documents("test"), setup.tokenizer.eos_id
    windows: list[list[int]] = []
    size = 0
    for number in range(len(documents)):
        if most is not None and len(windows) * BLOCK > most:
            break
        ids = documents[number][:-1].tolist()
        size += len(setup.tokenizer.decode(ids).encode())
        begun = [eos, *ids]
        windows += [begun[at : at + BLOCK + 1] for at in range(0, len(ids), BLOCK)]
    windows.sort(key=len)
    nats = 0.0
    for start in range(0, len(windows), 32):
        part = windows[start : start + 32]
        length = max(map(len, part)) - 1
        x, y = torch.zeros(len(part), length, dtype=torch.long), torch.full((len(part), length), -100)
        for row, window in enumerate(part):
            x[row, : len(window) - 1], y[row, : len(window) - 1] = torch.tensor(window[:-1]), torch.tensor(window[1:])
        logits = model(input_ids=x).logits
        nats += float(functional.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="sum"))
    return nats / math.log(2) / size


def prepare(name: str, cache: Path, size: str, vocabulary: int | None, seed: int) -> Setup:
    """The corpus as shards, with its tokenizer, made once."""
    root = corpus(name, cache)[0].parent
    text_bytes = sum(path.stat().st_size for path in root.rglob("*.jsonl"))
    pieces = vocabulary or vocabulary_for(text_bytes, size)  # type: ignore[arg-type]
    folder = cache / "shards" / f"{name}-{pieces}"
    recipe = Recipe().replace(
        {"data.path": str(root), "text.vocab_size": pieces, "data.split.valid": 0.01, "seed": seed}
    )
    make_shards(recipe, folder, log=print)
    width, depth = SHAPES[size]  # type: ignore[index]
    return Setup(root, Shards.open(folder), Tokenizer.load(folder), cache, width, depth, size, seed)


def turns(setup: Setup, rows: int, seconds: float, only: set[str]) -> dict[str, dict[str, float]]:
    """Tokens a second at an equal shape and batch, three turns one after the other."""
    found: dict[str, list[float]] = {name: [] for name in (*RIVALS, "rebus") if name in only}
    for _ in range(3):
        if "nanogpt" in found:
            found["nanogpt"].append(train_nanogpt(setup, rows, 1e-3, seconds)[1])
        if "llama" in found:
            found["llama"].append(train_llama(setup, rows, 1e-3, seconds, 100_000)[1])
        if "rebus" in found:
            settings = {"train.batch_size": rows, "train.accumulate": 1, "train.validate_every": 10**6}
            out = setup.cache / "runs" / "speed"
            found["rebus"].append(train_rebus(setup, out, seconds / 60, **settings)[1]["tokens_per_second"])
    return {name: {"median": statistics.median(told), "best": max(told)} for name, told in found.items()}


def best_of_sweep(name: str, setup: Setup, seconds: float) -> tuple[int, float, float]:
    """Rows, rate and tokens a second of the best of short runs."""
    told = []
    for rows, lr in SWEEP[name]:
        if name == "nanogpt":
            model, speed = train_nanogpt(setup, rows, lr, seconds)
        else:  # its schedule needs a number of steps
            probe = train_llama(setup, rows, lr, seconds / 4, 100_000)[1]
            model, speed = train_llama(setup, rows, lr, 2 * seconds, max(1, int(probe * seconds / rows / BLOCK)))
        loss = bits_per_byte(model, setup, 30_000)
        print(
            f"  {name}, {rows} rows, rate {lr:g}: {loss:.3f} bits per byte after {seconds:.0f} s, {speed:,.0f} tokens/s"
        )
        told.append((loss, rows, lr, speed))
    return min(told)[1:]


def main() -> None:
    """Run what is asked for, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=NAMES, default="austen")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", choices=(*RIVALS, "rebus"), action="append", help="may be repeated")
    parser.add_argument("--size", choices=tuple(SHAPES), default="micro")
    parser.add_argument("--vocabulary", type=int, help="default: by Rebus' rule")
    parser.add_argument("--rows", type=int, default=16, help="of a step, where speed is compared")
    parser.add_argument("--sweep-seconds", type=float, default=45.0)
    parser.add_argument("--speed-seconds", type=float, default=25.0)
    parser.add_argument("--skip", choices=("speed", "quality"), action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/rebus-bench").expanduser())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    only = set(args.only or (*RIVALS, "rebus"))
    setup = prepare(args.data, args.cache, args.size, args.vocabulary, args.seed)
    train, test = setup.shards.documents("train"), setup.shards.documents("test")
    print(f"{args.data}: {train.tokens:,} training tokens, {test.tokens:,} held out, vocabulary {setup.vocabulary}")
    print(f"shape: {setup.depth} layers of width {setup.width}; {torch.get_num_threads()} threads")
    found: dict[str, Any] = {
        "data": args.data,
        "minutes": args.minutes,
        "size": args.size,
        "vocabulary": setup.vocabulary,
    }
    if "speed" not in args.skip:
        found["tokens_per_second"] = turns(setup, args.rows, args.speed_seconds, only)
        for name, told in found["tokens_per_second"].items():
            print(f"  {name}: {told['median']:,.0f} tokens/s (best {told['best']:,.0f})")
    if "quality" not in args.skip:
        found["bits_per_byte"] = quality(setup, args.minutes, args.sweep_seconds, only)
    report(found)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def quality(setup: Setup, minutes: float, sweep: float, only: set[str]) -> dict[str, Any]:
    """Held-out bits per byte of each after the same time."""
    found: dict[str, Any] = {}
    trainers: dict[str, Callable[[int, float, float], tuple[nn.Module, float]]] = {
        "nanogpt": lambda rows, lr, speed: train_nanogpt(setup, rows, lr, 60 * minutes),
        "llama": lambda rows, lr, speed: train_llama(
            setup, rows, lr, 1.2 * 60 * minutes, int(speed * 60 * minutes / rows / BLOCK)
        ),
    }
    for name in (name for name in RIVALS if name in only):
        rows, lr, speed = best_of_sweep(name, setup, sweep)
        start = time.perf_counter()
        model, speed = trainers[name](rows, lr, speed)
        found[name] = {"rows": rows, "lr": lr, "tokens_per_second": speed, "seconds": time.perf_counter() - start}
        found[name]["bits_per_byte"] = bits_per_byte(model, setup)
        print(f"  {name}: {found[name]}")
    if "rebus" in only:
        for name, share in (("rebus", 1.0), ("rebus, half the time", 0.5)):
            out = setup.cache / "runs" / name.replace(", ", "-").replace(" ", "-")
            model, facts = train_rebus(setup, out, share * minutes)
            found[name] = {**facts, "bits_per_byte": bits_per_byte(model, setup)}
            print(f"  {name}: { ({key: value for key, value in found[name].items() if key != 'valid'}) }")
    return found


def report(found: dict[str, Any]) -> None:
    """The three targets."""
    speed = {name: told["median"] for name, told in found.get("tokens_per_second", {}).items()}
    loss = {name: told["bits_per_byte"] for name, told in found.get("bits_per_byte", {}).items()}
    print("\n| | tokens/s, equal shape | bits per byte |\n|---|---|---|")
    for name in dict.fromkeys([*speed, *loss]):
        rate = f"{speed[name]:,.0f}" if name in speed else ""
        print(f"| {name} | {rate} | {f'{loss[name]:.3f}' if name in loss else ''} |")
    if {"llama", "rebus"} <= set(speed):
        print(f"\ntokens/s over the Trainer: {speed['rebus'] / speed['llama']:.2f} (target 1.3)")
    rivals = [loss[name] for name in RIVALS if name in loss]
    if rivals and "rebus" in loss:
        print(f"bits per byte below the better rival: {min(rivals) - loss['rebus']:+.3f} (target 0.05)")
        half = loss["rebus, half the time"]
        print(f"in half the time: {half:.3f}, below the better rival at its end: {min(rivals) - half:+.3f} (target 0)")


if __name__ == "__main__":
    main()
