"""What a detector finds in an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Detections:
    """Objects found in one image, the most certain first.

    Attributes:
        boxes: ``(N, 4)`` float32: left, top, right, bottom, pixels of the image as it was given.
        scores: ``(N,)`` float32 in [0, 1].
        labels: ``(N,)`` int64, positions in the list of classes.
        masks: Compressed run lengths of COCO, ``{"size": [H, W], "counts": str}``; ``None`` of models without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: np.ndarray) -> Detections:
        """Returns some of them, by positions or a mask ``(N,)``."""
        positions = np.arange(len(self))[chosen]
        masks = None if self.masks is None else [self.masks[i] for i in positions]
        return Detections(self.boxes[positions], self.scores[positions], self.labels[positions], masks)
