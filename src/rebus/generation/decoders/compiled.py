"""The fast path on a CPU: tokens of texts through the decoder in compiled code (native.c beside this file).

It is compiled when it is first wanted, by the C compiler of the machine, in a few seconds, and kept in the user's cache
folder. Where there is no compiler, or another system than Linux, ``fast`` gives what PyTorch alone can do
(``rebus.generation.decoders.packed``). Weights are copied once into the order in which they are read, in float32 or
bfloat16; what is between them is always float32. What a text is given does not depend on the texts beside it, to the
last bit. Letters: R rows (tokens of any texts), L tokens, D width, H heads, G key-value heads, K size of a head, V
vocabulary.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rebus import cache
from rebus.generation.decoders.backend import DecoderBackend, supported
from rebus.generation.decoders.eager import EagerDecoder
from rebus.generation.decoders.packed import PackedDecoder
from rebus.generation.decoders.tiles import Tiled, Tiles
from rebus.models.towers.decoder import Decoder, DecoderLayer
from rebus.nn.feedforward import MLP, SwiGLU
from rebus.nn.rotary import rotary_tables

SOURCES = [Path(__file__).with_name(name) for name in ("native.c", "products.h", "vectors.h")]
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
SHORT = 512  # tokens of a prompt up to which its attention is compiled code's too; measured
log = logging.getLogger("rebus.generation")
ACTS = {"swiglu": 0, "gelu": 1, "gelu_tanh": 2, "quick_gelu": 3, "relu": 4, "silu": 5}


def fast(decoder: Decoder) -> DecoderBackend:
    """The fastest way to run a decoder on this machine; its weights must not change afterwards."""
    if not supported(decoder):
        return EagerDecoder(decoder)
    weight = decoder.embed_tokens.weight
    able = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
    code = library() if able else None
    return PackedDecoder(decoder) if code is None else CompiledDecoder(decoder, code)


class CompiledDecoder(PackedDecoder):
    """A ``DecoderBackend`` in compiled code (``rows``); what else there is attends in PyTorch (``forward_embeds``).

    Args:
        decoder: on the CPU; stays as it is, and must not change.
        library: the compiled code.

    Raises:
        TypeError: a part is of a class whose mathematics is not written out here.
    """

    def __init__(self, decoder: Decoder, library: Any) -> None:
        self._library = library
        tiled: dict[int, Tiles] = {}

        def tiles(layer: nn.Module) -> Tiles:
            if id(layer) not in tiled:
                tiled[id(layer)] = Tiles(layer, decoder.embed_tokens.weight.dtype, library.rebus_lanes())
            return tiled[id(layer)]

        super().__init__(decoder, lambda layers, _: Tiled([tiles(layer) for layer in layers], library))
        self._compiled = [_Layer(cast(DecoderLayer, layer), tiles) for layer in decoder.layers]
        self._norm = _Norm(decoder.norm)
        self._cos = self._sin = torch.empty(0)

    def rows(
        self,
        x: Tensor,
        positions: Tensor,
        text: Tensor,
        at: Tensor,
        cache: Callable[[int], tuple[Tensor, Tensor]],
        tables: Tensor,
    ) -> Tensor:
        """Tokens of any texts through all layers and the last norm; their keys and values are kept.

        Args:
            x: (R, D) embedded tokens. A text's own tokens see each other: each sees all up to itself.
            positions: (R,) long, what rotary or learned positions are taken of.
            text: (R,) int32, which text each is of: its row of ``tables``.
            at: (R,) int32, its place in the text's blocks.
            cache: a layer's number to its keys and values (blocks, G, size, K) each, contiguous, of the writer's dtype.
            tables: (texts, blocks of one) int32: place t of a text is in its block t // size.

        Returns:
            (R, D) float32.
        """
        flat = x.float().contiguous()
        if flat.data_ptr() == x.data_ptr():
            flat = flat.clone()  # it is worked on in place
        cos = sin = None
        if self.decoder.embed_positions is not None:
            flat += F.embedding(positions, self.decoder.embed_positions.weight).float()
        else:
            cos, sin = self._rotary(positions)
        count, most = flat.shape[0], int(at.max())
        threads = torch.get_num_threads()
        each = max(layer.heads // layer.groups for layer in self._compiled)
        work = torch.empty(max(layer.work for layer in self._compiled) * count + threads * each * (most + 1))
        rows = _CRows(
            count=count,
            text=text.data_ptr(),
            at=at.data_ptr(),
            cos=None if cos is None else cos.data_ptr(),
            sin=None if sin is None else sin.data_ptr(),
        )
        tables = tables.contiguous()
        for index, layer in enumerate(self._compiled):
            keys, values = cache(index)
            block = _CCache(
                keys=keys.data_ptr(),
                values=values.data_ptr(),
                tables=tables.data_ptr(),
                size=keys.shape[2],
                step=tables.shape[1],
            )
            self._library.rebus_layer(
                layer.address,
                ctypes.addressof(block),
                ctypes.addressof(rows),
                flat.data_ptr(),
                work.data_ptr(),
                most,
                ctypes.c_int32(threads),
            )
        out = torch.empty_like(flat)
        norm = self._norm
        self._library.rebus_norm(
            norm.kind, count, flat.data_ptr(), out.data_ptr(), flat.shape[1], norm.scale, norm.shift, norm.eps
        )
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) float32."""
        return cast(Tiled, self._head).exact(hidden)

    def heads(self, index: int) -> tuple[int, int]:
        """A layer's G and K: the shape of what it keeps."""
        return self._compiled[index].groups, self._compiled[index].size

    def _rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (R, K/2), looked up in tables that grow as texts do."""
        if (last := int(positions.max())) >= self._cos.shape[0]:
            decoder = self.decoder
            every = torch.arange(max(2 * last, 256))[None]
            cos, sin = rotary_tables(every, decoder.head_dim, decoder.rope_theta, decoder.rope_scaling)
            self._cos, self._sin = cos[0, 0].contiguous(), sin[0, 0].contiguous()
        return self._cos[positions], self._sin[positions]


def _struct(name: str, pointers: str, numbers: str, reals: str = "") -> Any:
    """A structure of native.c: its numbers first, then its reals, then its pointers."""
    kinds = ((numbers, ctypes.c_int64), (reals, ctypes.c_double), (pointers, ctypes.c_void_p))
    fields = [(field, kind) for names, kind in kinds for field in names.split()]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_CLayer = _struct(
    "_CLayer",
    "wq wk wv wo wu wg wd bq bk bv bo bu bg bd n1 n1b n2 n2b qn kn",
    "width heads groups size hidden norm act half",
    "eps",
)
_CCache = _struct("_CCache", "keys values tables", "size step")
_CRows = _struct("_CRows", "text at cos sin", "count")


class _Layer:
    """One layer's sizes and the addresses of its weights; keeps what it points to."""

    def __init__(self, layer: DecoderLayer, tiles: Callable[[nn.Module], Tiles]) -> None:
        attention = layer.self_attn
        self.heads, self.groups, self.size = attention.heads, attention.kv_heads, attention.head_dim
        self._references: list[Any] = [*layer.parameters()]
        up, gate, down, act = _feedforward(layer.mlp)
        width, hidden, inside = attention.q_proj.in_features, up.out_features, attention.heads * attention.head_dim
        self.work = 2 * max(width, inside) + inside + 2 * self.groups * self.size + 3 * hidden + 6
        first, second = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self._references += [first, second]
        linears = {
            "q": attention.q_proj,
            "k": attention.k_proj,
            "v": attention.v_proj,
            "o": attention.o_proj,
            "u": up,
            "g": gate,
            "d": down,
        }
        self._struct = _CLayer(
            width=width,
            heads=attention.heads,
            groups=self.groups,
            size=self.size,
            hidden=hidden,
            norm=first.kind,
            act=act,
            half=tiles(up).half,
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
                weights = tiles(linear)
                self._references.append(weights)
                weight, bias = weights.addresses
                setattr(self._struct, f"w{name}", weight)
                setattr(self._struct, f"b{name}", bias)
        self.address = ctypes.addressof(self._struct)

    def _vector(self, tensor: Tensor) -> int:
        vector = tensor.detach().float().contiguous()
        self._references.append(vector)
        return vector.data_ptr()


class _Norm:
    """A norm's kind, epsilon and the addresses of its scale and shift."""

    def __init__(self, module: Any) -> None:
        self.kind, self.eps = int(isinstance(module, nn.LayerNorm)), float(module.eps)
        vectors: tuple[Tensor | None, ...] = (module.weight, getattr(module, "bias", None))
        self._references = [None if vector is None else vector.detach().float().contiguous() for vector in vectors]
        self.scale, self.shift = (None if vector is None else vector.data_ptr() for vector in self._references)


def _feedforward(mlp: MLP | SwiGLU) -> tuple[nn.Linear, nn.Linear | None, nn.Linear, int]:
    if isinstance(mlp, SwiGLU):
        return mlp.up_proj, mlp.gate_proj, mlp.down_proj, ACTS["swiglu"]
    return mlp.fc1, None, mlp.fc2, ACTS[mlp.activation]


@lru_cache(maxsize=1)
def library() -> Any:
    """The compiled code; None where it cannot be made.

    What lies in the cache folder is loaded only where nobody else can have written it and it is what was compiled.
    Otherwise it is compiled for this process alone, and that is said.
    """
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if platform.system() != "Linux" or compiler is None:
        return None
    words = [compiler, *FLAGS]
    source = b"".join(file.read_bytes() for file in SOURCES)
    digest = hashlib.sha256(source + repr((words, _processor())).encode()).hexdigest()[:20]
    file = cache.file(f"native-{digest}.so")
    try:
        if file is not None:
            if not (cache.trusted(file) and cache.whole(file)) and cache.store(file, partial(_compile, words)):
                cache.keep_digest(file)
            if cache.trusted(file) and cache.whole(file):
                return _declared(ctypes.CDLL(str(file)))
        place = (
            "there is no cache folder" if file is None else f"{file.parent} is not this user's alone, or not writable"
        )
        log.warning("%s: the fast code for writing is compiled for this process only", place)
        with tempfile.TemporaryDirectory() as beside:  # loaded code stays when its file goes
            _compile(words, Path(beside) / "native.so")
            return _declared(ctypes.CDLL(str(Path(beside) / "native.so")))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the fast code for writing could not be compiled (%s): writing takes longer", error)
        return None


def _compile(words: Sequence[str], new: Path) -> None:
    """Compile the sources into a file. Raises OSError, SubprocessError."""
    words = [*words, "-o", str(new), str(SOURCES[0]), "-lm"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)  # noqa: S603 - our own source


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of its functions' arguments."""
    pointer, whole, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    library.rebus_layer.argtypes = [*[pointer] * 5, whole, count]
    library.rebus_norm.argtypes = [whole, whole, pointer, pointer, whole, pointer, pointer, ctypes.c_double]
    product: list[Any] = [whole, whole, *[pointer] * 3, whole, whole, pointer, whole, pointer, count]
    library.rebus_product.argtypes = product
    library.rebus_lanes.restype = whole
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
