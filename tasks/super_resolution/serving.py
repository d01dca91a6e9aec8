"""``predict`` of the super-resolution task."""

from __future__ import annotations

from core.data.images.files import Picture
from core.errors import ConfigError
from core.infer.files import restore_files
from core.infer.restorer import Restorer
from tasks.super_resolution.config import SuperResolutionPredictConfig


def predict_files(restorer: Restorer, config: SuperResolutionPredictConfig) -> list[str]:
    """Enlarges a file or a folder; returns one line for each file that could not be used.

    Raises:
        ConfigError: The model does not have this scale.
    """
    scale = restorer.scales[0] if config.scale is None else config.scale
    if scale not in restorer.scales:
        known = ", ".join(map(str, restorer.scales))
        raise ConfigError(
            f"--scale {scale}: this model enlarges by {known}; take one of these or another --model"
        )

    def describe(picture: Picture) -> str:
        height, width = picture.pixels.shape[:2]
        return f", x{scale} from {width}x{height}"

    return restore_files(restorer, config, describe, scale)
