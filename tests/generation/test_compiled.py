"""The compiled path against the decoder itself, and what happens where it cannot be compiled."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rebus import cache
from rebus.generation.decoders import EagerDecoder, fast
from rebus.generation.decoders import compiled as native
from rebus.generation.decoders.compiled import CompiledDecoder
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.engine import Engine
from rebus.generation.sampling import Sampling
from rebus.models.towers.decoder import Decoder

Make = Callable[..., Decoder]
COMPILES = platform.system() == "Linux" and shutil.which("cc") is not None


@pytest.fixture
def forgotten() -> Iterator[None]:
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@pytest.mark.skipif(not COMPILES, reason="no C compiler")
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"kind": "qwen3", "width": 40, "heads": 5, "kv_heads": 5, "head_dim": 6, "hidden": 37},
        {"kind": "gpt2", "width": 36, "heads": 6, "hidden": 70, "activation": "gelu"},
        {"kind": "gpt2", "activation": "relu"},
        {"kind": "gpt2", "activation": "quick_gelu"},
        {"kind": "gpt2", "activation": "silu"},
        {"width": 160, "heads": 2, "kv_heads": 1, "head_dim": 80, "hidden": 200},
    ],
)
def test_compiled_steps_equal_the_decoder(rows: int, odd: dict[str, Any], decoder_of: Make) -> None:
    decoder = decoder_of(**{"kind": "llama", **odd})
    made = fast(decoder)
    assert isinstance(made, CompiledDecoder)
    rng = torch.Generator().manual_seed(rows)
    lengths = torch.randint(1, 9, (rows,), generator=rng).tolist()
    prompts = [torch.randint(2, 60, (length,), generator=rng).tolist() for length in lengths]
    sampling = Sampling(12, alternatives=3)
    told, known = (Engine(writer, []).write(prompts, sampling) for writer in (made, EagerDecoder(decoder)))
    assert [text.ids for text in told] == [text.ids for text in known]
    for text, other in zip(told, known, strict=True):
        assert [token.logprob for token in text.tokens] == pytest.approx(
            [token.logprob for token in other.tokens], abs=2e-4
        )


@pytest.mark.skipif(not COMPILES, reason="no C compiler")
@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "llama", "width": 48, "heads": 3, "kv_heads": 1, "head_dim": 32, "hidden": 8},  # heads wider than all
        {"kind": "llama", "width": 16, "heads": 2, "kv_heads": 2, "head_dim": 4, "hidden": 200},  # hidden wider
        {"kind": "qwen3", "width": 160, "heads": 2, "kv_heads": 1, "head_dim": 6, "hidden": 37},  # the stream wider
        {"kind": "gpt2", "width": 36, "heads": 6, "hidden": 70},
    ],
)
def test_nothing_is_written_beside_the_memory_it_is_given(
    rows: int, half: bool, odd: dict[str, Any], decoder_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every buffer that the compiled code is given stands between two stretches that must stay as they are."""
    decoder = decoder_of(**odd)
    made = fast(decoder.bfloat16() if half else decoder)
    assert isinstance(made, CompiledDecoder)
    wholes, plain = [], torch.empty

    def guarded(*shape: Any, **options: Any) -> torch.Tensor:
        sizes = shape[0] if shape and isinstance(shape[0], (tuple, list, torch.Size)) else shape
        count = torch.Size(sizes).numel()
        if options or not count:
            return plain(*shape, **options)
        whole = torch.full((count + 128,), -7.25)
        wholes.append(whole)
        return whole[64:-64].view(sizes)

    prompts = [[4, 5, 6, 7][: 1 + row % 4] for row in range(rows)]
    monkeypatch.setattr(native.torch, "empty", guarded)
    Engine(made, []).write(prompts, Sampling(20))
    monkeypatch.undo()
    assert len(wholes) > 20
    for whole in wholes:
        assert bool((whole[:64] == -7.25).all())
        assert bool((whole[-64:] == -7.25).all())


