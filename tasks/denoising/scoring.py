"""Scores of a denoiser and of classical methods on the same degraded images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from rich.progress import track

from core.data.images.degrade import estimate_sigma
from core.data.images.files import to_float
from core.data.images.quality import Protocol, variants
from core.errors import ConfigError
from core.infer.restorer import Restorer
from core.registry import Registry
from core.task import Evaluation
from tasks.denoising.config import DataConfig, DenoisingScoringConfig
from tasks.denoising.data import DenoisingData, ImageSet
from tasks.denoising.noise import Condition, conditions

KEPT = 4  # images of a test whose pixels are kept for the figures

Method = Callable[[np.ndarray, float | None], np.ndarray]
"""Maps a degraded image ``(H, W, C)``, float32 in [0, 1], and its noise level in levels of 255 (``None``: not known)
to a restored one."""

BASELINES: Registry[Method] = Registry("baseline")


@BASELINES.register("noisy")
def noisy(image: np.ndarray, sigma: float | None) -> np.ndarray:
    """Returns the image as it is."""
    return image


@BASELINES.register("nlm")
def non_local_means(image: np.ndarray, sigma: float | None) -> np.ndarray:
    """Non-local means (Buades et al., CVPR 2005) of scikit-image, with its documentation's choice of ``h``."""
    from skimage.restoration import denoise_nl_means

    level = max(estimate_sigma(image) if sigma is None else sigma, 0.5) / 255
    return denoise_nl_means(
        image, patch_size=5, patch_distance=6, h=0.8 * level, sigma=level, fast_mode=True, channel_axis=-1
    ).astype(np.float32)


@BASELINES.register("bm3d")
def bm3d(image: np.ndarray, sigma: float | None) -> np.ndarray:
    """BM3D (Dabov et al., IEEE TIP 2007) of the package bm3d, for non-commercial use.

    Raises:
        ConfigError: The package is not installed.
    """
    if find_spec("bm3d") is None:
        raise ConfigError("the baseline bm3d needs the package bm3d (for non-commercial use): pip install bm3d")
    from bm3d import bm3d as run

    level = max(estimate_sigma(image) if sigma is None else sigma, 0.5) / 255
    restored = run(image[..., 0] if image.shape[2] == 1 else image, level)
    return np.asarray(restored, dtype=np.float32).reshape(image.shape)


@dataclass
class Shown:
    """Pixels of a few test images, for figures.

    Attributes:
        images: (set, image, condition) to the restored image, float32 in [0, 1].
        scores: The same keys to PSNR in dB.
    """

    images: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    scores: dict[tuple[str, str, str], float] = field(default_factory=dict)


def degraded_pairs(
    part: ImageSet, config: DataConfig
) -> Iterator[tuple[str, Condition | None, np.ndarray, np.ndarray]]:
    """Yields name, condition (``None``: real noise), degraded and clean image, float32 in [0, 1]."""
    for i, name in enumerate(part.clean.names):
        if part.noisy is not None:
            yield name, None, to_float(part.noisy.images[i]), to_float(part.clean.images[i])
        else:
            for condition in conditions(config):
                yield (name, condition, *condition.pair(part.clean.images[i]))


def score(
    method: Method, config: DataConfig, scoring: DenoisingScoringConfig, data: DenoisingData, what: str
) -> Evaluation:
    """Scores a method under the configured protocol; a set's value is the mean over its images."""
    protocol = protocol_of(scoring)
    rows: list[dict[str, Any]] = []
    shown = Shown()
    for title, part in data.tests.items():
        count = len(part.clean.names) * (1 if part.noisy is not None else len(conditions(config)))
        pairs = degraded_pairs(part, config)
        for name, condition, image, clean in track(pairs, what, total=count, transient=True):
            restored = method(image, condition.sigma if condition else None)
            label = condition.name if condition else "real"
            row: dict[str, Any] = {"set": title, "image": name, "condition": label}
            row |= {"psnr": protocol.psnr(restored, clean), "ssim": protocol.ssim(restored, clean)}
            rows.append(row)
            if name in part.clean.names[:KEPT]:
                shown.images[title, name, label] = restored
                shown.scores[title, name, label] = row["psnr"]
    frame = pd.DataFrame(rows)
    return Evaluation(means(frame), frame, shown)


def means(frame: pd.DataFrame) -> dict[str, float]:
    """Returns the means of each set and condition, and last of all images."""
    found: dict[str, float] = {}
    groups = frame.groupby(["set", "condition"], sort=False)[["psnr", "ssim"]].mean()
    if len(groups) > 1:
        for row in groups.itertuples():
            title, label = row.Index
            found |= {f"{title} {label}/psnr": float(row.psnr), f"{title} {label}/ssim": float(row.ssim)}
    return found | {name: float(frame[name].mean()) for name in ("psnr", "ssim")}


def protocol_of(scoring: DenoisingScoringConfig) -> Protocol:
    """Returns the protocol of a configuration."""
    return Protocol(scoring.channel, scoring.shave, scoring.rounding, scoring.y_rounding)


def score_denoiser(restorer: Restorer, config: Any, data: DenoisingData) -> Evaluation:
    """Scores a trained model; with ``all_protocols`` its notes say what other protocols would have given."""

    def restored(image: np.ndarray, sigma: float | None) -> np.ndarray:
        return restorer(image)

    result = score(restored, config.data, config.scoring, data, "testing")
    if getattr(config, "all_protocols", False):
        result.notes += compare_protocols(restorer, config, data)
    return result


def compare_protocols(restorer: Restorer, config: Any, data: DenoisingData) -> list[str]:
    """Returns one line for each protocol: its PSNR and the difference to the configured one."""
    choices = variants(protocol_of(config.scoring), data.channels)
    found: dict[str, list[float]] = {name: [] for name in choices}
    noise = {"another seed of the noise": replace(config.data, test_seed=config.data.test_seed + 1)}
    if "gaussian" in config.data.kinds:
        clipped = ["clipped" if kind == "gaussian" else kind for kind in config.data.kinds]
        noise["noisy image clipped and rounded to 8 bit"] = replace(config.data, kinds=clipped)
    for part in data.tests.values():
        for _, _, image, clean in degraded_pairs(part, config.data):
            restored = restorer(image)
            for name, protocol in choices.items():
                found[name].append(protocol.psnr(restored, clean))
        for name, changed in noise.items() if part.noisy is None else ():
            pairs = degraded_pairs(part, changed)
            found.setdefault(name, []).extend(
                choices["as given"].psnr(restorer(image), clean) for _, _, image, clean in pairs
            )
    values = {name: float(np.mean(scores)) for name, scores in found.items()}
    reference = values["as given"]
    lines = [f"  {name:44} {value:7.3f} dB {value - reference:+8.3f}" for name, value in values.items()]
    return ["PSNR by protocol, mean over all test images:", *lines]


def score_baselines(config: Any, data: DenoisingData) -> dict[str, Evaluation]:
    """Scores the configured baselines."""
    return {
        name: score(BASELINES[name], config.data, config.scoring, data, name)
        for name in config.scoring.baselines
    }
