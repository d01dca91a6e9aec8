"""Small networks whose reach is known by hand."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from core import nd
from core.residual.attention import create_attention


class Plain(nn.Module):
    """Five 3x3 convolutions: an output pixel sees 5 pixels to each side."""

    scale, halo = 1, 5

    def __init__(self, channels=1, width=6):
        super().__init__()
        self.channels = channels
        widths = [channels, *[width] * 4, channels]
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs)

    def forward(self, x):
        y = x
        for layer in self.layers:
            y = layer(y).tanh()
        return x - y


class Enlarging(nn.Module):
    """Two convolutions and a pixel shuffle, at a scale that the call may give."""

    channels, scale, halo = 3, 2, 2

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.tails = nn.ModuleDict({str(s): nn.Conv2d(8, 3 * s * s, 3, padding=1) for s in (2, 3)})

    def forward(self, x, scale=2):
        return nn.functional.pixel_shuffle(self.tails[str(scale)](self.head(x).relu()), scale)


class Attentive(nn.Module):
    """Three convolutions, each with channel attention of one shared module, as in recursive networks."""

    channels, scale, halo = 1, 1, 4

    def __init__(self, attention="channel", width=8):
        super().__init__()
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.attention = create_attention(attention, width, 2)
        self.tail = nn.Conv2d(width, 1, 3, padding=1)
        # Gates that differ much between a tile and the image.
        with torch.no_grad():
            for parameter in self.attention.parameters():
                parameter.mul_(8)

    def forward(self, x):
        y = self.attention(self.head(x))
        for layer in self.body:
            y = y + self.attention(layer(y).relu())
        return self.tail(y)


class Coarse(nn.Module):
    """Its mean is taken at half the resolution of the input."""

    channels, scale, halo = 1, 1, 2

    def __init__(self):
        super().__init__()
        self.mean = nd.SpatialMean(keepdim=True)

    def forward(self, x):
        return x * self.mean(nn.functional.avg_pool2d(x, 2))


def image(height, width, channels=1, dtype="float32", seed=0):
    """Random pixels that are brighter to the right and below, so that tiles differ in their means."""
    torch.manual_seed(seed)
    ramp = torch.linspace(0, 1, height)[:, None, None] * torch.linspace(0.2, 1, width)[:, None]
    values = (ramp * torch.rand(height, width, channels)).numpy()
    peak = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return (values * peak).astype(dtype)


def whole(model, pixels, **options):
    """The network's output for the whole image at once, (H, W, C) float."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        return model(x, **options)[0].permute(1, 2, 0).numpy()
