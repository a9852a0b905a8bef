"""The fast path on a CPU: one token of a few texts through the decoder in compiled code (native.c beside this file).

It is compiled when it is first wanted, by the C compiler of the machine, in less than a second, and kept in the user's
cache folder. Where there is no compiler, or another system than Linux, ``fast`` gives what PyTorch alone can do
(``rebus.generation.prepared``). Weights are used where they lie, in float32 or bfloat16; what is between them is always
float32. Letters: R texts, L tokens, D width, H heads, G key-value heads, K size of a head, V vocabulary.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus.generation.prepared import Prepared
from rebus.generation.reading import Writer
from rebus.models.features import Features
from rebus.models.towers.decoder import Decoder, DecoderLayer
from rebus.nn.cache import Cache, KVCache
from rebus.nn.feedforward import MLP, SwiGLU
from rebus.nn.lora import folded
from rebus.nn.rotary import rotary_tables

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
FEW = 8  # texts up to which it is faster than a matrix product; measured
ACTS = {"swiglu": 0, "gelu": 1, "gelu_tanh": 2, "quick_gelu": 3, "relu": 4, "silu": 5}


def fast(decoder: Decoder) -> Writer:
    """The fastest writer there is for a decoder on this machine."""
    weight = decoder.embed_tokens.weight
    able = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
    code = library() if able else None
    return Prepared(decoder) if code is None else Native(decoder, code)


class Native:
    """A ``Writer`` over a decoder's own weights: steps of one token in compiled code, whole prompts in PyTorch.

    Args:
        decoder: on the CPU; stays as it is, and must not change.
        library: the compiled code.
    """

    def __init__(self, decoder: Decoder, library: Any) -> None:
        self._decoder, self._library, self._rest = decoder, library, Prepared(decoder)
        self.max_length, self.vocab_size, self.bounded = decoder.max_length, decoder.vocab_size, self._rest.bounded
        weight = decoder.embed_tokens.weight.detach()
        self.device, self.dtype, self._half = weight.device, weight.dtype, int(weight.dtype == torch.bfloat16)
        self._layers = [_Layer(layer, self._half) for layer in decoder.layers if isinstance(layer, DecoderLayer)]
        self._norm = _Norm(decoder.norm)
        self._head = (weight if decoder.lm_head is None else decoder.lm_head.weight.detach()).contiguous()
        self._cos = self._sin = torch.empty(0)

    def embed(self, input_ids: Tensor) -> Tensor:
        """(R, L) long -> (R, L, D)."""
        return self._rest.embed(input_ids)

    def new_cache(self, room: int = 64) -> Cache:
        """An empty cache."""
        return self._rest.new_cache(room)

    def forward_embeds(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        memory: Features | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """As ``Prepared.forward_embeds``; one token a text is given back in float32."""
        rows = x.shape[0]
        if x.shape[1] > 1 or rows > FEW or not isinstance(cache, KVCache):
            return self._rest.forward_embeds(x, positions, mask, memory, cache)
        flat = x[:, 0].float().contiguous()
        cos = sin = None
        if self._decoder.embed_positions is not None:
            flat = flat + F.embedding(positions[:, 0], self._decoder.embed_positions.weight).float()
        else:
            cos, sin = self._rotary(positions[:, 0])
        seen = None if mask is None else mask.view(rows, -1)
        work = torch.empty(rows * max(layer.work + layer.heads * (cache.length + 1) for layer in self._layers))
        threads = ctypes.c_int32(torch.get_num_threads())
        for index, layer in enumerate(self._layers):
            keys, values, at = cache[index].claim(rows, layer.groups, layer.size, self.dtype)
            self._library.rebus_layer(
                layer.address,
                rows,
                flat.data_ptr(),
                work.data_ptr(),
                keys.data_ptr(),
                values.data_ptr(),
                keys.shape[2],
                at,
                None if seen is None else seen.data_ptr(),
                0 if seen is None else seen.stride(0),
                None if cos is None else cos.data_ptr(),
                None if sin is None else sin.data_ptr(),
                threads,
            )
        out = torch.empty_like(flat)
        norm = self._norm
        self._library.rebus_norm(
            norm.kind, rows, flat.data_ptr(), out.data_ptr(), flat.shape[1], norm.scale, norm.shift, norm.eps
        )
        return out[:, None]

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, D) -> (R, V)."""
        rows = hidden.numel() // hidden.shape[-1]
        if rows > FEW:
            return self._rest.logits(hidden.to(self.dtype))
        hidden = hidden.float().contiguous()
        out, work = torch.empty(*hidden.shape[:-1], len(self._head)), torch.empty_like(hidden)
        width, threads = hidden.shape[-1], ctypes.c_int32(torch.get_num_threads())
        self._library.rebus_product(
            self._half,
            rows,
            hidden.data_ptr(),
            self._head.data_ptr(),
            len(self._head),
            width,
            out.data_ptr(),
            work.data_ptr(),
            threads,
        )
        return out

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (R, K/2), looked up in tables that grow as texts do."""
        if (last := int(positions.max())) >= len(self._cos):
            decoder = self._decoder
            every = torch.arange(max(2 * last, 256))[None]
            cos, sin = rotary_tables(every, decoder.head_dim, decoder.rope_theta, decoder.rope_scaling)
            self._cos, self._sin = cos[0, 0].contiguous(), sin[0, 0].contiguous()
        return self._cos[positions], self._sin[positions]


_FIELDS: list[tuple[str, Any]] = [
    *((name, ctypes.c_int64) for name in ("width", "heads", "groups", "size", "hidden", "norm", "act", "half")),
    ("eps", ctypes.c_double),
    *((name, ctypes.c_void_p) for name in ("wq", "wk", "wv", "wo", "wu", "wg", "wd")),
    *((name, ctypes.c_void_p) for name in ("bq", "bk", "bv", "bo", "bu", "bg", "bd")),
    *((name, ctypes.c_void_p) for name in ("n1", "n1b", "n2", "n2b", "qn", "kn")),
]


class _CLayer(ctypes.Structure):
    """``Layer`` of native.c."""

    _fields_ = _FIELDS


class _Layer:
    """One layer's sizes and the addresses of its weights; keeps what it points to."""

    def __init__(self, layer: DecoderLayer, half: int) -> None:
        attention = layer.self_attn
        self.heads, self.groups, self.size = attention.heads, attention.kv_heads, attention.head_dim
        self._kept: list[Any] = [*layer.parameters()]
        up, gate, down, act = _feedforward(layer.mlp)
        width, hidden, inside = attention.q_proj.in_features, up.out_features, attention.heads * attention.head_dim
        widest = max(width, inside)
        self.work = 2 * widest + inside + 2 * self.groups * self.size + 3 * hidden
        first, second = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self._kept += [first, second]
        linears = {
            "q": attention.q_proj,
            "k": attention.k_proj,
            "v": attention.v_proj,
            "o": attention.o_proj,
            "u": up,
            "g": gate,
            "d": down,
        }
        self._made = _CLayer(
            width=width,
            heads=attention.heads,
            groups=self.groups,
            size=self.size,
            hidden=hidden,
            norm=first.kind,
            act=act,
            half=half,
            eps=first.eps,
            n1=first.scale,
            n1b=first.shift,
            n2=second.scale,
            n2b=second.shift,
            qn=None if attention.q_norm is None else self._vector(attention.q_norm.weight),
            kn=None if attention.k_norm is None else self._vector(attention.k_norm.weight),
        )
        for name, linear in linears.items():
            if linear is not None:
                weight = folded(linear).detach().contiguous()
                self._kept.append(weight)
                setattr(self._made, f"w{name}", weight.data_ptr())
                setattr(self._made, f"b{name}", None if linear.bias is None else self._vector(linear.bias))
        self.address = ctypes.addressof(self._made)

    def _vector(self, tensor: Tensor) -> int:
        kept = tensor.detach().float().contiguous()
        self._kept.append(kept)
        return kept.data_ptr()


