"""Residual blocks with batch norms: those of ResNet and of EfficientNet-lite.

Letters: B items, C channels, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from rebus.nn.batchnorm import BatchNorm

MOMENTUM = 0.01  # of the averages in EfficientNet's norms
_CUTS: dict[str, Callable[..., Tensor] | None] = {"relu": F.relu, "relu6": F.relu6, "none": None}


class NormedConvolution(nn.Module):
    """A convolution without a bias, a batch norm and perhaps a ReLU: (B, C, H, W) -> (B, C_out, H', W').

    Args:
        channels: C.
        out_channels: C_out.
        kernel: side of the kernel, odd.
        stride: of the kernel.
        groups: parts that do not see one another.
        cut: what follows: relu, relu6 or none.
        same: pad as TensorFlow does, so that H' is H / stride rounded up and more is added at the end than before.
        eps: of the norm.
        momentum: of the norm's averages.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        cut: str = "relu",
        same: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        padding = 0 if same else kernel // 2
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)
        self.norm = BatchNorm(out_channels, eps=eps, momentum=momentum)
        self.cut, self.same = _CUTS[cut], same
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, norm, cut off."""
        x = self.norm(self.conv(self._padded(x) if self.same else x))
        return x if self.cut is None else self.cut(x, inplace=True)

    def _padded(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        high, wide = ((-(-side // stride) - 1) * stride + kernel - side for side in x.shape[2:])
        if high <= 0 and wide <= 0:
            return x
        high, wide = max(high, 0), max(wide, 0)
        return F.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class ResNetBlock(nn.Module):
    """``relu(x + layers(x))``: (B, C, H, W) -> (B, C_out, H / stride, W / stride).

    Source: He et al. (2016), "Deep Residual Learning for Image Recognition"; a bottleneck halves in its middle
    convolution, as later versions do.

    Args:
        channels: C.
        out_channels: C_out.
        stride: of the block.
        bottleneck: three convolutions, the middle one of a quarter of the channels; else two.
        eps: of the norms.
    """

    def __init__(self, channels: int, out_channels: int, *, stride: int, bottleneck: bool, eps: float) -> None:
        super().__init__()
        inner = out_channels // 4 if bottleneck else out_channels
        self.shortcut: NormedConvolution | None = None
        if channels != out_channels or stride != 1:
            self.shortcut = NormedConvolution(channels, out_channels, 1, stride=stride, cut="none", eps=eps)
        if bottleneck:
            layers = [
                NormedConvolution(channels, inner, 1, eps=eps),
                NormedConvolution(inner, inner, 3, stride=stride, eps=eps),
                NormedConvolution(inner, out_channels, 1, cut="none", eps=eps),
            ]
        else:
            layers = [
                NormedConvolution(channels, inner, 3, stride=stride, eps=eps),
                NormedConvolution(inner, out_channels, 3, cut="none", eps=eps),
            ]
        self.layers = nn.Sequential(*layers)
        nn.init.zeros_(layers[-1].norm.weight)  # each block starts as the identity (Goyal et al., 2017)

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut plus the residual branch, cut off."""
        return F.relu(self.layers(x) + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class InvertedBottleneck(nn.Module):
    """Widen, look around in each channel by itself, narrow: (B, C, H, W) -> (B, C_out, H / stride, W / stride).

    Added to what came in where the shapes agree. Source: Sandler et al. (2018), "MobileNetV2: Inverted Residuals and
    Linear Bottlenecks"; here with ReLU6 and without squeezing, as EfficientNet-lite has it.

    Args:
        channels: C.
        out_channels: C_out.
        kernel: side of the middle convolution.
        stride: of the middle convolution.
        expand: the middle is so many times as wide.
        eps: of the norms.
    """

    def __init__(self, channels: int, out_channels: int, *, kernel: int, stride: int, expand: int, eps: float) -> None:
        super().__init__()
        inner = channels * expand
        self.expand: NormedConvolution | None = None
        if expand != 1:
            self.expand = NormedConvolution(channels, inner, 1, cut="relu6", eps=eps, momentum=MOMENTUM)
        self.depthwise = NormedConvolution(
            inner, inner, kernel, stride=stride, groups=inner, cut="relu6", same=True, eps=eps, momentum=MOMENTUM
        )
        self.project = NormedConvolution(inner, out_channels, 1, cut="none", eps=eps, momentum=MOMENTUM)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C_out, H', W')."""
        inner: Tensor = x if self.expand is None else self.expand(x)
        inner = self.project(self.depthwise(inner))
        return x + inner if self.adds else inner
