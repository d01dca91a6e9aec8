"""A trained network for restoration, applied to images of any size, type and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from core.compress.folding import deploy
from core.errors import ConfigError, DataError
from core.infer.ensemble import self_ensemble
from core.infer.fast import fastest
from core.infer.tiling import restore
from core.train.hardware import choose_device

FAR = 64
"""Most pixels around a piece that are read unless asked for more. Of the networks here only the large RCAN reaches
further (414); with random weights a halo of 32 left an error of 2e-4 levels of 255."""
PIECE, PIECE_OUT, LEAST = 512, 1024, 128
"""Side of a piece unless asked for another: most pixels of the input and of the output, and the fewest of the input.
Memory goes with the output; the smaller a piece, the more of the work is its halo."""


@dataclass
class Cut:
    """How large images are cut, see :func:`core.infer.tiling.restore`.

    Attributes:
        tile: Largest side of a piece, pixels of the input; 0 for the whole image, ``None`` for ``PIECE`` pixels of
            the output.
        halo: Pixels around a piece that are read too; ``None`` for the network's own, at most ``FAR``.
        means: whole, two_pass, tile or window.
    """

    tile: int | None = None
    halo: int | None = None
    means: str = "whole"


class Restorer:
    """Restores images with a trained network.

    Args:
        model: Network with ``channels``, ``halo`` and ``scale`` or ``scales``; a copy of it in its form for inference
            is used.
        metadata: Of its package.
    """

    def __init__(self, model: nn.Module, metadata: dict[str, Any] | None = None) -> None:
        self.device = choose_device("auto")
        self.network = deploy(model).to(self.device)
        self.metadata = metadata or {}
        self.channels = int(model.channels)  # type: ignore[arg-type]
        several = getattr(model, "scales", None)
        self.scales: tuple[int, ...] = tuple(several) if several else (int(model.scale),)  # type: ignore[arg-type]
        self.asks_scale = several is not None
        self.cut = Cut()
        self.form = self.network  # what runs: tuned, an ensemble

    def tune(self, side: int = 256) -> str:
        """Takes the fastest equal form of the network on this machine from now on; returns its name."""
        example = torch.zeros(1, self.channels, side, side, device=self.device)
        self.form, name = fastest(self.network, example, self.scales[0] if self.asks_scale else None)
        return name

    def ensemble(self) -> None:
        """Averages over the eight flips and quarter turns from now on."""
        self.form = self_ensemble(self.form)

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

        Returns:
            ``(scale H, scale W, C)``; 8 and 16 bit are clipped and rounded, float is not clipped.

        Raises:
            DataError: The network wants another number of channels.
            ConfigError: The network does not have this enlargement.
        """
        scale = self.scales[0] if scale is None else scale
        if scale not in self.scales:
            known = ", ".join(map(str, self.scales))
            raise ConfigError(f"this model does not enlarge by {scale}; it has {known}")
        gray = pixels.shape[2] == 1 and self.channels == 3
        if pixels.shape[2] != self.channels and not gray:
            kinds = {1: "gray (1 channel)", 3: "colour (3 channels)"}
            have, want = (kinds.get(c, f"{c} channels") for c in (pixels.shape[2], self.channels))
            raise DataError(
                f"the image is {have} and the model is for {want}; convert the image or take another --model"
            )
        result = restore(
            self.form,
            np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if gray else pixels,
            tile=min(PIECE, max(PIECE_OUT // scale, LEAST)) if self.cut.tile is None else self.cut.tile,
            halo=min(int(self.network.halo), FAR) if self.cut.halo is None else self.cut.halo,  # type: ignore[arg-type]
            scale=scale,
            scale_argument=self.asks_scale,
            statistics="whole" if self.cut.means == "two_pass" else self.cut.means,
            passes=2 if self.cut.means == "two_pass" else None,
            window=self.metadata.get("patch"),
            progress=progress,
        )
        if not gray:
            return result
        mean = result.mean(axis=2, keepdims=True, dtype=np.float32)
        return (mean if pixels.dtype.kind == "f" else np.floor(mean + 0.5)).astype(pixels.dtype)