class _Norm:
    """A norm's kind, epsilon and the addresses of its scale and shift."""

    def __init__(self, module: Any) -> None:
        self.kind, self.eps = int(isinstance(module, nn.LayerNorm)), float(module.eps)
        vectors: tuple[Tensor | None, ...] = (module.weight, getattr(module, "bias", None))
        self._kept = [None if one is None else one.detach().float().contiguous() for one in vectors]
        self.scale, self.shift = (None if one is None else one.data_ptr() for one in self._kept)


def _feedforward(mlp: MLP | SwiGLU) -> tuple[nn.Linear, nn.Linear | None, nn.Linear, int]:
    if isinstance(mlp, SwiGLU):
        return mlp.up_proj, mlp.gate_proj, mlp.down_proj, ACTS["swiglu"]
    return mlp.fc1, None, mlp.fc2, ACTS[mlp.activation]


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled code; None where it cannot be made."""
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if platform.system() != "Linux" or compiler is None:
        return None
    words = [compiler, *FLAGS]
    made = hashlib.sha256(SOURCE.read_bytes() + repr((words, _processor())).encode()).hexdigest()[:20]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rebus"
    file = folder / f"native-{made}.so"
    try:
        if not file.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as beside:
                new = Path(beside) / "native.so"
                words += ["-o", str(new), str(SOURCE), "-lm"]
                subprocess.run(words, check=True, capture_output=True, timeout=120)  # noqa: S603 - our own source
                new.replace(file)
        return _declared(ctypes.CDLL(str(file)))
    except (OSError, subprocess.SubprocessError):
        return None


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of its functions' arguments."""
    pointer, whole, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    layer: list[Any] = [pointer, whole, *[pointer] * 4, whole, whole, pointer, whole, pointer, pointer, count]
    library.rebus_layer.argtypes = layer
    library.rebus_norm.argtypes = [whole, whole, pointer, pointer, whole, pointer, pointer, ctypes.c_double]
    library.rebus_product.argtypes = [whole, whole, pointer, pointer, whole, whole, pointer, pointer, count]
    for function in (library.rebus_layer, library.rebus_norm, library.rebus_product):
        function.restype = None
    return library


def _processor() -> str:
    """What the code is compiled for: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
