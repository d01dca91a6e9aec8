"""Schemes that bring the intensities of a channel to a common scale (nnU-Net, Isensee et al., Nature Methods 2021)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.errors import DataError
from core.registry import Registry
from tasks.segmentation.planning.plan import Intensities, Plan

Scheme = Callable[[np.ndarray, "np.ndarray | None", Intensities], None]
"""Changes ``(Z, Y, X)`` float32 in place; given are the mask of what counts, or ``None``, and the statistics of the
training cases."""

NORMALISATIONS: Registry[Scheme] = Registry("normalisation")
EPSILON = 1e-8
CLIP_LIMIT, TILES, GAMMA = 2.0, (8, 8), 1.2
"""Of ``clahe``."""


def normalise(image: np.ndarray, plan: Plan, mask: np.ndarray | None, name: str) -> None:
    """Normalises all channels in place, each by the scheme of the plan.

    Args:
        image: ``(C, Z, Y, X)`` float32.
        plan: Whose ``normalisation``, ``masked_normalisation`` and ``intensities`` have C entries.
        mask: ``(Z, Y, X)`` of what is not zero; used for the channels whose normalisation is masked.
        name: Of the case, for the message.

    Raises:
        DataError: A channel does not have the values that its scheme is for.
    """
    schemes = zip(image, plan.normalisation, plan.masked_normalisation, plan.intensities, strict=True)
    for index, (channel, scheme, masked, intensities) in enumerate(schemes):
        try:
            NORMALISATIONS[scheme](channel, mask if masked else None, intensities)
        except _WrongRangeError as error:
            raise DataError(f"{name}, channel {index}: {error}") from None


class _WrongRangeError(ValueError):
    """The values of a channel are not those that its scheme is for."""


@NORMALISATIONS.register("zscore")
def zscore(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """Mean 0 and standard deviation 1 of each case; with a mask by the voxels inside, and 0 outside."""
    inside = channel if mask is None else channel[mask]
    if not inside.size:  # an image of zeros
        return
    mean, std = inside.mean(), inside.std()
    channel -= mean
    channel /= max(std, EPSILON)
    if mask is not None:
        channel[~mask] = 0


@NORMALISATIONS.register("ct")
def ct(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """Clips to the percentiles 0.5 and 99.5 of the labelled classes, then brings these to mean 0 and deviation 1.

    The same for all cases, since Hounsfield units mean the same everywhere.
    """
    np.clip(channel, intensities.low, intensities.high, out=channel)
    channel -= intensities.mean
    channel /= max(intensities.std, EPSILON)


@NORMALISATIONS.register("rescale_to_0_1")
def rescale_to_0_1(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """The least value becomes 0 and the largest 1."""
    channel -= channel.min()
    channel /= max(channel.max(), EPSILON)


@NORMALISATIONS.register("rgb_to_0_1")
def rgb_to_0_1(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """Divides values of 8 bit by 255."""
    low, high = channel.min(), channel.max()
    if low < 0 or high > 255:
        raise _WrongRangeError(
            f"values from {low:g} to {high:g}, but rgb_to_0_1 is for 0 to 255; convert the image to 8 bit, or name "
            "another scheme with --plan.normalisation and train again"
        )
    channel /= 255


@NORMALISATIONS.register("none")
def unchanged(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """Leaves the values as they are."""


@NORMALISATIONS.register("clahe")
def clahe(channel: np.ndarray, mask: np.ndarray | None, intensities: Intensities) -> None:
    """Evens the contrast of each slice out, for vessels: CLAHE and gamma 1.2, to [0, 1].

    The preparation of the retina-unet protocol that R2U-Net (arXiv:1802.06955) follows. It also standardises the grey
    values before it stretches them to 0..255; the stretch undoes that, so it is left out.
    """
    import cv2

    rescale_to_0_1(channel, mask, intensities)
    equaliser = cv2.createCLAHE(CLIP_LIMIT, TILES)
    for plane in channel:
        plane[:] = equaliser.apply(np.round(plane * 255).astype(np.uint8))
    channel /= 255
    np.power(channel, 1 / GAMMA, out=channel)
