"""Squeeze-and-excitation: one gate a channel from the mean of all channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from core import nd
from core.residual.attention.width import reduced


class SqueezeExcite(nn.Module):
    """``y = x sigmoid(W2 relu(W1 mean(x)))``, with the mean over all positions.

    "Squeeze-and-Excitation Networks", Hu et al., arXiv:1709.01507, section 3. Layers are named as in timm, so
    that the weights of its SE-ResNets and ResNet-RS fit.

    Args:
        channels: C.
        dims: Spatial axes, 1 to 3.
        ratio: Bottleneck width as a part of C; ResNet-RS (arXiv:2103.07579) takes 0.25.
        divisor: The bottleneck width is rounded to a multiple of it.

    Raises:
        ConfigError: An option is out of range.
    """

    def __init__(self, channels: int, dims: int, *, ratio: float = 1 / 16, divisor: int = 8) -> None:
        super().__init__()
        width = reduced("se", channels, ratio, divisor)
        self.mean = nd.SpatialMean(keepdim=True)
        self.fc1 = nd.pointwise(dims, channels, width, bias=True)
        self.fc2 = nd.pointwise(dims, width, channels, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scales every channel of ``(B, C, *spatial)`` by a number in (0, 1)."""
        return x * self.fc2(F.relu(self.fc1(self.mean(x)))).sigmoid()
