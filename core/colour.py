"""Colour: weights of luma, the mean colour of photographs, and the layer that takes it off."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BT601 = (299, 587, 114)
"""Weights of R, G and B in luma, in thousandths (ITU-R BT.601-7, section 2.5.1)."""

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean R, G and B of the DIV2K training images, in [0, 1]; the constants of EDSR, RCAN, CARN and RIDNet."""


class MeanShift(nn.Module):
    """``W x + b`` at each pixel; at the start the mean colour of DIV2K is added or subtracted.

    The authors of RCAN and RIDNet meant to freeze it but did not, so that released weights hold other values; CARN's
    is frozen. Images that are not RGB have the luma of that colour as the mean of every channel.

    Args:
        channels: C.
        sign: 1 adds, -1 subtracts.
        levels: Value of white.
    """

    def __init__(self, channels: int, sign: int, levels: float) -> None:
        super().__init__()
        luma = sum(part * value for part, value in zip(BT601, DIV2K_MEAN, strict=True)) / 1000
        mean = DIV2K_MEAN if channels == len(DIV2K_MEAN) else (luma,) * channels
        self.weight = nn.Parameter(torch.eye(channels)[:, :, None, None])
        self.bias = nn.Parameter(sign * levels * torch.tensor(mean))

    def forward(self, x: Tensor) -> Tensor:
        """Shifts ``(B, C, H, W)``."""
        return F.conv2d(x, self.weight, self.bias)