@pytest.mark.skipif(not COMPILES, reason="no C compiler")
@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_threads_change_nothing(kind: str, decoder_of: Make) -> None:
    engine, before = Engine(fast(decoder_of(kind)), []), torch.get_num_threads()
    told = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            told.append(engine.write([[4, 5, 6], [9], [8, 7]], Sampling(16)))
    finally:
        torch.set_num_threads(before)
    assert [text.tokens for text in told[0]] == [text.tokens for text in told[1]] == [text.tokens for text in told[2]]


@pytest.mark.skipif(not COMPILES, reason="no C compiler")
def test_large_scores_do_not_overflow(decoder_of: Make) -> None:
    decoder = decoder_of()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "gate_proj.weight")):
                parameter *= 40
    told, known = (
        Engine(writer, []).write([[4, 5, 6], [9]], Sampling(20))[0] for writer in (fast(decoder), EagerDecoder(decoder))
    )
    assert told.ids == known.ids
    assert told.logprob == pytest.approx(known.logprob, abs=1e-3)


@pytest.mark.skipif(not COMPILES, reason="no C compiler")
def test_it_is_compiled_once_and_kept(
    forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder_of: Make
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert isinstance(fast(decoder_of()), CompiledDecoder)
    file, digest = sorted((tmp_path / "rebus").iterdir())
    assert (tmp_path / "rebus").stat().st_mode & 0o077 == 0
    native.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)  # must not be needed again
    assert isinstance(fast(decoder_of()), CompiledDecoder)
    assert sorted((tmp_path / "rebus").iterdir()) == [file, digest]


@pytest.mark.parametrize("harm", ["cut", "flip", "no digest", "writable by others", "folder of all"])
def test_what_is_not_as_it_was_compiled_is_not_loaded(
    forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    content, made = b"\x7fELF" + bytes(8192), []

    def compiled(words: object, new: Path) -> None:
        made.append(new)
        new.write_bytes(content)

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/cc")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(native, "_compile", compiled)
    monkeypatch.setattr(native, "_declared", lambda library: library)
    monkeypatch.setattr(native.ctypes, "CDLL", lambda path: Path(path).read_bytes())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.library() == content
    (file,) = (tmp_path / "rebus").glob("*.so")
    if harm == "cut":
        os.truncate(file, 4096)  # mapped so, a read beyond its end would kill the process
    elif harm == "flip":
        file.write_bytes(content[:-1] + b"\1")
    elif harm == "no digest":
        cache.digest_file(file).unlink()
    elif harm == "writable by others":
        file.chmod(0o666)
    else:
        file.parent.chmod(0o777)
    native.library.cache_clear()
    assert native.library() == content
    assert len(made) == 2
    private = harm == "folder of all"
    assert (made[-1].parent == tmp_path / "rebus") is not private
    assert private or (file.read_bytes() == content and cache.trusted(file) and cache.whole(file))


def test_without_a_compiler_it_is_pytorch(forgotten: None, monkeypatch: pytest.MonkeyPatch, decoder_of: Make) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert type(fast(decoder_of())) is PackedDecoder


def test_a_compiler_that_fails_is_no_error(
    forgotten: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder_of: Make
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    assert type(fast(decoder_of())) is PackedDecoder
    (tmp_path / "rebus").rmdir()
    tmp_path.chmod(0o700)
    (tmp_path / "rebus").write_text("not a folder")
    native.library.cache_clear()
    assert type(fast(decoder_of())) is PackedDecoder


def test_other_types_are_left_to_pytorch(decoder_of: Make) -> None:
    decoder = decoder_of().double()
    made = fast(decoder)
    assert type(made) is PackedDecoder
    told, known = (Engine(writer, []).write([[4, 5, 6], [9]], Sampling(9)) for writer in (made, EagerDecoder(decoder)))
    assert [text.ids for text in told] == [text.ids for text in known]
