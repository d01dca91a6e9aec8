"""A network that finds coloured squares: of red, green and blue, those that fill a cell of 16 pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CLASSES = ["red", "green", "blue"]
CELL = 16


class Outputs(NamedTuple):
    cells: torch.Tensor
    prototypes: torch.Tensor


class Squares(nn.Module):
    """The score of a class is the mean of its colour in a cell, less the mean of the two others."""

    pixels, mean, std = "rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    size_multiple, strides = CELL, (CELL,)

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_((1.5 * torch.eye(3) - 0.5)[..., None, None])

    def forward(self, x):
        mixed = self.mix(x)
        return Outputs(F.avg_pool2d(mixed, CELL), F.avg_pool2d(mixed, 8) - 0.5)

    def priors(self, outputs):
        height, width = outputs.cells.shape[-2:]
        x = torch.arange(width, dtype=torch.float32) * CELL
        y = torch.arange(height, dtype=torch.float32) * CELL
        places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).reshape(-1, 2)
        return torch.cat([places, torch.full_like(places[:, :1], CELL)], 1)

    def decode(self, outputs):
        corners = self.priors(outputs)[:, :2]
        boxes = torch.cat([corners, corners + CELL], 1)
        scores = outputs.cells.flatten(2).transpose(1, 2).clamp(0, 1)
        return boxes.expand(scores.shape[0], -1, -1).clone(), scores


class MaskedSquares(Squares):
    """Masks are all that is red."""

    def flatten(self, outputs):
        boxes, scores = self.decode(outputs)
        return scores, boxes, self.priors(outputs), scores[..., :1]

    def mask_logits(self, prototypes, kernels, priors):
        return prototypes[:1].expand(kernels.shape[0], -1, -1)


def squares(size, *placed):
    """An image ``(H, W, 3)`` with squares at ``(left, top, side, class)`` on black."""
    image = np.zeros((*size, 3), np.uint8)
    for left, top, side, label in placed:
        image[top : top + side, left : left + side, label] = 255
    return image
