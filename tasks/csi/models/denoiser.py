"""The denoiser of CSI-4CAST."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from core import nd
from core.residual import Residual, Rule


class Denoiser(Residual):
    """Takes off the noise that a convolutional encoder and decoder estimate; arXiv:2510.12996, section on denoising.

    With n widths the images have 2, 4, ..., 2^n, ..., 4, 2 channels; each change is conv 3x3, batch norm, ReLU. The
    update that the rule joins is the negative estimate, which is ``x - noise(x)`` with the rule ``add``.

    Args:
        widths: n, 2 or more.
        rule: Residual rule of the connection.
    """

    def __init__(self, widths: int, rule: Rule) -> None:
        super().__init__(None, rule)
        up = [2**i for i in range(1, widths + 1)]
        self.layers = nn.Sequential()
        for before, after in pairwise(up + up[-2::-1]):
            conv = nd.conv(2)(before, after, 3, padding=1)
            nn.init.uniform_(conv.weight, -(before**-0.5), before**-0.5)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
            self.layers.extend([conv, nd.norm("batch", 2, after), nn.ReLU(inplace=True)])

    def branch(self, x: Tensor) -> Tensor:  # a method where Residual has a module
        """Returns minus the noise of ``(B, 2, T, K)``."""
        return -self.layers(x)


def inverse_fourier(subcarriers: int) -> Tensor:
    """Returns the inverse discrete Fourier transform of K numbers as a real matrix ``(2K, 2K)``.

    For rows of interleaved real and imaginary parts: ``x @ matrix``. Other runtimes have no complex numbers; the
    product takes longer than a fast transform, and a hundredth to a twentieth of a network's time.
    """
    k = torch.arange(subcarriers, dtype=torch.float64)
    # The product modulo K, as sines of large angles are less exact.
    angle = 2 * torch.pi / subcarriers * (k[:, None] * k % subcarriers)
    cos, sin = angle.cos() / subcarriers, angle.sin() / subcarriers
    # (a + ib)(cos + i sin): the rows are a and b, the columns real and imaginary part.
    matrix = torch.stack([torch.stack([cos, sin], 2), torch.stack([-sin, cos], 2)], 1)
    return matrix.reshape(2 * subcarriers, 2 * subcarriers).float()
