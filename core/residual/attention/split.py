"""Split attention: a convolution whose output channels are a weighted sum of several candidates."""

from __future__ import annotations

from torch import Tensor, nn

from core import nd
from core.errors import ConfigError
from core.residual.attention.width import divisible


class SplitAttention(nn.Module):
    """A convolution to ``radix`` candidates of every channel, and their sum with learned weights.

    The weights come from the mean of the summed candidates through a bottleneck; for each channel they are a
    softmax over the candidates, or a sigmoid if there is one. The block's convolution, normalisation and
    activation are inside.

    "ResNeSt: Split-Attention Networks", Zhang et al., arXiv:2004.08955, section 3. Layers are named as in timm.

    Args:
        in_channels: Channels of the input.
        channels: Channels C of the output.
        dims: Spatial axes, 1 to 3.
        radix: Candidates for each output channel.
        cardinality: Groups of channels that have nothing to do with each other, as in ResNeXt.
        kernel: Odd kernel size of every axis; the padding keeps the resolution.
        stride: Stride of the convolution.
        dilation: Dilation of the convolution.
        norm: Normalisation after the convolution and in the bottleneck. The bottleneck has one position, which
            ``group`` and ``instance`` would set to 0; it gets ``layer`` instead of these.
        act: Activation after both normalisations.
        ratio: Bottleneck width as a part of ``radix * in_channels``, rounded to a multiple of 8, at least 32.

    Raises:
        ConfigError: An option is out of range, or the cardinality does not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        dims: int,
        *,
        radix: int = 2,
        cardinality: int = 1,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "batch",
        act: str = "relu",
        ratio: float = 0.25,
    ) -> None:
        super().__init__()
        if radix < 1 or cardinality < 1:
            raise ConfigError(
                f"attention 'split': radix {radix} and cardinality {cardinality} must be 1 or more"
            )
        candidates = radix * channels
        width = divisible(in_channels * radix * ratio, minimum=32)
        groups = radix * cardinality
        if in_channels % groups or channels % cardinality or width % cardinality:
            raise ConfigError(
                f"attention 'split': radix * cardinality = {groups} must divide {in_channels} input channels, and "
                f"cardinality {cardinality} must divide {channels} channels and the bottleneck's {width}"
            )
        self.radix, self.cardinality = radix, cardinality
        conv, bias, padding = nd.conv(dims), norm == "none", kernel // 2 * dilation
        self.conv = conv(in_channels, candidates, kernel, stride, padding, dilation, groups=groups, bias=bias)
        self.bn0 = nd.norm(norm, dims, candidates)
        self.act0 = nd.act(act, inplace=True)
        self.fc1 = conv(channels, width, 1, groups=cardinality)
        self.bn1 = nd.norm("layer" if norm in ("group", "instance") else norm, dims, width)
        self.act1 = nd.act(act, inplace=True)
        self.fc2 = conv(width, candidates, 1, groups=cardinality)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, in_channels, *spatial)`` to ``(B, C, *spatial)``, the resolution over ``stride``."""
        x = self.act0(self.bn0(self.conv(x)))
        batch, space = x.shape[0], x.shape[2:]
        x = x.reshape(batch, self.radix, -1, *space)  # (B, radix, C, *spatial)
        mean = x.sum(1).mean(tuple(range(2, x.ndim - 1)), keepdim=True)
        weight = self.weights(self.fc2(self.act1(self.bn1(self.fc1(mean)))))
        return (x * weight.reshape(*weight.shape, *(1,) * len(space))).sum(1)

    def weights(self, score: Tensor) -> Tensor:
        """Turns the bottleneck's output ``(B, radix C, 1, ...)`` into weights ``(B, radix, C)``."""
        batch = score.shape[0]
        if self.radix == 1:
            return score.sigmoid().reshape(batch, 1, -1)
        # The groups of fc2 come first in its output, the candidates of each group second.
        score = score.reshape(batch, self.cardinality, self.radix, -1)
        return score.softmax(2).transpose(1, 2).reshape(batch, self.radix, -1)


class SplitAttentionSlot(SplitAttention):
    """Split attention as a slot, which keeps the shape of ``(B, C, *spatial)``.

    Args:
        channels: C, of input and output.
        dims: Spatial axes, 1 to 3.
        radix: Candidates for each output channel; with ``cardinality`` it has to divide C.
        cardinality: Groups of channels.
        norm: Normalisation, see :class:`SplitAttention`.
        act: Activation.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(
        self,
        channels: int,
        dims: int,
        *,
        radix: int = 2,
        cardinality: int = 1,
        norm: str = "batch",
        act: str = "relu",
    ) -> None:
        super().__init__(channels, channels, dims, radix=radix, cardinality=cardinality, norm=norm, act=act)
