"""Feed-forward layers: what a transformer block does to each token by itself."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from rebus.errors import RecipeError, nearest
from rebus.nn.fused_cpu import at_precision


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``, the feed-forward layer of Llama and Qwen.

    Source: Shazeer (2020), "GLU Variants Improve Transformer".

    Args:
        width: size of a token.
        hidden: size inside.
        bias: whether the three projections have biases.
    """

    def __init__(self, width: int, hidden: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        x = at_precision(x)
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class MLP(nn.Module):
    """``fc2(activation(fc1(x)))``.

    Args:
        width: size of a token.
        hidden: size inside.
        activation: one of ``ACTIVATIONS``.
        bias: whether both projections have biases.

    Raises:
        RecipeError: the activation does not exist.
    """

    def __init__(self, width: int, hidden: int, activation: str = "gelu", bias: bool = True) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise RecipeError("the activation", "a known name", f"'{activation}'", nearest(activation, ACTIVATIONS))
        self.fc1 = nn.Linear(width, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, width, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        out: Tensor = self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))
        return out


def swiglu_hidden(width: int, multiple: int = 32) -> int:
    """8/3 of the width rounded up to a multiple: as many weights as a plain MLP of four times the width."""
    return -(-(8 * width // 3) // multiple) * multiple
