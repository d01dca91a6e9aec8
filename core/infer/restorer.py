"""A trained network for restoration, applied to images of any size, type and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from core.compress.folding import deploy
from core.errors import DataError
from core.infer.ensemble import self_ensemble
from core.infer.fast import fastest
from core.infer.tiling import restore

TILE = 512
"""Side of the pieces in which large images are worked on, pixels."""


class Restorer:
    """Restores images with a trained network.

    Args:
        model: Network with ``channels``, ``scale`` and ``halo``, see :mod:`core.infer`; it is copied in its form for
            inference.
        metadata: Of its package.
    """

    def __init__(self, model: nn.Module, metadata: dict[str, Any] | None = None) -> None:
        self.model = deploy(model)
        self.metadata = metadata or {}
        self.channels, self.scales = int(model.channels), _scales(model)  # type: ignore[arg-type]
        self.tile, self.halo, self.means = TILE, None, "whole"  # type: int, int | None, str
        self.speed = ""

    def tune(self, side: int = 256) -> str:
        """Takes the fastest equal form of the network on this machine; returns its name."""
        self.model, self.speed = fastest(self.model, torch.zeros(1, self.channels, side, side))
        return self.speed

    def ensembled(self) -> None:
        """Averages over the eight flips and quarter turns from now on."""
        self.model = self_ensemble(self.model)

    def __call__(
        self,
        pixels: np.ndarray,
        scale: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Restores ``(H, W, C)``, 8 or 16 bit or float in [0, 1], to the same type.

        Args:
            pixels: The image. Gray images go through networks of three channels as three equal ones.
            scale: Enlargement, for networks of several; the first when not given.
            progress: Called with the number of pieces that are done and their total.

        Raises:
            DataError: The network wants another number of channels.
        """
        gray = pixels.shape[2] == 1 and self.channels == 3
        if pixels.shape[2] != self.channels and not gray:
            raise DataError(
                f"the image has {pixels.shape[2]} channels and the model {self.channels}; "
                "use a model of these channels, or convert the image"
            )
        result = restore(
            self.model,
            np.repeat(pixels, 3, axis=2) if gray else pixels,
            tile=self.tile,
            halo=self.halo,
            scale=scale or self.scales[0],
            statistics=self.means,
            progress=progress,
        )
        return result.mean(axis=2, keepdims=True).astype(pixels.dtype) if gray else result


def _scales(model: nn.Module) -> tuple[int, ...]:
    """The enlargements that a network has; 1 for denoising."""
    several = getattr(model, "scales", None)
    return tuple(several) if several else (int(model.scale),)  # type: ignore[arg-type]
