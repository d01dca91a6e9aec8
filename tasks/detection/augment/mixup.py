"""Two pictures in one."""

from __future__ import annotations

import cv2

from tasks.detection.augment.geometry import Picture, joined


def mixup(first: Picture, second: Picture) -> Picture:
    """Returns the mean of two pictures of one size, with the objects of both (YOLOX, arXiv:2107.08430, section 2.1)."""
    image = cv2.addWeighted(first.image, 0.5, second.image, 0.5, 0)
    parts = [first.objects, second.objects]
    return Picture(image, joined(parts, first.objects.outlines is not None))
