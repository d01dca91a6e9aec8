"""Restoration networks as other programs have them: plain eager PyTorch, float32, NCHW, norms not folded."""

from __future__ import annotations

import importlib
import sys

import torch
from torch import Tensor, nn

DEEPINV = ("deepinv==0.5.0", "einops", "h5py", "natsort")
"""Without their own dependencies: torch and torchvision stay those of the environment."""


class PlainDnCNN(nn.Module):
    """``y - R(y)`` with norms, as KAIR trains it (its ``network_dncnn.py``).

    Args:
        layers: Number of convolutions.
    """

    def __init__(self, layers: int = 17) -> None:
        super().__init__()
        row: list[nn.Module] = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(layers - 2):
            row += [nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64, eps=1e-4), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*row, nn.Conv2d(64, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Denoises ``(B, 1, H, W)``."""
        return x - self.model(x)


class Unit(nn.Module):
    """CARN's residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(64, 64, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps features to features."""
        return torch.relu(self.body(x) + x)


class Cascading(nn.Module):
    """Three parts, each followed by a 1x1 convolution of all that was seen before it."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.joins = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64 * (i + 2), 64, 1), nn.ReLU(inplace=True)) for i in range(len(parts))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps features to features."""
        seen = x
        for part, join in zip(self.parts, self.joins, strict=True):
            seen = torch.cat([seen, part(x)], dim=1)
            x = join(seen)
        return x


class PlainCARN(nn.Module):
    """CARN for several scales, in the form of its authors' code."""

    def __init__(self) -> None:
        super().__init__()
        self.sub_mean = nn.Conv2d(3, 3, 1)
        self.entry = nn.Conv2d(3, 64, 3, padding=1)
        self.body = Cascading([Cascading([Unit() for _ in range(3)]) for _ in range(3)])
        branches = {}
        for scale, steps in ((2, (2,)), (3, (3,)), (4, (2, 2))):
            row: list[nn.Module] = []
            for step in steps:
                row += [
                    nn.Conv2d(64, 64 * step**2, 3, padding=1),
                    nn.ReLU(inplace=True),
                    nn.PixelShuffle(step),
                ]
            branches[f"up{scale}"] = nn.Sequential(*row)
        self.upsample = nn.ModuleDict(branches)
        self.exit = nn.Conv2d(64, 3, 3, padding=1)
        self.add_mean = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, scale: int) -> Tensor:
        """Maps ``(B, 3, H, W)`` to ``(B, 3, scale H, scale W)``."""
        features = self.body(self.entry(self.sub_mean(x)))
        return self.add_mean(self.exit(self.upsample[f"up{scale}"](features)))


def take_weights(peer: nn.Module, ours: nn.Module) -> nn.Module:
    """Returns ``peer`` with the weights of ``ours``, whose layers stand in the same order."""
    values = ours.state_dict().values()
    peer.load_state_dict(dict(zip(peer.state_dict(), values, strict=True)))
    return peer


def deepinv_dncnn(folder: str) -> nn.Module:
    """Returns deepinv's DnCNN for gray images: 20 layers, no norms, ``y + f(y)``."""
    sys.path.append(folder)  # after the environment, whose torch counts
    models = importlib.import_module("deepinv.models")
    return models.DnCNN(in_channels=1, out_channels=1, pretrained=None)
