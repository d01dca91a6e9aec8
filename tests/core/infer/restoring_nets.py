"""Networks for restoration whose output is known by hand."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Affine(nn.Module):
    """``a x + b``, pixel by pixel."""

    scale, halo = 1, 0

    def __init__(self, channels=3, a=1.0, b=0.0):
        super().__init__()
        self.channels = channels
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, x):
        return self.a * x + self.b


class Tinted(nn.Module):
    """Adds 0.1, 0.2 and 0.6 to the three channels."""

    channels, scale, halo = 3, 1, 0

    def forward(self, x):
        return x + torch.tensor([0.1, 0.2, 0.6])[:, None, None]


class Blurred(nn.Module):
    """Mean of 3x3 pixels, after a norm that folds."""

    scale, halo = 1, 1

    def __init__(self, channels=1):
        super().__init__()
        self.channels = channels
        conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        nn.init.constant_(conv.weight, 1 / 9)
        norm = nn.BatchNorm2d(channels)
        norm.running_mean.fill_(0.25)
        self.layers = nn.Sequential(conv, norm)

    def forward(self, x):
        return self.layers(x)


class Repeated(nn.Module):
    """Enlarges by repeating pixels, at one of several scales."""

    channels, halo, scales = 3, 0, (2, 3)

    def __init__(self):
        super().__init__()
        self.called = []

    def forward(self, x, scale=None):
        self.called.append(scale)
        return F.interpolate(x, scale_factor=float(scale))


class Twice(nn.Module):
    """Enlarges by 2, repeating pixels."""

    scale, halo = 2, 0

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.interpolate(x, scale_factor=2.0)
