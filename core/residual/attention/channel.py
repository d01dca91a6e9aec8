"""Channel attention of RCAN."""

from __future__ import annotations

from core.residual.attention.se import SqueezeExcite


class ChannelAttention(SqueezeExcite):
    """Squeeze-and-excitation whose bottleneck is C / 16 channels, not a multiple of 8.

    "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", Zhang et al.,
    arXiv:1807.02758, section 3.3: 64 channels are squeezed to 4.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: Bottleneck width as a part of C, rounded to a whole number, at least 1.

    Raises:
        ConfigError: ``ratio`` is not positive.
    """

    def __init__(self, channels: int, dims: int, *, ratio: float = 1 / 16) -> None:
        super().__init__(channels, dims, ratio=ratio, divisor=1)
