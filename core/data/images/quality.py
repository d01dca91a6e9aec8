"""PSNR and SSIM under a stated protocol. Imports no heavy library, so that a configuration can hold a protocol.

Published numbers differ by up to 2 dB in what is compared: RGB or luma, how the restored image becomes 8 bit,
which border is left out. A :class:`Protocol` says it all, and :func:`variants` shows what each choice is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

PEAK = 255.0
WINDOW = 11  # side of the SSIM window, pixels


@dataclass(frozen=True)
class Protocol:
    """How a restored image is compared with the clean one.

    Args:
        channel: rgb (all values of all channels) or y (luma of ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr);
            gray images stay as they are.
        shave: Pixels left out at each border.
        rounding: How the restored image becomes 8 bit before it is scored: round (half up), truncate (as papers
            whose code casts without rounding), or none (clipped to the range only).
        y_rounding: Round the luma to whole numbers, as code that stores it in 8 bit.
    """

    channel: Literal["rgb", "y"] = "rgb"
    shave: int = 0
    rounding: Literal["round", "truncate", "none"] = "round"
    y_rounding: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a border below zero."""
        if self.shave < 0:
            raise ConfigError(f"--scoring.shave {self.shave} is not a border in pixels; use 0 or more")

    def psnr(self, restored: np.ndarray, clean: np.ndarray) -> float:
        """Returns ``10 log10(255^2 / MSE)`` in dB over all values that the protocol keeps.

        Args:
            restored: ``(H, W, C)``, float in [0, 1] or whole numbers over the range of their type.
            clean: The same for the truth; it is never rounded.

        Returns:
            dB; infinite for equal images.

        Raises:
            DataError: The shapes differ, or the shaved border leaves nothing.
            ConfigError: The luma of an image with neither 1 nor 3 channels is asked for.
        """
        import numpy as np

        first, second = self.prepare(restored, clean)
        error = float(np.mean((first - second) ** 2))
        return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))

    def ssim(self, restored: np.ndarray, clean: np.ndarray) -> float:
        """Returns the mean structural similarity, averaged over the channels.

        Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01 and K2 = 0.03, only where the window lies
        inside the image (Wang et al., IEEE TIP 2004, section III-C), as the authors' MATLAB code.

        Args:
            restored: ``(H, W, C)``, float in [0, 1] or whole numbers over the range of their type.
            clean: The same for the truth; it is never rounded.

        Returns:
            From -1 to 1; nan where the shaved image is smaller than the window.

        Raises:
            DataError: The shapes differ, or the shaved border leaves nothing.
            ConfigError: The luma of an image with neither 1 nor 3 channels is asked for.
        """
        from skimage.metrics import structural_similarity

        first, second = self.prepare(restored, clean)
        if min(first.shape[:2]) < WINDOW:
            return float("nan")
        return float(
            structural_similarity(
                first,
                second,
                data_range=PEAK,
                channel_axis=-1,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )

    def prepare(self, restored: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns both images as they are compared: ``(H, W, C)`` float64 in [0, 255]."""
        if restored.shape != clean.shape:
            raise DataError(
                f"the restored image is {_size(restored)} and the clean one {_size(clean)}; they must be equal"
            )
        if 2 * self.shave >= min(clean.shape[:2]):
            raise DataError(f"a border of {self.shave} pixels leaves nothing of an image of {_size(clean)}")
        if self.channel == "y" and clean.shape[2] not in (1, 3):
            raise ConfigError(
                f"an image of {clean.shape[2]} channels has no luma; score it with the channel rgb"
            )
        edge = slice(self.shave, -self.shave or None)
        first = self._values(restored[edge, edge], self.rounding)
        second = self._values(clean[edge, edge], "none")
        return first, second

    def _values(self, pixels: np.ndarray, rounding: str) -> np.ndarray:
        import numpy as np

        from core.data.images.files import peak

        # Whole numbers are scaled at once: truncating must not meet the rounding errors of a detour over [0, 1].
        values = np.clip(pixels.astype(np.float64) * (PEAK / peak(pixels.dtype)), 0, PEAK)
        if rounding != "none":
            values = np.floor(values + 0.5) if rounding == "round" else np.floor(values)
        if self.channel == "y" and values.shape[2] == 3:
            values = luma(values)
            values = np.floor(values + 0.5) if self.y_rounding else values
        return values


def luma(values: np.ndarray) -> np.ndarray:
    """Returns the luma of ITU-R BT.601 in studio range (16 to 235), as MATLAB's ``rgb2ycbcr``, not rounded.

    Args:
        values: RGB ``(H, W, 3)`` in [0, 255].

    Returns:
        ``(H, W, 1)`` float64.
    """
    import numpy as np

    weights = np.array([65.481, 128.553, 24.966]) / 255
    return 16 + (values @ weights)[..., None]


def variants(protocol: Protocol, channels: int = 3, border: int = 4) -> dict[str, Protocol]:
    """Returns the protocol and every other that differs from it in one choice, with readable names.

    Args:
        protocol: The given one; it stands first, as ``as given``.
        channels: Channels of the images; only those of 3 have a luma to choose.
        border: Pixels to shave where the protocol shaves none.
    """
    found = {"as given": protocol}
    if channels == 3:
        if protocol.channel == "y":
            found["RGB instead of luma"] = replace(protocol, channel="rgb")
        else:
            found["luma instead of RGB"] = replace(protocol, channel="y")
    if protocol.shave:
        found["whole image, no border left out"] = replace(protocol, shave=0)
    else:
        found[f"border of {border} pixels left out"] = replace(protocol, shave=border)
    names: dict[Literal["round", "truncate", "none"], str] = {
        "round": "rounded to 8 bit",
        "truncate": "truncated to 8 bit",
        "none": "not made 8 bit",
    }
    for rounding, name in names.items():
        if rounding != protocol.rounding:
            found[name] = replace(protocol, rounding=rounding)
    if channels == 3 and protocol.channel == "y":
        name = "luma not rounded" if protocol.y_rounding else "luma rounded"
        found[name] = replace(protocol, y_rounding=not protocol.y_rounding)
    return found


def _size(pixels: np.ndarray) -> str:
    return "x".join(str(side) for side in pixels.shape)
