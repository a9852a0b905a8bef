"""What a bug report needs to know about a machine, and nothing that names its owner: no paths, no host names."""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rebus._version import __version__
from rebus.registry import PluginWarning, Registry, group, plugins, provider

CORE = (
    "torch",
    "tokenizers",
    "safetensors",
    "datasets",
    "pyarrow",
    "pillow",
    "numpy",
    "pydantic",
    "sacrebleu",
)
OPTIONAL = {
    "jieba": "zh",
    "datasketch": "corpus",
    "py3langid": "corpus",
    "llguidance": "guided",
    "gguf": "gguf",
    "openpyxl": "excel",
    "python-calamine": "excel",
    "huggingface-hub": "hub",
    "lm_eval": "lm_eval",
    "transformers": "dev",
}
SORTS = {  # what a plug-in may add: where its registry lies
    "task": "rebus.tasks:TASKS",
    "modality": "rebus.models.modalities:MODALITIES",
    "tower": "rebus.models.towers:TOWERS",
    "fusion": "rebus.models.fusion:FUSIONS",
    "head": "rebus.models.heads:HEADS",
    "reader": "rebus.text.readers:READERS",
    "family": "rebus.formats.family:FAMILIES",
    "method": "rebus.explain:METHODS",
    "scrubber": "rebus.data.corpus.cleaning.scrub:SCRUBBERS",
}


def examine() -> dict[str, dict[str, str]]:
    """Facts by title: versions, devices, machine and optional parts, all as text."""
    return {
        "rebus": _versions(),
        "devices": _devices(),
        "machine": _machine(Path.cwd()),
        "optional parts": {
            name: _version(name, f"not installed (pip install 'rebus-vlm[{extra}]')")
            for name, extra in OPTIONAL.items()
        },
        "plug-ins": {
            f"{sort} '{point.name}'": f"{provider(point)}, {point.value}" for sort in SORTS for point in plugins(sort)
        },
    }


def plugin_states() -> dict[str, dict[str, str]]:
    """Of each group of entry points, every name with its package and whether it works; broken ones with their error."""
    states = {}
    for sort, place in SORTS.items():
        module, name = place.split(":")
        registry: Registry[object] = getattr(import_module(module), name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PluginWarning)  # the report says it
            states[group(sort)] = registry.report()
    return states


def _versions() -> dict[str, str]:
    python = f"{platform.python_version()} ({platform.python_implementation()})"
    return {"version": __version__, "python": python, **{name: _version(name, "missing") for name in CORE}}


def _version(package: str, otherwise: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return otherwise


def _devices() -> dict[str, str]:
    try:
        import torch
    except (ImportError, OSError) as error:  # a broken install is what a doctor is asked about
        return {"torch": f"cannot be imported: {error}"}
    facts = {
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} cores",
        "cpu features": torch.backends.cpu.get_cpu_capability(),
        "bf16 on cpu": _cpu_bf16(),
        "writing on cpu": _fast_path(),
    }
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        facts[f"cuda:{index}"] = f"{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        facts["mps"] = "available"
    if not torch.cuda.device_count():
        facts["cuda"] = "none"
    return facts


def _cpu_bf16() -> str:
    """Whether this CPU multiplies bf16 in hardware, as far as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "not known"
    items = [name for name in ("avx512_bf16", "amx_bf16", "svebf16") if name in flags.split()]
    return ", ".join(items) or "emulated"


def _fast_path() -> str:
    """Whether texts are written by the compiled step, which needs a C compiler."""
    from rebus.generation.decoders.compiled import library

    return "compiled" if library() is not None else "PyTorch alone; with a C compiler on Linux about twice as fast"


def _machine(folder: Path) -> dict[str, str]:
    free = shutil.disk_usage(folder).free / 2**30
    facts = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "free disk here": f"{free:.1f} GiB",
    }
    try:
        facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        facts["memory"] = "not known"
    return facts
