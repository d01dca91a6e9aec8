"""``predict`` of the denoising task: what is said of an image's noise."""

from __future__ import annotations

from core.data.images.degrade import estimate_sigma
from core.data.images.files import Picture, to_float
from core.infer.files import restore_files
from core.infer.restorer import Restorer
from tasks.denoising.config import DenoisingPredictConfig

FAR = 1.5  # factor between two noise levels from which a model of one is said not to fit the other


def predict_files(restorer: Restorer, config: DenoisingPredictConfig) -> list[str]:
    """Denoises a file or a folder; returns one line for each file that could not be used."""

    def describe(picture: Picture) -> str:
        if config.sigma is None:
            sigma, how = estimate_sigma(to_float(picture.pixels)), "estimated"
        else:
            sigma, how = config.sigma, "given"
        return f", noise level {sigma:.1f} of 255 ({how}){misfit(restorer, sigma)}"

    return restore_files(restorer, config, describe)


def misfit(restorer: Restorer, sigma: float) -> str:
    """Returns what a user should know where the model was trained for other noise; nothing where it fits."""
    trained = restorer.metadata.get("degradation", {})
    level = trained.get("sigma")
    if level is None or not {"gaussian", "clipped"} & set(trained.get("kinds", ())):
        return ""
    low, high = level if isinstance(level, list) else (level / FAR, level * FAR)
    if low <= sigma <= high:
        return ""
    what = f"{level[0]:g} to {level[1]:g}" if isinstance(level, list) else f"{level:g}"
    return f"; this model is for {what}"
